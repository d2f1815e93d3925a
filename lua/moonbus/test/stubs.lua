-- What stands for the others: answers to requests, and what a stream says of a message.
local base64 = require "moonbus.test.base64"
local blame = require "moonbus.test.blame"
local checks = require "moonbus.test.checks"
local live = require "moonbus.test.live"
local messages = require "moonbus.test.messages"
local told = require "moonbus.test.told"

local M = {}

-- The codes that stand for what a server or nobody says.
local STATUS = { no_responders = "503" }
local KNOWN = { no_responders = true, timeout = true }

-- --- adding ---

local OPTIONS = { fields = { delay = checks.DELAY }, hints = { after = "delay", wait = "delay" } }

local function is_error(answer)
  return type(answer) == "table" and answer.error ~= nil and next(answer, next(answer)) == nil
end

-- Several answers to one request: { replies = { ... } }.
local function is_many(answer)
  return type(answer) == "table" and type(answer.replies) == "table" and next(answer, next(answer)) == nil
end

local check_answer

local function check_each(binding, answers)
  for key in pairs(answers) do
    if type(key) ~= "number" then blame("%s: replies: a list of answers, not a table with names", binding) end
  end
  for i = 1, #answers do
    if type(answers[i]) == "function" or is_many(answers[i]) or is_error(answers[i]) and KNOWN[answers[i].error] then
      blame("%s: replies[%d]: a string, a table or { error = \"any text\" }", binding, i)
    end
    check_answer(("%s: replies[%d]"):format(binding, i), answers[i])
  end
end

-- Of a stub, or what its function has returned.
function check_answer(binding, answer)
  local kind = type(answer)
  if kind ~= "table" and kind ~= "string" and kind ~= "function" then
    blame("%s: the answer is a string, a table, a function or { error = ... }, not %s", binding,
      kind == "nil" and "nothing" or "a " .. kind)
  end
  if is_many(answer) then
    check_each(binding, answer.replies)
  elseif is_error(answer) then
    checks.error_answer(binding, answer.error, KNOWN)
  elseif kind ~= "function" then
    local text = checks.payload(binding, answer)
    checks.size(binding, text)
  end
end

-- answer: a string, a table (JSON), a function (request) -> answer, or { error = ... }. options:
-- delay. A later one for the same subject takes its place.
function M.add(script, subject, answer, options)
  checks.kinds.pattern("stub", "subject", subject)
  check_answer("stub", answer)
  local delay = checks.check("stub", options, OPTIONS).delay or 0
  live.check_delay(script, delay)
  script.stage:divert(subject)
  table.insert(script.stubbed, 1, { subject = subject, answer = answer, delay = delay * 1000 })
end

-- --- answering ---

-- As services say so (bus.request: service_error).
local function error_headers(err)
  local text, status = err, 500
  if type(err) == "table" then text, status = err.message or err.code, err.status or 500 end
  return { ["Nats-Service-Error"] = tostring(text), ["Nats-Service-Error-Code"] = tostring(status) }
end

local function give_back(script, before, ok, ...)
  script.answering = before
  if not ok then error((...), 0) end
  return ...
end

-- Calls a function of the test; meanwhile its script waits. Its error, whatever it is, passes.
function M.call(script, what, answer, ...)
  local before = script.answering
  script.answering = what
  return give_back(script, before, pcall(answer, ...))
end

local function place_of(answer)
  local info = type(answer) == "function" and debug.getinfo(answer, "S")
  return info and info.source:sub(1, 1) == "@" and ("%s:%d: "):format(info.source:sub(2), info.linedefined) or ""
end
M.place_of = place_of

local function answer_of(script, stub, sent)
  if type(stub.answer) ~= "function" then return stub.answer end
  local request = told.one("a message", messages.message(sent.subject, sent.data,
    (messages.read_block(sent.headers))))
  local what = 'the stub of "' .. stub.subject .. '"'
  local answer, err = M.call(script, what, stub.answer, request)
  if err ~= nil and not answer then answer = { error = err } end
  local ok, why = pcall(check_answer, "STUB", answer)
  if ok and type(answer) ~= "function" then return answer end
  error(place_of(stub.answer) .. what .. (ok and ": it returned a function, not an answer"
    or ": " .. tostring(why):gsub("^.-STUB: ", "")), 0)
end

-- err: "no_responders", "timeout", or what a service says.
function M.answer_error(script, sent, err, delay)
  if err == "timeout" then return end
  local status = STATUS[err]
  script.stage:publish(sent.reply, "", messages.block(not status and error_headers(err) or nil, status), nil, delay)
end

local function send(script, stub, sent, answer)
  if is_error(answer) then return M.answer_error(script, sent, answer.error, stub.delay) end
  local text, kind = messages.encode(answer)
  script.stage:publish(sent.reply, text, messages.block { ["content-type"] = kind }, nil, stub.delay)
end

-- A request came that a stub takes. What a function of a test raises fails the test.
function M.answer(script, sent)
  local stub
  for _, each in ipairs(script.stubbed) do
    if messages.matches(each.subject, sent.subject) then stub = each break end
  end
  if not stub then return script:unanswered(sent) end
  local answer = answer_of(script, stub, sent)
  for _, each in ipairs(is_many(answer) and answer.replies or { answer }) do send(script, stub, sent, each) end
end

-- --- what lies in a stream ---

-- A message as the API hands it out.
function M.stored(got)
  local headers = messages.read_block(base64.decode(got.hdrs or ""))
  local message = messages.message(got.subject, base64.decode(got.data or ""), headers)
  message.sequence = got.seq
  return told.one("a message", message)
end

return M
