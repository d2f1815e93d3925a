local sim = require "spec.sim.sim"

describe("An object, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local PRELUDE = 'local objects = require "moonbus.objects"; local b = objects.bucket { name = "b" }\n'
  local function script(body) return sim.script(PRELUDE .. body) end

  local function serve(body)
    return world:host { scripts = { ["o.lua"] = script(([[
      bus.subscribe("go", { timeout = "5m" }, function(msg) %s end)]]):format(body)) } }
  end

  local function go()
    local reply = world:request("go", "", { timeout = "10m" })
    return reply.headers and reply.headers["Nats-Service-Error"] or reply.data
  end

  local function messages() return world:stream("OBJ_b").state.messages end

  it("is whole when connections break while it is stored, and while it is read", function()
    serve [[
      local n = 0
      local info = assert(b:put("o", function()
        n = n + 1
        bus.sleep "100ms"
        return n <= 40 and ("%05d"):format(n):rep(10000) or nil
      end))
      local count, size = 0, 0
      for piece in assert(b:open("o")) do
        count, size = count + 1, size + #piece
        bus.sleep "300ms"
      end
      return info.chunks .. " " .. count .. " " .. size]]
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "2s"
    world:cut "1s"
    world:advance "3s"
    world:lose_answers(3)
    world:advance "1s"
    world:cut "1s"
    world:advance "2m"
    local came = world:came()[1]
    assert.equal("16 16 2000000", came.data, came.headers and came.headers["Nats-Service-Error"])
    assert.equal(17, messages())
  end)

  it("leaves nothing behind when its handler is cancelled, or its spawned function", function()
    serve [[
      local future = bus.spawn(function() b:put("o", function() bus.sleep "1ms" return ("x"):rep(100000) end) end)
      bus.sleep "1s"
      sim.note(tostring(js.get("OBJ_b", { sequence = 1 }) ~= nil))
      future:cancel()
      bus.sleep "2s"
      return "done"]]
    assert.equal("done", go())
    assert.same({ "true" }, world:said())
    assert.equal(0, messages())
  end)

  it("leaves nothing behind when nobody answers for a while, and its put fails", function()
    serve [[
      local info, err = b:put("o", ("x"):rep(2000000), { attempts = 2, timeout = "500ms" })
      return err and err.code or "stored"]]
    world:settle()
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:freeze "10s"
    world:advance "2m"
    local code = world:came()[1].data
    assert.is_truthy(code == "timeout" or code == "stored", code)
    assert.equal(code == "stored" and 17 or 0, messages())
  end)

  it("is stored when the answer to what tells of it is lost", function()
    for seed = 1, 5 do
      local one = sim.new { seed = seed }
      one:host { scripts = { ["o.lua"] = script [[
        bus.subscribe("go", { timeout = "5m" }, function()
          assert(b:put("o", "first"))
          sim.note "first"
          assert(b:put("o", "second"))
          sim.note(b:get "o", "")
        end)]] } }
      one:settle()
      one:publish "go"
      one:wait(function() return #one:said() > 0 end, "1m", 1)
      one:lose_answers(seed)
      one:advance "2m"
      assert.same({ "first", "second" }, one:said())
      assert.equal(2, one:stream("OBJ_b").state.messages)
      one:close()
    end
  end)

  it("counts its chunks in no id of what the handler spawns", function()
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in" } })
    world:api("STREAM.CREATE.OUT", { name = "OUT", subjects = { "out" } })
    world:host { scripts = { ["o.lua"] = script [[
      js.consume("IN", { durable = "d", backoff = { min = "1s" } }, function(msg)
        assert(b:put("o", ("x"):rep(200000 * msg.attempt)))
        bus.spawn(function() assert(js.publish("out", "x")) end):wait()
        if msg.attempt < 3 then error "again" end
        sim.note "done"
      end)]] } }
    world:publish "in"
    world:advance "1m"
    assert.same({ "done" }, world:said())
    assert.equal(1, world:stream("OUT").state.messages)
    assert.equal(6, messages())
  end)

  it("is replaced by one of two that write it at the same time, and nothing is left of the other", function()
    for seed = 1, 10 do
      local one = sim.new { seed = seed, yields = 300 }
      one:host { scripts = { ["o.lua"] = script [[
        bus.subscribe("go", { timeout = "5m" }, function(msg)
          assert(b:put("o", msg.data:rep(300000)))
          sim.note "stored"
        end)
        bus.subscribe("look", function() return #b:get "o" .. " " .. b:info("o").chunks end)]] } }
      one:settle()
      for _, data in ipairs { "a", "b", "c" } do one:publish("go", data) end
      one:advance "1m"
      assert.same({ "stored", "stored", "stored" }, one:said(), "seed " .. seed)
      assert.equal("300000 3", one:request("look", "").data)
      assert.equal(4, one:stream("OBJ_b").state.messages, "seed " .. seed)
      one:close()
    end
  end)

  it("has its chunks in order when some are lost on their way, wherever they lie", function()
    for skip = 0, 19 do
      local one = sim.new { seed = skip + 1 }
      one:host { scripts = { ["o.lua"] = script [[
        bus.subscribe("go", { timeout = "5m" }, function()
          local data = {}
          for i = 1, 20 do data[i] = ("%02d"):format(i):rep(1024) end
          local whole = table.concat(data)
          assert(b:put("o", whole, { chunk_size = 2048 }))
          sim.note(b:get "o" == whole and "whole" or "another")
        end)]] } }
      one:settle()
      one:lose_sent("$O.b.C.*", skip, skip % 3 + 1)
      one:publish "go"
      one:advance "2m"
      assert.same({ "whole" }, one:said(), skip)
      assert.equal(21, one:stream("OBJ_b").state.messages, skip)
      one:close()
    end
  end)

  it("has its chunks in order when the outbox, or the connection, is full meanwhile", function()
    for seed = 1, 12 do
      world:close()
      world = sim.new { seed = seed }
      world:api("STREAM.CREATE.OUT", { name = "OUT", subjects = { "out" } })
      serve [[
        local large = ("x"):rep(900000)
        for _ = 1, 90 do
          bus.spawn(function()
            for _ = 1, 6 do assert(js.publish("out", large)) end
          end)
        end
        local n = 0
        assert(b:put("o", function() n = n + 1 return n <= 60 and ("%05d"):format(n):rep(20000) or nil end))
        return b:get "o" and "whole" or "another"]]
      world:delay(200, "1m")
      assert.equal("whole", go(), "seed " .. seed)
    end
  end)

  it("is whole or not stored, but never another, where its stream forgets at once what it has seen", function()
    for seed, disturb in ipairs {
      function(one) one:lose_answers(1) end, function(one) one:lose_answers(5) end,
      function(one) one:cut("500ms", { loss = 2 }) end, function(one) one:cut("10s", { loss = 2 }) end,
      function(one) one:freeze "7s" end, function(one) one:freeze "20s" end,
    } do
      local one = sim.new { seed = seed }
      one:api("STREAM.CREATE.OBJ_b", { name = "OBJ_b", subjects = { "$O.b.C.>", "$O.b.M.>" }, discard = "new",
        allow_rollup_hdrs = true, allow_direct = true, duplicate_window = 1e8 })
      one:host { scripts = { ["o.lua"] = script [[
        bus.subscribe("go", { timeout = "10m" }, function()
          local n = 0
          local info, err = b:put("o", function() n = n + 1 return n <= 40 and ("%07d\n"):format(n):rep(256) or nil end,
            { chunk_size = 2048 })
          sim.note(info and (b:get "o" and "whole" or "another") or err.code)
        end)]] } }
      one:settle()
      one:delay(20, "1m")
      one:publish "go"
      one:wait(function() return one:stream("OBJ_b").state.messages > 10 end, "1m", 10)
      disturb(one)
      one:advance "5m"
      local said = one:said()[1]
      assert.is_truthy(said == "whole" or said == "unavailable", ("%s: %s"):format(seed, said))
      assert.equal(said == "whole" and 41 or 0, one:stream("OBJ_b").state.messages, seed)
      if seed <= 2 then assert.equal("whole", said, seed) end
      one:close()
    end
  end)

  it("is in a list that is read while it is put again", function()
    serve [[
      for i = 1, 20 do assert(b:put("o" .. i, "x")) end
      bus.spawn(function() while true do b:put("o1", "y") end end)
      bus.spawn(function() while true do b:put("o7", "y") end end)
      bus.sleep "500ms"
      local counts = {}
      for i = 1, 20 do
        counts[i] = #assert(b:list())
        bus.sleep(i .. "ms")
      end
      return table.concat(counts, " ")]]
    world:settle()
    world:delay(5, "10m")
    assert.equal(("20 "):rep(20):sub(1, -2), go())
  end)
end)
