-- What a replay says: for people, and as JSON.
local run = require "moonbus.replay.run"
local shown = require "moonbus.replay.shown"

local M = {}

-- --- for people ---

local function put(format, ...) io.stdout:write(format:format(...), "\n") end

-- message: as it is replayed; letter: of a dead letter, what it says.
function M.message(message, letter)
  local where = message.stream and message.sequence and ("%s #%.0f "):format(message.stream, message.sequence) or ""
  local when = message.time and ", stored " .. message.time or ""
  put("%s%s%s, %s bytes", where, shown.line(message.subject), when, shown.count(#message.data))
  if letter then
    put("dead letter %s #%.0f: %s%s%s", letter.stream, letter.sequence, letter.code or "died",
      letter.error and ": " .. shown.text(letter.error) or "",
      letter.consumer and (", attempt %.0f of %s"):format(letter.attempt, letter.consumer) or "")
  end
  if message.note then put("note: %s", message.note) end
end

local VERDICTS = { ack = "ack", nak = "nak", term = "term (dropped on purpose)", dead_letter = "dead letter",
  ok = "ok", failed = "failed", handed_back = "handed back" }

local function verdict_of(result)
  local text = VERDICTS[result.verdict] or result.verdict
  if result.verdict == "nak" and result.delay and result.delay > 0 then
    text = text .. " in " .. shown.seconds(result.delay)
  end
  if result.verdict == "dead_letter" and result.dead_letter then text = text .. " to " .. result.dead_letter.subject end
  return result.error and result.error.code == "timeout" and "timeout, " .. text or text
end

local function put_error(err)
  if not err then return end
  local place = err.file and (" (%s:%d)"):format(err.file, err.line or 0) or ""
  local code = err.code and err.code ~= "handler" and err.code .. ": " or ""
  put("  error: %s%s%s", code, shown.text(err.message), place)
  for line in (err.traceback or ""):gmatch "[^\n]+" do
    if line ~= "stack traceback:" then put("    %s", (shown.line((line:gsub("^\t", ""))))) end
  end
end

local function put_headers(message)
  local names = {}
  for name in pairs(message.headers) do
    if name:lower() ~= "nats-msg-id" then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do put("      %s: %s", shown.line(name), shown.text(message.headers[name])) end
end

local function became(message, real)
  local receipt = message.receipt
  if receipt and receipt.failed then return ("not stored: %s"):format(shown.text(receipt.failed)) end
  if receipt and receipt.sequence then
    return ("stored in %s, sequence %.0f%s"):format(receipt.stream, receipt.sequence,
      receipt.duplicate and " (it was there already)" or "")
  end
  if message.id and receipt and not receipt.stream then return "no stream takes it" end
  local stream = receipt and receipt.stream ~= "UNKNOWN" and " to " .. receipt.stream or ""
  return not message.id and (real and "published, core NATS" or "core NATS") or "JetStream" .. stream
end

local function put_messages(list, what, real)
  for _, message in ipairs(list) do
    put("  %s %s (%s)", what, shown.line(message.subject), became(message, real))
    if message.id then put("      id %s", shown.line(message.id)) end
    put_headers(message)
    put("      %s", shown.data(message.raw))
  end
end

local function put_asked(result)
  for _, message in ipairs(result.requests) do
    put("  %s %s: %s", "asks", shown.line(message.subject), shown.data(message.raw))
  end
  for _, call in ipairs(result.http) do
    put("  calls %s %s%s", call.method, shown.line(call.url), call.raw ~= "" and ": " .. shown.data(call.raw) or "")
  end
  for _, missing in ipairs(result.missing) do
    put("  not answered: %s%s", shown.line(missing.what),
      missing.kind == "messages" and "" or ": by --stub FILE, or for real with --for-real")
  end
end

-- The engine's own word on the run is left out where that is the error that is shown.
local function of_script(result)
  local list = {}
  for _, event in ipairs(result.logged) do
    if not event.verdict or not result.error then list[#list + 1] = event end
  end
  return list
end

local function put_logged(result)
  for _, event in ipairs(of_script(result)) do put("  log %s: %s", event.level, shown.text(event.message)) end
end

function M.outcome(handler, result, real)
  put("")
  put("%s %s, attempt %d: %s, after %s (%s of CPU)", handler.script, handler.handler, result.attempt or 1,
    verdict_of(result), shown.seconds((result.took_ms or 0) / 1000), shown.seconds(result.cpu_ms / 1000))
  if result.start_failed then put("  start hook failed: %s", shown.text(result.start_failed.message)) end
  put_error(result.error)
  put_logged(result)
  put_asked(result)
  put_messages(result.published, real and "publishes" or "would publish", real)
  for _, letter in ipairs(result.dead_letters) do
    put("  would bury it in %s (%s)", shown.line(letter.subject), became(letter, false))
  end
  if result.raw_reply and not (result.error and result.raw_reply == "") then
    put("  %s: %s", "replies", shown.data(result.raw_reply))
  end
end

function M.failed(handler, why)
  put("")
  put("%s %s: no verdict: %s", handler.script, handler.handler, shown.text(why))
end

function M.saved(path) put("saved to %s", path) end

-- What went out: nothing, or what of it.
local function sent_of(results)
  local published, asked = 0, 0
  for _, result in ipairs(results) do
    published = published + #(result.published or {})
    asked = asked + #(result.requests or {}) + #(result.http or {})
  end
  if published > 0 then return "what was published was sent for real" end
  return asked > 0 and "what was asked was asked for real" or "there was nothing to send"
end

function M.summary(results, real)
  local well = 0
  for _, result in ipairs(results) do well = well + (result.verdict and run.is_well(result) and 1 or 0) end
  local all = well == #results
  local subject = #results == 1 and "it" or ("%d of %d handlers"):format(all and well or #results - well, #results)
  put("")
  if real then
    put("%s %s; %s, the message itself stays as it was", subject, all and "succeeded" or "failed", sent_of(results))
  else
    put("%s would%s succeed; nothing was published or acknowledged", subject, all and "" or " not")
  end
end

-- --- for programs ---

local function json_message(message)
  local object = { subject = message.subject, id = message.id, headers = {} }
  for name, value in pairs(message.headers) do object.headers[name] = value end
  if not next(object.headers) then object.headers = nil end
  local receipt = message.receipt or {}
  object.stream = receipt.stream ~= "UNKNOWN" and receipt.stream or nil
  object.sequence, object.duplicate, object.failed = receipt.sequence, receipt.duplicate, receipt.failed
  object = shown.clean(object)
  return shown.put_data(object, message.raw)
end

local function each_of(list, make)
  local out = {}
  for index, item in ipairs(list) do out[index] = make(item) end
  return shown.list(out)
end

local function json_error(err)
  return err and shown.clean { code = err.code, message = err.message, file = err.file, line = err.line,
    traceback = err.traceback }
end

local function json_log(event)
  return shown.clean { level = event.level, message = event.message, fields = event.fields }
end

local function json_call(call)
  return shown.put_data(shown.clean { method = call.method, url = call.url }, call.raw)
end

local function json_outcome(handler, result)
  if not result.verdict then
    return { script = handler.script, handler = handler.handler, failed = shown.clean(result.why) }
  end
  return {
    script = handler.script, handler = handler.handler, attempt = result.attempt or 1, verdict = result.verdict,
    ok = run.is_well(result), delay = result.delay, took_ms = result.took_ms, cpu_ms = result.cpu_ms,
    error = json_error(result.error), start_failed = json_error(result.start_failed),
    logged = each_of(of_script(result), json_log), requests = each_of(result.requests, json_message),
    http = each_of(result.http, json_call), not_answered = each_of(result.missing, shown.clean),
    published = each_of(result.published, json_message), dead_letters = each_of(result.dead_letters, json_message),
    reply = result.raw_reply and shown.put_data({}, result.raw_reply) or nil,
  }
end

-- All of it, one line. results: in the order of the handlers; of one without a verdict `why`.
function M.json(message, letter, handlers, results, options)
  local head = shown.clean { subject = message.subject, stream = message.stream, sequence = message.sequence,
    time = message.time, note = message.note }
  local out = { message = shown.put_data(head, message.data), dead_letter = letter and shown.clean(letter),
    saved = options.save, for_real = options.for_real, handlers = {} }
  for index, handler in ipairs(handlers) do out.handlers[index] = json_outcome(handler, results[index]) end
  out.handlers = shown.list(out.handlers)
  io.stdout:write(shown.encode(out), "\n")
end

return M
