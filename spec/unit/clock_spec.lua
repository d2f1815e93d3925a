local ffi = require "ffi"
local units = require "spec.support.units"
local wait = require "spec.support.wait"

units.include "base/clock.h"
units.include "spec/support/probe.h"
local lib = units.lib

local MS = 1000000ULL

describe("The clock", function()
  local clock, probes

  before_each(function()
    clock = lib.clock_new(nil)
    probes = {}
  end)
  after_each(function()
    lib.clock_free(clock)
    for _, probe in ipairs(probes) do lib.probe_free(probe) end
  end)

  local function new_probe(again_ns)
    local probe = lib.probe_new(clock, again_ns or 0)
    probes[#probes + 1] = probe
    return probe
  end

  local function arm(probe, at_ns)
    return lib.clock_arm(clock, lib.probe_deadline(probe), at_ns)
  end

  local function cancel(probe)
    return lib.clock_cancel(clock, lib.probe_deadline(probe))
  end

  local function fired(probe)
    return function() return lib.probe_count(probe) > 0 end
  end

  it("fires a deadline once, and never early", function()
    for _, delay in ipairs { 0, 1, 999999, 1000000, 1000001, 7500000, 30000000 } do
      local probe = new_probe()
      local at = lib.clock_now_ns() + delay
      assert.is_true(arm(probe, at))
      wait.eventually(fired(probe))
      assert.is_true(lib.probe_fired_ns(probe) >= at)
      assert.equal(1, lib.probe_count(probe))
      assert.is_false(cancel(probe))
    end
  end)

  it("fires what is past at once", function()
    local probe = new_probe()
    arm(probe, 0)
    wait.eventually(fired(probe))
  end)

  it("wakes up for a deadline that is sooner than the one it sleeps for", function()
    local late, soon = new_probe(), new_probe()
    arm(late, lib.clock_now_ns() + 3600000ULL * MS)
    arm(soon, lib.clock_now_ns() + 5 * MS)
    wait.eventually(fired(soon))
    assert.equal(0, lib.probe_count(late))
    assert.is_true(cancel(late))
  end)

  it("does not fire what was cancelled, and says whose the reference is", function()
    local probe, marker = new_probe(), new_probe()
    assert.is_false(cancel(probe))
    arm(probe, lib.clock_now_ns() + 20 * MS)
    assert.is_true(cancel(probe))
    assert.is_false(cancel(probe))
    arm(marker, lib.clock_now_ns() + 40 * MS)
    wait.eventually(fired(marker))
    assert.equal(0, lib.probe_count(probe))
  end)

  it("moves a deadline that is armed, and says that it was", function()
    local probe = new_probe()
    assert.is_true(arm(probe, lib.clock_now_ns() + 3600000ULL * MS))
    assert.is_false(arm(probe, lib.clock_now_ns() + 5 * MS))
    wait.eventually(fired(probe))
    assert.is_true(arm(probe, lib.clock_now_ns() + 5 * MS))
    wait.eventually(function() return lib.probe_count(probe) == 2 end)
  end)

  it("lets a deadline arm itself again from its own callback", function()
    local probe = new_probe(MS)
    arm(probe, 0)
    wait.eventually(function() return lib.probe_count(probe) >= 10 end)
    wait.eventually(function() return cancel(probe) end)
  end)

  it("runs callbacks on a thread named for it, with signals blocked", function()
    local probe = new_probe()
    arm(probe, 0)
    wait.eventually(fired(probe))
    assert.equal("clock", ffi.string(lib.probe_thread(probe)))
    assert.is_true(lib.probe_signals_blocked(probe))
  end)

  it("carries thousands of deadlines, each once", function()
    local now = lib.clock_now_ns()
    for i = 1, 5000 do
      arm(new_probe(), now + (i * 7919 % 100) * MS)
    end
    wait.eventually(function()
      for _, probe in ipairs(probes) do
        if lib.probe_count(probe) == 0 then return false end
      end
      return true
    end)
    for _, probe in ipairs(probes) do
      assert.equal(1, lib.probe_count(probe))
    end
  end)

  it("costs nothing while it waits", function()
    local probe = new_probe()
    local before = os.clock()
    arm(probe, lib.clock_now_ns() + 200 * MS)
    wait.eventually(fired(probe))
    assert.is_true(os.clock() - before < 0.1, "it spins")
  end)

  it("ends with deadlines armed, without firing them", function()
    local probe = new_probe()
    arm(probe, lib.clock_now_ns() + 3600000ULL * MS)
    lib.clock_free(clock)
    assert.equal(0, lib.probe_count(probe))
    clock = lib.clock_new(nil)
  end)

  it("tells the time of the wall in nanoseconds since 1970", function()
    assert.is_true(math.abs(tonumber(lib.clock_wall_ns()) / 1e9 - os.time()) < 2)
  end)
end)
