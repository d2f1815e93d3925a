local sim = require "spec.sim.sim"

describe("Timers, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  it("tick for a day in a moment, once for all instances", function()
    world:host { scripts = { ["t.lua"] = sim.script [[
      bus.every("1h", function() sim.note "tick" end)
    ]] } }
    world:advance "24h500ms"
    local said = world:said { at = true }
    assert.equal(24, #said)
    assert.equal("3600000 tick", said[1])
    assert.equal("86400000 tick", said[24])
  end)

  it("end with the version that had them", function()
    local host = world:host { scripts = { ["t.lua"] = sim.script
      [[bus.every("1s", function() sim.note "old" end)]] } }
    world:advance "2500ms"
    host:reload("t.lua", sim.script [[bus.every("1s", function() sim.note "new" end)]], true)
    world:advance "3500ms"
    assert.same({ "old", "old", "new", "new", "new" }, world:said())
  end)

  it("do not overlap themselves", function()
    world:host { scripts = { ["t.lua"] = sim.script [[
      bus.every("1s", function() sim.note "began"; bus.sleep "2500ms"; sim.note "ended" end)
    ]] } }
    world:advance "10s"
    for i, text in ipairs(world:said()) do
      assert.equal(i % 2 == 1 and "began" or "ended", text)
    end
  end)

  it("that come once come once", function()
    world:host { scripts = { ["t.lua"] = sim.script
      [[bus.after("10m", function() sim.note "now" end)]] } }
    world:advance "1h"
    assert.same({ "600000 now" }, world:said { at = true })
  end)

  it("end a handler that waits for too long", function()
    world:host { scripts = { ["t.lua"] = sim.script [[
      bus.subscribe("wait", { timeout = "10s" }, function()
        local ok, err = pcall(bus.sleep, "1h")
        sim.note(tostring(ok) .. " " .. err.code)
        error(err)
      end)
    ]] } }
    world:publish "wait"
    world:advance "1m"
    assert.same({ "10000 false cancelled" }, world:said { at = true })
  end)
end)
