local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- A script that consumes IN as "worker", with these options and this body of the handler; OUT and
-- DEAD are there.
local function consumer(options, body)
  return ([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" }, storage = "memory" }
js.stream { name = "OUT", subjects = { "out.>" }, storage = "memory" }
js.stream { name = "DEAD", subjects = { "dead.>" }, storage = "memory" }
js.consume("IN", { durable = "worker", %s }, function(msg)
%s
end)]]):format(options or "", body)
end

local QUICK = 'backoff = { min = "20ms", max = "100ms", jitter = 0 }'
local DEAD = QUICK .. ', dead_letter = "dead.worker"'

describe("JetStream", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function settled(deadline)
    wait.eventually(function() return w.client:settled("IN", "worker") end, deadline)
  end

  -- The messages of a stream, when there are `count`.
  local function stored(stream, count, deadline)
    wait.eventually(function()
      return w.client:stream_info(stream).state.messages >= count
    end, deadline, stream .. " has too few messages")
    return w.client:messages(stream)
  end

  local function count(stream) return w.client:stream_info(stream).state.messages end

  describe("js.stream", function()
    it("creates a stream that is absent", function()
      w:run [[
        local js = require "moonbus.jetstream"
        js.stream { name = "NEW", subjects = { "new.>" }, max_age = "1h", max_msgs = 1000 }
      ]]
      local config = w.client:stream_info("NEW").config
      assert.same({ "new.>" }, config.subjects)
      assert.equal(3600e9, config.max_age)
      assert.equal(1000, config.max_msgs)
    end)

    it("leaves one as it is that has what is stated", function()
      w.client:stream("OLD", { "old.>" }, { max_msgs = 7, description = "by hand" })
      w:run [[require "moonbus.jetstream".stream { name = "OLD", subjects = { "old.>" } }]]
      local config = w.client:stream_info("OLD").config
      assert.equal("by hand", config.description)
      assert.equal(7, config.max_msgs)
    end)

    it("ends the host with status 2 when one differs, with both values", function()
      w.client:stream("OLD", { "old.>" }, { max_msgs = 7 })
      local failed = w:fail [[
        require "moonbus.jetstream".stream { name = "OLD", subjects = { "old.>" }, max_msgs = 8 }
      ]]
      assert.equal(2, failed.status, failed.output)
      for _, text in ipairs { "OLD", "max_msgs", "7", "8" } do
        assert.is_truthy(failed.output:find(text, 1, true), text)
      end
      assert.equal(7, w.client:stream_info("OLD").config.max_msgs)
    end)

    it("ends the host with status 2 when the server refuses it, in its words", function()
      w.client:stream("OLD", { "old.>" })
      local failed = w:fail [[
        require "moonbus.jetstream".stream { name = "OTHER", subjects = { "old.a" } }
      ]]
      assert.equal(2, failed.status, failed.output)
      assert.matches("overlap", failed.output)
    end)
  end)

  describe("js.consume", function()
    it("handles each message of the stream, and acknowledges when the handler returns", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      for index = 1, 20 do w.client:store("in." .. index, tostring(index)) end
      w:run(consumer(nil, [[ bus.publish("seen", msg.data) ]]))
      local numbers = {}
      for _, message in ipairs(seen:take(20)) do numbers[message.data] = true end
      for index = 1, 20 do assert.is_true(numbers[tostring(index)]) end
      settled()
      assert.is_nil(seen:next(0.1))
    end)

    it("makes the durable as it is stated", function()
      w:run(consumer('filter = "in.a", ack_wait = "7s", max_ack_pending = 50, '
        .. 'consumer = { description = "of a spec" }', "return"))
      local config = w.client:consumer_info("IN", "worker").config
      assert.equal("in.a", config.filter_subject)
      assert.equal(7e9, config.ack_wait)
      assert.equal(50, config.max_ack_pending)
      assert.equal(-1, config.max_deliver)
      assert.equal("explicit", config.ack_policy)
      assert.equal("of a spec", config.description)
    end)

    it("takes only what its filter says", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer('filter = "in.a.*"', [[ bus.publish("seen", msg.subject) ]]))
      w.client:store("in.b.1", "")
      w.client:store("in.a.1", "")
      assert.equal("in.a.1", seen:next().data)
      assert.is_nil(seen:next(0.1))
    end)

    it("starts where deliver says", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      for index = 1, 3 do w.client:store("in.x", tostring(index)) end
      w:run(consumer('deliver = { sequence = 3 }', [[ bus.publish("seen", msg.data) ]]))
      assert.equal("3", seen:next().data)
      w:clear()
      seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      w.client:store("in.x", "old")
      w:run(consumer('deliver = "new"', [[ bus.publish("seen", msg.data) ]]))
      w.client:store("in.x", "new")
      assert.equal("new", seen:next().data)
    end)

    it("goes on where it was, after a restart of the host", function()
      local seen = w.client:subscribe "seen"
      local script = consumer(nil, [[ bus.publish("seen", msg.data) ]])
      local host = w:run(script)
      w.client:store("in.x", "1")
      assert.equal("1", seen:next().data)
      assert.equal(0, host:stop())
      w.client:store("in.x", "2")
      w:run(script)
      assert.equal("2", seen:next().data)
      assert.is_nil(seen:next(0.1))
    end)

    it("takes what is stored while it runs, one at a time and many", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer("concurrency = 1", [[ bus.publish("seen", msg.data) ]]))
      for index = 1, 10 do
        w.client:store("in.x", tostring(index))
        assert.equal(tostring(index), seen:next().data)
      end
      for index = 1, 300 do w.client:publish("in.x", tostring(index)) end
      local list = seen:take(300, 10)
      for index = 1, 300 do assert.equal(tostring(index), list[index].data) end
    end)

    it("runs as many handlers at a time as concurrency says", function()
      local trace = w.client:subscribe "trace"
      w.client:stream("IN", { "in.>" })
      for index = 1, 12 do w.client:store("in.x", tostring(index)) end
      w:run(consumer("concurrency = 3", [[
        bus.publish("trace", "in")
        bus.sleep("30ms")
        bus.publish("trace", "out")
      ]]))
      local now, most = 0, 0
      for _, message in ipairs(trace:take(24)) do
        now = now + (message.data == "in" and 1 or -1)
        most = math.max(most, now)
      end
      assert.equal(3, most)
    end)

    it("tells the handler all about its message", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      w.client:store("in.a", '{"n":1}', { K = { "a", "b" } })
      w:run(consumer(nil, [[
        bus.publish("seen", { subject = msg.subject, data = msg.data, stream = msg.stream,
          consumer = msg.consumer, sequence = msg.sequence, attempt = msg.attempt,
          pending = msg.pending, timestamp = msg.timestamp, id = msg.id, n = msg:json().n,
          k = msg:header_values("k") })
      ]]))
      local message = seen:next():json()
      assert.same({ "in.a", '{"n":1}', "IN", "worker", 1, 1, 0, 1 }, { message.subject,
        message.data, message.stream, message.consumer, message.sequence, message.attempt,
        message.pending, message.n })
      assert.same({ "a", "b" }, message.k)
      assert.is_true(math.abs(message.timestamp - os.time()) < 60)
      assert.matches("^IN:%d+:worker:1$", message.id)
    end)

    it("uses a durable that somebody else made, with bind", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      w.client:consumer("IN", "worker", { ack_wait = 5e9, max_ack_pending = 9 })
      w:run [[
        local bus = require "moonbus"
        require "moonbus.jetstream".consume("IN", { durable = "worker", bind = true },
          function(msg) bus.publish("seen", msg.data) end)
      ]]
      w.client:store("in.a", "x")
      assert.equal("x", seen:next().data)
      assert.equal(9, w.client:consumer_info("IN", "worker").config.max_ack_pending)
    end)

    it("ends the host with status 2 when bind finds no durable", function()
      w.client:stream("IN", { "in.>" })
      local failed = w:fail [[
        require "moonbus.jetstream".consume("IN", { durable = "worker", bind = true }, print)
      ]]
      assert.equal(2, failed.status, failed.output)
      assert.matches("worker", failed.output)
      assert.is_table(w.client:api("CONSUMER.INFO.IN.worker").error)
    end)

    it("ends the host with status 2 when there is no such stream", function()
      local failed = w:fail [[
        require "moonbus.jetstream".consume("MISSING", { durable = "worker" }, print)
      ]]
      assert.equal(2, failed.status, failed.output)
      assert.matches("MISSING", failed.output)
    end)

    it("ends the host with status 2 when the durable has other settings, with both", function()
      w.client:stream("IN", { "in.>" })
      w.client:consumer("IN", "worker", { ack_wait = 5e9, max_deliver = -1 })
      local failed = w:fail(consumer('ack_wait = "7s"', "return"))
      assert.equal(2, failed.status, failed.output)
      for _, text in ipairs { "worker", "ack_wait", "5s", "7s" } do
        assert.is_truthy(failed.output:find(text, 1, true), text)
      end
    end)

    it("updates the durable when update allows it", function()
      w.client:stream("IN", { "in.>" }, { storage = "memory" })
      w.client:consumer("IN", "worker", { ack_wait = 5e9, max_deliver = -1 })
      w:run(consumer('ack_wait = "7s", update = true', "return"))
      assert.equal(7e9, w.client:consumer_info("IN", "worker").config.ack_wait)
    end)

    it("warns at start when failures have nowhere to go", function()
      local host = w:run(consumer(nil, "return"))
      host:wait_log { level = "warn", msg = "dead_letter" }
      w:clear()
      host = w:run(consumer(DEAD, "return"))
      assert.same({}, host:logged { level = "warn", msg = "dead_letter" })
    end)
  end)

  describe("a handler that fails", function()
    it("gets its message again after the backoff, with the attempt counted", function()
      local seen = w.client:subscribe "seen"
      local host = w:run(consumer('backoff = { min = "100ms", max = "1s", factor = 2, jitter = 0 }',
        [[
        bus.publish("seen", { attempt = msg.attempt, at = bus.now(), id = msg.id })
        if msg.attempt == 1 then error "first time" end
        if msg.attempt == 2 then return nil, "second time" end
        if msg.attempt == 3 then return false, "third time" end
      ]]))
      w.client:store("in.a", "x")
      local runs = {}
      for index, message in ipairs(seen:take(4, 10)) do
        runs[index] = message:json()
        assert.equal(index, runs[index].attempt)
        assert.equal(runs[1].id, runs[index].id)
      end
      assert.is_true(runs[2].at - runs[1].at >= 0.1)
      assert.is_true(runs[3].at - runs[2].at >= 0.2)
      assert.is_true(runs[4].at - runs[3].at >= 0.4)
      settled()
      local event = host:wait_log { level = "error", msg = "first time", attempt = 1 }
      assert.same({ "handler.lua", "IN", "worker", "in.a", 1, "handler.lua", 8 }, { event.script,
        event.stream, event.consumer, event.subject, event.sequence, event.file, event.line })
      assert.matches("nak in", event.msg)
      assert.matches("handler%.lua:8", event.traceback)
      host:wait_log { level = "error", msg = "second time", attempt = 2 }
      host:wait_log { level = "error", msg = "third time", attempt = 3 }
    end)

    it("has its message in the dead letter after the last attempt", function()
      local host = w:run(consumer(DEAD .. ", attempts = 3", [[ error("attempt " .. msg.attempt) ]]))
      w.client:store("in.a", "the data", { ["Nats-Msg-Id"] = "mine", K = "v" })
      local letter = stored("DEAD", 1, 10)[1]
      assert.equal("dead.worker", letter.subject)
      assert.equal("the data", letter.data)
      assert.equal("v", letter:header "K")
      assert.equal("mine", letter:header "Moonbus-Orig-Nats-Msg-Id")
      assert.same({ "IN", "worker", "1", "in.a", "3" }, { letter:header "Moonbus-Stream",
        letter:header "Moonbus-Consumer", letter:header "Moonbus-Sequence",
        letter:header "Moonbus-Subject", letter:header "Moonbus-Attempt" })
      assert.matches("attempt 3", letter:header "Moonbus-Error")
      settled()
      assert.equal(1, count "DEAD")
      assert.equal(3, #host:logged { level = "error", handler = "IN/worker" })
    end)

    it("is terminated after the last attempt without a dead letter", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(QUICK .. ", attempts = 2", [[ bus.publish("seen", "") error "no" ]]))
      w.client:store("in.a", "x")
      seen:take(2)
      settled()
      assert.is_nil(seen:next(0.2))
    end)

    it("on bad JSON goes straight to the dead letter, with no retries", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(DEAD, [[ bus.publish("seen", "") return msg:json() ]]))
      w.client:store("in.a", "not { JSON")
      local letter = stored("DEAD", 1)[1]
      assert.equal("not { JSON", letter.data)
      assert.equal("bad_payload", letter:header "Moonbus-Code")
      settled()
      assert.equal(1, #seen:arrived())
    end)

    it("on bytes that are no text goes there with every byte", function()
      w:run(consumer(DEAD, [[ return msg:json() ]]))
      w.client:store("in.a", "\0\255\254\r\n")
      assert.equal("\0\255\254\r\n", stored("DEAD", 1)[1].data)
    end)

    it("at its timeout has its message back after the backoff", function()
      local seen = w.client:subscribe "seen"
      local host = w:run(consumer(QUICK .. ', timeout = "150ms"', [[
        bus.publish("seen", tostring(msg.attempt))
        if msg.attempt == 1 then bus.sleep("1m") end
      ]]))
      w.client:store("in.a", "x")
      assert.equal("1", seen:next().data)
      assert.equal("2", seen:next().data)
      settled()
      host:wait_log { level = "error", code = "timeout", sequence = 1, attempt = 1 }
    end)

    it("stops no other handler", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer('backoff = { min = "1m", max = "1m" }', [[
        if msg.data == "bad" then error "bad" end
        bus.publish("seen", msg.data)
      ]]))
      for index = 1, 10 do w.client:store("in.a", index % 2 == 0 and "bad" or "good") end
      assert.equal(5, #seen:take(5))
    end)
  end)

  describe("a message", function()
    it("is acknowledged at once by msg:ack()", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(DEAD, [[
        assert(msg:ack() == true)
        bus.publish("seen", "")
        error "too late to matter"
      ]]))
      w.client:store("in.a", "x")
      seen:take(1)
      settled()
      assert.is_nil(seen:next(0.15))
      assert.equal(0, count "DEAD")
    end)

    it("is confirmed by msg:ack { sync = true }", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(nil, [[
        local ok, err = msg:ack { sync = true }
        bus.publish("seen", tostring(ok) .. tostring(err))
        bus.sleep("200ms")
      ]]))
      w.client:store("in.a", "x")
      assert.equal("truenil", seen:next().data)
      assert.equal(0, w.client:consumer_info("IN", "worker").num_ack_pending)
    end)

    it("is settled once: a later verdict gives nil, err with code settled", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(DEAD, [[
        msg:ack()
        local codes = {}
        for _, verdict in ipairs { "ack", "nak", "term", "reject", "progress" } do
          local ok, err = msg[verdict](msg)
          codes[#codes + 1] = verdict .. ":" .. tostring(ok) .. ":" .. err.code
        end
        bus.publish("seen", table.concat(codes, " "))
      ]]))
      w.client:store("in.a", "x")
      assert.equal("ack:nil:settled nak:nil:settled term:nil:settled reject:nil:settled "
        .. "progress:nil:settled", seen:next().data)
      settled()
      assert.equal(0, count "DEAD")
    end)

    it("comes again when it was nak'd, after the delay asked for", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(nil, [[
        bus.publish("seen", tostring(bus.now()))
        if msg.attempt == 1 then return msg:nak("300ms") end
        if msg.attempt == 2 then return msg:nak() end
      ]]))
      w.client:store("in.a", "x")
      local first, second = tonumber(seen:next().data), tonumber(seen:next().data)
      assert.is_true(second - first >= 0.299)
      assert.is_true(second - first < 5 * wait.slow)
      seen:take(1)
      settled()
    end)

    it("has had its attempts when it was nak'd at the last one: the dead letter is next", function()
      local host = w:run(consumer(DEAD .. ", attempts = 3", [[
        bus.publish("seen", tostring(msg.attempt))
        print(msg:nak("10ms"), select(2, msg:ack()).code, select(2, msg:nak()).code)
      ]]))
      local seen = w.client:subscribe "seen"
      w.client:store("in.a", "the data")
      local letter = stored("DEAD", 1, 10)[1]
      settled()
      assert.same({ "the data", "3" }, { letter.data, letter:header "Moonbus-Attempt" })
      assert.matches("nak'd by the handler at its last attempt", letter:header "Moonbus-Error")
      assert.equal(3, #seen:arrived())
      assert.equal(3, #host:logged "^true\tsettled\tsettled$")
      host:wait_log { level = "error", attempt = 3, file = "handler.lua", msg = "^nak'd by" }
    end)

    it("is gone after msg:term()", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(DEAD, [[
        bus.publish("seen", "")
        return msg:term("not wanted")
      ]]))
      w.client:store("in.a", "x")
      seen:take(1)
      settled()
      assert.is_nil(seen:next(0.15))
      assert.equal(0, count "DEAD")
    end)

    it("goes to the dead letter with msg:reject(reason)", function()
      local host = w:run(consumer(DEAD, [[ return msg:reject("no such customer") ]]))
      w.client:store("in.a", "x")
      local letter = stored("DEAD", 1)[1]
      assert.matches("no such customer", letter:header "Moonbus-Error")
      settled()
      host:wait_log { msg = "no such customer" }
      assert.same({}, host:logged { level = "warn", msg = "returned" })
    end)

    it("refuses a misused verdict, by file and line", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(nil, [[
        for _, use in ipairs {
          function() msg:nak("soon") end, function() msg:ack(7) end, function() msg:term({}) end,
          function() msg.ack() end, function() msg:nak(-1) end,
        } do
          local ok, err = pcall(use)
          bus.publish("seen", tostring(ok) .. " " .. tostring(err))
        end
      ]]))
      w.client:store("in.a", "x")
      for _, message in ipairs(seen:take(5)) do
        assert.matches("^false .*handler%.lua:%d+", message.data)
      end
      settled()
    end)

    it("has no reply subject: msg:respond raises, and says so", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(nil, [[
        local ok, err = pcall(msg.respond, msg, "got it")
        bus.publish("seen", tostring(ok) .. " " .. tostring(err))
      ]]))
      w.client:store("in.a", "x")
      assert.matches("^false .*reply", seen:next().data)
      settled()
    end)

    it("can be read after its handler has ended, and has had its verdict", function()
      local seen = w.client:subscribe "seen"
      w:run [[
        local js, bus = require "moonbus.jetstream", require "moonbus"
        bus.script { workers = 1 }
        js.stream { name = "IN", subjects = { "in.>" }, storage = "memory" }
        local kept = {}
        js.consume("IN", { durable = "worker", concurrency = 1 }, function(msg)
          for _, old in ipairs(kept) do
            collectgarbage()
            local ok, err = old:ack()
            bus.publish("seen", table.concat({ old.subject, #old.data, old.sequence, old.stream,
              old.consumer, old.attempt, old.headers.Color or "none", tostring(old.id ~= msg.id),
              tostring(ok), err.code }, " "))
          end
          kept[#kept + 1] = msg
        end)
      ]]
      w.client:store("in.a", "small")
      w.client:store("in.b", ("large"):rep(2000), { Color = "red" })
      w.client:store("in.c", "x")
      assert.equal("in.a 5 1 IN worker 1 none true nil settled", seen:next().data)
      assert.equal("in.a 5 1 IN worker 1 none true nil settled", seen:next().data)
      assert.equal("in.b 10000 2 IN worker 1 red true nil settled", seen:next().data)
    end)

    it("that a handler forgot is acknowledged when the handler returns", function()
      w:run(consumer(nil, [[ local kept = msg ]]))
      w.client:store("in.a", "x")
      settled()
    end)

    it("is acknowledged when the handler returns what means nothing, with one warning", function()
      local host = w:run(consumer(DEAD, [[ return { not_a = "verdict" } ]]))
      w.client:store("in.a", "1")
      w.client:store("in.a", "2")
      settled()
      local event = host:wait_log { level = "warn", handler = "IN/worker", msg = "returned" }
      assert.equal("handler.lua", event.file)
      assert.equal(1, #host:logged { level = "warn", handler = "IN/worker", msg = "returned" })
      assert.equal(0, count "DEAD")
    end)

    it("is the handler's as long as it runs, longer than ack_wait", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer('ack_wait = "1s"', [[
        bus.publish("seen", tostring(msg.attempt))
        bus.sleep("2500ms")
      ]]))
      w.client:store("in.a", "x")
      assert.equal("1", seen:next().data)
      assert.is_nil(seen:next(2.7))
      settled()
      assert.equal(0, w.client:consumer_info("IN", "worker").num_redelivered)
    end)

    it("is the handler's while it burns CPU, longer than ack_wait", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer('ack_wait = "1s"', [[
        bus.publish("seen", tostring(msg.attempt))
        local began, n = os.clock(), 0
        while os.clock() - began < 1.8 do for i = 1, 1000 do n = n + i % 7 end end
      ]]))
      w.client:store("in.a", "x")
      assert.equal("1", seen:next().data)
      settled(20)
      assert.same({}, seen:arrived())
      assert.equal(0, w.client:consumer_info("IN", "worker").num_redelivered)
    end)

    it("is the process's while it waits in its queue, longer than ack_wait", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      for index = 1, 6 do w.client:store("in.a", tostring(index)) end
      w:run(consumer('ack_wait = "1s", concurrency = 2', [[
        bus.publish("seen", msg.data .. "/" .. msg.attempt)
        bus.sleep("700ms")
      ]]))
      local runs = {}
      for _, message in ipairs(seen:take(6, 20)) do runs[message.data] = true end
      for index = 1, 6 do assert.is_true(runs[index .. "/1"]) end
      settled()
      assert.same({}, seen:arrived())
    end)

    it("says that it is being worked on with msg:progress()", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(nil, [[ bus.publish("seen", tostring(msg:progress())) ]]))
      w.client:store("in.a", "x")
      assert.equal("true", seen:next().data)
      settled()
    end)
  end)

  describe("js.publish", function()
    -- What a core handler that runs `body` replies, decoded.
    local function result_of(body, options)
      w.client:stream("OUT", { "out.>" })
      w:run { handlers = { ["handler.lua"] = ([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.subscribe("spec", function(msg)
%s
end)]]):format(body) }, config = options and options.config }
      return w.client:request("spec", "", { timeout = 15 }):json()
    end

    it("waits until it is stored, and gives stream, seq and duplicate", function()
      local receipt = result_of [[
        js.publish("out.a", "first")
        return js.publish("out.a", { n = 2 }, { headers = { K = "v" } })
      ]]
      assert.same({ "OUT", 2, false }, { receipt.stream, receipt.seq, receipt.duplicate })
      local message = w.client:message("OUT", 2)
      assert.equal('{"n":2}', (message.data:gsub("%s", "")))
      assert.equal("v", message:header "K")
      assert.equal("application/json", message:header "content-type")
    end)

    it("stores one id once", function()
      local result = result_of [[
        local first = js.publish("out.a", "x", { id = "same" })
        local second = js.publish("out.a", "x", { id = "same" })
        return { first.seq, second.seq, second.duplicate }
      ]]
      assert.same({ 1, 1, true }, result)
      assert.equal("same", w.client:message("OUT", 1):header "Nats-Msg-Id")
      assert.equal(1, count "OUT")
    end)

    it("gives nil, err with no_stream at once when no stream takes the subject", function()
      local result = result_of [[
        local began = bus.now()
        local receipt, err = js.publish("nowhere.at.all", "x")
        return { receipt = tostring(receipt), code = err.code, text = tostring(err),
          quick = bus.now() - began < 5 }
      ]]
      assert.same({ "nil", "no_stream", true }, { result.receipt, result.code, result.quick })
      assert.matches("nowhere%.at%.all", result.text)
    end)

    it("gives nil, err with too_large above the server's limit", function()
      assert.equal("too_large", result_of([[
        local _, err = js.publish("out.a", ("x"):rep(2 * 1024 * 1024))
        return { code = err.code }
      ]]).code)
    end)

    it("gives nil, err with wrong_sequence when its expectation is not met", function()
      local result = result_of [[
        js.publish("out.a", "x")
        local good = js.publish("out.a", "y", { expect = { last_sequence = 1 } })
        local receipt, err = js.publish("out.a", "z", { expect = { last_sequence = 1 } })
        return { good = good.seq, receipt = tostring(receipt), code = err.code }
      ]]
      assert.same({ good = 2, receipt = "nil", code = "wrong_sequence" }, result)
    end)

    it("gives nil, err with timeout when nothing is stored in time", function()
      w.client:subscribe "void" -- a subscriber that is no stream
      local result = result_of [[
        local receipt, err = js.publish("void", "x", { timeout = "50ms", attempts = 2 })
        return { receipt = tostring(receipt), code = err.code }
      ]]
      assert.equal("nil", result.receipt)
      assert.is_truthy(({ timeout = true, no_stream = true })[result.code], result.code)
    end)

    it("raises when it is misused, by file and line", function()
      local errors = result_of [[
local uses = {
  function() js.publish() end, function() js.publish("a..b", "x") end,
  function() js.publish("out.*", "x") end, function() js.publish("out.a", print) end,
  function() js.publish("out.a", "x", { ident = 1 }) end,
  function() js.publish("out.a", "x", { id = "" }) end,
  function() js.publish("out.a", "x", { headers = { K = "a\nb" } }) end,
  function() js.publish("out.a", "x", { attempts = 0 }) end,
  function() js.publish("out.a", "x", { expect = { last = 1 } }) end,
}
local errors = {}
for index, use in ipairs(uses) do
  local ok, err = pcall(use)
  errors[index] = ok and "no error" or tostring(err)
end
return errors]]
      for _, text in ipairs(errors) do assert.matches("handler%.lua:%d+", text) end
      assert.is_truthy(errors[5]:find("ident", 1, true))
    end)

    it("raises when its handler is cancelled while it waits", function()
      w.client:subscribe "void"
      local host = w:run [[
        local bus = require "moonbus"
        local js = require "moonbus.jetstream"
        bus.subscribe("spec", { timeout = "100ms" }, function()
          js.publish("void", "x", { timeout = "1m" })
          print "not reached"
        end)
      ]]
      w.client:publish("spec", "")
      host:wait_log { level = "error", handler = "spec" }
      assert.same({}, host:logged "not reached")
    end)

    it("from an input has an id of that input, so that a retry stores it once", function()
      w:run(consumer(QUICK, [[
        js.publish("out.a", "one")
        js.publish("out.a", "two")
        js.publish("out.b", "three")
        if msg.attempt < 3 then error "after the publishes" end
      ]]))
      w.client:store("in.a", "x")
      settled(10)
      local messages = w.client:messages "OUT"
      assert.equal(3, #messages)
      local ids = {}
      for index, message in ipairs(messages) do ids[index] = message:header "Nats-Msg-Id" end
      assert.matches("^IN:%d+:worker:1:.*out%.a$", ids[1])
      assert.not_equal(ids[1], ids[2])
      assert.matches("out%.b$", ids[3])
    end)

    it("from branches of gather has ids that do not depend on their order", function()
      w:run(consumer(QUICK, [[
        local function branch(name, pause)
          return function()
            bus.sleep(msg.attempt == 1 and pause or 0.06 - pause)
            js.publish("out.a", name)
          end
        end
        bus.gather { branch("first", 0.01), branch("second", 0.05) }
        if msg.attempt == 1 then error "again" end
      ]]))
      w.client:store("in.a", "x")
      settled(10)
      local messages = w.client:messages "OUT"
      assert.equal(2, #messages)
      assert.same({ "first", "second" }, { messages[1].data, messages[2].data })
    end)

    it("from however deep a branch, to however long a subject, is stored, and once", function()
      w:run(consumer(QUICK, [[
        local long = "out." .. ("x"):rep(1500)
        local function branch(depth)
          js.publish(long, tostring(depth))
          if depth < 40 then bus.spawn(branch, depth + 1):wait() end
        end
        branch(1)
        if msg.attempt == 1 then error "again" end
      ]]))
      w.client:store("in.a", "x")
      stored("OUT", 40, 10) -- before it has delivered anything the server may call all of it settled
      settled(10)
      local messages = w.client:messages "OUT"
      for depth, message in ipairs(messages) do assert.equal(tostring(depth), message.data) end
      assert.equal(40, #messages)
    end)

    it("that failed makes a nak of a handler that returns", function()
      local seen = w.client:subscribe "seen"
      local host = w:run(consumer(DEAD .. ", attempts = 2", [[
        bus.publish("seen", tostring(msg.attempt))
        js.publish("nowhere.at.all", "x")
      ]]))
      w.client:store("in.a", "x")
      assert.equal("1", seen:next().data)
      assert.equal("2", seen:next().data)
      assert.equal("no_stream", stored("DEAD", 1)[1]:header "Moonbus-Code")
      host:wait_log { level = "error", code = "no_stream", attempt = 1 }
    end)

    it("that failed may be dealt with by the handler", function()
      w:run(consumer(DEAD, [[
        local receipt, err = js.publish("nowhere.at.all", "x")
        if not receipt and err.code == "no_stream" then return msg:ack() end
      ]]))
      w.client:store("in.a", "x")
      settled()
      assert.equal(0, count "DEAD")
      assert.equal(0, w.client:consumer_info("IN", "worker").num_redelivered)
    end)

    it("that lost a race (wrong_sequence) is an answer, and no failure", function()
      w:run(consumer(DEAD, [[
        local receipt, err = js.publish("out.a", "x", { expect = { last_sequence = 99 } })
        assert(not receipt and err.code == "wrong_sequence")
      ]]))
      w.client:store("in.a", "x")
      settled()
      assert.equal(0, w.client:consumer_info("IN", "worker").num_redelivered)
    end)
  end)

  describe("js.publish_async", function()
    it("gives a future of the receipt", function()
      w.client:stream("OUT", { "out.>" })
      w:run [[
        local bus = require "moonbus"
        local js = require "moonbus.jetstream"
        bus.subscribe("spec", function()
          local futures = {}
          for index = 1, 10 do futures[index] = js.publish_async("out.a", tostring(index)) end
          local seqs = {}
          for index = 1, 10 do seqs[index] = futures[index]:wait().seq end
          return seqs
        end)
      ]]
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, w.client:request("spec", ""):json())
    end)

    it("gives nil, err through its future when it failed", function()
      w:run [[
        local bus = require "moonbus"
        local js = require "moonbus.jetstream"
        bus.subscribe("spec", function()
          local receipt, err = js.publish_async("nowhere.at.all", "x"):wait()
          return tostring(receipt) .. " " .. err.code
        end)
      ]]
      assert.equal("nil no_stream", w.client:request("spec", "").data)
    end)

    it("is waited for before the input is acknowledged", function()
      w:run(consumer(nil, [[
        for index = 1, 50 do js.publish_async("out.a", tostring(index)) end
      ]]))
      w.client:store("in.a", "x")
      settled()
      assert.equal(50, count "OUT")
    end)

    it("makes a nak when it failed and nobody looked", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(DEAD .. ", attempts = 2", [[
        bus.publish("seen", tostring(msg.attempt))
        js.publish_async("nowhere.at.all", "x")
      ]]))
      w.client:store("in.a", "x")
      assert.equal("2", seen:take(2)[2].data)
      stored("DEAD", 1)
    end)
  end)

  it("integers up to 2^53 pass through JSON and back", function()
    w:run(consumer(nil, [[ js.publish("out.a", msg:json()) ]]))
    w.client:store("in.a", '{"id":9007199254740992}')
    assert.is_truthy(stored("OUT", 1)[1].data:find("9007199254740992", 1, true))
  end)

  describe("when the server", function()
    it("restarts, goes on, and loses and repeats nothing", function()
      w.client:stream("KEPT", { "kept.>" }, { storage = "file" })
      w.client:stream("COPY", { "copy.>" }, { storage = "file" })
      w:run [[
        local js = require "moonbus.jetstream"
        js.consume("KEPT", { durable = "copier" }, function(msg)
          js.publish("copy.x", msg.data)
        end)
      ]]
      for index = 1, 20 do w.client:store("kept.x", "a" .. index) end
      w.server:restart()
      for index = 1, 20 do
        wait.eventually(function() return w.client:store("kept.x", "b" .. index) end, 10)
      end
      local total = w.client:stream_info("KEPT").state.messages
      wait.eventually(function() return w.client:settled("KEPT", "copier") end, 20)
      assert.equal(total, w.client:stream_info("COPY").state.messages)
    end)

    it("has lost the durable, says so and makes it anew", function()
      local seen = w.client:subscribe "seen"
      local host = w:run(consumer('ack_wait = "2s"', [[ bus.publish("seen", msg.data) ]]))
      w.client:store("in.a", "before")
      assert.equal("before", seen:next().data)
      settled()
      w.client:delete_consumer("IN", "worker")
      w.client:store("in.a", "after")
      assert.equal("after", seen:next(30).data)
      host:wait_log { msg = "created again", handler = "IN/worker", level = "warn" }
    end)
  end)
end)
