local cjson = require "cjson"
local sim = require "spec.sim.sim"

describe("A service, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local SLOW = sim.script [[
    local s = bus.service { name = "slow", version = "1.0.0" }
    s:endpoint("wait", { concurrency = 2 }, function(msg)
      bus.sleep(msg.data)
      if msg.data == "7s" then error "too long" end
      return msg.data
    end)]]

  local function ask(verb) return world:request("$SRV." .. verb .. ".slow", "") end
  local function stats() return cjson.decode(ask "STATS".data).endpoints[1] end

  it("measures its runs to the millisecond, those of an old version too", function()
    local host = world:host { scripts = { ["s.lua"] = SLOW } }
    world:request("wait", "2s")
    world:request("wait", "7s", { timeout = "20s" })
    local one = stats()
    assert.same({ 2, 1, "too long" }, { one.num_requests, one.num_errors, one.last_error })
    assert.is_true(math.abs(one.processing_time - 9e9) < 20e6, one.processing_time)
    assert.equal(math.floor(one.processing_time / 2), one.average_processing_time)
    world:publish("wait", "5s")
    world:advance "1s"
    assert.equal(3, stats().num_requests)
    host:reload("s.lua", SLOW .. "\n-- again", true)
    world:request("wait", "1s")
    world:advance "10s"
    local all = stats()
    assert.equal(4, all.num_requests)
    assert.is_true(math.abs(all.processing_time - 15e9) < 30e6, all.processing_time)
  end)

  describe("says of itself, in the data of its statistics,", function()
    local MEASURED = [[
      local s = bus.service { name = "slow", version = "1.0.0", stats = function(endpoint)
        return { of = endpoint.name, subject = endpoint.subject, queue = endpoint.queue, unit = endpoint.metadata.unit }
      end }
      local calls = 0
      s:endpoint("wait", { metadata = { unit = "s" }, queue = "mine" }, function(msg) bus.sleep(msg.data) return "" end)
      s:group("v1", { queue = false }):endpoint("count", { metadata = {}, stats = function()
        calls = calls + 1
        return calls
      end }, print)
      s:endpoint("quiet", { stats = function() %s end }, print)
    ]]

    local function data()
      local list = {}
      for _, endpoint in ipairs(cjson.decode(ask "STATS".data).endpoints) do
        list[endpoint.name] = endpoint.data == nil and "none" or endpoint.data
      end
      return list
    end

    it("nothing, and says why once, where all of it together is larger than a message", function()
      world:host { scripts = { ["s.lua"] = sim.script [[
        local s = bus.service { name = "slow", version = "1.0.0", stats = function() return ("x"):rep(60 * 1024) end }
        for i = 1, 20 do s:endpoint("e" .. i, print) end
      ]] } }
      world:advance "20s"
      local endpoints = cjson.decode(assert(ask "STATS", "no answer").data).endpoints
      assert.equal(20, #endpoints)
      assert.is_nil(endpoints[1].data)
      assert.equal(0, endpoints[20].num_requests)
      ask "STATS"
      local warnings = world:logged "warn"
      assert.equal(1, #warnings)
      assert.matches('service "slow": the data of its statistics is left out', warnings[1].msg)
    end)

    it("what its functions return, which are asked every 5 s", function()
      world:host { settings = { workers = 1 }, scripts = { ["s.lua"] = sim.script(MEASURED:format "") } }
      world:advance "1s"
      local said = data()
      assert.same({ of = "wait", subject = "wait", queue = "mine", unit = "s" }, said.wait)
      assert.equal("none", said.quiet)
      assert.equal(1, said.count)
      world:advance "10s"
      assert.equal(3, data().count)
    end)

    it("and keeps the others' when one fails, whose error is in the log", function()
      world:host { scripts = { ["s.lua"] = sim.script(MEASURED:format 'error "no idea"') } }
      world:advance "1s"
      assert.equal("wait", data().wait.of)
      local errors = world:logged "error"
      assert.matches("no idea", errors[1].msg)
      assert.equal("stats of slow", errors[1].handler)
    end)

    it("and the new version's after a reload", function()
      local host = world:host { scripts = { ["s.lua"] = sim.script(MEASURED:format "return 1") } }
      world:advance "1s"
      assert.equal(1, data().quiet)
      host:reload("s.lua", sim.script(MEASURED:format "return 2"), true)
      world:advance "1s"
      assert.equal(2, data().quiet)
    end)
  end)

  it("says of itself what fits, and that once, where the metadata of its endpoints is larger than a message", function()
    world:host { scripts = { ["s.lua"] = sim.script [[
      local s = bus.service { name = "slow", version = "1.0.0", metadata = { team = "tools" } }
      for i = 1, 20 do s:endpoint("e" .. i, { metadata = { text = ("x"):rep(60 * 1024) } }, print) end
    ]] } }
    world:settle()
    local said = cjson.decode(assert(world:request("$SRV.INFO.slow", ""), "no answer").data)
    assert.equal(20, #said.endpoints)
    assert.same({}, said.endpoints[1].metadata)
    assert.equal("tools", said.metadata.team)
    world:request("$SRV.INFO.slow", "")
    local warnings = world:logged "warn"
    assert.equal(1, #warnings)
    assert.matches('service "slow": the metadata of its endpoints is left out', warnings[1].msg)
  end)

  it("has one id and one start in its process, over reloads, reconnects and its own absence", function()
    local host = world:host { scripts = { ["s.lua"] = SLOW, ["other.lua"] = sim.script [[bus.subscribe("x", print)]] } }
    local before = cjson.decode(ask "STATS".data)
    world:advance "1h"
    host:reload("s.lua", SLOW .. "\n-- again", true)
    world:down "5s"
    world:advance "20s"
    local after = cjson.decode(ask "STATS".data)
    assert.same({ before.id, before.started }, { after.id, after.started })
    host:reload("s.lua", sim.script [[bus.subscribe("nothing", print)]], true)
    assert.equal("503", ask "PING".status)
    host:reload("s.lua", SLOW, true)
    assert.equal(before.id, cjson.decode(ask "PING".data).id)
  end)

  it("is not found any more from the moment of a stop on, while what runs goes on", function()
    local host = world:host { scripts = { ["s.lua"] = SLOW } }
    world:publish("wait", "10s", { reply = "_OUTSIDE.done" })
    world:advance "1s"
    host:stop "30s"
    world:settle()
    world:came()
    for _, subject in ipairs { "$SRV.PING", "$SRV.INFO.slow", "$SRV.STATS" } do
      world:publish(subject, "", { reply = "_OUTSIDE.found" })
    end
    world:advance "20s"
    local answers = {}
    for _, each in ipairs(world:came()) do answers[#answers + 1] = each.status or each.data end
    assert.same({ "503", "503", "503", "10s" }, answers)
  end)

  it("answers each question once, of two services in two hosts, whatever the order", function()
    for seed = 1, 20 do
      local one = sim.new { seed = seed, yields = 200 }
      local scripts = {
        ["a.lua"] = sim.script [[bus.service { name = "a", version = "1.0.0" }:endpoint("x", print)]],
        ["b.lua"] = sim.script [[bus.service { name = "b", version = "1.0.0" }]],
      }
      one:host { scripts = scripts }
      one:host { scripts = scripts }
      one:publish("$SRV.PING", "", { reply = "_OUTSIDE.found" })
      one:advance "1s"
      local names, ids = {}, {}
      for _, each in ipairs(one:came()) do
        local found = cjson.decode(each.data)
        names[#names + 1], ids[found.id] = found.name, true
      end
      table.sort(names)
      assert.equal("a a b b", table.concat(names, " "), "seed " .. seed)
      local count = 0
      for _ in pairs(ids) do count = count + 1 end
      assert.equal(4, count)
      one:close()
    end
  end)
end)
