-- Answers to calls of HTTP servers (bus.http), by URL.
local blame = require "moonbus.test.blame"
local checks = require "moonbus.test.checks"
local live = require "moonbus.test.live"
local messages = require "moonbus.test.messages"
local stubs = require "moonbus.test.stubs"
local told = require "moonbus.test.told"

local M = {}

local MAGIC = "[%^%$%(%)%%%.%[%]%+%-%?]"

-- "https://api.example.com/orders/*": a * stands for anything.
local function pattern_of(url)
  return "^" .. url:gsub(MAGIC, "%%%0"):gsub("%*", ".*") .. "$"
end

local FORM = {
  fields = { status = { "integer", min = 100, max = 599 }, headers = "headers", body = "string", json = "table",
    error = "string" },
  hints = { data = "body", code = "status", text = "body", header = "headers" },
}

-- An answer as a table; raises.
local function complete(binding, answer)
  if type(answer) == "string" then return { status = 200, body = answer } end
  if type(answer) ~= "table" then
    blame("%s: the answer is a string, a table with status, headers, body or json, { error = ... }, or a function, " ..
      "not %s", binding, answer == nil and "nothing" or "a " .. type(answer))
  end
  local result = checks.check(binding, answer, FORM)
  if result.error and next(answer, next(answer)) ~= nil then
    blame("%s: error: it stands alone: there is no answer then", binding)
  end
  local codes = require("moonbus.options_http").CODES
  if result.error and not codes[result.error] then
    checks.refuse(binding, "error", "a code of bus.http: " .. table.concat(messages.sorted(codes), ", "), result.error)
  end
  if result.body and result.json then blame("%s: body and json: one of them", binding) end
  if result.json then checks.payload(binding, result.json) end
  return result
end

local function check_method(binding, field, value)
  if type(value) ~= "string" or not value:find "^%a+$" then
    checks.refuse(binding, field, 'a method ("GET")', value)
  end
  return value:upper()
end

local OPTIONS = { fields = { method = { check = check_method }, delay = checks.DELAY } }

-- options: method, delay. A later one for the same URL takes its place.
function M.add(script, url, answer, options)
  if type(url) ~= "string" or url == "" or url:find "[%s%c]" then
    checks.refuse("stub_http", "URL", 'a URL, in which a * stands for anything ("https://api.example.com/*")', url)
  end
  if not url:find "^%*" and not url:find "^https?://" then
    blame('stub_http: "%s": expected a whole URL ("https://%s"), or one that begins with a *', url, url)
  end
  if type(answer) ~= "function" then answer = complete("stub_http", answer) end
  options = checks.check("stub_http", options, OPTIONS)
  live.check_delay(script, options.delay or 0)
  table.insert(script.web, 1, { url = url, pattern = pattern_of(url), method = options.method, answer = answer,
    delay = (options.delay or 0) * 1000 })
end

local function find(script, call)
  for _, stub in ipairs(script.web) do
    if call.url:find(stub.pattern) and (not stub.method or stub.method == call.method:upper()) then
      return stub
    end
  end
end

local FOREVER_MS = 1e12

-- The head as the host takes it, and how many there are.
local function head_of(answer)
  local parts, typed = {}, false
  for name, value in pairs(answer.headers or {}) do
    typed = typed or name:lower() == "content-type"
    parts[#parts + 1] = name .. "\0" .. tostring(value) .. "\0"
  end
  if answer.json and not typed then parts[#parts + 1] = "content-type\0application/json\0" end
  return table.concat(parts), #parts
end

local function send(script, call, stub, answer)
  if answer.error == "timeout" then
    return script.stage:answer_http(call.number, 0, "", 0, "", FOREVER_MS)
  end
  if answer.error then
    return script.stage:answer_http(call.number, 0, "", 0, "", stub.delay, answer.error,
      ("%s %s: %s, says its stub"):format(call.method, call.url, answer.error))
  end
  local head, count = head_of(answer)
  local body = answer.json and messages.encode(answer.json) or answer.body or ""
  script.stage:answer_http(call.number, answer.status or 200, head, count, body, stub.delay)
end

local function answer_of(script, stub, call)
  if type(stub.answer) ~= "function" then return stub.answer end
  local what = 'the stub of "' .. stub.url .. '"'
  local given = stubs.call(script, what, stub.answer, told.one("a call", call))
  local ok, answer = pcall(complete, "STUB", given)
  if ok then return answer end
  error(stubs.place_of(stub.answer) .. what .. ": " .. tostring(answer):gsub("^.-STUB: ", ""), 0)
end

-- Nothing answers it: an error in its place.
function M.answer_error(script, call, code, sentence)
  script.stage:answer_http(call.number, 0, "", 0, "", 0, code, sentence)
end

local function answer(script, call)
  local stub = find(script, call)
  if not stub and script.unanswered_call then return script:unanswered_call(call) end
  if not stub then
    blame('%s: no stub answers %s %s: script:stub_http("%s", { status = 200 })', script.name, call.method, call.url,
      call.url)
  end
  send(script, call, stub, answer_of(script, stub, call))
end

-- Answers what handlers have called. True: there was something.
function M.answer_all(script)
  local any = false
  for call in function() return script.stage:take_http() end do
    any = true
    call.headers = messages.read_pairs(call.headers)
    call.raw, call.data = call.body, messages.decode(call.body)
    table.insert(script.record.http, call)
    answer(script, call)
  end
  return any
end

return M
