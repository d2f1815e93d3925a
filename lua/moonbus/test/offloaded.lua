-- Answers to calls of bus.offload, by module and function.
local blame = require "moonbus.test.blame"
local checks = require "moonbus.test.checks"
local live = require "moonbus.test.live"
local messages = require "moonbus.test.messages"
local nearest = require "moonbus.nearest"
local stubs = require "moonbus.test.stubs"

local M = {}

local OPTIONS = { fields = { delay = checks.DELAY } }
local CODES = { timeout = true, not_found = true, memory = true, too_large = true, closed = true }

local function is_error(answer)
  return type(answer) == "table" and answer.error ~= nil and next(answer, next(answer)) == nil
end

-- module: as bus.offload has it. functions: name -> a function, whose results are the call's; a value, which is the
-- result; or { error = ... }. options: delay.
function M.add(script, module, functions, options)
  if type(module) ~= "string" or module == "" then
    checks.refuse("stub_offload", "module", "the name of a module, as bus.offload has it", module)
  end
  if type(functions) ~= "table" or next(functions) == nil then
    checks.refuse("stub_offload", "functions", "a table, { resize = function(data) ... end }", functions)
  end
  for name, answer in pairs(functions) do
    if type(name) ~= "string" then checks.refuse("stub_offload", "functions", "functions by their names", name) end
    if is_error(answer) then checks.error_answer("stub_offload: " .. name, answer.error, CODES) end
  end
  local delay = checks.check("stub_offload", options, OPTIONS).delay or 0
  live.check_delay(script, delay)
  script.stage:stub_offload(module)
  local known = script.offloaded[module] or {}
  script.offloaded[module] = known
  for name, answer in pairs(functions) do known[name] = { answer = answer, delay = delay * 1000 } end
end

local function fail(script, call, stub, err)
  if err == "timeout" then return end
  local code, text = "offload_error", err
  if type(err) == "table" then code, text = err.code or code, err.message or err.code end
  if CODES[err] then code = err end
  script.stage:answer_offload(call.number, stub.delay, code,
    CODES[err] and ("%s.%s: %s, says its stub"):format(call.module, call.name, err) or text)
end

local function give(script, call, stub, ...)
  local ok, why = script.stage:answer_offload(call.number, stub.delay, nil, nil, ...)
  if not ok and type(stub.answer) ~= "function" then
    blame("the stub of %s.%s: %s", call.module, call.name, why)
  elseif not ok then
    error(("%sthe stub of %s.%s: %s"):format(stubs.place_of(stub.answer), call.module, call.name, why), 0)
  end
end

-- What the function raises fails the test; { error = ... } is what the module's would have raised.
local function answer(script, call, stub)
  if is_error(stub.answer) then return fail(script, call, stub, stub.answer.error) end
  if type(stub.answer) ~= "function" then return give(script, call, stub, stub.answer) end
  give(script, call, stub, stubs.call(script, ("the stub of %s.%s"):format(call.module, call.name), stub.answer,
    unpack(call.arguments, 1, call.arguments.n)))
end

local function find(script, call)
  local known = script.offloaded[call.module]
  local stub = known[call.name]
  if stub then return stub end
  local near = nearest(call.name, messages.sorted(known))
  blame('%s: no stub answers %s.%s: %s', script.name, call.module, call.name,
    near and ('did you mean "%s"?'):format(near)
    or ('script:stub_offload("%s", { %s = function(...) end })'):format(call.module, call.name))
end

local function take(number, module, name, ...)
  return number and { number = number, module = module, name = name, arguments = { n = select("#", ...), ... } }
end

-- Answers what handlers have called. True: there was something.
function M.answer_all(script)
  local any = false
  for call in function() return take(script.stage:take_offload()) end do
    any = true
    table.insert(script.record.offloaded, call)
    answer(script, call, find(script, call))
  end
  return any
end

return M
