-- Answers to calls of HTTP servers (bus.http), by URL.
local blame = require "moonbus.test.blame"
local messages = require "moonbus.test.messages"

local M = {}

local MAGIC = "[%^%$%(%)%%%.%[%]%+%-%?]"

-- "https://api.example.com/orders/*": a * stands for anything.
local function pattern_of(url)
  return "^" .. url:gsub(MAGIC, "%%%0"):gsub("%*", ".*") .. "$"
end

local FIELDS = { status = "number", headers = "table", body = "string", json = "table", error = "string" }

-- An answer as a table; nil and what is wrong.
local function complete(answer)
  if type(answer) == "string" then return { status = 200, body = answer } end
  if type(answer) ~= "table" then
    return nil, "the answer is a string, a table with status, headers, body or json, { error = ... }, or a " ..
      "function, not a " .. type(answer)
  end
  for key, value in pairs(answer) do
    if not FIELDS[key] then
      return nil, ('unknown field "%s": there are status, headers, body, json and error'):format(tostring(key))
    end
    if type(value) ~= FIELDS[key] then
      return nil, ("%s: expected a %s, got a %s"):format(key, FIELDS[key], type(value))
    end
  end
  return answer
end

-- options: method, delay. A later one for the same URL takes its place.
function M.add(script, url, answer, options)
  if type(url) ~= "string" or url == "" then blame "stub_http: the URL is a string" end
  if type(answer) ~= "function" then
    local why
    answer, why = complete(answer)
    if not answer then blame("stub_http: %s", why) end
  end
  for key in pairs(options) do
    if key ~= "delay" and key ~= "method" then
      blame('stub_http: unknown option "%s": there are method and delay', tostring(key))
    end
  end
  local delay = messages.milliseconds(options.delay or 0)
  if not delay then blame('stub_http: delay: expected a duration as "50ms", got %s', tostring(options.delay)) end
  table.insert(script.web, 1, { pattern = pattern_of(url), method = options.method, answer = answer, delay = delay })
end

local function find(script, call)
  for _, stub in ipairs(script.web) do
    if call.url:find(stub.pattern) and (not stub.method or stub.method:upper() == call.method:upper()) then
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

-- Answers what handlers have called. True: there was something.
function M.answer_all(script)
  local any = false
  for call in function() return script.stage:take_http() end do
    any = true
    call.headers = messages.read_pairs(call.headers)
    call.raw, call.data = call.body, messages.decode(call.body)
    table.insert(script.record.http, call)
    local stub = find(script, call)
    if not stub then
      blame('%s: no stub answers %s %s: script:stub_http("%s", { status = 200 })', script.name, call.method, call.url,
        call.url)
    end
    local answer = stub.answer
    if type(answer) == "function" then
      local problem
      answer, problem = complete(answer(call))
      if not answer then blame("stub_http: %s", problem) end
    end
    send(script, call, stub, answer)
  end
  return any
end

return M
