local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- A message object that has other owners than its handler, or none: kept after its run, or dropped
-- while a call of it goes on. With headers or without: inside they are two kinds.
describe("a message object", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local KINDS = { ["without headers"] = false, ["with headers"] = { Kind = "x" } }

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
          bus.subscribe("keep", function(msg) kept[#kept + 1] = msg; bus.publish("is.kept", "") end)
          bus.subscribe("go", function() return table.remove(kept):respond(large) end)
        ]])
        local is_kept = w.client:subscribe "is.kept"
        for number = 1, 30 do
          local inbox = "late." .. number
          local sub = w.client:subscribe(inbox)
          w.client:publish("keep", "", headers or nil, inbox)
          is_kept:take(1, 10)
          assert.equal("", sub:next(10).data) -- what the first handler returned
          w.client:request("go", "")
          assert.equal(4000, #sub:next(10):json())
        end
      end)
    end
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
              header = kept:header "Kind" })
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
