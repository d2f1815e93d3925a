-- What becomes of a message: acknowledged, again, given up, or in the dead letter.
local wait = require "spec.support.wait"
local worker = require "spec.support.worker"
local world = require "spec.support.world"

local consumer, DEAD, QUICK = worker.script, worker.DEAD, worker.QUICK

describe("JetStream:", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function settled(deadline) w.client:await_settled("IN", "worker", deadline) end

  local function stored(stream, count, deadline) return w.client:await_stored(stream, count, deadline) end

  local function count(stream) return w.client:stream_info(stream).state.messages end

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
      assert.is_true(second - first < wait.within(3))
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
      local body = consumer('ack_wait = "1s"', [[
        bus.publish("seen", tostring(msg.attempt))
        local began, n = os.clock(), 0
        while os.clock() - began < 1.8 do for i = 1, 1000 do n = n + i % 7 end end
      ]])
      -- On a busy machine 1.8 s of CPU take long.
      w:run { handlers = { ["handler.lua"] = body }, config = 'return { limits = { cpu = "1m" } }' }
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
end)
