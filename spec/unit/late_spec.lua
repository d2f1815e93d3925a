package.preload["moonbus.whole"] = assert(loadfile "lua/moonbus/whole.lua")
local late = require "lua.moonbus.late"

describe("A module that is loaded late", function()
  local NAME = "spec.late.module"
  local loads, fails

  before_each(function()
    loads, fails = 0, 0
    package.loaded[NAME] = nil
    package.preload[NAME] = function()
      loads = loads + 1
      if loads <= fails then error({ code = "memory" }) end
      return { answer = 42, ask = function(text) return "asked " .. text end }
    end
  end)
  after_each(function() package.preload[NAME], package.loaded[NAME] = nil, nil end)

  it("is loaded when something of it is used first, and once", function()
    local module = late(NAME)
    assert.equal(0, loads)
    assert.equal("asked it", module.ask "it")
    assert.equal(42, module.answer)
    assert.is_nil(module.nothing)
    assert.equal(1, loads)
    assert.equal(42, late(NAME).answer)
    assert.equal(1, loads)
  end)

  it("is loaded anew when what wanted it first was ended meanwhile, whose error is as it was", function()
    local module = late(NAME)
    fails = 1
    local ok, err = pcall(function() return module.answer end)
    assert.same({ false, { code = "memory" } }, { ok, err })
    assert.equal(42, module.answer)
    assert.equal(2, loads)
  end)

  it("is loaded anew also when what it requires was half loaded", function()
    local INNER = "spec.late.inner"
    finally(function() package.preload[INNER], package.loaded[INNER] = nil, nil end)
    package.preload[INNER] = package.preload[NAME]
    package.preload[NAME] = function() return { answer = require(INNER).answer } end
    local module = late(NAME)
    fails = 1
    assert.is_false(pcall(function() return module.answer end))
    assert.equal(42, module.answer)
  end)

  -- As the hook of the host's guard does, until the run has ended.
  it("is loaded anew when what wanted it first was ended so that no pcall outlives it", function()
    local here, whole, ended = debug.getinfo(1, "S").source, package.preload[NAME], false
    package.preload[NAME] = function()
      debug.sethook(function()
        if ended and debug.getinfo(2, "S").source == here then return debug.sethook() end
        ended = true
        error("ended", 0)
      end, "", 1)
      error("not ended", 0)
    end
    local module = late(NAME)
    assert.is_false(pcall(function() return module.answer end))
    package.preload[NAME] = whole
    assert.equal(42, module.answer)
  end)
end)
