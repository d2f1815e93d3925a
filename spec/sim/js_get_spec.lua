local sim = require "spec.sim.sim"

describe("js.get, in virtual time", function()
  local world

  before_each(function()
    world = sim.new()
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in" } })
    world:publish("in", "stored")
    world:settle()
  end)
  after_each(function() world:close() end)

  local function serve(options)
    return world:host { scripts = { ["a.lua"] = sim.script(([[
      bus.subscribe("ask", { timeout = "%s" }, function()
        local message, err = js.get("IN", { sequence = 1 }%s)
        sim.note(message and message.data or err.code)
      end)]]):format(options.within or "1m", options.opts or "")) } }
  end

  it("is asked again when the connection is lost before the answer is there", function()
    serve {}
    world:lose_answers(1)
    world:publish "ask"
    world:advance "1s"
    assert.same({}, world:said())
    world:cut "100ms"
    world:advance "2s"
    assert.same({ "stored" }, world:said())
  end)

  it("ends at its timeout", function()
    serve { opts = ', { timeout = "3s" }' }
    world:lose_answers(1)
    world:publish "ask"
    world:advance "2900ms"
    assert.same({}, world:said())
    world:advance "200ms"
    assert.same({ "timeout" }, world:said())
  end)

  it("is cancelled with its handler", function()
    serve { within = "1s" }
    world:lose_answers(1)
    world:publish "ask"
    world:advance "10s"
    assert.same({}, world:said())
    assert.equal("timeout", world:logged("warn")[1].code)
  end)

  it("goes on in its version while a reload comes", function()
    local host = serve {}
    world:freeze "1s"
    world:publish "ask"
    world:advance "1500ms"
    host:reload("a.lua", sim.script [[bus.subscribe("ask", function() sim.note "new" end)]], true)
    world:advance "1s"
    world:publish "ask"
    world:advance "1s"
    assert.same({ "stored", "new" }, world:said())
  end)

  it("is not for a script that loads", function()
    assert.has_error(function()
      world:host { scripts = { ["a.lua"] = sim.script [[js.get("IN", { sequence = 1 })]] } }
    end)
  end)
end)
