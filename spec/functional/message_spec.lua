local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- A message object that has other owners than its handler, or none: kept after its run, or dropped
-- while a call of it goes on. Small or large: inside they are two kinds.
describe("a message object", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local KINDS = { ["without headers"] = false, ["with headers"] = { Kind = "x" },
    ["with large headers"] = { Kind = ("x"):rep(5000) } }

  describe("that nobody else has", function()
    -- So much is allocated for the reply that the collector runs in between.
    local LARGE = [[
      local bus = require "moonbus"
      bus.script { workers = 1 }
      local large = {}
      for i = 1, 4000 do large[i] = ("%08d"):format(i):rep(8) end
    ]]

    for kind, headers in pairs(KINDS) do
      it(kind .. " is there until its reply is sent", function()
        w:run(LARGE .. [[
          bus.subscribe("ask", function(msg) return msg:respond(large) end)
        ]])
        for _ = 1, 30 do
          local reply = w.client:request("ask", ("x"):rep(5000), { headers = headers or nil })
          assert.equal(4000, #reply:json())
        end
      end)

      it(kind .. " is there until its late reply is sent", function()
        w:run(LARGE .. [[
          local kept = {}
          bus.subscribe("keep", function(msg) kept[#kept + 1] = msg; bus.publish("is.kept", "") return "" end)
          bus.subscribe("go", function() return table.remove(kept):respond(large) end)
        ]])
        local is_kept = w.client:subscribe "is.kept"
        for number = 1, 30 do
          local inbox = "late." .. number
          local sub = w.client:subscribe(inbox)
          w.client:publish("keep", "", headers or nil, inbox)
          is_kept:take(1, 10)
          assert.equal("", sub:next(10).data) -- what the first handler returned
          w.client:publish("go", "")
          assert.equal(4000, #sub:next(10):json())
        end
      end)
    end
  end)

  describe("that another handler settles while its own goes on", function()
    local function host_of(verdict)
      w.client:stream("IN", { "in.>" })
      w.client:stream("DEAD", { "dead" })
      w.client:store("in.a", "text")
      return w:run(([[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        bus.script { workers = 1 }
        local kept, held, done
        -- Until the other handler has done its part.
        local function hold(subject, data)
          done = false
          bus.publish(subject, data)
          repeat bus.sleep "20ms" until done
        end
        js.consume("IN", { durable = "worker", attempts = 2, dead_letter = "dead" }, function(msg)
          kept = msg
          hold("runs", tostring(msg.attempt))
        end)
        bus.subscribe("settle", function() done = true return bus.json.array { kept:%s } end)
        bus.subscribe("hold", function(msg) held = msg; hold("holds", "") return "own" end)
        bus.subscribe("answer", function() done = true; held:respond "other" return "" end)
      ]]):format(verdict))
    end

    local function settle(runs) -- when the handler has begun
      assert.is_truthy(runs:next(10))
      return w.client:request("settle", ""):json()[1]
    end

    it("is nak'd by the rules of its own, and goes to the dead letter that this one states", function()
      local runs = w.client:subscribe "runs"
      local host = host_of 'nak("10ms")'
      assert.is_true(settle(runs))
      assert.is_true(settle(runs))
      wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end)
      assert.equal("2", w.client:message("DEAD", 1):header "Moonbus-Attempt")
      host:wait_log { msg = "at its last attempt; to the dead letter dead", handler = "IN/worker", sequence = 1 }
    end)

    it("is rejected", function()
      local runs = w.client:subscribe "runs"
      local host = host_of 'reject "no"'
      assert.is_true(settle(runs))
      wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end)
      host:wait_log { msg = "^no; to the dead letter dead", handler = "IN/worker", sequence = 1 }
    end)

    it("is terminated, and the log names it", function()
      local runs = w.client:subscribe "runs"
      local host = host_of 'term "no"'
      assert.is_true(settle(runs))
      local event = host:wait_log { msg = "^terminated by the handler: no$" }
      assert.same({ "IN/worker", "in.a", 1, 1 },
        { event.handler, event.subject, event.sequence, event.attempt })
      wait.eventually(function() return w.client:settled("IN", "worker") end, 10)
    end)

    it("is answered once", function()
      local holds, inbox = w.client:subscribe "holds", w.client:subscribe "inbox"
      host_of "ack()"
      w.client:publish("hold", "", nil, "inbox")
      holds:next(10)
      w.client:request("answer", "")
      assert.equal("other", inbox:next(10).data)
      assert.is_nil(inbox:next(0.5))
    end)
  end)

  -- The handler has ended, and with its coroutine what held the object; its run goes on.
  describe("whose handler has ended before what it spawned", function()
    local SPAWNS = [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      bus.script { workers = 1 }
      local ended = {}
      bus.subscribe("ended", function() return ended end)
      local function spawn(msg)
        bus.spawn(function()
          pcall(bus.sleep, "1m") -- raises when the handler has ended
          local garbage = {}
          for i = 1, 50 do garbage[i] = ("x"):rep(400 + i) end
          local what = msg and msg.data:sub(1, 1) or "forgotten"
          ended[what] = (ended[what] or 0) + 1
        end)
        bus.sleep "1ms"
      end
      bus.subscribe("forget", function() spawn() end)
      bus.subscribe("fail", function() spawn() error "planned" end)
      bus.subscribe("keep", function(msg) spawn(msg) end)
      js.consume("IN", { durable = "one", filter = "in.one" }, function() spawn() end)
      js.consume("IN", { durable = "many", filter = "in.many", batch = { size = 5, wait = "10ms" } }, function(msgs)
        for i = 1, #msgs do msgs[i] = nil end
        spawn()
      end)]]

    it("is let go, or read, as it is held or not", function()
      w.client:stream("IN", { "in.>" })
      -- A full collection before each resume: what nobody holds is gone then.
      local host = w:run { handlers = { ["handler.lua"] = SPAWNS }, env = { MOONBUS_GC = "aggressive" } }
      for _, size in ipairs { 10, 8000 } do
        for _ = 1, 5 do
          for _, subject in ipairs { "forget", "fail", "keep" } do
            w.client:publish(subject, ("k"):rep(size))
          end
          for _, subject in ipairs { "in.one", "in.many" } do w.client:store(subject, ("k"):rep(size)) end
        end
      end
      wait.eventually(function()
        local ended = w.client:request("ended", ""):json()
        return ended.k == 10 and (ended.forgotten or 0) >= 32 and w.client:settled("IN", "one")
          and w.client:settled("IN", "many")
      end, 20)
      assert.is_true(host:running())
      host:wait_log({ level = "error", msg = "planned" }, 10, 10)
    end)
  end)

  describe("that is kept after its run", function()
    for kind, headers in pairs(KINDS) do
      it(kind .. " has its verdict, though it is run again", function()
        w.client:stream("IN", { "in.>" })
        w:run [[
          local bus, js = require "moonbus", require "moonbus.jetstream"
          bus.script { workers = 1 }
          local kept
          js.consume("IN", { durable = "worker", order_by = "subject", attempts = 2,
            backoff = { min = "50ms", max = "50ms" } }, function(msg)
            if msg.attempt == 1 then
              kept = msg
              error "once more"
            end
            local ok, err = kept:ack()
            bus.publish("said", { ok = ok, code = err and err.code, attempt = kept.attempt,
              subject = kept.subject, data = kept.data, sequence = kept.sequence,
              header = kept:header "Kind" and kept:header "Kind":sub(1, 1) })
          end)
        ]]
        local said = w.client:subscribe "said"
        w.client:store("in.a", "text", headers or nil)
        assert.same({ code = "settled", attempt = 1, subject = "in.a", data = "text", sequence = 1,
          header = headers and "x" or nil }, said:next(10):json())
        wait.eventually(function() return w.client:settled("IN", "worker") end, 10)
      end)
    end

    it("has its verdict, each of a batch", function()
      w.client:stream("IN", { "in.>" })
      for number = 1, 3 do w.client:store("in.a", tostring(number)) end
      w:run [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        bus.script { workers = 1 }
        local kept
        js.consume("IN", { durable = "worker", batch = { size = 3, wait = "10s" } }, function(list)
          kept = list
        end)
        bus.subscribe("ask", function()
          local said = {}
          for i, msg in ipairs(kept or {}) do
            local ok, err = msg:nak()
            said[i] = { ok = ok, code = err and err.code, data = msg.data, attempt = msg.attempt }
          end
          return bus.json.array(said)
        end)
      ]]
      wait.eventually(function() return w.client:settled("IN", "worker") end, 10)
      local expected = {}
      for number = 1, 3 do
        expected[number] = { code = "settled", attempt = 1, data = tostring(number) }
      end
      assert.same(expected, w.client:request("ask", ""):json())
      assert.equal(0, w.client:consumer_info("IN", "worker").num_redelivered)
    end)
  end)
end)
