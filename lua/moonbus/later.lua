--- js.publish with `after` or `at`, and js.cancel: stored now, published later.
---
--- What is parked lies in a stream of ours, under a subject of its own, until a host publishes it
--- (host/bus/consume/later.h). In a stream that has schedules, the server does.
local core = require("moonbus.core")
local js_api = require("moonbus.js_api")
local misuse = require("moonbus.options_kinds").misuse
local times = require("moonbus.options_time")

local M = {}

local STREAM = "MOONBUS_LATER"
local SUBJECTS = "moonbus.later."
local HEADER = "Moonbus-Later-"
local CONFIG = {
  name = STREAM, subjects = { SUBJECTS .. ">" }, retention = "workqueue", storage = "file",
  description = "what moonbus publishes later",
}

-- The stream --------------------------------------------------------------------------------------

local is_there = false -- as far as this state knows

local function of_use(config)
  if config.retention == "workqueue" then return true end
  return nil, core.error("mismatch", ("the stream %s is not as what is published later needs it: it has to have " ..
    "retention = \"workqueue\""):format(STREAM))
end

--- True, or nil and an error.
local function ensure()
  if is_there then return true end
  local info, err = js_api.call("js.publish", "STREAM.INFO." .. STREAM)
  if not info and err.api_code == js_api.STREAM_GONE then
    info, err = js_api.call("js.publish", "STREAM.CREATE." .. STREAM, CONFIG)
  end
  if not info then return nil, err end
  local ok
  ok, err = of_use(info.config or {})
  is_there = ok or false
  return ok, err
end

-- The server's schedules --------------------------------------------------------------------------

local SCHEDULES = "moonbus.at."
local SCHEDULES_NEED = { level = 2, what = "js.publish: a schedule" }
local KNOWN_FOR = 60 -- seconds
local KNOWN_MOST = 1000 -- subjects

local known, known_count = {}, 0 -- subject -> { stream or false, until when, may its messages have a ttl }

--- Has it schedules, and a place for them?
local function takes_schedules(config)
  if not (config.allow_msg_schedules and config.allow_rollup_hdrs) then return false end
  for _, subject in ipairs(config.subjects or {}) do
    if subject == SCHEDULES .. config.name .. ".>" then return true end
  end
  return false
end

--- What this user may not ask has an answer, and the same one the next time.
local function refused(err)
  if err.code == "permission" or err.code == "unsupported" then return false end
  return nil, err
end

local function ask_stream(subject)
  local names, err = js_api.call("js.publish", "STREAM.NAMES", { subject = subject })
  if not names then return refused(err) end
  local name = type(names.streams) == "table" and names.streams[1]
  if not name then return false end
  local info
  info, err = js_api.call("js.publish", "STREAM.INFO." .. name)
  if not info then return refused(err) end
  local config = info.config or {}
  return takes_schedules(config) and name, config.allow_msg_ttl
end

--- The stream of that subject, if the server shall publish there at a time; else false; or nil and an error.
--- It is never guessed: what the server has published has no message id, so what an earlier run of the handler
--- has left to it would come once more out of our stream.
local function scheduling_stream(subject)
  local able, err = js_api.require("js.publish", SCHEDULES_NEED)
  if not able then return refused(err) end
  local entry, now = known[subject], core.clock()
  if entry and now <= entry[2] then return entry[1] end
  local stream, more = ask_stream(subject)
  if stream == nil then return nil, more end
  if not known[subject] then known_count = known_count + 1 end
  if known_count > KNOWN_MOST then known, known_count = {}, 1 end
  known[subject] = { stream, now + KNOWN_FOR, more == true }
  return stream
end

--- The headers of a schedule; nil: JetStream is told something that it would do at once.
local function schedule_headers(headers, own)
  local result = {}
  for name, value in pairs(headers or {}) do
    local lower = type(name) == "string" and name:lower() or ""
    if lower:find "^nats%-" and lower ~= "nats-msg-id" then return nil end
    if lower ~= "nats-msg-id" then result[name] = value end
  end
  if own and own.name ~= "Nats-TTL" then return nil end
  if own then result["Nats-Schedule-TTL"] = own.value end
  return result
end

-- Parking -----------------------------------------------------------------------------------------

local function is_ours(name) return name:lower():find("^moonbus%-later%-") ~= nil end

--- What JetStream would act upon now is put aside until then.
local function park_headers(headers)
  local parked = {}
  for name, value in pairs(headers or {}) do
    local lower = type(name) == "string" and name:lower()
    if lower and lower:find("^nats%-") then
      if lower ~= "nats-msg-id" then parked[HEADER .. "Nats-" .. name:sub(6)] = value end
    elseif not lower or not is_ours(name) then
      parked[name] = value
    end
  end
  return parked
end

--- When what lies there comes; nil: it is something else.
local function due_at(message, id)
  if message:header(HEADER .. "Id") ~= id then return nil end
  local at = message:header(HEADER .. "At") -- in nanoseconds
  if at then return tonumber(at) and tonumber(at) / 1e9 end
  return times.seconds_of((message:header "Nats-Schedule" or ""):match "^@at (.*)$" or "")
end

--- Something is parked there already: under this id it is our own, from before.
local function look_for(receipt, id)
  local parked, err = js_api.get("js.publish", receipt.stream, { last_by_subj = receipt.subject })
  if not parked then return nil, err end
  if parked:header(HEADER .. "Id") ~= id then
    return nil, core.error("wrong_sequence", ("\"%s\" is taken by another message"):format(receipt.subject))
  end
  receipt.seq, receipt.duplicate, receipt.at = parked.sequence, true, due_at(parked, id) or receipt.at
  return receipt
end

--- An earlier run has parked it, for a time of its own.
local function take_over(receipt, id)
  local parked = js_api.get("js.publish", receipt.stream, { last_by_subj = receipt.subject })
  receipt.at = parked and due_at(parked, id) or receipt.at
end

local function fail(err)
  core.js_failed(err.code, err.message)
  return nil, err
end

--- Stores what waits for its time at receipt.subject, and completes the receipt.
local function store(send, receipt, text, content_type, id, headers, opts)
  headers[HEADER .. "Id"] = id
  local stored, err = send(receipt.subject, text, {
    id = id, headers = headers, timeout = opts.timeout, attempts = opts.attempts,
    expect = { last_subject_sequence = 0 },
  }, content_type)
  if stored then
    receipt.seq, receipt.duplicate = stored.seq, stored.duplicate
    if stored.duplicate then take_over(receipt, id) end
    return receipt
  end
  if err.code ~= "wrong_sequence" then return nil, err end
  stored, err = look_for(receipt, id)
  if not stored then return fail(err) end
  return receipt
end

local function park(send, subject, text, content_type, id, opts)
  local ok, err = ensure()
  if not ok then return fail(err) end
  core.later_serve()
  local headers = park_headers(opts.headers)
  if opts.own then headers[HEADER .. opts.own.name] = opts.own.value end
  headers[HEADER .. "Subject"] = subject
  headers[HEADER .. "At"] = ("%.0f000000"):format(opts.at * 1000)
  local receipt = { stream = STREAM, subject = SUBJECTS .. core.later_token(id), at = opts.at }
  ok, err = store(send, receipt, text, content_type, id, headers, opts)
  if not ok and err.code == "no_stream" then is_there = false end
  return ok, err
end

local function at_once(send_now, subject, text, content_type, id, derived, opts)
  opts.at, opts.past, opts.id, opts.derived = nil, nil, id, derived
  return send_now(subject, text, opts, content_type)
end

--- opts: as moonbus.options has checked them, with `at` in seconds since 1970. send, send_now: of moonbus.jetstream.
--- What is past is published at once; but where the server has schedules an earlier run may have left one, whose
--- message has no id: so it is a schedule again, which the stream knows by its id, or else the server fires at once.
function M.publish(send, send_now, subject, data, opts)
  if type(subject) == "string" and (subject:find "^%$JS%." or subject:find "^%$SYS%.") then
    misuse(("js.publish: \"%s\" is a command for the server, which cannot be given later"):format(subject))
  end
  local text, content_type, id, derived = core.js_prepare(subject, data, opts, "js.publish")
  local able, unable = true, nil -- when it is published, nobody is there to be told
  if opts.needs then able, unable = js_api.require("js.publish", opts.needs) end
  if not able then return fail(unable) end
  local headers = schedule_headers(opts.headers, opts.own)
  local stream, err = false, nil
  if headers then stream, err = scheduling_stream(subject) end
  if stream == nil then return fail(err) end
  if not stream and opts.past then return at_once(send_now, subject, text, content_type, id, derived, opts) end
  id = id or core.later_id()
  if not stream then return park(send, subject, text, content_type, id, opts) end
  headers["Nats-Schedule"], headers["Nats-Schedule-Target"] = "@at " .. core.time_text(opts.at), subject
  local receipt = {
    stream = stream, subject = SCHEDULES .. stream .. "." .. core.later_token(id), at = opts.at, target = subject,
  }
  return store(send, receipt, text, content_type, id, headers, opts)
end

-- Cancelling --------------------------------------------------------------------------------------

local function check_receipt(receipt)
  if type(receipt) ~= "table" then
    misuse(("js.cancel: expected what js.publish returned, got %s"):format(
      receipt == nil and "nothing" or "a " .. type(receipt)))
  end
  if type(receipt.at) ~= "number" then
    misuse("js.cancel: this was published at once: a receipt of js.publish with after or at has the field \"at\"")
  end
  if type(receipt.stream) ~= "string" or type(receipt.subject) ~= "string" or type(receipt.seq) ~= "number"
    or receipt.target ~= nil and type(receipt.target) ~= "string" then
    misuse("js.cancel: a receipt has the fields stream, subject and seq, as js.publish returned them")
  end
end

--- Takes the place of what waits at the receipt's subject, if nothing else has.
local function take_place(send, receipt, sequence, id, rollup, ttl)
  return send(receipt.subject, "", {
    id = id,
    headers = {
      [HEADER .. "State"] = "cancelled", [HEADER .. "Of"] = ("%.0f"):format(receipt.seq),
      ["Nats-Rollup"] = rollup and "sub" or nil, ["Nats-TTL"] = ttl,
    },
    expect = { last_subject_sequence = sequence },
  })
end

--- Has the server published it between these two sequences?
local function was_fired(receipt, from, to)
  while from < to do
    local msg, err = js_api.get("js.cancel", receipt.stream, { seq = from, next_by_subj = receipt.target })
    if not msg then return err.code ~= "not_found" and err or nil, false end
    if msg.sequence >= to then break end
    if msg:header "Nats-Scheduler" == receipt.subject then return nil, true end
    from = msg.sequence + 1
  end
  return nil, false
end

--- What is due and its schedule's end are two steps of a server, and what takes the schedule's place may come
--- between them, or between the begin of the first and its end (seen of 2.15). It does all that in the order
--- in which it was told: what it has published lies close before our first message, or before a second one.
local CLOSE = 256 -- sequences
--- So long a cancel that is made again, by a later run of its handler, finds that it was made.
local MADE_TTL = "2m"

local function make_sure(send, receipt, cancelled)
  local first = math.max(receipt.seq + 1, cancelled.seq - CLOSE)
  local stays = scheduling_stream(receipt.target) and known[receipt.target][3]
  local barrier, err = take_place(send, receipt, cancelled.seq, nil, true, stays and MADE_TTL or nil)
  -- An earlier run of this cancel has sent its second message already.
  local been = cancelled.duplicate and not barrier and err.code == "wrong_sequence"
  if not barrier and not been then return nil, err end
  local failed, fired = was_fired(receipt, first, been and cancelled.seq + CLOSE or barrier.seq)
  if barrier and (fired or not stays) then
    -- What took the schedule's place has done its work; where it stays it does no harm.
    js_api.call("js.cancel", "STREAM.MSG.DELETE." .. receipt.stream, { seq = barrier.seq, no_erase = true })
  end
  if failed then return nil, failed end
  return not fired, nil
end

--- Was it cancelled before? What took its place then is there for a while, where messages may have a ttl.
local function was_cancelled(receipt)
  local last = js_api.get("js.cancel", receipt.stream, { last_by_subj = receipt.subject })
  if not last or last:header(HEADER .. "State") ~= "cancelled"
    or last:header(HEADER .. "Of") ~= ("%.0f"):format(receipt.seq) then
    return false
  end
  local failed, fired = was_fired(receipt, math.max(receipt.seq + 1, last.sequence - CLOSE), last.sequence + CLOSE)
  return not failed and not fired
end

--- True: it will not be published. nil and an error "not_found": too late, or cancelled before.
function M.cancel(send, receipt)
  check_receipt(receipt)
  local scheduled = receipt.target ~= nil
  local id = ("cancel:%s:%.0f"):format(receipt.stream, receipt.seq)
  local stored, err = take_place(send, receipt, receipt.seq, id, scheduled)
  local ok = stored ~= nil
  if stored and scheduled then
    ok, err = make_sure(send, receipt, stored)
    if ok == nil then return nil, err end
  end
  if ok then return true end
  if err and err.code ~= "wrong_sequence" then return nil, err end
  if err and scheduled and was_cancelled(receipt) then return true end
  return nil, core.error("not_found", ("%s #%.0f is not parked any more: it has been published, or cancelled")
    :format(receipt.stream, receipt.seq))
end

return M
