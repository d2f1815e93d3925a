local sim = require "spec.sim.sim"

describe("bus.shared, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  it("frees what has expired by itself", function()
    local host = world:host { scripts = { ["s.lua"] = sim.script [[
      local s = bus.shared("spec", { size = "8MB" })
      bus.subscribe("fill", function()
        for i = 1, 1000 do s:set("k" .. i, ("x"):rep(100), { ttl = "200ms" }) end
        s:set("later", 1, { ttl = "1m" })
        s:set("stays", 1)
      end)
    ]] } }
    world:publish "fill"
    world:advance "100ms"
    assert.equal(1002, host:status().shared[1].entries)
    assert.is_true(host:status().shared[1].bytes > 100000)
    world:advance "15s"
    assert.equal(2, host:status().shared[1].entries)
    assert.is_true(host:status().shared[1].bytes < 800)
    world:advance "1m"
    assert.equal(1, host:status().shared[1].entries)
  end)

  it("gives to nobody what has expired, however long it stays", function()
    world:host { scripts = { ["s.lua"] = sim.script [[
      local s = bus.shared "spec"
      bus.subscribe("put", function() s:set("k", 1, { ttl = "200ms" }) end)
      bus.subscribe("get", function() return tostring(s:get "k") end)
    ]] } }
    world:publish "put"
    assert.equal("1", world:request("get").data)
    world:advance "190ms"
    assert.equal("1", world:request("get").data)
    world:advance "10ms"
    assert.equal("nil", world:request("get").data)
  end)
end)
