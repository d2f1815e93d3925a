local sim = require "spec.sim.sim"

describe("A request, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function serve(ask, answer)
    return world:host { scripts = {
      ["ask.lua"] = sim.script(([[bus.subscribe("ask", { timeout = "5m" }, function(msg) %s end)]])
        :format(ask)),
      ["answer.lua"] = sim.script(([[bus.subscribe("answer", function(msg) %s end)]]):format(answer)),
    } }
  end

  local ASK = [[
    local reply, err = bus.request("answer", msg.data, { timeout = "1s" })
    return reply and reply.data or err.code
  ]]

  it("gets its reply", function()
    serve(ASK, [[bus.sleep "900ms"; return "yes " .. msg.data]])
    assert.equal("yes 1", world:request("ask", "1").data)
  end)

  it("ends at its timeout, to the millisecond", function()
    serve(ASK, [[bus.sleep "2s"; return "late"]])
    local began = world:now()
    assert.equal("timeout", world:request("ask", "1").data)
    assert.is_true(math.abs(world:now() - began - 1000) <= 3, world:now() - began)
  end)

  it("whose reply comes in the moment of its timeout ends with one of them, once", function()
    local ends = {}
    for seed = 1, 60 do
      local one = sim.new { seed = seed, yields = 300 }
      one:host { scripts = { ["a.lua"] = sim.script [[
        bus.subscribe("ask", { timeout = "5m" }, function()
          local reply, err = bus.request("answer", "", { timeout = "1s" })
          sim.note(reply and "reply" or err.code)
        end)
        bus.subscribe("answer", function(msg) sim.note(msg.reply) end)
      ]] } }
      one:publish "ask"
      one:advance "1ms" -- a writer may let a burst gather
      one:publish(one:said()[1], "yes", { after = "999ms" })
      one:advance "1m"
      local said = one:said()
      assert.equal(2, #said, "seed " .. seed)
      ends[said[2]] = (ends[said[2]] or 0) + 1
      one:close()
    end
    assert.is_truthy(ends.reply and ends.timeout, "both happen, by the seed")
    assert.equal(60, ends.reply + ends.timeout)
  end)

  it("to nobody fails at once", function()
    serve([[local _, err = bus.request("nobody", ""); return err.code]], "")
    assert.equal("no_responders", world:request("ask", "1").data)
    assert.is_true(world:now() < 1000)
  end)

  it("gets its own reply among many", function()
    world:host { scripts = { ["a.lua"] = sim.script [[
      bus.subscribe("ask", { timeout = "5m" }, function()
        local asked = {}
        for i = 1, 200 do
          asked[i] = function() return bus.request("answer", tostring(i)).data end
        end
        local got = bus.gather(asked)
        return "done"
      end)
      bus.subscribe("answer", function(msg)
        bus.sleep(tonumber(msg.data) % 7 / 10)
        sim.note(msg.data)
        return msg.data
      end)
    ]] } }
    assert.equal("done", world:request("ask", "").data)
    assert.equal(200, #world:said())
  end)
end)
