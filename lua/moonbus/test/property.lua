-- What holds for every value that fits a schema: tried with a hundred of them, and told with the smallest that is
-- found for which it does not.
local blame = require "moonbus.test.blame"
local check = require "moonbus.schema_check"
local checks = require "moonbus.test.checks"
local generate = require "moonbus.test.generate"
local live = require "moonbus.test.live"
local raised = require "moonbus.test.raised"
local schema = require "moonbus.schema"
local show = require "moonbus.show"
local shrink = require "moonbus.test.shrink"

local M = { schema = schema.public }

local RUNS, SHRINKS = 100, 500

local OPTIONS = {
  fields = { runs = { "integer", max = 1000000 }, seed = { "integer", min = 0, max = 2 ^ 32 - 1 } },
  hints = { count = "runs", iterations = "runs", times = "runs" },
}

local nodes = setmetatable({}, { __mode = "k" }) -- what any() made -> its node
local Generator = { __metatable = "generator", __tostring = function() return "generator" end }

-- Of a generator, or of what any() takes.
local function node_of(binding, definition)
  if type(definition) == "table" and nodes[definition] then return nodes[definition] end
  if definition == nil then blame("%s: a generator is missing: test.any { ... }", binding) end
  if type(definition) == "string" and definition:find "%.json$" then
    blame("%s: %s: files of JSON Schema are for handlers: state its fields here", binding, definition)
  end
  return schema.of(binding, definition).node
end

-- A generator of values that fit.
function M.any(definition)
  if definition == nil then blame('test.any: what values? test.any { id = "integer" }, test.any "string"') end
  local generator = setmetatable({}, Generator)
  nodes[generator] = node_of("test.any", definition)
  return generator
end

local function is_pending(failure)
  return failure.message:find "^pending: " ~= nil
end

local function text_of(value)
  return type(value) == "table" and show(value) or type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function tell(failure, value, run, runs, steps, seed)
  local message = ("%s\n  with %s\n  in run %d of %d%s; again: moonbus test --seed %d"):format(failure.message,
    text_of(value), run, runs, steps > 0 and (", made smaller %d times"):format(steps) or "", seed)
  error(raised.again(message, failure.traceback), 0)
end

-- between: is called after each run.
local function try(node, fn, options, seed, between)
  for run = 1, options.runs or RUNS do
    local own = (seed + run - 1) % 2 ^ 32
    local value, why = generate.value(node, own)
    if why then blame("test.property: %s", why) end
    local failure
    local function fails(given)
      local ok, found = xpcall(function() fn(given) end, raised.failure)
      between()
      -- That a smaller value ends as pending is no word on the one that failed.
      if ok or failure and is_pending(found) then return false end
      failure = found
      return true
    end
    if fails(check.copy(value)) then
      if is_pending(failure) then error(failure.message, 0) end
      local steps = 0
      if value ~= nil then value, steps = shrink.find(value, node, fails, SHRINKS) end
      live.forget()
      return tell(failure, value, run, options.runs or RUNS, steps, own)
    end
  end
end

-- property(generator, fn [, options]). seed: of the command line, else by chance.
function M.run(definition, fn, options, seed, between)
  local node = node_of("test.property", definition)
  if type(fn) ~= "function" then checks.refuse("test.property", "what holds", "a function of the value", fn) end
  options = checks.check("test.property", options, OPTIONS)
  try(node, fn, options, seed or options.seed or math.floor(os.time() * 7919 + os.clock() * 1e6) % 2 ^ 32, between)
end

return M
