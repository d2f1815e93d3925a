local sim = require "spec.sim.sim"

describe("A bucket, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local PRELUDE = 'local kv = require "moonbus.kv"; local b = kv.bucket { name = "b", history = 10, %s }\n'

  local function script(body, more) return sim.script(PRELUDE:format(more or "") .. body) end

  -- A subscription "go" with this body.
  local function serve(body, more)
    return world:host { scripts = { ["kv.lua"] = script(([[
      bus.subscribe("go", { timeout = "5m" }, function(msg) %s end)]]):format(body), more) } }
  end

  local function go(timeout) return world:request("go", "", { timeout = timeout or "5m" }).data end

  it("stores a value once whose answer is lost, and what is created so is its own", function()
    serve [[
      b:get "a"
      bus.sleep "1s"
      local one = assert(b:put("a", "1"))
      local two = assert(b:create("c", "1"))
      local three = assert(b:update("c", "2", two))
      local four = assert(b:delete("c", { revision = three }))
      return table.concat({ one, two, three, four }, " ")
    ]]
    world:settle()
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "500ms"
    world:lose_answers(5)
    world:advance "2m"
    local came = world:came()[1]
    assert.equal("1 2 3 4", came.data, came.headers and came.headers["Nats-Service-Error"])
    assert.equal(4, world:stream("KV_b").state.last_seq)
  end)

  it("is written after an outage, and read after one", function()
    serve [[
      for i = 1, 10 do
        assert(b:put("a", tostring(i)))
        assert(b:get("a").value == tostring(i))
        bus.sleep "300ms"
      end
      return "done"
    ]]
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "1s"
    world:cut "2s"
    world:advance "1m"
    assert.equal("done", world:came()[1].data)
    assert.equal(10, world:stream("KV_b").state.last_seq)
  end)

  it("ends a read at its timeout, and goes on", function()
    serve [[
      local began = bus.now()
      local entry, err = b:get("a", { timeout = "2s" })
      return err.code .. " " .. math.floor(bus.now() - began)
    ]]
    world:settle()
    world:lose_answers(5)
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "30s"
    assert.equal("timeout 2", world:came()[1].data)
  end)

  it("has a handler that is cancelled while it waits, and its write is not forgotten", function()
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in" } })
    world:host { scripts = { ["kv.lua"] = script [[
      js.consume("IN", { durable = "d", timeout = "1s", backoff = { min = "5s" } }, function(msg)
        local revision, err = b:put("a", "1")
        sim.note(tostring(revision))
      end)]] } }
    world:publish "in"
    world:lose_answers(3)
    world:advance "1m"
    assert.same({ "1" }, world:said())
    assert.equal(1, world:stream("KV_b").state.last_seq)
  end)

  it("is there for a handler of the old version, and for one of the new", function()
    local host = serve [[b:put("a", "old"); bus.sleep "2s"; return b:get("a").value]]
    world:publish("go", "", { reply = "_OUTSIDE.old" })
    world:advance "1s"
    host:reload("kv.lua", script [[bus.subscribe("go", function() b:put("a", "new"); return "new" end)]], true)
    assert.equal("new", go())
    world:advance "5s"
    assert.equal("new", world:came()[1].data) -- what the old one reads is what the new one wrote
    assert.same({ "old", "new" }, world:data_of "KV_b")
  end)

  it("takes other settings with a reload of its script", function()
    local host = serve [[return "old"]]
    host:reload("kv.lua", sim.script [[
      require "moonbus.kv".bucket { name = "b", history = 3, update = true }
      bus.subscribe("go", function() return "new" end)]], true)
    assert.equal("new", go())
    assert.equal(3, world:stream("KV_b").config.max_msgs_per_subject)
  end)

  it("counts its reads of keys in no id of what the handler spawns", function()
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in" } })
    world:api("STREAM.CREATE.OUT", { name = "OUT", subjects = { "out" } })
    world:host { scripts = { ["kv.lua"] = script [[
      js.consume("IN", { durable = "d", backoff = { min = "1s" } }, function(msg)
        sim.note(tostring(#b:keys()))
        bus.spawn(function() assert(js.publish("out", "x")) end):wait()
        b:put("key" .. msg.attempt, "1")
        if msg.attempt < 3 then error "again" end
      end)]] } }
    world:publish "in"
    world:advance "1m"
    assert.same({ "0", "1", "2" }, world:said())
    assert.equal(1, world:stream("OUT").state.messages)
  end)

  it("lets a key go when its ttl is over, with a marker", function()
    serve([[
      local created = assert(b:create("lock", "me", { ttl = "10s" }))
      bus.sleep "9s"
      local there = b:get("lock") ~= nil
      bus.sleep "2s"
      local entry, err = b:get("lock")
      local history = b:history("lock")
      local again = assert(b:create("lock", "other"))
      return table.concat({ tostring(there), err.code, history[#history].operation, again }, " ")
    ]], 'limit_markers = "5s"')
    assert.equal("true not_found PURGE 3", go())
  end)

  it("updates a key without a value from revision 0, also one that was deleted, and none that has a value", function()
    serve [[
      local one = assert(b:update("a", "1", 0))
      assert(b:delete "a")
      local three = assert(b:update("a", "3", 0))
      local again, err = b:update("a", "4", 0)
      return ("%d %d %s %s %d %s"):format(one, three, tostring(again), err.code, err.revision, b:get("a").value)
    ]]
    assert.equal("1 3 nil wrong_sequence 3 3", go())
  end)

  it("says of a key that others go on deleting that they do, not that it is there", function()
    serve [[
      local going = true
      for _ = 1, 20 do
        bus.spawn(function()
          while going do assert(b:delete "a") end
        end)
      end
      bus.sleep "10ms"
      local function said(made, err)
        return made or ("%s %s %s"):format(err.code, tostring(err.revision ~= nil), err.message:match "others.*")
      end
      local created, updated = said(b:create("a", "1")), said(b:update("a", "1", 0))
      going = false
      return created .. ", " .. updated
    ]]
    world:delay(5, "1m")
    local lost = 'wrong_sequence true others delete the key "a" all the time'
    assert.equal(lost .. ", " .. lost, go())
  end)
end)
