-- The machine of a handler file: what is seen of it, and how work on it ends.
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "app/change.h"
local lib = units.lib

-- A file whose changes are written as a row of words.
local function file(wanted)
  local change = ffi.new "struct change"
  lib.change_init(change, wanted or false)
  local self = { change = change }

  function self.is(_, state, verdict)
    assert.equal(lib["CHANGE_" .. state], change.state)
    if verdict then assert.equal(lib["CHANGE_" .. verdict], change.verdict) end
    return self
  end
  function self.asked(_, options)
    options = options or {}
    self.action = lib.change_asked(change, options.together or false, options.by_itself or false)
    return self
  end
  function self.lost(_, unload)
    self.action = lib.change_lost(change, unload)
    return self
  end
  for _, event in ipairs { "missing", "back", "begin_load", "begin_rollout", "join", "freed", "connected" } do
    self[event] = function()
      lib["change_" .. event](change)
      return self
    end
  end
  for _, event in ipairs { "loaded", "rolled_out" } do
    self[event] = function(_, verdict)
      self.action = lib["change_" .. event](change, lib["CHANGE_" .. verdict])
      return self
    end
  end
  for _, event in ipairs { "put_off", "hold" } do
    self[event] = function()
      self.action = lib["change_" .. event](change)
      return self
    end
  end
  function self.does(_, what)
    for _, name in ipairs { "stop", "discard", "tell" } do
      assert.equal(what == name or (type(what) == "table" and what[name]) or false, self.action[name])
    end
    return self
  end
  return self
end

local function serving()
  local it = file(true):begin_load():loaded "LIVE":begin_rollout():rolled_out "LIVE"
  return it:is("SETTLED", "LIVE")
end

describe("a change of a handler file", function()
  local function is_over(it) return lib.change_is_over(it.change) end
  local function leaves(it) return lib.change_leaves(it.change) end

  it("is over when its file is gone that never loaded", function()
    local it = file(true):begin_load():loaded "REFUSED":missing()
    assert.is_false(is_over(it))
    assert.is_true(is_over(it:lost(true)))
    assert.is_false(is_over(it:back()))
  end)

  it("is over when its script is unloaded, which leaves from the moment that its file is missing", function()
    local it = serving()
    assert.is_false(leaves(it))
    assert.is_true(leaves(it:missing()))
    assert.is_true(leaves(it:lost(true)))
    assert.is_true(leaves(it:begin_rollout()))
    assert.is_false(is_over(it))
    assert.is_true(is_over(it:rolled_out "UNLOADED"))
  end)

  it("goes on serving what is lost by mistake: it neither leaves nor is over", function()
    local it = serving():missing():lost(false)
    assert.is_false(leaves(it) or is_over(it))
  end)

  it("is loaded, rolled out, and reported", function()
    local it = file(true):is("WANTED"):begin_load():is "LOADING"
    it:loaded "LIVE":does(nil):is "LOADED"
    it:begin_rollout():is "ROLLING":rolled_out "LIVE":does "tell":is("SETTLED", "LIVE")
  end)

  it("that does not load is told, and tried at the next change", function()
    serving():asked():begin_load():loaded "REFUSED":does "tell":is("SETTLED", "REFUSED"):asked():is "WANTED"
  end)

  it("stops the load that is under way, which nobody hears of", function()
    local it = serving():asked():begin_load():asked():does "stop":is "LOADING"
    it:loaded "REFUSED":does(nil):is("WANTED", "LIVE")
  end)

  it("that comes while the last one is being rolled out is taken after that", function()
    serving():asked():begin_load():loaded "LIVE":begin_rollout():asked():does(nil):is "ROLLING"
      :rolled_out "LIVE":does "tell":is "WANTED"
  end)

  it("throws away a candidate that has not been rolled out", function()
    serving():asked():begin_load():loaded "LIVE":asked():does "discard":is "WANTED"
  end)

  it("that the server refuses throws its candidate away", function()
    serving():asked():begin_load():loaded "LIVE":begin_rollout():rolled_out "REFUSED"
      :does { discard = true, tell = true }:is("SETTLED", "REFUSED")
  end)

  it("that waits for the server is tried again with those that wait with it", function()
    local it = serving():asked { together = true }:begin_load():loaded "LIVE":begin_rollout():rolled_out "WAITS"
    assert.is_true(it.change.together)
    it:is "SETTLED":freed():is "SETTLED":connected():is "WANTED"
    assert.is_true(it.change.by_itself)
  end)

  it("that wants what is taken is tried again when another script has changed", function()
    serving():asked():begin_load():loaded "LIVE":begin_rollout():rolled_out "TAKEN":is("SETTLED", "TAKEN")
      :connected():is "SETTLED":freed():is "WANTED"
  end)

  it("that is put off keeps its candidate, and has its turn when something is free", function()
    local it = serving():asked():begin_load():loaded "LIVE":begin_rollout():put_off():does(nil):is "LOADED"
    assert.is_true(it.change.last)
    it:freed()
    assert.is_false(it.change.last)
  end)

  it("that is held back is loaded again by the next request", function()
    local it = serving():asked { together = true }:begin_load():loaded "LIVE":hold()
      :does { discard = true, tell = true }:is("SETTLED", "HELD")
    assert.is_false(it.change.together)
    assert.is_true(lib.change_fails(it.change))
  end)
end)

describe("a handler file that goes", function()
  it("is unloaded when it has been gone for a moment", function()
    serving():missing():is "SETTLED":lost(true):is "LEAVING":begin_rollout():rolled_out "UNLOADED":does "tell"
      :is("SETTLED", "UNLOADED")
  end)

  it("is not when it is back in time, and then nothing has happened", function()
    serving():missing():back():is("SETTLED", "LIVE")
  end)

  it("is loaded when it is back later", function()
    serving():missing():lost(true):begin_rollout():rolled_out "UNLOADED":back():is "WANTED"
  end)

  it("is loaded by no change meanwhile", function()
    local it = serving():missing():asked():is "WANTED"
    assert.is_false(lib.change_may_load(it.change))
    it:back()
    assert.is_true(lib.change_may_load(it.change))
  end)

  it("with a change that was not served yet has that begun anew when it is back before it was unloaded", function()
    serving():asked():begin_load():loaded "LIVE":missing():lost(true):does "discard":is "LEAVING":back():is "WANTED"
    serving():asked():begin_load():missing():lost(true):loaded "REFUSED":is "LEAVING":back():is "WANTED"
  end)

  it("and is served on has its change begun anew when it is back", function()
    serving():asked():begin_load():loaded "LIVE":missing():lost(false):does "discard":is "SETTLED":back():is "WANTED"
    serving():asked():missing():lost(false):is "SETTLED":back():is "WANTED"
    serving():asked():begin_load():missing():lost(false):does "stop":loaded "REFUSED":is "SETTLED":back():is "WANTED"
    serving():asked():begin_load():loaded "LIVE":begin_rollout():missing():lost(false):put_off():does "discard"
      :is "SETTLED":back():is "WANTED"
    serving():missing():lost(false):back():is("SETTLED", "LIVE")
  end)

  it("while it is loaded is not refused for that when it is back at once", function()
    serving():asked():begin_load():missing():lost(false):does "stop":back():loaded "REFUSED":does(nil):is "WANTED"
  end)

  it("while it is loaded has that stopped, and is unloaded then", function()
    serving():asked():begin_load():missing():lost(true):does "stop":loaded "REFUSED":does(nil):is "LEAVING"
  end)

  it("is served on where it was named by itself", function()
    serving():missing():lost(false):is("SETTLED", "LIVE"):asked():is "SETTLED"
  end)

  it("with others is held back with them, and is seen to be gone anew", function()
    local it = serving():missing():join():lost(true):is "LEAVING":hold():does "tell":is("SETTLED", "HELD")
    assert.equal(lib.CHANGE_HERE, it.change.presence)
    it:missing():lost(true):is "LEAVING"
  end)
end)
