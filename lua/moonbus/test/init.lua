-- moonbus.test - what tests of handlers load scripts with: docs/TESTING.md.
local blame = require "moonbus.test.blame"
local checks = require "moonbus.test.checks"
local core = require "moonbus.core"
local files = require "moonbus.test.files"
local fixture = require "moonbus.test.fixture"
local handle = require "moonbus.test.handle"
local live = require "moonbus.test.live"
local script = require "moonbus.test.script"
local stage = require "moonbus.test.stage"
local told = require "moonbus.test.told"

local M = {}

local open = {}   -- all that have been loaded and not closed
local folder = "" -- of the test file that runs

local OPTIONS = {
  fields = { streams = "table", stored = "table", seed = { "integer", min = 0, max = 2 ^ 53 }, settings = "table" },
  hints = { stream = "streams", messages = "stored", random = "seed", headers = "it belongs to deliver",
    config = "settings" },
}

-- Where a file is, and its text; raises. what: "a handler file".
local function find_file(binding, path, what)
  if type(path) ~= "string" or path == "" then checks.refuse(binding, "path", "the path of " .. what, path) end
  if path:find "%z" then blame("%s: path: it has a NUL", binding) end
  local said
  for _, found in ipairs { path, path:sub(1, 1) ~= "/" and folder ~= "" and folder .. path or nil } do
    local text, why = files.read(found)
    if text then return found, text end
    if not why:find "No such file" then said = said or ("%s: %s: %s"):format(binding, found, why) end
  end
  if said then blame("%s", said) end
  blame("%s: there is no file %s here%s", binding, path,
    folder ~= "" and path:sub(1, 1) ~= "/" and ", nor " .. folder .. path or "")
end

-- A message of a file that `moonbus replay --save` wrote, for script:deliver. The path as of load.
function M.fixture(path)
  if type(path) == "table" then blame("test.fixture(...): with a dot, not a colon") end
  local found, text = find_file("fixture", path, "a file that `moonbus replay --save` wrote")
  local message, why = fixture.parse(text)
  if not message then blame("fixture: %s: %s", found, why) end
  return message
end

-- path: from the current folder, else from that of the test file. options: streams = { { name,
-- subjects } } that are there before it, and stored = { { subject, data, headers } } in them; seed of
-- all chance; settings in place of the config's.
function M.load(path, options)
  if type(path) == "table" then blame("test.load(...): with a dot, not a colon") end
  if type(options) == "table" and options.streams ~= nil and type(options.streams) ~= "table" then
    checks.streams(options.streams)
  end
  options = checks.check("load", options, OPTIONS)
  local found = find_file("load", path, "a handler file")
  local loaded = script.new(found, { seed = options.seed, streams = checks.streams(options.streams),
    settings = checks.settings(options.settings) })
  open[#open + 1] = loaded
  loaded:fill(options.stored or {})
  return script.handle(loaded)
end

-- --- properties: loaded when they are wanted ---

local define, seed -- the `it` of the file; the command line's

local function property() return require "moonbus.test.property" end

-- Values that fit a definition of bus.schema.
function M.any(definition) return property().any(definition) end

-- What holds for each value: property([name,] generator, fn [, { runs, seed }]). With a name, outside of a test, it
-- is a test.
function M.property(name, generator, fn, options)
  if type(name) == "string" and type(fn) == "function" then
    return define(name, function() M.property(generator, fn, options) end)
  end
  local count = #open
  property().run(name, generator, fn, seed, function() M.close_from(count) end)
end

-- The clock of every script that is loaded: timers, delayed naks, timeouts. Returns the result of
-- the last one.
function M.advance(duration)
  core.duration(duration, "test.advance", "duration")
  local result
  for _, each in ipairs(open) do result = each:advance(duration) end
  return told.result(result)
end

-- What the rest of a test needs: one that does not have it ends as pending.
function M.needs(what)
  if what ~= "virtual time" then blame('test.needs: expected "virtual time", got %s', checks.show(what)) end
  live.needs(stage.is_live(), what)
end

-- What tests get.
M.public = { load = M.load, fixture = M.fixture, any = M.any, property = M.property, advance = M.advance,
  needs = M.needs }
setmetatable(M.public, { __index = function(public, name)
  if name == "schema" then return property().schema end
  return handle.unknown("moonbus.test", name, public)
end })

-- --- for the runner ---

function M.prepare(it, wanted_seed) define, seed = it, wanted_seed end

function M.enter(file) folder = file:match "^(.*/)[^/]*$" or "" end

-- What scripts have logged since the last result of each was begun: a line for each, the last ones.
local LINES_MOST = 10
function M.logged()
  local lines = {}
  for _, each in ipairs(open) do
    for _, event in ipairs(each.record.logged) do
      lines[#lines + 1] = ("%s %s: %s"):format(event.level, each.name, event.message)
    end
  end
  while #lines > LINES_MOST do table.remove(lines, 1) end
  return lines
end

-- Before each test: the one before may have ended in the middle of anything.
function M.begin()
  for _, each in ipairs(open) do each.answering = nil end
end

-- How many there are; closes those that came later.
function M.count() return #open end
function M.close_from(count)
  for index = #open, count + 1, -1 do
    open[index]:close()
    open[index] = nil
  end
end

return M
