-- A script's top level that is in a call of C which nothing interrupts, in virtual time: how long it is
-- waited for, and what it costs. With a real thread: spec/functional/load_stuck_spec.lua.
local sim = require "spec.sim.sim"
local temp = require "spec.support.temp"

describe("A top level in a call that nothing interrupts, in virtual time,", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function version(name)
    return sim.script(([[bus.subscribe("version", function() return %q end)]]):format(name))
  end

  -- Its top level takes so long.
  local function slow(ms) return sim.script(("sim.burn(%d) %s"):format(ms, version "slow")) end

  local function serve(settings)
    return world:host { scripts = { ["a.lua"] = version "one" }, settings = settings }
  end

  local function asked() return world:request("version").data end
  local function verdicts() return world:said { kind = "sim" } end

  it("loads when it returns in time", function()
    local host = serve()
    host:reload("a.lua", slow(4900), true)
    assert.same({ "reloaded" }, verdicts())
    assert.equal("slow", asked())
  end)

  it("is refused after 5 s and a moment, while others go on; what is right is loaded meanwhile", function()
    local host = serve()
    host:reload("a.lua", slow(60000), true)
    assert.is_truthy(verdicts()[1]:find("refused: still loading after 5s, in a call that nothing interrupts: its " ..
      "thread is lost until it returns (1 of at most ", 1, true))
    assert.is_true(world:now() > 5000 and world:now() < 8000, world:now() .. " ms")
    assert.equal("one", asked())
    host:reload("a.lua", version "two", true)
    assert.equal("two", asked())
    world:advance "2m" -- it returns, for nobody
    assert.equal("two", asked())
  end)

  it("is not loaded again when limits.max_stuck are left, until one returns", function()
    local host = serve { ["limits.max_stuck"] = 1 }
    host:reload("a.lua", slow(60000), true)
    host:reload("a.lua", version "two", true)
    assert.is_truthy(verdicts()[2]:find("1 load before it is in calls that nothing interrupts (limits.max_stuck)", 1,
      true))
    assert.equal("one", asked())
    world:advance "1m"
    host:reload("a.lua", version "two", true)
    assert.equal("two", asked())
  end)

  it("does not hold up a stop: it ends by its deadline, and leaves the thread behind", function()
    local host = serve()
    host:reload("a.lua", slow(60000), true)
    local began = world:now()
    assert.equal(-1, host:finish "3s")
    assert.is_true(world:now() - began <= 3100, world:now() - began .. " ms")
  end)

  it("does not end the script when it is a further instance's", function()
    local folder = temp.folder()
    temp.write(folder, "first", "")
    world:host { settings = { workers = 2 }, scripts = { ["a.lua"] = sim.script(([[
      if not os.remove(%q) then sim.burn(30000) end
      bus.subscribe("busy", function() sim.burn(500) sim.note "handled" end)
      bus.subscribe("version", function() return "one" end)
    ]]):format(folder .. "/first")) } }
    for _ = 1, 3 do world:publish "busy" end
    world:advance "10s"
    assert.same({ "handled", "handled", "handled" }, world:said())
    local warned = false
    for _, event in ipairs(world:logged "warn") do
      warned = warned or event.msg:find("a further instance did not load; .*: still loading after 5s")
    end
    assert.is_truthy(warned)
    assert.equal("one", asked())
    world:advance "1m"
  end)
end)
