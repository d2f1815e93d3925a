-- bus.cron on the real binary. What it does at which times is spec/sim/cron_spec.lua's, how a line is read
-- spec/unit/cron_spec.lua's.
local cjson = require "cjson"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("bus.cron", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("runs every second, once per process, with the time that was planned", function()
    local seen = w.client:subscribe("tick")
    w:run { handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.cron("* * * * * *", function(time) bus.publish("tick", { planned = time, now = bus.now() }) end)
]] }, args = { "--workers", "4" } }
    local last
    for _ = 1, 4 do
      local tick = cjson.decode(seen:next(wait.within(20)).data)
      assert.is_true(tick.now >= tick.planned, "never before its time")
      if last then assert.equal(last + 1, tick.planned) end
      last = tick.planned
    end
  end)

  it("is refused by file and line when it is misused", function()
    for text, wanted in pairs {
      ["bus.cron()"] = 'line: expected a cron line ("0 3 * * *"), got nothing',
      ["bus.cron(5, print)"] = "line: expected a cron line",
      ["bus.cron('61 * * * *', print)"] = 'cron line "61 * * * *": minute: "61" is not within 0 to 59',
      ["bus.cron('0 0 30 2 *', print)"] = "it never comes",
      ["bus.cron('* * * * *')"] = "expected a function as what to run, got nothing",
      ["bus.cron('* * * * *', 5, print)"] = "expected a table of options, got a number",
      ["bus.cron('* * * * *', { tz = 'Europe/Atlantis' }, print)"] = 'there is no time zone "Europe/Atlantis"',
      ["bus.cron('* * * * *', { tz = '../../etc/passwd' }, print)"] = '"../../etc/passwd" is no name of a time zone',
      ["bus.cron('* * * * *', { tz = 'UTC\\0x' }, print)"] = "is no name of a time zone",
      ["bus.cron('* * * * *', { tz = 5 }, print)"] = "tz: expected a time zone of IANA",
      ["bus.cron('* * * * *', { timezone = 'UTC' }, print)"] = 'unknown option "timezone": here it is "tz"',
      ["bus.cron('* * * * *', { missed = 'some' }, print)"] = 'missed: expected "all" or "last" or "skip", got "some"',
      ["bus.cron('* * * * *', { name = '' }, print)"] = "name: expected a string that is not empty",
      ["bus.cron('* * * * *', { timeout = 'soon' }, print)"] = "timeout",
      ["bus.cron('* * * * *', { attempts = 3 }, print)"] = "it belongs to js.cron",
    } do
      local folder = w:folder()
      temp.write(folder, "a.lua", 'local bus = require "moonbus"\n' .. text)
      local run = w:moonbus({ "check", "a.lua" }, { folder = folder })
      assert.equal(2, run.status, text .. run.stdout)
      assert.is_truthy((run.stdout .. run.stderr):find("a.lua:2: bus.cron: " .. wanted, 1, true)
        or (run.stdout .. run.stderr):find(wanted, 1, true), text .. "\n" .. run.stdout .. run.stderr)
      assert.is_truthy((run.stdout .. run.stderr):find("a.lua:2: ", 1, true))
    end
  end)

  it("is for the top level: in a handler it raises", function()
    w:run([[
local bus = require "moonbus"
bus.subscribe("spec", function() return select(2, pcall(bus.cron, "* * * * *", print)) end)]])
    assert.matches("handler.lua:2: bus.cron: .*load", w.client:request("spec", "").data)
  end)

  it("is shown with its next time by check and by the status", function()
    local text = [[
local bus = require "moonbus"
bus.cron("0 3 1 1 *", { name = "new year", tz = "Asia/Kolkata", timeout = "1m" }, function() end)]]
    local folder = w:folder()
    temp.write(folder, "a.lua", text)
    local run = w:moonbus({ "check", "a.lua" }, { folder = folder })
    assert.equal(0, run.status)
    assert.matches("cron new year +timer +Asia/Kolkata, next at %d+%-12%-31T21:30:00Z, timeout 1m", run.stdout)
    local json = cjson.decode(w:moonbus({ "check", "--json", "a.lua" }, { folder = folder }).stdout)
    assert.matches("^%d+%-12%-31T21:30:00Z$", json.handlers[1].next)
    assert.equal("Asia/Kolkata", json.handlers[1].tz)
    local host = w:run { handlers = { ["a.lua"] = text }, admin = true }
    local shown = w:moonbus { "status", "--admin", host.admin }
    assert.matches("cron new year .*next at %d+%-12%-31T21:30:00Z", shown.stdout)
    shown = w:moonbus { "status", "--json", "--admin", host.admin }
    assert.matches("%-12%-31T21:30:00Z$", cjson.decode(shown.stdout).scripts[1].handlers[1].next)
  end)

  it("runs in tests when time is advanced", function()
    local folder = w:folder()
    temp.write(folder, "a.lua", [[
local bus = require "moonbus"
bus.cron("0 3 * * *", { name = "nightly" }, function(time) bus.publish("ran", { at = time }) end)]])
    temp.write(folder, "a_test.lua", [[
local test = require "moonbus.test"
local s = test.load "a.lua"
it("runs at three", function()
  local r = s:advance "2h"
  assert.equal(0, #r.published)
  r = s:advance "2h"
  assert.equal("ran", r.published[1].subject)
  assert.equal(3 * 3600, r.published[1].data.at % 86400)
  assert.equal(1, #s:advance("24h").published)
end)]])
    local run = w:moonbus({ "test", "a_test.lua" }, { folder = folder })
    assert.same({ 0, "" }, { run.status, run.stderr }, run.stdout)
  end)
end)
