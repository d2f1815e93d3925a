-- Streams and durable consumers: made, compared, and consumed from.
local wait = require "spec.support.wait"
local worker = require "spec.support.worker"
local world = require "spec.support.world"

local consumer, DEAD = worker.script, worker.DEAD

describe("JetStream", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function settled(deadline) w.client:await_settled("IN", "worker", deadline) end

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

    for filter, name in pairs { [""] = "no filter", ['filter = "in.>", '] = "a filter" } do
      it("starts with the last of each subject where deliver says so, with " .. name, function()
        local seen = w.client:subscribe "seen"
        w.client:stream("IN", { "in.>" })
        for _, subject in ipairs { "in.a", "in.b", "in.a", "in.b", "in.a" } do w.client:store(subject, "") end
        local host = w:run(consumer(filter .. 'deliver = "last_per_subject"',
          [[ bus.publish("seen", tostring(msg.sequence)) ]]))
        local both = { seen:next().data, seen:next().data } -- of two handlers at a time
        table.sort(both)
        assert.same({ "4", "5" }, both)
        assert.is_nil(seen:next(0.1))
        assert.same({}, host:logged "no filter is stated")
      end)
    end

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
