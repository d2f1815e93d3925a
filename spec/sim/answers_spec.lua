-- What an answer that cannot be read does to the message that is handled, in virtual time.
local sim = require "spec.sim.sim"

describe("An answer that is no JSON, in virtual time,", function()
  local world

  before_each(function()
    world = sim.new()
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in" } })
    world:api("STREAM.CREATE.DEAD", { name = "DEAD", subjects = { "dead" } })
  end)
  after_each(function() world:close() end)

  -- What attempts 1 to 3 of a message came to; the answer is JSON from the third time on.
  local function handle(read)
    world:host { scripts = { ["s.lua"] = sim.script(([[
      local b = require "moonbus.kv".bucket { name = "b" }
      local asked = 0
      bus.subscribe("ask", function()
        asked = asked + 1
        return asked < 3 and "<html>" or { ok = true }
      end)
      js.consume("IN", { durable = "d", dead_letter = "dead", backoff = { min = "1s", jitter = 0 } }, function(msg)
        local ok, err = pcall(function() %s end)
        sim.note(msg.attempt .. " " .. (ok and "read" or err.code .. ": " .. err.message))
        if not ok then error(err) end
      end)]]):format(read)) } }
    world:publish "in"
    world:advance "30s"
    assert.equal(0, world:stream("DEAD").state.messages)
    return world:said()
  end

  it("is not the message's fault: it is tried again, and not given up", function()
    local said = handle [[assert(assert(bus.request("ask", "")):json().ok)]]
    assert.equal(3, #said)
    assert.matches("^1 protocol: the answer: not JSON: ", said[1])
    assert.equal("3 read", said[3])
  end)

  it("nor is the value of a key", function()
    local said = handle [[
      if msg.attempt == 1 then assert(b:put("k", "<html>")) end
      if msg.attempt == 3 then assert(b:put("k", '{"ok":true}')) end
      assert(assert(b:get "k"):json().ok)]]
    assert.matches('^1 protocol: the value of the key "k": not JSON: ', said[1])
    assert.equal("3 read", said[3])
  end)
end)
