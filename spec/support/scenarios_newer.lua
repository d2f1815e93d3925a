-- As scenarios.lua, of what newer servers have: each with the API level of JetStream that it takes.
local cjson = require "cjson"

local list = {}

local function scenario(level, name, run) list[#list + 1] = { name = name, run = run, level = level } end

scenario(1, "a message goes when its time to live is over, and max_age does not take what never goes", function(s)
  s:stream { allow_msg_ttl = true, max_age = 1e9 * s.scale }
  s:note(s:store("s.a", "1", { "Nats-TTL: never" }))
  s:note(s:store("s.a", "2", { ("Nats-TTL: %ds"):format(30 * s.scale) }))
  s:note(s:store("s.a", "3"))
  s:note(s:store("s.a", "4", { ("Nats-TTL: %ds"):format(s.scale) }))
  s:pass(2.5)
  s:note_state()
end)

scenario(1, "a time to live that is none, and a stream that takes none", function(s)
  s:stream { allow_msg_ttl = true }
  for _, ttl in ipairs { "1s", "1500ms", "1m30s", "5", "never", "100ms", "0", "-1s", "1.5", "x", "" } do
    s:note { ttl, s:store("s.a", "", { "Nats-TTL: " .. ttl }) }
  end
  s:stream { name = "T", subjects = { "t.>" } }
  s:note(s:store("t.a", "", { "Nats-TTL: 5s" }))
end)

scenario(1, "a marker says that the last message of a subject has ended, and lives for a while", function(s)
  local marker = 2 * s.scale
  s:stream { allow_msg_ttl = true, subject_delete_marker_ttl = marker * 1e9, allow_rollup_hdrs = true,
    max_msgs_per_subject = 3 }
  local function last(subject)
    local got = s:api("STREAM.MSG.GET.S", { last_by_subj = subject })
    s:note(got.message and { seq = got.message.seq, hdrs = got.message.hdrs, data = got.message.data } or got.error)
  end
  s:note(s:store("s.a", "1", { ("Nats-TTL: %ds"):format(marker) }))
  s:note(s:store("s.a", "2", { ("Nats-TTL: %ds"):format(marker) }))
  s:note(s:store("s.b", "1", { "Nats-TTL: 1s" })) -- no shorter than a marker's
  s:note(s:store("s.c", "1"))
  s:pass(1.2)
  s:note(s:api("STREAM.MSG.GET.S", { last_by_subj = "s.b" }).message.seq) -- its header has the longer time then
  s:pass(1.9)
  last "s.a"
  last "s.b"
  last "s.c"
  s:note(s:store("s.a", "3", { "Nats-Expected-Last-Subject-Sequence: 0" }).error.err_code)
end)

scenario(1, "an expectation of another subject", function(s)
  s:stream()
  s:store("s.a", "1")
  for _, case in ipairs { { 0, "s.a" }, { 1, "s.a" }, { 0, "s.b" }, { 2, "s.*" }, { 1, "s.b" } } do
    s:note(s:store("s.c", "", { "Nats-Expected-Last-Subject-Sequence: " .. case[1],
      "Nats-Expected-Last-Subject-Sequence-Subject: " .. case[2] }))
  end
end)

scenario(2, "a stream of counters adds up", function(s)
  s:stream { allow_msg_counter = true }
  for _, by in ipairs { "+5", "-7", "+0", "-0", "3", "+99999999999999999999", "-100000000000000000000", "+0012" } do
    s:note { by, s:store("s.a", "", { "Nats-Incr: " .. by }) }
  end
  s:note(s:store("s.b", "", { "Nats-Incr: +1", "Nats-Msg-Id: x" }))
  s:note(s:store("s.b", "", { "Nats-Incr: +1", "Nats-Msg-Id: x" }))
  s:note(s:api("STREAM.MSG.GET.S", { last_by_subj = "s.b" }).message.data)
end)

scenario(2, "what a counter does not take", function(s)
  s:stream { allow_msg_counter = true }
  s:note(s:store("s.a", "1", { "Nats-Incr: +5" }))
  s:note(s:store("s.a", ""))
  for _, by in ipairs { "x", "", "+", "1.5", "--1" } do
    s:note { by, s:store("s.a", "", { "Nats-Incr: " .. by }) }
  end
  for _, condition in ipairs { "Nats-Expected-Last-Sequence: 0", "Nats-Expected-Stream: S", "Nats-Rollup: sub",
    "Nats-Expected-Last-Subject-Sequence: 0", "Nats-Expected-Last-Msg-Id: x", "Nats-TTL: 5s" } do
    s:note(s:store("s.a", "", { "Nats-Incr: +5", condition }))
  end
  s:stream { name = "T", subjects = { "t.>" } }
  s:note(s:store("t.a", "", { "Nats-Incr: +5" }))
end)

-- --- schedules at a time ---

local function epoch(text)
  local year, month, day, hour, min, sec = text:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)"
  local at = os.time { year = year, month = month, day = day, hour = hour, min = min, sec = sec, isdst = false }
  local utc = os.date("!*t", at)
  utc.isdst = false
  return at + os.difftime(at, os.time(utc))
end

-- "@at ..." so many seconds after the last message of the stream was stored.
local function at(s, seconds)
  local state = s:api("STREAM.INFO.S").state
  local time = s:api("STREAM.MSG.GET.S", { seq = state.last_seq }).message.time
  return os.date("!@at %Y-%m-%dT%H:%M:%SZ", epoch(time) + seconds * s.scale)
end

local function with_schedules(s, settings)
  settings = settings or {}
  settings.allow_msg_schedules, settings.allow_rollup_hdrs = true, true
  s:stream(settings)
  s:store("s.now", "")
end

-- All that lies in the stream, without what tells times.
local function note_stored(s)
  local state = s:api("STREAM.INFO.S").state
  for sequence = state.first_seq, state.last_seq do
    local message = s:api("STREAM.MSG.GET.S", { seq = sequence }).message
    if message then
      local hdrs = message.hdrs and s.from_base64(message.hdrs):gsub("@at [^\r]*", "@at TIME")
      s:note { seq = sequence, subject = message.subject, data = message.data, hdrs = hdrs }
    end
  end
end

local function schedule(when, more)
  local headers = { "Nats-Schedule: " .. when, "Nats-Schedule-Target: s.due" }
  for _, line in ipairs(more or {}) do headers[#headers + 1] = line end
  return headers
end

scenario(2, "a schedule at a time is published to its target then, with its headers, and is gone", function(s)
  with_schedules(s)
  s:note(s:store("s.at", "data", schedule(at(s, 2), { "Color: red", "Nats-Msg-Id: id" })))
  note_stored(s)
  s:pass(4)
  note_stored(s)
  s:note_state()
end)

scenario(2, "one that is past is published at once, and one of the same subject takes its place", function(s)
  with_schedules(s)
  s:note(s:store("s.at", "1", schedule(at(s, 3600))))
  s:note(s:store("s.at", "2", schedule(at(s, 7200))))
  note_stored(s)
  s:note(s:store("s.at", "3", schedule(at(s, -3600))))
  s:pass(1.5)
  note_stored(s)
end)

scenario(2, "one is removed by who purges its subject, deletes it, or rolls its subject up", function(s)
  with_schedules(s)
  for _, name in ipairs { "a", "b", "c" } do s:store("s.at." .. name, name, schedule(at(s, 2))) end
  s:note(s:api("STREAM.PURGE.S", { filter = "s.at.a" }).purged)
  s:note(s:api("STREAM.MSG.DELETE.S", { seq = 3 }).success)
  s:note(s:store("s.at.c", "rolled", { "Nats-Rollup: sub" }))
  s:pass(4)
  note_stored(s)
end)

scenario(2, "what is no schedule is refused", function(s)
  with_schedules(s)
  local time = at(s, 3600)
  for _, when in ipairs { "@at", "@at tomorrow", "@at 2026-01-01", "at 2026-01-01T00:00:00Z", "", "x" } do
    s:note { when, s:store("s.at", "", schedule(when)) }
  end
  for _, target in ipairs { "t.due", "s.*", "s.>", "s..due", "" } do
    s:note { target, s:store("s.at", "", { "Nats-Schedule: " .. time, "Nats-Schedule-Target: " .. target }) }
  end
  s:note(s:store("s.at", "", { "Nats-Schedule: " .. time }))
  s:note(s:store("s.due", "", schedule(time)))
  s:stream { name = "T", subjects = { "t.>" } }
  s:note(s:store("t.at", "", { "Nats-Schedule: " .. time, "Nats-Schedule-Target: t.due" }))
end)

scenario(2, "a work queue publishes to its consumer what it has scheduled", function(s)
  with_schedules(s, { retention = "workqueue" })
  s:consumer { filter_subject = "s.due" }
  s:note(s:store("s.at.1", "data", schedule(at(s, 2))))
  s:pull { batch = 1, expires = 8e9 }
  local message = s:came(8)
  s:note { message.subject, message.data, message.headers }
  s:note(s:api("STREAM.MSG.GET.S", { last_by_subj = "s.at.*" }).error)
  s:verdict(message, "+ACK")
  s:pass(0.2)
  s:note_state()
end)

scenario(2, "the last message of several subjects is found by a pattern", function(s)
  with_schedules(s)
  s:store("s.x.at", "1", schedule(at(s, 3600)))
  s:store("s.x.due", "2")
  s:store("s.y.at", "3")
  for _, subject in ipairs { "s.x.*", "s.*.at", "s.x.none", "s.>" } do
    local got = s:api("STREAM.MSG.GET.S", { last_by_subj = subject })
    s:note { subject, got.message and got.message.seq or got.error }
  end
end)

scenario(2, "JetStream says its level, and refuses a request that needs a higher one", function(s)
  local api = s:api "INFO".api
  s:note { api.level >= 2, type(api.total), type(api.errors) }
  s:stream()
  for _, level in ipairs { "0", "1", "2", "99", "x" } do
    local answer = s:ask("$JS.API.STREAM.INFO.S", "", { "Nats-Required-Api-Level: " .. level })
    s:note { level, cjson.decode(answer.data).error or "answered" }
  end
end)

scenario(2, "what is scheduled has a time to live of its own", function(s)
  with_schedules(s, { allow_msg_ttl = true })
  s:note(s:store("s.at", "data", schedule(at(s, 1), { ("Nats-Schedule-TTL: %ds"):format(2 * s.scale) })))
  s:pass(2.5)
  note_stored(s)
  s:pass(4)
  note_stored(s)
end)

return list
