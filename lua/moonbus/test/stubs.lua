-- What stands for the others: answers to requests, and what a stream says of a message.
local blame = require "moonbus.test.blame"
local messages = require "moonbus.test.messages"

local M = {}

-- --- adding ---

local function misused(format, ...)
  blame("stub: " .. format, ...)
end

local function check_answer(answer)
  local kind = type(answer)
  if kind ~= "table" and kind ~= "string" and kind ~= "function" then
    misused("the answer is a string, a table, a function or { error = ... }, not a %s", kind)
  end
end

-- answer: a string, a table (JSON), a function (request) -> answer, or { error = ... }. options:
-- delay. A later one for the same subject takes its place.
function M.add(script, subject, answer, options)
  if type(subject) ~= "string" or subject == "" then misused("the subject is a string") end
  check_answer(answer)
  for key in pairs(options) do
    if key ~= "delay" then misused('unknown option "%s": there is delay', tostring(key)) end
  end
  local delay = messages.milliseconds(options.delay or 0)
  if not delay then misused('delay: expected a duration as "50ms", got %s', tostring(options.delay)) end
  script.stage:divert(subject)
  table.insert(script.stubbed, 1, { subject = subject, answer = answer, delay = delay })
end

-- --- answering ---

local STATUS = { no_responders = "503" }

-- As services say so (bus.request: service_error).
local function error_headers(err)
  local text, status = err, 500
  if type(err) == "table" then text, status = err.message or err.code, err.status or 500 end
  return { ["Nats-Service-Error"] = tostring(text), ["Nats-Service-Error-Code"] = tostring(status) }
end

local function is_error(answer)
  return type(answer) == "table" and answer.error ~= nil and next(answer, next(answer)) == nil
end

local function answer_of(stub, sent)
  if type(stub.answer) ~= "function" then return stub.answer end
  local request = messages.message(sent.subject, sent.data, messages.read_pairs(sent.headers))
  local answer, err = stub.answer(request)
  if err ~= nil and not answer then return { error = err } end
  return answer
end

-- A request came that a stub takes. What a function of a test raises fails the test.
function M.answer(script, sent)
  local stub
  for _, each in ipairs(script.stubbed) do
    if messages.matches(each.subject, sent.subject) then stub = each break end
  end
  local answer = answer_of(stub, sent)
  local text, headers, status = "", {}, nil
  if is_error(answer) then
    local err = answer.error
    if err == "timeout" then return end
    status = STATUS[err]
    if not status then headers = error_headers(err) end
  else
    local kind
    text, kind = messages.encode(answer)
    if not text then error("stub of " .. stub.subject .. ": " .. kind, 0) end
    headers["content-type"] = kind
  end
  script.stage:publish(sent.reply, text, messages.block(headers, status), nil, stub.delay)
end

-- --- what lies in a stream ---

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function from_base64(text)
  local out, bits, count = {}, 0, 0
  for char in text:gmatch "[%w+/]" do
    bits, count = bits * 64 + DIGITS:find(char, 1, true) - 1, count + 6
    if count >= 8 then
      count = count - 8
      out[#out + 1] = string.char(math.floor(bits / 2 ^ count))
      bits = bits % 2 ^ count
    end
  end
  return table.concat(out)
end

-- A message as the API hands it out.
function M.stored(got)
  local headers = messages.read_block(from_base64(got.hdrs or ""))
  local message = messages.message(got.subject, from_base64(got.data or ""), headers)
  message.sequence = got.seq
  return message
end

return M
