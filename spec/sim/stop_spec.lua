local sim = require "spec.sim.sim"

describe("A stop, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function serve(body, options)
    return world:host { scripts = { ["j.lua"] = sim.script(([[
      js.stream { name = "JOBS", subjects = { "jobs" } }
      js.consume("JOBS", { durable = "work", dead_letter = false, %s }, function(msg)
        sim.note("began " .. msg.data)
        %s
        sim.note("ended " .. msg.data)
      end)
      bus.on("stop", function() sim.note "stop" end)
    ]]):format(options or "", body)) } }
  end

  it("waits for handlers, and hands back what has not begun", function()
    local host = serve([[bus.sleep "5s"]], "concurrency = 1")
    for i = 1, 3 do world:publish("jobs", tostring(i)) end
    world:advance "1s"
    assert.equal(0, host:finish "30s")
    assert.same({ "began 1", "ended 1", "stop" }, world:said())
    assert.is_true(world:now() < 10000)
    local other = serve [[]]
    world:advance "1s"
    local said = world:said()
    assert.equal(7, #said, table.concat(said, ", ")) -- 2 and 3 at once, though ack_wait is 30 s
    other:finish()
  end)

  it("answers a request that waits for a state behind messages that are handed back", function()
    local host = world:host { settings = { workers = 3 }, scripts = { ["j.lua"] = sim.script [[
      bus.script { workers = 1 }
      js.stream { name = "JOBS", subjects = { "jobs" } }
      js.consume("JOBS", { durable = "work", dead_letter = false }, function() sim.burn(20) end)
      bus.subscribe("ask", function() return "here" end)
    ]] } }
    world:publish "jobs"
    world:advance(5)
    world:publish "jobs"
    world:advance(1)
    world:publish("ask", "", { reply = "_OUTSIDE.1" })
    world:advance(1)
    host:stop "10s"
    world:advance(50)
    local came = world:came()
    assert.equal("here", came[1] and came[1].data)
    host:finish()
  end)

  it("ends by its deadline, whatever runs; what was cancelled comes again at once", function()
    local host = serve [[bus.sleep "1h"]]
    world:publish("jobs", "1")
    world:advance "1s"
    assert.equal(1, host:finish "10s")
    assert.is_true(world:now() <= 11000, world:now())
    serve [[]]
    world:advance "1s"
    assert.same({ "began 1", "stop", "began 1", "ended 1" }, world:said())
  end)

  it("in an outage ends by its deadline, too", function()
    local host = serve [[bus.sleep "5s"]]
    world:publish("jobs", "1")
    world:advance "1s"
    world:cut "1h"
    host:finish "10s"
    assert.is_true(world:now() <= 11000, world:now())
  end)

  it("of a server that is frozen waits for it two seconds; what comes then begins no handler", function()
    local host = world:host { scripts = { ["c.lua"] = sim.script [[
      bus.subscribe("greet", function(msg)
        sim.note("began " .. msg.data)
        bus.sleep "1m"
      end)
      bus.on("stop", function() sim.note "stop" end)
    ]] } }
    world:advance "1s"
    world:freeze "5s"
    world:publish("greet", "late")
    assert.equal(0, host:finish "30s")
    world:advance "10s"
    assert.same({ "stop" }, world:said())
  end)

  it("in the middle of anything leaves nothing behind, no thread and no byte", function()
    local left, counted = {}, 0
    for seed = 1, 30 do
      world:close()
      world = sim.new { seed = seed }
      local host = serve [[
        local future = bus.spawn(function() bus.sleep "700ms" end)
        js.publish_async("jobs.nowhere", "x")
        future:wait()
        bus.request("nobody", "")
      ]]
      for i = 1, 20 do world:publish("jobs", tostring(i)) end
      world:advance(world:random(3000))
      host:finish(1000 + world:random(5000))
      left[seed] = world:close()
      if left[seed] ~= 0 then counted = counted + 1 end
    end
    assert.is_true(counted <= 5, table.concat(left, " ")) -- what is made once is made at first
  end)
end)
