local sim = require "spec.sim.sim"

describe("A handler that runs again, and writes into a bucket,", function()
  local world

  before_each(function()
    world = sim.new()
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in" } })
  end)
  after_each(function() world:close() end)

  -- Runs this for one message, again after each second; `body` notes what it has to say.
  local function serve(body, history)
    world:host { scripts = { ["kv.lua"] = sim.script(([[
      local kv = require "moonbus.kv"
      local b = kv.bucket { name = "b", history = %d }
      local function value() local entry, err = b:get "k"; return entry and entry.value or err.code end
      local function again(msg, runs) if msg.attempt < runs then error "again" end end
      bus.subscribe("do", function(msg) return assert(loadstring(msg.data))()(b) end)
      js.consume("IN", { durable = "d", backoff = { min = "1s", max = "1s", jitter = 0 } }, function(msg) %s end)]])
      :format(history or 10, body)) } }
    world:settle()
    world:publish "in"
  end

  local function said(duration)
    world:advance(duration or "1m")
    return world:said()
  end

  local function other(code)
    return world:request("do", "return function(b) return tostring(" .. code .. ") end").data
  end

  describe("is told that it has made a key", function()
    local LOCK = [[
      local mine, err = b:create("k", "mine")
      if not mine then sim.note(err.code .. " " .. value()); return nil, err end
      sim.note("mine " .. value())
      assert(b:delete "k")
      if msg.attempt < 4 then error "a later line fails" end]]

    it("only while the key has that value, and gives back what it has", function()
      serve(LOCK)
      world:advance "100ms"
      assert.equal("2", tonumber(other 'b:create("k", "theirs")') and "2")
      world:advance "1500ms"
      other 'b:delete "k"'
      assert.same({ "mine mine", "exists theirs", "mine mine", "mine mine" }, said())
      assert.equal("nil", other 'b:get "k"')
    end)

    it("though nobody else has had it, by a create of its own, which its delete ends again", function()
      serve(LOCK, 1)
      assert.same({ "mine mine", "mine mine", "mine mine", "mine mine" }, said())
      assert.equal("nil", other 'b:get "k"')
      assert.equal(8, world:stream("KV_b").state.last_seq)
    end)

    it("also when a child of the handler gives it back", function()
      serve [[
        assert(b:create("k", "mine"))
        sim.note(value())
        bus.spawn(function() assert(b:delete "k") end):wait()
        again(msg, 3)]]
      assert.same({ "mine", "mine", "mine" }, said())
      assert.equal("nil", other 'b:get "k"')
    end)

    it("when what it wrote is still there, and with what it says now", function()
      serve [[sim.note(assert(b:create("k", "run " .. msg.attempt)) .. " " .. value()); again(msg, 3)]]
      assert.same({ "1 run 1", "2 run 2", "3 run 3" }, said())
    end)

    it("when it has written over it", function()
      serve [[
        sim.note(assert(b:create("k", "1")) .. " " .. assert(b:put("k", "2")) .. " " .. value())
        again(msg, 3)]]
      assert.same({ "1 2 2", "1 2 2", "1 2 2" }, said())
    end)

    it("after the key was removed, marker and all, by making it anew", function()
      serve [[sim.note(assert(b:create("k", "1")) .. " " .. value()); again(msg, 3)]]
      world:advance "100ms"
      world:api("STREAM.PURGE.KV_b", {})
      assert.same({ "1 1", "2 1", "2 1" }, said())
    end)

    it("and not when the answer to its second create was lost", function()
      serve(LOCK)
      world:advance "100ms"
      other 'b:create("k", "theirs")'
      world:advance "850ms"
      world:lose_answers(2)
      world:advance "20s"
      local notes = world:said()
      assert.equal("mine mine", notes[1])
      for i = 2, #notes do assert.equal("exists theirs", notes[i]) end
      assert.is_true(#notes > 1)
    end)
  end)

  describe("stores what it has not stored before:", function()
    it("another value", function()
      serve [[sim.note(assert(b:put("k", msg.attempt == 1 and "failed" or "done")) .. " " .. value()); again(msg, 3)]]
      assert.same({ "1 failed", "2 done", "2 done" }, said())
      assert.same({ "failed", "done" }, world:data_of "KV_b")
    end)

    it("the first value again, after another one", function()
      serve [[sim.note(assert(b:put("k", msg.attempt % 2 == 1 and "a" or "b")) .. " " .. value()); again(msg, 4)]]
      assert.same({ "1 a", "2 b", "3 a", "4 b" }, said())
    end)

    it("what it writes behind another value", function()
      serve [[
        assert(b:put("k", msg.attempt == 1 and "a" or "b"))
        assert(b:put("k", "end"))
        sim.note(value())
        again(msg, 3)]]
      assert.same({ "end", "end", "end" }, said())
      assert.same({ "a", "end", "b", "end" }, world:data_of "KV_b")
    end)

    it("a deletion in place of a value, and a value in place of a deletion", function()
      serve [[
        if msg.attempt % 2 == 1 then assert(b:put("k", "busy")) else assert(b:delete "k") end
        sim.note(value())
        again(msg, 4)]]
      assert.same({ "busy", "not_found", "busy", "not_found" }, said())
    end)

    it("an update from where it is now, and one from where it was with another value", function()
      serve [[
        if msg.attempt == 1 then assert(b:put("k", "0")) end
        local entry = assert(b:get "k")
        sim.note(assert(b:update("k", entry.value + 1 .. "", entry.revision)) .. " " .. value())
        again(msg, 2)]]
      assert.same({ "2 1", "3 2" }, said())
    end)

    it("an update from one revision with another value takes the place of its own", function()
      serve [[
        assert(b:put("k", "0"))
        local done, err = b:update("k", "run " .. math.min(2, msg.attempt), 1)
        sim.note((done or err.code) .. " " .. value())
        again(msg, 3)]]
      assert.same({ "2 run 1", "3 run 2", "3 run 2" }, said())
    end)
  end)

  it("stores nothing twice where it does the same, and what is under an id of its own once", function()
    serve [[
      local one, two = assert(b:put("k", "1")), assert(b:put("k", "2"))
      local three = assert(b:put("k", "run " .. msg.attempt, { id = msg.id .. ":k" }))
      sim.note(("%d %d %d %s"):format(one, two, three, value()))
      again(msg, 3)]]
    assert.same({ "1 2 3 run 1", "1 2 3 run 1", "1 2 3 run 1" }, said())
  end)

  it("leaves alone what somebody else has written since", function()
    serve [[assert(b:put("k", "mine")); sim.note(value()); again(msg, 2)]]
    world:advance "100ms"
    other 'b:put("k", "theirs")'
    assert.same({ "mine", "theirs" }, said())
  end)
end)
