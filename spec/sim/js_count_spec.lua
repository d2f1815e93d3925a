local sim = require "spec.sim.sim"

describe("js.count, in virtual time", function()
  local world

  before_each(function()
    world = sim.new()
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in" } })
    world:api("STREAM.CREATE.HITS", { name = "HITS", subjects = { "hits.>" }, allow_msg_counter = true })
  end)
  after_each(function() world:close() end)

  local function consume(body)
    return world:host { scripts = { ["a.lua"] = sim.script(([[
      js.consume("IN", { durable = "worker", timeout = "30s", backoff = { min = "1s" } }, function(msg)
        %s
      end)]]):format(body)) } }
  end

  local COUNT = [[
    local sum, err = js.count("hits.a", 2)
    sim.note(tostring(sum or err.code .. err.message))
    if not sum then return nil, err end]]

  it("counts once, and gives the sum, when the answer is lost", function()
    consume(COUNT)
    world:lose_answers(1)
    world:publish "in"
    world:advance "20s"
    assert.same({ "2" }, world:said())
    world:publish "in"
    world:advance "1s"
    assert.same({ "2", "4" }, world:said())
  end)

  it("counts once for each input, however often that is delivered", function()
    consume(COUNT .. [[ if msg.attempt < 3 then error "again" end]])
    world:publish "in"
    world:advance "20s"
    assert.same({ "2", "2", "2" }, world:said())
  end)

  it("is cancelled with its handler", function()
    world:host { scripts = { ["a.lua"] = sim.script [[
      bus.subscribe("ask", { timeout = "1s" }, function() js.count("hits.a", 1) end)]] } }
    world:lose_answers(20)
    world:publish "ask"
    world:advance "10s"
    assert.equal("timeout", world:logged("warn")[1].code)
  end)

  it("goes on in its version while a reload comes", function()
    local host = consume(COUNT)
    world:lose_answers(1)
    world:publish "in"
    world:advance "1s"
    host:reload("a.lua", sim.script [[
      js.consume("IN", { durable = "worker" }, function() sim.note "new" end)]], true)
    world:advance "10s"
    world:publish "in"
    world:advance "1s"
    assert.same({ "2", "new" }, world:said())
  end)

  it("in a batch wants to know which message it comes from", function()
    world:host { scripts = { ["a.lua"] = sim.script [[
      js.consume("IN", { durable = "worker", batch = { size = 2, wait = "10ms" } }, function(messages)
        sim.note((select(2, pcall(js.count, "hits.a", 1))))
        for _, msg in ipairs(messages) do js.count("hits.a", 1, { from = msg }) end
        sim.note(tostring(js.counter "hits.a"))
      end)]] } }
    world:publish "in"
    world:publish "in"
    world:advance "1s"
    assert.matches("js.count: in a batch, say from = msg", world:said()[1], 1, true)
    assert.equal("2", world:said()[2])
  end)
end)
