local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("js.consume", function()
  local w = world.new()

  setup(function() w:open() end)
  after_each(function()
    w:clear()
  end)
  teardown(function() w:close() end)

  local function streams()
    w.client:stream("IN", { "in.>" })
    w.client:stream("DEAD", { "dead.>" })
  end

  -- A consumer that tells "done" what it has finished.
  local function consumer(options, body)
    return ([[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.consume("IN", { durable = "worker", dead_letter = "dead.in",
        backoff = { min = "20ms", max = "50ms" }, %s }, function(msg)
        %s
        bus.publish("done", msg.subject .. " " .. msg.data)
      end)
    ]]):format(options, body)
  end

  local function settled()
    wait.eventually(function() return w.client:settled("IN", "worker") end, 20)
  end

  -- What came on `done`, by key: { ["in.a"] = { "1", "2", ... } }
  local function by_key(messages)
    local keys = {}
    for _, message in ipairs(messages) do
      local key, data = message.data:match "^(%S+) (.*)$"
      keys[key] = keys[key] or {}
      table.insert(keys[key], data)
    end
    return keys
  end

  local KEYS, EACH = { "a", "b", "c", "d", "e" }, 20

  local function store_all()
    for number = 1, EACH do
      for _, key in ipairs(KEYS) do w.client:store("in." .. key, tostring(number)) end
    end
  end

  local function in_order(numbers)
    for i = 2, #numbers do
      if tonumber(numbers[i]) <= tonumber(numbers[i - 1]) then return false end
    end
    return true
  end

  local UNEVEN = [[
    bus.sleep(math.random() / 100)
    if msg.attempt == 1 and math.random() < 0.2 then error("again") end
  ]]

  describe("with order_by", function()
    it("settles each key's messages in order, whatever they take and however they fail", function()
      streams()
      store_all()
      local done = w.client:subscribe "done"
      w:run { handlers = { ["handler.lua"] = consumer('order_by = "subject"', UNEVEN) },
        args = { "--workers", "4" } }
      local keys = by_key(done:take(#KEYS * EACH, 30))
      for _, key in ipairs(KEYS) do
        assert.equal(EACH, #keys["in." .. key])
        assert.is_true(in_order(keys["in." .. key]), table.concat(keys["in." .. key], " "))
      end
      settled()
    end)

    it("is what makes the order: without it there is none", function()
      streams()
      store_all()
      local done = w.client:subscribe "done"
      w:run { handlers = { ["handler.lua"] = consumer("", UNEVEN) }, args = { "--workers", "4" } }
      local keys = by_key(done:take(#KEYS * EACH, 30))
      local ordered = true
      for _, numbers in pairs(keys) do ordered = ordered and in_order(numbers) end
      assert.is_false(ordered)
    end)

    it("takes a token of the subject, or a header, as the key", function()
      streams()
      local done, go = w.client:subscribe "done", w.client:subscribe "go"
      local host = w:run(consumer("order_by = 2",
        [[ if msg.data == "1" then bus.request("go", "", { timeout = "20s" }) end ]]))
      w.client:store("in.x.first", "1")
      w.client:store("in.x.second", "2")
      w.client:store("in.y.first", "3")
      assert.equal("in.y.first 3", done:next().data)
      w.client:reply(go:next(), "")
      assert.equal("in.x.first 1", done:next().data)
      assert.equal("in.x.second 2", done:next().data)
      host:stop()

      w:run(consumer('order_by = "header:Account", update = true',
        [[ if msg.data == "4" then bus.request("go", "", { timeout = "20s" }) end ]]))
      w.client:store("in.z", "4", { Account = "one" })
      w.client:store("in.z", "5", { Account = "one" })
      w.client:store("in.z", "6", { Account = "two" })
      w.client:store("in.z", "7")
      for _, message in ipairs(done:take(2)) do assert.matches("[67]$", message.data) end
      w.client:reply(go:next(), "")
      assert.equal("in.z 4", done:next().data)
      assert.equal("in.z 5", done:next().data)
    end)

    it("lets a dead letter release its key", function()
      streams()
      local done = w.client:subscribe "done"
      w:run(consumer('order_by = "subject", attempts = 3',
        [[ if msg.data == "1" then error("poison") end ]]))
      for number = 1, 3 do w.client:store("in.a", tostring(number)) end
      assert.same({ "in.a 2", "in.a 3" }, { done:next(10).data, done:next(10).data })
      wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end)
      assert.equal("3", w.client:message("DEAD", 1):header "Moonbus-Attempt")
      settled()
    end)

    it("holds a message that the handler naks, and its key with it", function()
      streams()
      local done = w.client:subscribe "done"
      w:run(consumer('order_by = "subject"', [[
        if msg.data == "1" and msg.attempt == 1 then
          assert(msg:nak("100ms"))
          assert(select(2, msg:ack()).code == "settled")
          return
        end
      ]]))
      for number = 1, 3 do w.client:store("in.a", tostring(number)) end
      local order = {}
      for _, message in ipairs(done:take(3)) do order[#order + 1] = message.data end
      assert.same({ "in.a 1", "in.a 2", "in.a 3" }, order)
    end)

    it("does not let one hot key starve the others", function()
      streams()
      for number = 1, 150 do w.client:store("in.hot", tostring(number)) end
      w.client:store("in.cold", "1")
      local done = w.client:subscribe "done"
      w:run(consumer('order_by = "subject", concurrency = 2',
        [[ if msg.subject == "in.hot" then bus.sleep "1m" end ]]))
      assert.equal("in.cold 1", done:take(1)[1].data)
    end)

    it("hands back what waits when the host stops", function()
      streams()
      local done = w.client:subscribe "done"
      local host = w:run(consumer('order_by = "subject", ack_wait = "60s"', [[ bus.sleep("100ms") ]]))
      for number = 1, 5 do w.client:store("in.a", tostring(number)) end
      assert.equal("in.a 1", done:next().data)
      assert.equal(0, host:stop())
      w:run(consumer('order_by = "subject", ack_wait = "60s"', ""))
      local last
      wait.eventually(function()
        for _, message in ipairs(done:arrived()) do last = message.data end
        return last == "in.a 5"
      end, 10)
      settled()
    end)

    it("goes on over a reload, in order", function()
      streams()
      store_all()
      local done = w.client:subscribe "done"
      local script = consumer('order_by = "subject"', UNEVEN)
      local host = w:run { handlers = { ["handler.lua"] = script }, args = { "--watch" } }
      done:take(1)
      temp.write(host.folder, "handlers/handler.lua", script .. "\n-- changed\n")
      host:wait_log "generation 2 live"
      settled()
      local keys = by_key(done:arrived())
      for _, key in ipairs(KEYS) do
        assert.is_true(in_order(keys["in." .. key]), table.concat(keys["in." .. key], " "))
      end
    end)

    it("is refused when it is no key, or together with batch", function()
      assert.matches("order_by", w:fail(consumer("order_by = {}", "")).output)
      assert.matches("header:Name", w:fail(consumer('order_by = "headers"', "")).output)
      assert.matches("exclude each other",
        w:fail(consumer('order_by = 1, batch = { size = 2 }', "")).output)
    end)
  end)

  describe("with batch", function()
    local function batches(options, body)
      return ([[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.stream { name = "OUT", subjects = { "out" }, storage = "memory" }
        js.consume("IN", { durable = "worker", dead_letter = "dead.in",
          backoff = { min = "20ms", max = "50ms" }, %s }, function(msgs)
          %s
        end)
      ]]):format(options, body)
    end

    local TELL = [[
      local all = {}
      for i, msg in ipairs(msgs) do all[i] = msg.data .. "/" .. msg.attempt end
      bus.publish("done", table.concat(all, " "))
    ]]

    it("gives the handler a list, full or after the wait, and acknowledges all of it", function()
      streams()
      for number = 1, 25 do w.client:store("in.x", tostring(number)) end
      local done = w.client:subscribe "done"
      w:run(batches('concurrency = 1, batch = { size = 10, wait = "200ms" }', TELL))
      local sizes, seen = {}, 0
      while seen < 25 do
        local _, count = done:next().data:gsub("%S+", "")
        sizes[#sizes + 1] = count
        seen = seen + count
      end
      assert.equal(25, seen)
      assert.equal(10, sizes[1])
      settled()
    end)

    it("redelivers what was not acknowledged when it raises, and nothing else", function()
      streams()
      for number = 1, 100 do w.client:store("in.x", tostring(number)) end
      local done = w.client:subscribe "done"
      w:run(batches('concurrency = 1, batch = { size = 100, wait = "1s" }', TELL .. [[
        for _, msg in ipairs(msgs) do
          if msg.data == "50" and msg.attempt == 1 then bad = msg else msg:ack() end
        end
        if bad and bad.attempt == 1 and #msgs == 100 then error("the bad one") end
      ]]))
      local _, count = done:next().data:gsub("%S+", "")
      assert.equal(100, count)
      assert.equal("50/2", done:next(10).data)
      settled()
      assert.is_nil(done:next(0.1))
    end)

    it("sends the one message that is not JSON to the dead letter", function()
      streams()
      w.client:store("in.x", "1")
      w.client:store("in.x", "{")
      w.client:store("in.x", "3")
      w:run(batches('batch = { size = 3, wait = "1s" }',
        "for _, msg in ipairs(msgs) do msg:json() end"))
      settled()
      assert.equal(1, w.client:stream_info("DEAD").state.messages)
      assert.equal("{", w.client:message("DEAD", 1).data)
    end)

    it("rejects one message without the others", function()
      streams()
      for number = 1, 3 do w.client:store("in.x", tostring(number)) end
      local host = w:run(batches('batch = { size = 3, wait = "1s" }', 'msgs[2]:reject("no")'))
      settled()
      wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end)
      assert.equal("2", w.client:message("DEAD", 1).data)
      host:wait_log { level = "error", code = "bad_payload", sequence = 2, attempt = 1,
        msg = "^no; to the dead letter dead%.in$" }
    end)

    it("names in the log the message that a line is about, and none where it is of all", function()
      streams()
      for number = 1, 3 do w.client:store("in." .. number, tostring(number)) end
      local host = w:run(batches('batch = { size = 3, wait = "1s" }, attempts = 1', [[
        msgs[2]:term("on purpose")
        msgs[3]:nak()
        bus.log.info "of all"
        error "the rest"
      ]]))
      local event = host:wait_log { msg = "^terminated by the handler: on purpose$" }
      assert.same({ "IN", "worker", "in.2", 2, 1 },
        { event.stream, event.consumer, event.subject, event.sequence, event.attempt })
      event = host:wait_log { msg = "^nak'd by the handler at its last attempt" }
      assert.same({ "in.3", 3, 1 }, { event.subject, event.sequence, event.attempt })
      for _, msg in ipairs { "^of all$", "the rest; of a batch of 3: 0 nak'd, 1 to the dead letter" } do
        event = host:wait_log { msg = msg }
        assert.same({ "IN", "worker" }, { event.stream, event.consumer })
        assert.is_nil(event.subject or event.sequence or event.attempt)
      end
    end)

    it("gives up a message that came again and again, not the others", function()
      streams()
      w.client:store("in.x", "1")
      w.client:consumer("IN", "worker", { ack_wait = 30e9, max_ack_pending = 10000 })
      local inbox = w.client:subscribe "inbox"
      for _ = 1, 4 do
        w.client:publish("$JS.API.CONSUMER.MSG.NEXT.IN.worker", "", nil, "inbox")
        w.client:publish(inbox:next().reply, "-NAK")
      end
      w.client:store("in.x", "2") -- now: a request might have been faster than the nak, and got this one
      local batch = w.client:subscribe "batch"
      w:run(batches('attempts = 1, batch = { size = 2, wait = "20ms" }', [[
        for _, msg in ipairs(msgs) do bus.publish("batch", msg.data) end
      ]]))
      settled()
      assert.equal("2", batch:next().data)
      wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end)
      local letter = w.client:message("DEAD", 1)
      assert.equal("1", letter.data)
      assert.matches("delivered 5 times", letter:header "Moonbus-Error")
    end)

    it("naks one message at its last attempt without the others", function()
      streams()
      for number = 1, 3 do w.client:store("in.x", tostring(number)) end
      local host = w:run(batches('attempts = 2, batch = { size = 3, wait = "20ms" }', [[
        for _, msg in ipairs(msgs) do
          if msg.data == "2" then msg:nak("1ms") end
        end
      ]]))
      settled()
      wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end)
      local letter = w.client:message("DEAD", 1)
      assert.same({ "2", "2" }, { letter.data, letter:header "Moonbus-Attempt" })
      host:wait_log { level = "error", sequence = 2, attempt = 2, msg = "^nak'd by the handler" }
    end)

    it("publishes with from, or with an id", function()
      streams()
      w.client:store("in.x", "1")
      local done = w.client:subscribe "done"
      w:run(batches('batch = { size = 1 }', [[
        local ok, err = pcall(js.publish, "out", "x")
        bus.publish("done", tostring(ok) .. " " .. tostring(err))
        js.publish("out", "a", { from = msgs[1] })
        js.publish("out", "b", { id = "given" })
      ]]))
      assert.matches("^false .*from = msg", done:next().data)
      settled()
      assert.matches("^IN:%d+:worker:1:0%.1:out$", w.client:message("OUT", 1):header "Nats-Msg-Id")
      assert.equal("given", w.client:message("OUT", 2):header "Nats-Msg-Id")
    end)

    it("is refused without a size, or with one that is none", function()
      assert.matches("size is required", w:fail(batches("batch = {}", "")).output)
      assert.matches("size", w:fail(batches("batch = { size = 0 }", "")).output)
    end)
  end)
end)
