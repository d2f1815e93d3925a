-- js.cron on real servers. What it does at which times is spec/sim/js_cron_spec.lua's.
local cjson = require "cjson"
local faulty = require "spec.support.faulty"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local FIRINGS = faulty.long and 200 or 20

describe("js.cron", function()
  it("of a name that there is already is refused by its own name", function()
    local w = world.new()
    w:open()
    local failed = w:fail [[
local js = require "moonbus.jetstream"
js.cron("0 * * * *", { name = "a" }, function() end)
js.cron("1 * * * *", { name = "a" }, function() end)]]
    w:close()
    assert.is_truthy(failed.output:find([["js.cron: name: there is a line of the name \"a\" already]], 1, true))
    assert.matches('"line":3', failed.output)
  end)

  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local SCRIPT = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "RAN", subjects = { "ran.>" } }
js.cron("* * * * * *", { name = "job", missed = "all", ack_wait = "2s", dead_letter = false }, function(msg, time)
  js.publish("ran.job", { time = time, firing = msg.sequence })
end)]]

  local function firings()
    local times = {}
    for _, message in ipairs(w.client:messages "MOONBUS_CRON") do
      if message.subject == "moonbus.cron.job" then times[#times + 1] = cjson.decode(message.data).time end
    end
    return times
  end

  it("fires once a time and runs each, over hosts that are killed", function()
    local hosts = {}
    for i = 1, 3 do hosts[i] = w:run { handlers = { ["handler.lua"] = SCRIPT } } end
    local function ran() return w.client:stream_info("RAN").state.messages end
    for kill = 1, 6 do
      wait.eventually(function() return ran() >= kill * FIRINGS / 7 end, FIRINGS * 4 + 60)
      local index = (kill - 1) % 3 + 1
      hosts[index]:signal "KILL"
      wait.eventually(function() return not hosts[index]:running() end)
      hosts[index] = w:run { handlers = { ["handler.lua"] = SCRIPT } }
    end
    wait.eventually(function() return ran() >= FIRINGS end, FIRINGS * 4 + 60)
    local times = firings()
    for i = 2, #times do assert.equal(times[i - 1] + 1, times[i], "each second, once") end
    local seen = {}
    for _, message in ipairs(w.client:messages "RAN") do
      local time = cjson.decode(message.data).time
      assert.is_nil(seen[time], "stored twice")
      seen[time] = true
    end
    for i = 1, FIRINGS - 1 do assert.is_true(seen[times[i]], times[i]) end
  end)

  it("fires once a time over hosts that freeze, beyond the duplicate window of the stream", function()
    local script = [[
local js = require "moonbus.jetstream"
js.stream { name = "JOBS", subjects = { "moonbus.cron.>" }, duplicate_window = "100ms" }
js.cron("* * * * * *", { name = "job", missed = "all", stream = "JOBS" }, function() end)]]
    local hosts = {}
    for i = 1, 2 do hosts[i] = w:run { handlers = { ["handler.lua"] = script } } end
    local function count() return w.client:stream_info("JOBS").state.messages end
    for round = 1, 4 do
      local frozen, before = hosts[round % 2 + 1], count()
      frozen:signal "STOP"
      wait.eventually(function() return count() >= before + 2 end)
      frozen:signal "CONT"
      wait.eventually(function() return count() >= before + 3 end)
    end
    local last
    for _, message in ipairs(w.client:messages "JOBS") do
      local time = cjson.decode(message.data).time
      if last then assert.equal(last + 1, time) end
      last = time
    end
  end)

  it("is refused by file and line when it is misused", function()
    for text, wanted in pairs {
      ["js.cron('* * * * *', {}, print)"] = "js.cron: name is required",
      ["js.cron('* * * * *', print)"] = "js.cron: name is required",
      ["js.cron('* * * * *', { name = 'a.b' }, print)"] = "js.cron: ",
      ["js.cron('* * * * *', { name = 'a', tz = 'local' }, print)"] = '"local" is another zone on another machine',
      ["js.cron('61 * * * *', { name = 'a' }, print)"] = "not within 0 to 59",
      ["js.cron('* * * * *', { name = 'a', concurrency = 2 }, print)"] = "never runs on top of itself",
      ["js.cron('* * * * *', { name = 'a', attempts = 0 }, print)"] = "attempts",
      ["js.cron('* * * * *', { name = 'a', schedule = 'cron' }, print)"] = '"hosts" or "server"',
      ["js.cron('0 0 */2 * mon', { name = 'a', schedule = 'server' }, print)"] = "the server has no such line",
    } do
      local folder = w:folder()
      temp.write(folder, "a.lua", 'local js = require "moonbus.jetstream"\n' .. text)
      local run = w:moonbus({ "check", "a.lua" }, { folder = folder })
      assert.equal(2, run.status, text .. run.stdout)
      assert.is_truthy((run.stdout .. run.stderr):find(wanted, 1, true), text .. "\n" .. run.stdout .. run.stderr)
      assert.is_truthy((run.stdout .. run.stderr):find("a.lua:2: ", 1, true), run.stdout .. run.stderr)
    end
  end)

  it("is shown by check with its next time, and nothing of it is found wrong", function()
    local folder = w:folder()
    temp.write(folder, "a.lua", [[
local js = require "moonbus.jetstream"
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.cron("0 3 * * *", { name = "nightly", tz = "Asia/Kolkata", dead_letter = "dead.nightly" }, function() end)]])
    local run = w:moonbus({ "check", "a.lua" }, { folder = folder })
    assert.matches("MOONBUS_CRON/cron%-nightly +moonbus%.cron%.nightly", run.stdout)
    assert.matches("cron nightly +timer +Asia/Kolkata, next at %S+T21:30:00Z", run.stdout)
    assert.is_nil((run.stdout .. run.stderr):find "warning:", run.stdout .. run.stderr)
    assert.equal(0, run.status)
  end)

  it("runs in tests when time is advanced", function()
    local folder = w:folder()
    temp.write(folder, "a.lua", [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.cron("0 3 * * *", { name = "nightly" }, function(msg, time)
  bus.publish("ran", { at = time, name = msg:json().name })
end)]])
    temp.write(folder, "a_test.lua", [[
local s = require "moonbus.test".load "a.lua"
it("runs at three", function()
  s:advance "2h"
  local ran
  for _, message in ipairs(s:advance("2h").published) do if message.subject == "ran" then ran = message end end
  assert.same({ 3 * 3600, "nightly" }, { ran.data.at % 86400, ran.data.name })
end)]])
    local run = w:moonbus({ "test", "a_test.lua" }, { folder = folder })
    assert.same({ 0, "" }, { run.status, run.stderr }, run.stdout)
  end)

  local SERVER = [[
local js = require "moonbus.jetstream"
js.stream { name = "RAN", subjects = { "ran.>" } }
js.cron(%q, { name = "job", schedule = "server", missed = "all", dead_letter = false }, function(_, time)
  js.publish("ran.job", { time = time })
end)]]

  local function level()
    local info = cjson.decode(w.client:request("$JS.API.INFO", "").data)
    return info.api and info.api.level or 0
  end

  it('with schedule = "server" is fired by the server, also when no host is there', function()
    if level() < 4 then
      local host = w:start { handlers = { ["handler.lua"] = SERVER:format "* * * * * *" } }
      host:wait_log 'js.cron: schedule = "server" needs nats%-server 2%.14 or newer'
      return
    end
    local host = w:run { handlers = { ["handler.lua"] = SERVER:format "* * * * * *" } }
    w.client:await_stored("RAN", 2)
    host:stop()
    local before = w.client:stream_info("MOONBUS_CRON").state.messages
    wait.eventually(function() return w.client:stream_info("MOONBUS_CRON").state.messages >= before + 2 end)
    for _ = 1, 2 do w:run { handlers = { ["handler.lua"] = SERVER:format "* * * * * *" } } end
    w.client:await_stored("RAN", 6)
    local last
    for _, message in ipairs(w.client:messages "RAN") do
      local time = cjson.decode(message.data).time
      if last then assert.equal(last + 1, time) end
      last = time
    end
  end)

  it('and another line by a reload changes the schedule; schedule = "hosts" ends it', function()
    if level() < 4 then return end
    local host = w:run { handlers = { ["handler.lua"] = SERVER:format "0 0 3 1 1 *" } }
    local function schedule()
      local got = cjson.decode(w.client:request("$JS.API.STREAM.MSG.GET.MOONBUS_CRON",
        '{"last_by_subj":"moonbus.cron.schedule.job"}').data)
      return got.message and w.client:message("MOONBUS_CRON", got.message.seq):header "Nats-Schedule"
    end
    wait.eventually(function() return schedule() == "0 0 3 1 1 *" end)
    temp.write(host.folder, "handlers/handler.lua", SERVER:format "0 0 4 1 1 *")
    host:signal "HUP"
    wait.eventually(function() return schedule() == "0 0 4 1 1 *" end)
    temp.write(host.folder, "handlers/handler.lua", (SERVER:format("0 0 4 1 1 *"):gsub('schedule = "server", ', "")))
    host:signal "HUP"
    wait.eventually(function() return schedule() == nil end)
  end)
end)
