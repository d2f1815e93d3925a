-- As scenarios.lua, of what newer servers have: each with the API level of JetStream that it takes.
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

return list
