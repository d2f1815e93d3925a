local sim = require "spec.sim.sim"

describe("A reload, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function version(name, body)
    return sim.script(([[
      js.stream { name = "JOBS", subjects = { "jobs" } }
      js.consume("JOBS", { durable = "work", dead_letter = false, concurrency = 2 }, function(msg)
        sim.note("%s began " .. msg.data)
        %s
        sim.note("%s ended " .. msg.data)
      end)
      bus.subscribe("who", function() return "%s" end)
      bus.on("stop", function() sim.note "%s stopped" end)
    ]]):format(name, body or [[bus.sleep "10s"]], name, name, name))
  end

  it("lets what runs end on the old version, and gives what waits to the new one", function()
    local host = world:host { scripts = { ["j.lua"] = version "old" } }
    for i = 1, 4 do world:publish("jobs", tostring(i)) end
    world:advance "1s"
    host:reload("j.lua", version "new", true)
    assert.equal("new", world:request("who").data)
    world:advance "1m"
    assert.same({
      "old began 1", "old began 2", "old ended 1", "old ended 2", "old stopped",
      "new began 3", "new began 4", "new ended 3", "new ended 4",
    }, (function(list)
      table.sort(list, function(a, b)
        local order = { ["old began"] = 1, ["old ended"] = 2, ["old stopped"] = 3, ["new began"] = 4,
          ["new ended"] = 5 }
        local x, y = order[a:match "^%a+ %a+"], order[b:match "^%a+ %a+"]
        if x ~= y then return x < y end
        return a < b
      end)
      return list
    end)(world:said()))
    assert.equal(0, world:consumer("JOBS", "work").num_redelivered)
  end)

  it("that fails leaves everything as it was", function()
    local host = world:host { scripts = { ["j.lua"] = version "old" } }
    host:reload("j.lua", "this is no Lua", true)
    assert.is_truthy(world:said({ kind = "sim" })[1]:find "^refused: ")
    assert.equal("old", world:request("who").data)
  end)

  it("loses and doubles nothing, whatever it meets", function()
    for seed = 1, 20 do
      world:close()
      world = sim.new { seed = seed }
      local host = world:host { scripts = { ["j.lua"] = version("v0", [[bus.sleep "700ms"]]) } }
      for i = 1, 30 do world:publish("jobs", tostring(i)) end
      for n = 1, 4 do
        world:advance(world:random(2500))
        host:reload("j.lua", version("v" .. n, [[bus.sleep "700ms"]]), true)
      end
      world:advance "1m"
      local ended = {}
      for _, text in ipairs(world:said()) do
        local data = text:match "ended (%d+)"
        if data then
          assert.is_nil(ended[data], ("seed %d: %s ended twice"):format(seed, data))
          ended[data] = true
        end
      end
      for i = 1, 30 do assert.is_true(ended[tostring(i)], ("seed %d: %d is lost"):format(seed, i)) end
    end
  end)

  it("rebinds what runs on a version that is too old", function()
    local host = world:host {
      settings = { ["limits.generations"] = 2 },
      scripts = { ["j.lua"] = version("v1", [[bus.sleep "4m"]]) },
    }
    world:publish("jobs", "1")
    world:advance "1s"
    host:reload("j.lua", version("v2", [[bus.sleep "4m"]]), true)
    world:publish("jobs", "2") -- a version of which nothing runs has ended, and does not count
    world:advance "1s"
    host:reload("j.lua", version("v3", [[bus.sleep "1s"]]), true)
    world:advance "10s"
    local said = table.concat(world:said(), ", ")
    assert.is_truthy(said:find("v1 began 1.*v3 began 1.*v3 ended 1"), said)
    assert.is_nil(said:find "v2 ended")
    assert.is_nil(said:find "v1 ended")
    assert.equal(0, world:consumer("JOBS", "work").num_redelivered)
  end)
end)
