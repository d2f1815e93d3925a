local cjson = require "cjson"
local sim = require "spec.sim.sim"

describe("js.cron, in virtual time", function()
  local world

  -- The world begins at 2026-01-01T00:00:00Z, a Thursday.
  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function host(text) return world:host { scripts = { ["t.lua"] = sim.script(text) } } end

  local NOTES = [[js.cron(%q, { name = "job", dead_letter = false %s }, function(msg, time)
    sim.note(os.date("!%%d %%H:%%M:%%S", time))
  end)]]

  local function notes(line, options) return NOTES:format(line, options and ", " .. options or "") end

  it("runs once, by whichever of three hosts", function()
    for _ = 1, 3 do host(notes "0 * * * *") end
    world:advance "3h30s"
    assert.same({ "01 01:00:00", "01 02:00:00", "01 03:00:00" }, world:said())
    local stored = world:messages "MOONBUS_CRON"
    assert.equal(3, #stored)
    assert.equal("moonbus.cron.job", stored[1].subject)
    assert.same({ name = "job", time = 1767225600 + 3600 }, cjson.decode(stored[1].data))
    assert.matches("Nats%-Msg%-Id: cron:job:1767229200", stored[1].headers)
  end)

  it("goes on when hosts come and go", function()
    local first = host(notes "*/10 * * * *")
    world:advance "25m"
    host(notes "*/10 * * * *")
    first:finish "1s"
    world:advance "20m"
    assert.same({ "01 00:10:00", "01 00:20:00", "01 00:30:00", "01 00:40:00" }, world:said())
  end)

  for missed, wanted in pairs {
    skip = { "01 01:00:00", "01 06:00:00" }, last = { "01 01:00:00", "01 05:00:00", "01 06:00:00" },
    all = { "01 01:00:00", "01 02:00:00", "01 03:00:00", "01 04:00:00", "01 05:00:00", "01 06:00:00" },
  } do
    it("makes up for what was missed while no host was there: missed = " .. missed, function()
      local text = notes("0 * * * *", ("missed = %q"):format(missed))
      host(text):finish "1s"
      local first = host(text)
      world:advance "1h10m"
      first:finish "1s"
      world:advance "4h10m"
      for _ = 1, 2 do host(text) end
      world:advance "50m"
      assert.same(wanted, world:said())
    end)
  end

  it("runs a firing that fails again, and then goes on; it never runs on top of itself", function()
    host [[
      js.cron("0 * * * *", { name = "job", attempts = 3, backoff = { min = "1m", max = "1m", jitter = 0 },
        dead_letter = false }, function(msg, time)
        sim.note(os.date("!%H:%M", time) .. " " .. msg.attempt)
        if os.date("!%H:%M", time) == "01:00" and msg.attempt < 3 then error "again" end
        bus.sleep "4m"
      end)
    ]]
    world:advance "2h30m"
    assert.same({ "01:00 1", "01:00 2", "01:00 3", "02:00 1" }, world:said())
  end)

  it("ends a firing that always fails after its attempts, with an error in the log: the next one comes", function()
    host [[
      js.cron("0 * * * *", { name = "job", attempts = 2, backoff = { min = "1m", max = "1m", jitter = 0 } },
        function(msg, time)
          sim.note(os.date("!%H:%M", time) .. " " .. msg.attempt)
          error "never"
        end)
    ]]
    world:advance "2h30m"
    assert.same({ "01:00 1", "01:00 2", "02:00 1", "02:00 2" }, world:said())
    local last = world:logged "error"
    assert.matches("terminated", cjson.encode(last[#last]))
  end)

  it("leaves out what came while it ran, but the last", function()
    host [[
      js.cron("*/10 * * * *", { name = "job", timeout = "1h", dead_letter = false }, function(msg, time)
        sim.note(os.date("!%H:%M", time))
        if os.date("!%H:%M", time) == "00:10" then bus.sleep "35m" end
      end)
    ]]
    world:advance "55m"
    assert.same({ "00:10", "00:40", "00:50" }, world:said())
  end)

  it("fires what an outage delayed, once", function()
    for _ = 1, 2 do host(notes("0 * * * *", 'missed = "all"')) end
    world:advance "59m50s"
    world:cut "20m"
    world:advance "61m"
    assert.same({ "01 01:00:00", "01 02:00:00" }, world:said())
    assert.equal(2, #world:messages "MOONBUS_CRON")
  end)

  it("is fired once by clocks that differ: the time is the planned one", function()
    for _ = 1, 2 do host(notes "*/5 * * * * *") end
    for i = 1, 10 do
      world:advance "7s"
      world:set_clock(i % 2 == 0 and 2000 or -2000)
    end
    local seen = {}
    for _, text in ipairs(world:said()) do
      assert.is_nil(seen[text], text)
      seen[text] = true
    end
    assert.is_true(#world:said() > 10)
  end)

  it("is not fired again when a host whose clock is ahead, or behind, has fired", function()
    host(notes("0 * * * *", 'missed = "all"'))
    world:advance "59m58s"
    for hour = 1, 3 do
      local time = 1767225600 + hour * 3600
      -- What a host says whose clock is 2 s ahead; and then once more, as one that is behind by 5 minutes.
      for _, delay in ipairs { "0s", "5m2s" } do
        world:publish("moonbus.cron.job", { name = "job", time = time }, { after = delay, headers = {
          ["Nats-Msg-Id"] = ("cron:job:%.0f"):format(time), ["Moonbus-Cron-Time"] = ("%.0f"):format(time),
          ["Nats-Expected-Last-Subject-Sequence"] = hour - 1 } })
      end
      world:advance "1h"
    end
    assert.same({ "01 01:00:00", "01 02:00:00", "01 03:00:00" }, world:said())
    assert.equal(3, #world:messages "MOONBUS_CRON")
  end)

  it("goes on when the last firing says a time that is far ahead: of a clock that was wrong, or of anybody", function()
    host [[
      js.cron("0 * * * *", { name = "job", missed = "all", dead_letter = false }, function(msg, time)
        sim.note(os.date("!%d %H:%M", time) .. " " .. (msg:header "By" or "ours"))
      end)
    ]]
    world:advance "90m"
    -- A host whose clock is a day ahead has come first; and later somebody who may publish there.
    local ahead = ("%.0f"):format(1767225600 + 26 * 3600)
    for minutes, time in pairs { [0] = ahead, [60] = "99999999999", [120] = "inf" } do
      world:publish("moonbus.cron.job", "", { after = minutes .. "m1s",
        headers = { ["Moonbus-Cron-Time"] = time, By = "them" } })
    end
    world:advance "3h"
    assert.same({ "01 01:00 ours", "01 01:00 them", "01 02:00 ours", "01 02:00 them", "01 03:00 ours", "01 03:00 them",
      "01 04:00 ours" }, world:said())
  end)

  for _, time in ipairs { "-99999999999", "-inf", "nan", "then" } do
    it("fires nothing of before for a last firing that says it is of " .. time, function()
      host(notes("0 * * * *", 'missed = "all"'))
      world:advance "90m"
      world:publish("moonbus.cron.job", "", { headers = { ["Moonbus-Cron-Time"] = time } })
      world:advance "1h"
      assert.same({ "01 01:00:00", "01 01:00:00", "01 02:00:00" }, world:said())
    end)
  end

  it("fires by hosts only when the server's schedule is gone, and says what keeps that", function()
    local states = 'js.stream { name = "JOBS", subjects = { "moonbus.cron.>" }, deny_delete = true }\n'
    world:host { scripts = { ["s.lua"] = sim.script(states) } }
    world:publish("moonbus.cron.schedule.job", "", {})
    host(states .. notes("0 * * * *", 'stream = "JOBS", missed = "skip"'))
    world:advance "90m"
    assert.same({}, world:said())
    assert.matches("js%.cron job: .*; it is tried again", world:logged("warn")[1].msg)
    assert.equal(1, #world:messages "JOBS")
    world:api("STREAM.PURGE.JOBS", { filter = "moonbus.cron.schedule.job" })
    world:advance "31m"
    assert.same({ "01 02:00:00" }, world:said())
  end)

  it("leaves the server's schedule alone once another version serves", function()
    world:lose_sent("$JS.API.STREAM.MSG.GET.MOONBUS_CRON", 0, 3)
    local one = host(notes "0 * * * *")
    world:advance "7s"
    one:reload("t.lua", sim.script [[bus.subscribe("nothing", function() end)]], true)
    world:publish("moonbus.cron.schedule.job", "", {})
    world:advance "10m"
    assert.matches("js%.cron job: .*; it is tried again", world:logged("warn")[1].msg)
    assert.equal(1, #world:messages "MOONBUS_CRON")
  end)

  it("gives a firing that was published by hand the time that it says, if that has come; and misses nothing for it",
    function()
      host(notes "0 * * * *")
      world:advance "90m"
      for _, body in ipairs { '{"name":"job","time":1767225660}', '{"name":"job","time":1767312000}', "now" } do
        world:publish("moonbus.cron.job", body)
        world:advance "1s"
      end
      world:advance "40m"
      assert.same({ "01 01:00:00", "01 00:01:00", "01 01:00:00", "01 01:00:00", "01 02:00:00" }, world:said())
    end)

  it("takes another line by a reload", function()
    local one = host(notes "0 * * * *")
    world:advance "1h30m"
    one:reload("t.lua", sim.script(notes "45 * * * *"), true)
    world:advance "1h30m"
    assert.same({ "01 01:00:00", "01 01:45:00", "01 02:45:00" }, world:said())
  end)
end)
