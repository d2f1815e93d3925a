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

  -- Each state has another order, and all three states have ticks: while some burn, others have to take them.
  it("tick with their own function, registered through pairs(), with one period and written in one place", function()
    for seed = 1, 5 do
      world:close()
      world = sim.new { seed = seed }
      world:host { settings = { workers = 3 }, scripts = { ["t.lua"] = sim.script [[
        bus.subscribe("grow", function() sim.burn(50) end)
        bus.subscribe("busy", function() sim.burn(12) end)
        for _, job in pairs { a = { name = "a" }, b = { name = "b" }, c = { name = "c" }, d = { name = "d" } } do
          bus.every("20ms", function() sim.note(job.name .. " " .. tostring(bus)) end) -- a state is told by an address
        end
      ]] } }
      for _ = 1, 10 do
        for _ = 1, 3 do world:publish "grow" end
        world:advance "100ms"
      end
      local from, states, count, at = world:now(), {}, 0, {}
      for i = 1, 50 do
        for _ = 1, 1 + i % 2 do world:publish("busy", "", { after = "18ms" }) end
        world:advance "20ms"
      end
      for _, note in ipairs(world:read_notes()) do
        local name, state = note.text:match "^(%l) (.*)$"
        if name and note.kind == "note" and note.ms > from then
          if not states[state] then count = count + 1 end
          states[state] = true
          local period = math.floor(note.ms / 20)
          at[period] = at[period] or {}
          table.insert(at[period], name)
        end
      end
      assert.equal(3, count)
      for i = 1, 50 do
        local names = assert(at[from / 20 + i], "no tick at " .. i)
        table.sort(names)
        assert.equal("abcd", table.concat(names), ("seed %d, period %d"):format(seed, i))
      end
    end
  end)
end)
