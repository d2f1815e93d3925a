-- What a host did from one moment on, read from its log and from what it sent: the result of
-- script:deliver, script:run and script:advance.
local cjson = require "cjson"
local keys = require "moonbus.cluster_key"
local messages = require "moonbus.test.messages"
local told = require "moonbus.test.told"

local M = {}

-- What the engine's sentence says of the message's way behind the error itself.
local ENDINGS = {
  "; not given up, as there is no dead_letter; nak in %S+$",
  "; nak in %S+$",
  "; again in %S+$",
  "; to the dead letter %S+$",
  "; terminated %(dead_letter = false%)$",
  "; of a batch of %d+: .*$",
  "; the message had its verdict already$",
}

local function own_words(text)
  for _, ending in ipairs(ENDINGS) do
    local from = text:find(ending)
    if from then return text:sub(1, from - 1) end
  end
  return text
end

function M.new()
  return { published = {}, requests = {}, dead_letters = {}, http = {}, offloaded = {}, logged = {}, runs = {},
    failures = {}, ids = {}, naks = {} }
end

-- --- the log ---

local function same_run(event, run)
  return event.handler == run.handler and event.sequence == run.sequence and (event.attempt or 1) == run.attempt
end

local function add_run(record, event)
  local run = {
    handler = event.handler, subject = event.subject, stream = event.stream, consumer = event.consumer,
    sequence = event.sequence, attempt = event.attempt or 1, verdict = event.verdict,
    took_ms = tonumber(event.msg:match "^handled in ([%d.]+)ms"),
  }
  -- In an order the host itself runs it again: for its author that is a nak.
  if run.verdict == "retry" then
    run.verdict, run.attempt = "nak", run.attempt - 1 -- it counts as the next one already
  end
  for index = #record.failures, 1, -1 do
    local failed = record.failures[index]
    if same_run(failed.event, run) and not failed.taken then
      failed.taken = true
      run.error, run.delay = failed.error, failed.event.delay_ms and failed.event.delay_ms / 1000
      break
    end
  end
  record.runs[#record.runs + 1] = run
end

-- What an error of a handler says: in the log an error, or where it answers a 404, for who debugs.
local function add_failure(record, event)
  local err = told.one("an error", { code = event.code, message = own_words(event.msg), file = event.file,
    line = event.line, traceback = event.traceback })
  record.failures[#record.failures + 1] = { event = event, error = err }
end

local function add_log(record, event)
  record.logged[#record.logged + 1] = { level = event.level, message = event.msg, fields = event.fields,
    code = event.code, file = event.file, line = event.line, verdict = event.verdict }
  if event.level == "error" and event.verdict then add_failure(record, event) end
end

-- A line of the log, as JSON.
function M.hear(record, line)
  local ok, event = pcall(cjson.decode, line)
  if not ok then return end
  if event.level == "debug" then
    if event.msg:find "^handled in " then
      add_run(record, event)
    elseif event.script and event.verdict == "failed" then
      add_failure(record, event)
    end
  elseif event.script then
    add_log(record, event)
  end
end

-- --- what is sent ---

local OWN = { "^%$JS%.", "^%$SYS%.", "^_INBOX%.", "^_OUTSIDE%." }

local function is_own(subject)
  for _, pattern in ipairs(OWN) do
    if subject:find(pattern) then return true end
  end
  return false
end

-- "-NAK {"delay":1000000000}" for "$JS.ACK.<stream>.<consumer>.<attempt>.<sequence>...".
local function add_nak(record, sent)
  local stream, consumer, attempt, sequence = sent.subject:match "^%$JS%.ACK%.([^.]+)%.([^.]+)%.(%d+)%.(%d+)"
  if not stream or sent.data:sub(1, 4) ~= "-NAK" then return end
  record.naks[#record.naks + 1] = { stream = stream, consumer = consumer, attempt = tonumber(attempt),
    sequence = tonumber(sequence), delay = (tonumber(sent.data:match '"delay":%s*(%d+)') or 0) / 1e9 }
end

-- The message, where it is none of the host's own, nor one that was seen before.
function M.see(record, sent)
  if sent.subject:find "^%$JS%.ACK%." then add_nak(record, sent) end
  if is_own(sent.subject) then return nil end
  local message = messages.message(sent.subject, sent.data, (messages.read_block(sent.headers)))
  if message.headers[keys.HEADER] then return nil end
  if message.id then -- a try that was not answered in time is sent once more
    if record.ids[message.id .. message.subject] then return nil end
    record.ids[message.id .. message.subject] = true
  end
  local list = record.published
  if messages.is_letter(message) then
    list = record.dead_letters
  elseif sent.reply and not message.id then
    list = record.requests
  end
  list[#list + 1] = message
  return message
end

-- --- the result ---

-- The delays of naks that handlers asked for themselves.
local function complete(record)
  for _, run in ipairs(record.runs) do
    for _, nak in ipairs(record.naks) do
      if run.verdict == "nak" and not run.delay and nak.stream == run.stream and nak.consumer == run.consumer
        and nak.sequence == run.sequence and nak.attempt == run.attempt then
        run.delay = nak.delay
      end
    end
  end
end

-- run: the one that the result tells of; nil: of all together.
function M.result(record, run)
  complete(record)
  local result = {
    published = record.published, requests = record.requests, dead_letters = record.dead_letters, http = record.http,
    offloaded = record.offloaded,
    dead_letter = record.dead_letters[1], logged = record.logged, runs = record.runs,
  }
  for key, value in pairs(run or {}) do result[key] = value end
  if not run and record.failures[1] then result.error = record.failures[#record.failures].error end
  return result
end

return M
