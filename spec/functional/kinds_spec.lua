-- Streams and consumers of every kind that a server offers.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("JetStream of every kind:", function()
  local w = world.new()
  local server_version
  setup(function()
    w:open()
    local major, minor = w.server:monitor "varz".version:match "^(%d+)%.(%d+)"
    server_version = major * 100 + minor
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A script that consumes IN as "worker", and publishes each message's data to "seen".
  local function script(options, body)
    return ([[
      local bus = require "moonbus"
      local js = require "moonbus.jetstream"
      js.consume("IN", { durable = "worker", %s }, function(msg)
        %s
      end)]]):format(options, body or 'bus.publish("seen", msg.data)')
  end

  local function settled()
    wait.eventually(function() return w.client:settled("IN", "worker") end, 10)
  end

  -- Sorted: handlers run side by side, and what they publish comes in any order.
  local function data(list)
    local all = {}
    for index, message in ipairs(list) do all[index] = message.data end
    table.sort(all)
    return all
  end

  describe("a consumer", function()
    it("of a work queue leaves nothing behind, whatever the verdict", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" }, { retention = "workqueue" })
      for index = 1, 4 do w.client:store("in.x", tostring(index)) end
      w:run(script('attempts = 1, dead_letter = false', [[
        bus.publish("seen", msg.data)
        if msg.data == "2" then msg:term() elseif msg.data == "3" then error "no" end
      ]]))
      assert.same({ "1", "2", "3", "4" }, data(seen:take(4)))
      wait.eventually(function() return w.client:stream_info "IN".state.messages == 0 end)
    end)

    it("of a stream that keeps what is of interest lets go what is acknowledged", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" }, { retention = "interest" })
      w:run(script "")
      for index = 1, 3 do w.client:store("in.x", tostring(index)) end
      assert.same({ "1", "2", "3" }, data(seen:take(3)))
      wait.eventually(function() return w.client:stream_info "IN".state.messages == 0 end)
    end)

    it("of a stream that is sourced from others has ids and dead letters of this one", function()
      w.client:stream("A", { "a" })
      w.client:stream("B", { "b" })
      w.client:stream("OUT", { "out.>" })
      w.client:stream("DEAD", { "dead.>" })
      w.client:stream("IN", nil, { sources = { { name = "A" }, { name = "B" } } })
      w.client:store("a", "of a")
      w.client:store("b", "of b")
      w:run(script('attempts = 1, dead_letter = "dead.x"', [[
        if msg.subject == "b" then error "no" end
        js.publish("out.x", msg.data)
      ]]))
      wait.eventually(function() return w.client:stream_info "OUT".state.messages == 1 end)
      wait.eventually(function() return w.client:stream_info "DEAD".state.messages == 1 end)
      local stored, letter = w.client:message("OUT", 1), w.client:message("DEAD", 1)
      assert.equal("of a", stored.data)
      assert.matches("^IN:%d+:worker:%d+:0%.1:out%.x$", stored:header "Nats-Msg-Id")
      assert.same({ "of b", "IN", "b" },
        { letter.data, letter:header "Moonbus-Stream", letter:header "Moonbus-Subject" })
    end)

    it("of a mirror gets what the original has", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("A", { "a" })
      w.client:stream("IN", nil, { mirror = { name = "A" } })
      w.client:store("a", "x")
      w:run(script "")
      assert.equal("x", seen:next(10).data)
      settled()
    end)

    it("of headers only gives the handler headers, and no data", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      w.client:store("in.x", "the data", { K = "v" })
      w.client:store("in.x", "")
      w:run(script('consumer = { headers_only = true }',
        'bus.publish("seen", #msg.data .. tostring(msg.headers.K) .. tostring(msg.headers["Nats-Msg-Size"]))'))
      assert.same({ "0nil0", "0v8" }, data(seen:take(2)))
      settled()
    end)

    it("passes NATS' own fields through, and compares them", function()
      w.client:stream("IN", { "in.>" })
      local own = 'consumer = { description = "ours", inactive_threshold = "1h", max_waiting = 99 }'
      w:run(script(own))
      local config = w.client:consumer_info("IN", "worker").config
      assert.same({ "ours", 3600e9, 99 },
        { config.description, config.inactive_threshold, config.max_waiting })
      local failed = w:fail(script 'update = false, consumer = { description = "theirs" }')
      assert.equal(2, failed.status)
      assert.matches("description: here .*theirs.*, on the server .*ours", failed.output)
    end)

    for field, instead in pairs { max_deliver = "attempts", backoff = "backoff", ack_wait = "ack_wait",
      filter_subject = "filter", ack_policy = "explicit", deliver_subject = "pull" } do
      it("does not pass " .. field .. " through, and says what to use", function()
        w.client:stream("IN", { "in.>" })
        local failed = w:fail(script(('consumer = { %s = %s }'):format(field,
          field == "max_deliver" and "3" or field == "backoff" and '{ "1s" }' or '"x"')))
        assert.equal(2, failed.status, failed.output)
        assert.matches(field, failed.output)
        assert.matches(instead, failed.output)
      end)
    end

    it("takes a list of filters, or says that the server is too old for one", function()
      w.client:stream("IN", { "in.>" })
      local text = script 'filter = { "in.a", "in.b" }'
      if server_version < 210 then
        local failed = w:fail(text)
        assert.equal(2, failed.status)
        assert.matches("2%.10", failed.output)
        assert.is_table(w.client:api("CONSUMER.INFO.IN.worker").error)
        return
      end
      local seen = w.client:subscribe "seen"
      w:run(text)
      for _, subject in ipairs { "in.a", "in.c", "in.b" } do w.client:store(subject, subject) end
      assert.same({ "in.a", "in.b" }, data(seen:take(2)))
      settled()
      w:run(script 'filter = { "in.b", "in.a" }') -- a set
      local failed = w:fail(script 'update = false, filter = { "in.a", "in.c" }')
      assert.equal(2, failed.status)
      assert.matches("filter: here .*in%.c.*, on the server .*in%.b", failed.output)
    end)

    it("works with fewer unacknowledged messages than handlers", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      for index = 1, 30 do w.client:store("in.x", tostring(index)) end
      w:run(script('max_ack_pending = 2, concurrency = 16',
        'bus.sleep "5ms" bus.publish("seen", msg.data)'))
      seen:take(30)
      settled()
      assert.equal(30, w.client:consumer_info("IN", "worker").delivered.consumer_seq)
    end)

    it("with bounds of its own on requests is kept to, and works", function()
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      w.client:consumer("IN", "worker", { ack_wait = 30e9, max_batch = 2, max_expires = 1e9 })
      w:run(script "bind = true")
      for index = 1, 20 do w.client:store("in.x", tostring(index)) end
      seen:take(20)
      settled()
    end)

    it("that is paused goes on when it is resumed", function()
      if server_version < 211 then return end
      local seen = w.client:subscribe "seen"
      w.client:stream("IN", { "in.>" })
      local host = w:run(script "")
      w.client:store("in.x", "1")
      assert.equal("1", seen:next().data)
      local answer = w.client:api("CONSUMER.PAUSE.IN.worker", { pause_until = "2099-01-01T00:00:00Z" })
      assert.is_true(answer.paused)
      w.client:store("in.x", "2")
      assert.is_nil(seen:next(1))
      w.client:api("CONSUMER.PAUSE.IN.worker", {})
      assert.equal("2", seen:next(10).data)
      assert.same({}, host:logged { level = "error" })
    end)

    for kind, options in pairs { ["one by one"] = "concurrency = 1000",
      ["in batches"] = 'batch = { size = 1000, wait = "100ms" }' } do
      it("has large messages handled within the script's memory, " .. kind, function()
        w.client:stream("IN", { "in.>" }, { storage = "file" })
        local large = ("x"):rep(1000 * 1000)
        for _ = 1, 120 do w.client:store("in.x", large) end
        local host = w:run(script(options, [[
          for _, each in ipairs(type(msg) == "table" and msg or { msg }) do assert(#each.data > 0) end
          bus.sleep "20ms"
        ]]))
        local most = 0
        wait.eventually(function()
          most = math.max(most, host:memory_mb())
          return w.client:settled("IN", "worker")
        end, 20)
        assert.same({}, host:logged { level = "error" })
        assert.equal(120, w.client:consumer_info("IN", "worker").delivered.consumer_seq)
        -- A sanitizer keeps what was freed.
        assert.is_true(wait.slow > 1 or most < 32 + 8 + 2 * 64 + 50, most .. " MB")
      end)
    end
  end)

  describe("a publish", function()
    local function publish(settings, count)
      w.client:stream("OUT", { "out.>" }, settings)
      local answers = w.client:subscribe "answer"
      w:run { handlers = { ["handler.lua"] = ([[
        local bus = require "moonbus"
        local js = require "moonbus.jetstream"
        bus.subscribe("spec", function()
          for index = 1, %d do
            local receipt, err = js.publish("out.x", tostring(index), { attempts = 3 })
            bus.publish("answer", receipt and "stored" or err.code .. " " .. tostring(err))
          end
        end)]]):format(count) },
        config = 'return { publish = { backoff = { min = "10ms", max = "20ms" } } }' }
      return answers
    end

    it("to a stream that is full says so, after its attempts", function()
      local answers = publish({ max_msgs = 2, discard = "new" }, 3)
      w.client:publish("spec", "")
      assert.same({ "stored", "stored" }, data(answers:take(2)))
      assert.matches("^api_error .*after 3 attempts.*maximum messages", answers:next().data)
    end)

    it("to a stream that is sealed says so at once", function()
      local answers = publish({}, 1)
      local config = w.client:stream_info "OUT".config
      config.sealed = true
      assert.is_nil(w.client:api("STREAM.UPDATE.OUT", config).error)
      w.client:publish("spec", "")
      local said = answers:next().data
      assert.matches("sealed", said)
      assert.is_nil(said:find "attempts")
    end)
  end)
end)
