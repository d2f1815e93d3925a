-- What is compared between the broker inside the process and a nats-server: each scenario notes
-- what it sees. It asserts nothing itself, and asks only for what servers of 2.9 to 2.15 agree on.
return function(_, tools)
  local plain, only, ONE, ACK_WAIT = tools.plain, tools.only, tools.ONE, tools.ACK_WAIT
  local list = {}

  local function scenario(name, run) list[#list + 1] = { name = name, run = run } end

  -- Subjects --------------------------------------------------------------------------------

  for _, case in ipairs {
    { "a.b", "a.b" }, { "a.*", "a.b" }, { "a.*", "a.b.c" }, { "a.>", "a" }, { "a.>", "a.b.c" },
    { "*", "a" }, { ">", "a.b" }, { "*.b.*", "a.b.c" }, { "a.b", "a.B" },
  } do
    scenario(("%s takes %s, or not"):format(case[1], case[2]), function(s)
      local sid = s.peer:subscribe(case[1])
      s.peer:publish(case[2], "x")
      s:note(plain(s.peer:next(sid, 0.1)))
    end)
  end

  scenario("headers and a reply subject travel as they are", function(s)
    local sid = s.peer:subscribe "a"
    s.peer:publish("a", "data\0more", { reply = "r.1", headers = { "X: 1", "empty:", "X:  2 " } })
    s:note(plain(s.peer:next(sid)))
  end)

  scenario("each subscription of a client gets a message", function(s)
    local one, two = s.peer:subscribe "a.*", s.peer:subscribe "a.b"
    s.peer:publish("a.b", "x")
    s:note(plain(s.peer:next(one)))
    s:note(plain(s.peer:next(two)))
  end)

  scenario("one of a queue group gets a message", function(s)
    local one, two, lone = s.peer:subscribe("a", "q"), s:other(), s.peer:subscribe "a"
    local other = two:subscribe("a", "q")
    for index = 1, 20 do s.peer:publish("a", tostring(index)) end
    local count = 0
    while s.peer:next(one, 0.1) do count = count + 1 end
    s:note(count > 0)
    while two:next(other, 0.1) do count = count + 1 end
    s:note(count)
    count = 0
    while s.peer:next(lone, 0.1) do count = count + 1 end
    s:note(count)
  end)

  scenario("each queue group gets a message", function(s)
    local one, two = s.peer:subscribe("a", "q1"), s.peer:subscribe("a", "q2")
    s.peer:publish("a", "x")
    s:note(plain(s.peer:next(one)))
    s:note(plain(s.peer:next(two)))
  end)

  scenario("nothing comes after an unsubscribe", function(s)
    local sid = s.peer:subscribe "a"
    s.peer:unsubscribe(sid)
    s.peer:publish("a", "x")
    s:note(plain(s.peer:next(sid, 0.1)))
  end)

  scenario("nobody serves it: the requester is told", function(s)
    s:note_no_responders(s:ask("nobody.is.there", "x"))
  end)

  scenario("nobody serves it, and no reply is wanted: nobody is told", function(s)
    local sid = s.peer:subscribe "r"
    s.peer:publish("nobody", "x")
    s:note(plain(s.peer:next(sid, 0.1)))
  end)

  scenario("a request is answered", function(s)
    local other = s:other()
    local sid, inbox = other:subscribe "svc", s.peer:subscribe "_INBOX.x"
    s.peer:publish("svc", "ping", { reply = "_INBOX.x" })
    local request = other:next(sid)
    s:note(plain(request))
    other:publish(request.reply, "pong")
    s:note(plain(s.peer:next(inbox)))
  end)

  scenario("who has gone serves nothing", function(s)
    local other = s.world:connect()
    other:subscribe "svc"
    other:close()
    s:pass(0.05)
    s:note_no_responders(s:ask("svc", "x"))
  end)

  -- Streams ---------------------------------------------------------------------------------

  scenario("a request that names another stream than its subject, or cannot be read, makes none", function(s)
    s:note(s:api("STREAM.CREATE.S", { name = "T", subjects = { "s.>" } }).error)
    s:note(s:api("STREAM.CREATE.S", { subjects = { "s.>" } }).error)
    s:note(s:api("STREAM.CREATE.S", { name = "S", description = { { 1 } } }).error.err_code)
    s:note(s:api("STREAM.CREATE.S", { name = "S", sources = { { name = "A", filter_subject = { { 1 } } } } })
      .error.err_code)
    s:note(s:api("STREAM.NAMES").total)
    s:stream()
    s:note(s:api("STREAM.UPDATE.S", { name = "T", subjects = { "s.>" } }).error)
  end)

  scenario("a stream is made, and told of", function(s)
    local made = s:stream { max_msgs = 10 }
    s:note(only(made.config, [[name subjects retention discard storage max_msgs max_bytes max_age
      max_msgs_per_subject max_msg_size max_consumers num_replicas duplicate_window sealed deny_delete
      deny_purge allow_rollup_hdrs]]))
    s:note_state()
  end)

  scenario("a stream without subjects has its name", function(s)
    s:note(s:api("STREAM.CREATE.T", { name = "T" }).config.subjects)
  end)

  scenario("a short max_age shortens the duplicate window", function(s)
    s:note(only(s:stream { max_age = 60e9 }.config, "max_age duplicate_window"))
  end)

  scenario("a stream that is there already, the same or not", function(s)
    s:stream()
    s:note(s:stream().error)
    s:note(s:stream { max_msgs = 5 }.error)
  end)

  scenario("subjects that overlap are refused", function(s)
    s:stream()
    s:note(s:stream { name = "T", subjects = { "s.a" } }.error)
    s:note(s:stream { name = "T", subjects = { "s.*" } }.error)
    s:note(s:stream { name = "T", subjects = { "t.a" } }.error)
  end)

  scenario("a stream that is not there", function(s)
    s:note(s:api "STREAM.INFO.NONE".error)
    s:note(s:api "STREAM.DELETE.NONE".error)
    s:note(s:api "STREAM.PURGE.NONE".error)
    s:note(s:api("STREAM.UPDATE.NONE", { name = "NONE", subjects = { "n" } }).error)
  end)

  scenario("which stream takes a subject", function(s)
    s:stream()
    s:stream { name = "T", subjects = { "t", "u.*" } }
    s:note(s:api("STREAM.NAMES", { subject = "u.x" }).streams)
    s:note(s:api("STREAM.NAMES", { subject = "s.x.y" }).streams)
    s:note(s:api("STREAM.NAMES", { subject = "z" }).total)
    s:note(s:api("STREAM.NAMES").total)
  end)

  scenario("a stream's settings are changed", function(s)
    s:stream()
    for index = 1, 5 do s:store("s.a", tostring(index)) end
    local changed = s:api("STREAM.UPDATE.S",
      { name = "S", subjects = { "s.>", "more" }, max_msgs = 2, storage = "memory" })
    s:note(only(changed.config, "subjects max_msgs"))
    s:note_state()
  end)

  scenario("a deleted stream takes nothing", function(s)
    s:stream()
    s:note(s:api "STREAM.DELETE.S".success)
    s:note_no_responders(s:ask("s.a", "x"))
  end)

  -- Publishing ------------------------------------------------------------------------------

  scenario("what is stored is confirmed, in order", function(s)
    s:stream()
    s:note(s:store("s.a", "1"))
    s:note(s:store("s.b", "2"))
    s:note_state()
  end)

  scenario("who subscribes sees what is stored, and its reply subject", function(s)
    s:stream()
    local sid = s:other()
    local sub = sid:subscribe "s.*"
    s:store("s.a", "1")
    s:note(sid:next(sub).data)
  end)

  scenario("a message id is stored once", function(s)
    s:stream()
    s:note(s:store("s.a", "1", { "Nats-Msg-Id: x" }))
    s:note(s:store("s.a", "1", { "Nats-Msg-Id: x" }))
    s:note(s:store("s.b", "1", { "Nats-Msg-Id: x" }))
    s:note(s:store("s.a", "1", { "Nats-Msg-Id: y" }))
    s:note_state()
  end)

  scenario("a message id is forgotten when the window is over", function(s)
    s:stream { duplicate_window = 0.3e9 }
    s:note(s:store("s.a", "1", { "Nats-Msg-Id: x" }))
    s:pass(0.8)
    s:note(s:store("s.a", "1", { "Nats-Msg-Id: x" }))
  end)

  for _, case in ipairs {
    { "Nats-Expected-Last-Sequence: 1" }, { "Nats-Expected-Last-Sequence: 0" },
    { "Nats-Expected-Last-Subject-Sequence: 0" }, { "Nats-Expected-Last-Subject-Sequence: 1" },
    { "Nats-Expected-Stream: S" }, { "Nats-Expected-Stream: T" },
    { "Nats-Expected-Last-Msg-Id: first" }, { "Nats-Expected-Last-Msg-Id: other" },
  } do
    scenario("a publish with " .. case[1], function(s)
      s:stream()
      s:store("s.a", "1", { "Nats-Msg-Id: first" })
      s:note(s:store("s.a", "2", case))
      s:note(s:store("s.b", "2", case))
      s:note_state()
    end)
  end

  scenario("max_msgs lets the oldest go", function(s)
    s:stream { max_msgs = 2 }
    for index = 1, 4 do s:store("s.a", tostring(index)) end
    s:note_state()
  end)

  scenario("max_msgs with discard = new refuses the newest", function(s)
    s:stream { max_msgs = 2, discard = "new" }
    for index = 1, 3 do s:note(s:store("s.a", tostring(index))) end
    s:note_state()
  end)

  scenario("max_msgs_per_subject keeps the newest of each", function(s)
    s:stream { max_msgs_per_subject = 1 }
    for _, subject in ipairs { "s.a", "s.b", "s.a", "s.a" } do s:store(subject, "x") end
    s:note_state()
    s:note(s:api("STREAM.MSG.GET.S", { last_by_subj = "s.b" }).message.seq)
  end)

  -- Buckets --------------------------------------------------------------------------------

  scenario("which subjects a stream holds, a page of them", function(s)
    s:stream()
    for _, subject in ipairs { "s.a", "s.b", "s.a", "s.b.c" } do s:store(subject, "x") end
    for _, asked in ipairs { { ">" }, { "s.*" }, { "s.a" }, { "s.b.>" }, { "none" }, { ">", 1 } } do
      local info = s:api("STREAM.INFO.S", { subjects_filter = asked[1], offset = asked[2] })
      local count = 0
      for _ in pairs(info.state.subjects or {}) do count = count + 1 end
      -- Which of them are left on a later page is the server's own taste.
      s:note { asked[2] and count or info.state.subjects or "none", info.total, info.offset, info.limit }
    end
  end)

  local BUCKET = { name = "KV_b", subjects = { "$KV.b.>" }, max_msgs_per_subject = 2, discard = "new",
    deny_delete = true, allow_rollup_hdrs = true, allow_direct = true }

  scenario("a bucket keeps so many of each key, deletes by a marker, and purges by a rollup", function(s)
    s:stream(BUCKET)
    local function state() s:note(only(s:api "STREAM.INFO.KV_b".state, "messages first_seq last_seq")) end
    local function last()
      local got = s:api("STREAM.MSG.GET.KV_b", { last_by_subj = "$KV.b.a" })
      s:note(only(got.message or got.error, "subject seq hdrs data err_code"))
    end
    for index = 1, 4 do s:note(s:store("$KV.b.a", tostring(index))) end
    s:store("$KV.b.c", "x")
    state()
    s:note(s:api("STREAM.MSG.GET.KV_b", { seq = 1, next_by_subj = "$KV.b.a" }).message.seq)
    s:note(s:store("$KV.b.a", "", { "KV-Operation: DEL" }))
    last()
    s:note(s:store("$KV.b.a", "5", { "Nats-Expected-Last-Subject-Sequence: 0" }).error)
    s:note(s:store("$KV.b.a", "5", { "Nats-Expected-Last-Subject-Sequence: 6" }))
    s:note(s:store("$KV.b.a", "", { "KV-Operation: PURGE", "Nats-Rollup: sub" }))
    last()
    state()
    s:note(s:api("STREAM.MSG.DELETE.KV_b", { seq = 8 }).error)
  end)

  scenario("an id that is known is a duplicate, whatever the last id is", function(s)
    s:stream()
    s:store("s.a", "1", { "Nats-Msg-Id: x" })
    s:store("s.b", "1", { "Nats-Msg-Id: y" })
    s:note(s:store("s.a", "", { "Nats-Msg-Id: x", "Nats-Expected-Last-Msg-Id: no such id" }))
    s:note(s:store("s.a", "", { "Nats-Msg-Id: z", "Nats-Expected-Last-Msg-Id: no such id" }))
    s:note_state()
  end)

  scenario("max_msg_size refuses what is larger", function(s)
    s:stream { max_msg_size = 10 }
    s:note(s:store("s.a", ("x"):rep(10)))
    s:note(s:store("s.a", ("x"):rep(11)))
  end)

  scenario("max_age lets go what is old", function(s)
    s:stream { max_age = 0.3e9, duplicate_window = 0.3e9 }
    s:store("s.a", "1")
    s:pass(1)
    s:note(only(s:api "STREAM.INFO.S".state, "messages last_seq"))
  end)

  scenario("a stream without acknowledgements answers nothing", function(s)
    s:stream { no_ack = true }
    s:note(plain(s:ask("s.a", "1")))
    s:note_state()
  end)

  scenario("a sealed stream takes nothing", function(s)
    s:stream()
    s:store("s.a", "1")
    s:api("STREAM.UPDATE.S", { name = "S", subjects = { "s.>" }, sealed = true,
      storage = "memory" })
    s:note(s:store("s.a", "2").error)
  end)

  scenario("a rollup takes the place of its subject", function(s)
    s:stream { allow_rollup_hdrs = true }
    for _, subject in ipairs { "s.a", "s.b", "s.a" } do s:store(subject, "x") end
    s:note(s:store("s.a", "all", { "Nats-Rollup: sub" }))
    s:note_state()
    s:note(s:store("s.c", "all", { "Nats-Rollup: all" }))
    s:note_state()
  end)

  scenario("a rollup where none is allowed", function(s)
    s:stream()
    s:note(s:store("s.a", "x", { "Nats-Rollup: sub" }).error)
  end)

  scenario("an interest stream without consumers keeps nothing", function(s)
    s:stream { retention = "interest" }
    s:note(s:store("s.a", "x"))
    s:note(only(s:api "STREAM.INFO.S".state, "messages last_seq"))
  end)

  -- Stored messages -------------------------------------------------------------------------

  scenario("a stored message is read", function(s)
    s:stream()
    s:store("s.a", "data", { "X: 1" })
    s:store("s.b", "")
    local message = s:api("STREAM.MSG.GET.S", { seq = 1 }).message
    s:note(only(message, "subject seq hdrs data"))
    s:note(only(s:api("STREAM.MSG.GET.S", { seq = 2 }).message, "subject seq hdrs data"))
    s:note(only(s:api("STREAM.MSG.GET.S", { last_by_subj = "s.a" }).message, "subject seq"))
    s:note(s:api("STREAM.MSG.GET.S", { seq = 3 }).error)
    s:note(s:api("STREAM.MSG.GET.S", { last_by_subj = "s.z" }).error)
  end)

  scenario("a stored message is deleted", function(s)
    s:stream()
    for index = 1, 3 do s:store("s.a", tostring(index)) end
    s:note(s:api("STREAM.MSG.DELETE.S", { seq = 2 }).success)
    s:note(s:api("STREAM.MSG.DELETE.S", { seq = 2 }).error ~= nil)
    s:note_state()
    s:api("STREAM.MSG.DELETE.S", { seq = 1 })
    s:note_state()
  end)

  scenario("a stream is purged", function(s)
    s:stream()
    for _, subject in ipairs { "s.a", "s.b", "s.a", "s.b", "s.a" } do s:store(subject, "x") end
    s:note(s:api("STREAM.PURGE.S", { filter = "s.b" }).purged)
    s:note_state()
    s:note(s:api("STREAM.PURGE.S", { keep = 1 }).purged)
    s:note_state()
    s:note(s:api("STREAM.PURGE.S").purged)
    s:note(s:store("s.a", "x"))
  end)

  -- Consumers -------------------------------------------------------------------------------

  scenario("a consumer is made, and told of", function(s)
    s:stream()
    local made = s:consumer { filter_subject = "s.a" }
    s:note(only(made.config, [[durable_name ack_policy ack_wait deliver_policy max_deliver
      max_ack_pending max_waiting filter_subject replay_policy]]))
    s:note(made.name)
    s:note_consumer()
  end)

  scenario("a consumer that is not there", function(s)
    s:note(s:api "CONSUMER.INFO.S.C".error)
    s:stream()
    s:note(s:api "CONSUMER.INFO.S.C".error)
    s:note(s:api "CONSUMER.DELETE.S.C".error)
  end)

  scenario("the consumers of a stream", function(s)
    s:stream()
    s:consumer()
    s:note(s:api "CONSUMER.NAMES.S".consumers)
    s:note(s:api "CONSUMER.DELETE.S.C".success)
    s:note(s:api "CONSUMER.NAMES.S".total)
  end)

  local function three(s, config)
    s:stream()
    for index = 1, 3 do s:store("s." .. index, tostring(index), { "X: " .. index }) end
    return s:consumer(config)
  end

  scenario("a message is delivered, with its place", function(s)
    three(s)
    s:pull(ONE)
    s:note_came()
    s:note_consumer()
  end)

  scenario("a request for several gets them in order", function(s)
    three(s)
    s:pull { batch = 3, expires = 1e9 }
    for _ = 1, 3 do s:note_came() end
    s:note_consumer()
  end)

  scenario("an empty request is one for one message", function(s)
    three(s)
    s:pull ""
    s:note_came()
    s:note_came(0.1)
  end)

  scenario("a bare number is a request for so many", function(s)
    three(s)
    s:pull "2"
    s:note_came()
    s:note_came()
    s:note_came(0.1)
  end)

  scenario("a request waits for what is published", function(s)
    s:stream()
    s:consumer()
    s:pull(ONE)
    s:note_consumer()
    s:store("s.a", "late")
    s:note_came()
  end)

  scenario("a request ends with 408", function(s)
    s:stream()
    s:consumer()
    s:pull { batch = 5, expires = 0.2e9 }
    s:note_came(1)
  end)

  scenario("a request ends with 408 and what is left of it", function(s)
    three(s)
    s:pull { batch = 5, expires = 0.3e9 }
    for _ = 1, 4 do s:note_came(1) end
  end)

  scenario("a request that does not wait ends with 404", function(s)
    s:stream()
    s:consumer()
    s:pull { batch = 5, no_wait = true }
    s:note_came(1)
  end)

  scenario("an idle request is told that somebody is there", function(s)
    s:stream()
    s:consumer()
    s:pull { batch = 1, expires = 1e9, idle_heartbeat = 0.3e9 }
    s:note_came(0.8)
    s:note_came(0.8)
  end)

  scenario("a request for a consumer that is deleted ends with 409", function(s)
    s:stream()
    s:consumer()
    s:pull { batch = 1, expires = 5e9 }
    s:api "CONSUMER.DELETE.S.C"
    s:note_came(1)
  end)

  scenario("more requests than max_waiting are refused", function(s)
    s:stream()
    s:consumer { max_waiting = 1 }
    s:pull { batch = 1, expires = 5e9 }
    s:pull { batch = 1, expires = 5e9 }
    s:note_came(1)
  end)

  scenario("a larger request than max_batch is refused", function(s)
    three(s, { max_batch = 2 })
    s:pull { batch = 3, expires = 1e9 }
    s:note_came(1)
    s:pull { batch = 2, expires = 1e9 }
    s:note_came(1)
  end)

  scenario("an acknowledged message is done with", function(s)
    three(s)
    s:pull(ONE)
    s:verdict(s:came(), "+ACK")
    s:note_consumer()
    s:pass(ACK_WAIT * 1.5)
    s:pull(ONE)
    s:note_came()
  end)

  scenario("an empty verdict acknowledges", function(s)
    three(s)
    s:pull(ONE)
    s:verdict(s:came(), "")
    s:note_consumer()
  end)

  scenario("an acknowledgement is confirmed to who asks for it", function(s)
    three(s)
    s:pull(ONE)
    s:note(plain(s:ask(s:came().reply, "+ACK")).data)
    s:note_consumer()
  end)

  scenario("acknowledgements in another order move the floor when they can", function(s)
    three(s)
    s:pull { batch = 3, expires = 1e9 }
    local one, two, last = s:came(), s:came(), s:came()
    s:verdict(two, "+ACK")
    s:note_consumer()
    s:verdict(one, "+ACK")
    s:note_consumer()
    s:verdict(last, "+ACK")
    s:note_consumer()
  end)

  scenario("without a verdict it comes again", function(s)
    three(s)
    s:pull(ONE)
    s:came()
    s:pass(ACK_WAIT * 1.5)
    s:pull(ONE)
    s:note_came()
    s:note_consumer()
  end)

  scenario("a heartbeat keeps it", function(s)
    three(s)
    s:pull(ONE)
    local message = s:came()
    for _ = 1, 4 do
      s:pass(ACK_WAIT / 2)
      s:verdict(message, "+WPI")
    end
    s:pull(ONE)
    s:note_came()
  end)

  scenario("a nak has it come again at once", function(s)
    three(s)
    s:pull(ONE)
    s:verdict(s:came(), "-NAK")
    s:pull(ONE)
    s:note_came()
  end)

  scenario("a nak with a delay has it come again later", function(s)
    three(s, { ack_wait = 5e9 })
    s:pull(ONE)
    s:verdict(s:came(), '-NAK {"delay": 500000000}')
    s:pull(ONE)
    s:note_came()
    s:pull { batch = 1, expires = 0.2e9 }
    s:note_came()
    s:pull { batch = 5, expires = 2e9 }
    s:note_came()
    s:note_came(1)
  end)

  scenario("a termination is for ever", function(s)
    three(s)
    s:pull(ONE)
    s:verdict(s:came(), "+TERM")
    s:pass(ACK_WAIT * 1.5)
    s:pull(ONE)
    s:note_came()
    s:note_consumer()
  end)

  scenario("what comes again comes before what is new", function(s)
    three(s)
    s:pull(ONE)
    local first = s:came()
    s:pull(ONE)
    s:came()
    s:verdict(first, "-NAK")
    s:pull { batch = 2, expires = 1e9 }
    s:note_came()
    s:note_came()
  end)

  scenario("max_ack_pending holds back what is new", function(s)
    three(s, { max_ack_pending = 1, ack_wait = 5e9 })
    s:pull { batch = 3, expires = 0.5e9 }
    local first = s:came()
    s:note_came(0.1)
    s:verdict(first, "+ACK")
    s:note_came()
    s:note_consumer()
  end)

  scenario("max_deliver is the last time", function(s)
    three(s, { max_deliver = 2, filter_subject = "s.1" })
    for _ = 1, 3 do
      s:pull { batch = 1, expires = 0.2e9 }
      local message = s:came(1)
      s:note(plain(message))
      if message.reply then s:verdict(message, "-NAK") end
    end
  end)

  scenario("a filter takes its subjects alone", function(s)
    three(s, { filter_subject = "s.2" })
    s:pull { batch = 3, expires = 0.3e9 }
    s:note_came(1)
    s:note_came(1)
    s:note(only(s:api "CONSUMER.INFO.S.C", "num_pending num_ack_pending"))
  end)

  for _, case in ipairs {
    { "new" }, { "last" }, { "by_start_sequence", opt_start_seq = 2 }, { "last_per_subject" },
  } do
    scenario("deliver_policy " .. case[1], function(s)
      s:stream()
      for _, subject in ipairs { "s.a", "s.b", "s.a" } do s:store(subject, "old") end
      s:consumer { deliver_policy = case[1], opt_start_seq = case.opt_start_seq,
        filter_subject = case[1] == "last_per_subject" and "s.>" or nil }
      s:store("s.a", "new")
      s:pull { batch = 5, expires = 0.3e9 }
      local message
      repeat
        message = s:came(1)
        s:note(message.headers or { message.subject, message.data,
          message.reply:match "^%$JS%.ACK%.S%.C%.(%d+%.%d+%.%d+)" })
      until message.headers
    end)
  end

  scenario("headers_only leaves the data out, and says how long it is", function(s)
    three(s, { headers_only = true })
    s:store("s.4", "12345")
    s:pull { batch = 4, expires = 1e9 }
    s:note_came()
    s:note_came()
    s:note_came()
    s:note_came()
  end)

  scenario("a work queue forgets what is settled", function(s)
    s:stream { retention = "workqueue" }
    s:consumer()
    for index = 1, 3 do s:store("s.a", tostring(index)) end
    s:pull { batch = 2, expires = 1e9 }
    s:verdict(s:came(), "+ACK")
    s:verdict(s:came(), "+TERM")
    s:pass(0.1)
    s:note_state()
    s:note(s:api("CONSUMER.DURABLE.CREATE.S.D", { stream_name = "S",
      config = { durable_name = "D", ack_policy = "explicit" } }).error)
  end)

  scenario("an interest stream forgets what all have settled", function(s)
    s:stream { retention = "interest" }
    s:consumer()
    s:consumer { durable_name = "D" }
    s:store("s.a", "x")
    s:pull(ONE)
    s:verdict(s:came(), "+ACK")
    s:pass(0.1)
    s:note_state()
    s:pull(ONE, "D")
    s:verdict(s:came(), "+ACK")
    s:pass(0.1)
    s:note(only(s:api "STREAM.INFO.S".state, "messages last_seq"))
  end)

  scenario("a deleted message does not come again", function(s)
    three(s)
    s:pull(ONE)
    s:came()
    s:api("STREAM.MSG.DELETE.S", { seq = 1 })
    s:pass(ACK_WAIT * 1.5)
    s:pull(ONE)
    s:note_came()
  end)

  scenario("a verdict of an earlier delivery acts on the message", function(s)
    three(s)
    s:pull(ONE)
    local first = s:came()
    s:pass(ACK_WAIT * 1.5)
    s:pull(ONE)
    s:came()
    s:verdict(first, "+ACK")
    s:note_consumer()
  end)

  scenario("a verdict for a consumer that is not there is nobody's", function(s)
    three(s)
    s:pull(ONE)
    s:came()
    s.peer:publish("$JS.ACK.S.NOBODY.1.1.1.1700000000000000000.0", "+ACK")
    s:note_consumer()
  end)

  scenario("requests take turns", function(s)
    s:stream()
    s:consumer()
    local one, two = s:other(), s:other()
    local first, second = one:subscribe "_INBOX.one", two:subscribe "_INBOX.two"
    local ask = "$JS.API.CONSUMER.MSG.NEXT.S.C"
    one:publish(ask, '{"batch":2,"expires":2000000000}', { reply = "_INBOX.one" })
    two:publish(ask, '{"batch":2,"expires":2000000000}', { reply = "_INBOX.two" })
    for index = 1, 4 do s:store("s.a", tostring(index)) end
    for _ = 1, 2 do
      s:note(one:next(first).data)
      s:note(two:next(second).data)
    end
  end)

  scenario("a requester that has gone gets nothing", function(s)
    three(s)
    local gone = s.world:connect()
    gone:subscribe "_INBOX.gone"
    s:api("STREAM.PURGE.S")
    gone:publish("$JS.API.CONSUMER.MSG.NEXT.S.C", '{"batch":1,"expires":5000000000}',
      { reply = "_INBOX.gone" })
    gone:close()
    s:pass(0.1)
    s:store("s.a", "for who is there")
    s:pull(ONE)
    s:note(s:came().data)
  end)

  scenario("a heartbeat that is too long for its request is refused", function(s)
    s:stream()
    s:consumer()
    s:pull { batch = 1, expires = 1e9, idle_heartbeat = 0.9e9 }
    local status = s:came(1)
    s:note(status.headers and status.headers:match "^NATS/1.0 %d+")
  end)

  scenario("a heartbeat after a nak cancels its delay", function(s)
    three(s, { ack_wait = 1e9, filter_subject = "s.1" })
    s:pull(ONE)
    local message = s:came()
    s:verdict(message, '-NAK {"delay": 200000000}')
    s:verdict(message, "+WPI")
    s:pull { batch = 1, expires = 0.6e9 }
    s:note_came(1)
    s:pull { batch = 1, expires = 1e9 }
    s:note_came(1)
  end)

  scenario("a request with a bound on bytes ends where a message is larger", function(s)
    s:stream()
    s:store("s.a", ("x"):rep(100))
    s:consumer()
    s:pull { batch = 5, expires = 1e9, max_bytes = 50 }
    s:note_came(1)
    s:pull { batch = 1, expires = 1e9, max_bytes = 5000 }
    s:note(s:came(1).subject)
  end)

  scenario("a durable that is made again begins anew", function(s)
    three(s)
    s:pull(ONE)
    s:verdict(s:came(), "+ACK")
    s:api "CONSUMER.DELETE.S.C"
    s:consumer()
    s:note_consumer()
    s:pull(ONE)
    s:note_came()
  end)

  scenario("a durable's ack_wait is changed", function(s)
    s:stream()
    s:consumer()
    s:note(s:consumer { ack_wait = 7e9 }.config.ack_wait)
    s:note(s:api "CONSUMER.INFO.S.C".config.ack_wait)
  end)

  scenario("a purge leaves nothing to come again", function(s)
    three(s)
    s:pull(ONE)
    s:came()
    s:api "STREAM.PURGE.S"
    s:pass(ACK_WAIT * 1.5)
    s:store("s.9", "new")
    s:pull(ONE)
    s:note(s:came().data)
  end)

  scenario("a durable goes on where who used it has gone", function(s)
    three(s)
    local gone = s.world:connect()
    local sid = gone:subscribe "_INBOX.gone"
    gone:publish("$JS.API.CONSUMER.MSG.NEXT.S.C", "1", { reply = "_INBOX.gone" })
    s:note(plain(gone:next(sid)))
    gone:close()
    s:pull(ONE)
    s:note_came()
    s:pass(ACK_WAIT * 1.5)
    s:pull(ONE)
    s:note_came()
  end)

  scenario("a message id is known after its message is gone", function(s)
    s:stream()
    s:store("s.a", "1", { "Nats-Msg-Id: x" })
    s:api("STREAM.PURGE.S")
    s:note(s:store("s.a", "1", { "Nats-Msg-Id: x" }))
  end)

  scenario("what is no JSON is refused", function(s)
    local answer = s:ask("$JS.API.STREAM.CREATE.S", "{no")
    s:note(require "cjson".decode(answer.data).error.err_code)
  end)

  -- What a host leans on besides ------------------------------------------------------------

  scenario("a request that does not wait gets what is there, and says what is not", function(s)
    three(s)
    s:pull { batch = 5, no_wait = true }
    for _ = 1, 3 do s:note(s:came().data) end
    s:note(s:came(0.5).headers:match "^NATS/1.0 4") -- 404 or 408: servers differ
  end)

  scenario("a request for more bytes than come ends where the next is too large", function(s)
    s:stream()
    for index = 1, 4 do s:store("s.a", index .. ("x"):rep(99)) end
    s:consumer()
    s:pull { batch = 10, expires = 1e9, max_bytes = 250 }
    s:note(s:came().data:sub(1, 1))
    s:note_came(0.5)
  end)

  scenario("max_ack_pending lets come again what was delivered", function(s)
    three(s, { max_ack_pending = 1 })
    s:pull(ONE)
    s:came()
    s:pass(ACK_WAIT * 1.5)
    s:pull(ONE)
    s:note_came()
  end)

  scenario("a nak leaves its place in max_ack_pending taken", function(s)
    three(s, { max_ack_pending = 1 })
    s:pull(ONE)
    s:verdict(s:came(), '-NAK {"delay": 5000000000}')
    s:pull { batch = 1, expires = 0.3e9 }
    s:note_came(1)
    s:note_consumer()
  end)

  scenario("a larger max_ack_pending lets go what was held back", function(s)
    three(s, { max_ack_pending = 1 })
    s:pull { batch = 3, expires = 2e9 }
    s:note(s:came().data)
    s:note(s:consumer { max_ack_pending = 2 }.config.max_ack_pending)
    s:note((s:came(1) or { data = "nothing" }).data)
  end)

  scenario("an ack after a nak is none any more, or one", function(s)
    three(s)
    s:pull(ONE)
    local message = s:came()
    s:verdict(message, '-NAK {"delay": 300000000}')
    s:verdict(message, "+ACK")
    s:note_consumer()
    s:pass(0.5)
    s:pull(ONE)
    s:note(s:came().data)
  end)

  scenario("an ack after a termination changes nothing", function(s)
    three(s)
    s:pull(ONE)
    local message = s:came()
    s:verdict(message, "+TERM")
    s:verdict(message, "+ACK")
    s:note_consumer()
  end)

  scenario("a second ack is confirmed, too", function(s)
    three(s)
    s:pull(ONE)
    local message = s:came()
    s:note(plain(s:ask(message.reply, "+ACK")))
    s:note(plain(s:ask(message.reply, "+ACK")))
    s:note_consumer()
  end)

  scenario("each redelivery waits as long as backoff says", function(s)
    local made = three(s, { backoff = { 0.3e9, 0.9e9 }, max_deliver = 3 })
    s:note(made.config and made.config.backoff or made.error)
    s:note(made.config and made.config.ack_wait)
    s:pull { batch = 3, expires = 3e9 }
    for _ = 1, 3 do s:came() end
    s:pull { batch = 1, expires = 3e9 }
    s:note_came(0.6)
    s:pull { batch = 1, expires = 0.5e9 }
    s:note(plain(s:came(0.3)))
  end)

  scenario("a filter of a durable is changed", function(s)
    three(s, { filter_subject = "s.1" })
    local answer = s:consumer { filter_subject = "s.2" }
    s:note(answer.error and answer.error.err_code or answer.config.filter_subject)
  end)

  scenario("settings of a durable that cannot be changed", function(s)
    three(s)
    for _, config in ipairs {
      { deliver_policy = "new" }, { ack_policy = "none" }, { deliver_policy = "by_start_sequence", opt_start_seq = 2 },
    } do
      local answer = s:consumer(config)
      s:note(answer.error or "taken")
    end
  end)

  scenario("a description and a bound are changed", function(s)
    three(s)
    local answer = s:consumer { description = "mine", max_waiting = 512, max_deliver = 7 }
    s:note(answer.error and answer.error.err_code or only(answer.config, "description max_deliver"))
  end)

  scenario("a work queue has one consumer of a subject", function(s)
    s:stream { retention = "workqueue" }
    for _, config in ipairs {
      { durable_name = "A", filter_subject = "s.a" }, { durable_name = "B", filter_subject = "s.b" },
      { durable_name = "C", filter_subject = "s.a" }, { durable_name = "D" },
      { durable_name = "E", filter_subject = "s.>" },
    } do
      local answer = s:consumer(config)
      s:note(answer.error or answer.name)
    end
  end)

  scenario("a work queue is read from its beginning alone", function(s)
    s:stream { retention = "workqueue" }
    local answer = s:consumer { deliver_policy = "new" }
    s:note(answer.error or answer.name)
  end)

  scenario("what is stored is found by its subject", function(s)
    three(s)
    for _, request in ipairs {
      { last_by_subj = "s.2" }, { next_by_subj = "s.>", seq = 2 }, { next_by_subj = "s.1", seq = 2 },
      { last_by_subj = "s.9" }, { seq = 9 },
    } do
      local answer = s:api("STREAM.MSG.GET.S", request)
      s:note(answer.error and answer.error.err_code or only(answer.message, "subject seq data hdrs"))
    end
  end)

  scenario("messages go one by one, and what is left is known", function(s)
    three(s)
    s:note(s:api("STREAM.MSG.DELETE.S", { seq = 2 }).success)
    s:note((s:api("STREAM.MSG.DELETE.S", { seq = 2 }).error or {}).err_code)
    s:pull { batch = 3, expires = 0.3e9 }
    s:note(s:came().data)
    s:note(s:came().data)
    s:note_came(1)
    s:note_consumer()
  end)

  scenario("a purge by subject, by sequence, and of all but the newest", function(s)
    for _, request in ipairs { { filter = "s.2" }, { seq = 3 }, { keep = 1 } } do
      three(s)
      s:note(s:api("STREAM.PURGE.S", request).purged)
      s:note_state()
      s:api "STREAM.DELETE.S"
    end
  end)

  scenario("what waits for a verdict is known", function(s)
    three(s)
    s:pull { batch = 2, expires = 1e9 }
    local one, two = s:came(), s:came()
    s:note_consumer()
    s:verdict(two, "+ACK")
    s:note_consumer()
    s:verdict(one, "-NAK")
    s:note_consumer()
    s:pull(ONE)
    s:note_came()
    s:note_consumer()
  end)

  scenario("a consumer tells of requests that wait", function(s)
    s:stream()
    s:consumer()
    s:pull { batch = 5, expires = 1e9 }
    s:pull { batch = 5, expires = 1e9 }
    s:pass(0.05)
    s:note_consumer()
  end)

  scenario("a stream that is deleted ends what waits", function(s)
    s:stream()
    s:consumer()
    s:pull { batch = 5, expires = 1e9 }
    s:pass(0.05)
    s:api "STREAM.DELETE.S"
    local status = s:came(0.5)
    s:note(status and status.headers and status.headers:match "^NATS/1.0 %d+" or "nothing")
  end)

  scenario("an empty message has a place and headers", function(s)
    s:stream()
    s:store("s.a", "", { "X: 1" })
    s:store("s.a", "")
    s:consumer()
    s:pull { batch = 2, expires = 1e9 }
    s:note_came()
    s:note_came()
  end)

  scenario("expectations of an id are of the last message's", function(s)
    s:stream()
    s:note(s:store("s.a", "1", { "Nats-Msg-Id: x", "Nats-Expected-Last-Sequence: 0" }))
    s:note(s:store("s.a", "2", { "Nats-Msg-Id: y", "Nats-Expected-Last-Msg-Id: x" }))
    s:note(s:store("s.a", "3", { "Nats-Msg-Id: z", "Nats-Expected-Last-Msg-Id: x" }).error)
  end)

  return list
end
