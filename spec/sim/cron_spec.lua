local sim = require "spec.sim.sim"

describe("Cron lines, in virtual time", function()
  local world

  -- The world begins at 2026-01-01T00:00:00Z, a Thursday.
  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function host(text) return world:host { scripts = { ["t.lua"] = sim.script(text) } } end

  local function noted()
    local list = {}
    for _, text in ipairs(world:said()) do list[#list + 1] = os.date("!%m-%d %H:%M:%S", tonumber(text)) end
    return list
  end

  it("come at their times, with the time that was planned, once for all instances", function()
    host [[bus.cron("0 3 * * *", function(time) sim.note(tostring(time)) end)]]
    world:advance "72h"
    assert.same({ "01-01 03:00:00", "01-02 03:00:00", "01-03 03:00:00" }, noted())
    assert.same({ "10800000 1767236400" }, { world:said { at = true }[1] })
  end)

  it("go by a time zone of their own", function()
    host [[
      bus.cron("0 3 * * *", { tz = "Asia/Kolkata" }, function(time) sim.note(tostring(time)) end)
    ]]
    world:advance "48h"
    assert.same({ "01-01 21:30:00", "01-02 21:30:00" }, noted())
  end)

  it("have seconds, and never run on top of themselves", function()
    host [[
      bus.cron("*/10 * * * * *", function(time) sim.note(tostring(time)); bus.sleep "15s" end)
    ]]
    world:advance "59s"
    assert.same({ "01-01 00:00:10", "01-01 00:00:30", "01-01 00:00:50" }, noted())
  end)

  it("make up for the last of the times at which one still ran", function()
    host [[
      bus.cron("*/10 * * * * *", { missed = "last" }, function(time) sim.note(tostring(time)); bus.sleep "25s" end)
    ]]
    world:advance "69s"
    assert.same({ "01-01 00:00:10", "01-01 00:00:30", "01-01 00:01:00" }, noted())
  end)

  it("make up for all of them, in order", function()
    host [[
      local slow = true
      bus.cron("*/10 * * * * *", { missed = "all" }, function(time)
        sim.note(tostring(time))
        if slow then slow = false; bus.sleep "35s" end
      end)
    ]]
    world:advance "65s"
    assert.same({ "01-01 00:00:10", "01-01 00:00:20", "01-01 00:00:30", "01-01 00:00:40", "01-01 00:00:50",
      "01-01 00:01:00" }, noted())
  end)

  for missed, wanted in pairs {
    skip = { "01-01 05:00:00" }, last = { "01-01 03:00:00", "01-01 05:00:00" },
    all = { "01-01 01:00:00", "01-01 02:00:00", "01-01 03:00:00", "01-01 05:00:00" },
  } do
    it("find out that the machine slept: missed = " .. missed, function()
      host(([[
        bus.cron("0 1,2,3,5 * * *", { missed = %q }, function(time) sim.note(tostring(time)) end)
      ]]):format(missed))
      world:advance "30m"
      world:set_clock(3 * 3600 * 1000)
      world:advance "2h"
      assert.same(wanted, noted())
    end)
  end

  it("come once when the clock is set back over them, and go on", function()
    host [[bus.cron("* * * * * *", function(time) sim.note(tostring(time)) end)]]
    world:advance "10500ms"
    world:set_clock(-5000)
    world:advance "10s"
    local seen = {}
    for _, text in ipairs(world:said()) do
      assert.is_nil(seen[text])
      seen[text] = true
    end
    assert.equal("01-01 00:00:15", noted()[#noted()])
  end)

  it("come at once for what a clock that is set forward has passed a moment ago", function()
    host [[bus.cron("0 * * * *", function(time) sim.note(tostring(time)) end)]]
    world:advance "59m"
    world:set_clock(90 * 1000)
    world:advance "1m"
    assert.same({ "01-01 01:00:00" }, noted())
  end)

  it("begin anew when the clock was wrong by hours, and say so", function()
    host [[bus.cron("0 * * * *", function(time) sim.note(tostring(time)) end)]]
    world:advance "6h30m"
    world:set_clock(-5 * 3600 * 1000)
    world:advance "100m"
    assert.equal("01-01 03:00:00", noted()[#noted()])
    assert.matches("clock was set back by hours", world:logged("warn")[1].msg)
  end)

  it("go on over a reload, which neither repeats nor loses a time", function()
    local one = host [[bus.cron("*/2 * * * * *", function(time) sim.note(tostring(time)) end)]]
    for i = 1, 7 do
      world:advance(1000 + i)
      one:reload("t.lua", sim.script([[
        bus.cron("*/2 * * * * *", function(time) sim.note(tostring(time)) end) -- ]] .. i), true)
    end
    world:advance "3s"
    assert.same({ "01-01 00:00:02", "01-01 00:00:04", "01-01 00:00:06", "01-01 00:00:08", "01-01 00:00:10" }, noted())
  end)

  it("begin anew with another line, and end with their version, or when they are cancelled", function()
    local one = host [[bus.cron("*/2 * * * * *", function() sim.note "old" end)]]
    world:advance "2500ms"
    one:reload("t.lua", sim.script [[bus.cron("*/3 * * * * *", function() sim.note "new" end)
      local timer = bus.cron("* * * * * *", function() sim.note "never" end)
      timer:cancel()]], true)
    world:advance "4s"
    assert.same({ "old", "new", "new" }, world:said())
    one:reload("t.lua", sim.script [[bus.every("1h", function() end)]], true)
    world:advance "4s"
    assert.equal(3, #world:said())
  end)

  it("end a run at its timeout", function()
    host [[
      bus.cron("0 * * * * *", { timeout = "5s", name = "slow" }, function()
        local ok, err = pcall(bus.sleep, "1h")
        sim.note(tostring(ok) .. " " .. err.code)
        error(err)
      end)
    ]]
    world:advance "61s"
    world:advance "10s"
    assert.same({ "65000 false cancelled" }, world:said { at = true })
  end)

  it("show when they come next", function()
    local one = host [[bus.cron("0 3 * * *", { name = "nightly" }, function() end)]]
    world:advance "4h"
    local handler = one:status().scripts[1].handlers[1]
    assert.equal("cron nightly", handler.handler)
    assert.equal("2026-01-02T03:00:00Z", handler.next)
  end)
end)
