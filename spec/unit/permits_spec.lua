local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/clock.h"
units.include "engine/permits.h"
units.include "engine/limiters.h"
units.include "spec/support/storm.h"
local lib = units.lib

-- In virtual time, with handlers: spec/sim/permits_spec.lua.
describe("Locks and limiters, taken by many threads", function()
  local clock

  before_each(function() clock = lib.clock_new(nil) end)
  after_each(function() lib.clock_free(clock) end)

  local function storm(places, ttl_ns)
    local permits = lib.permits_new(clock)
    local result = lib.storm_permits(permits, 8, 300, places, ttl_ns)
    assert.equal(0, result.unanswered)
    assert.is_true(result.taken > 0 and result.timeouts >= 0)
    lib.clock_stop(clock)
    lib.permits_free(permits)
    return result
  end

  it("let in one at a time, and answer each wait", function()
    assert.equal(1, storm(1, 0).most)
  end)

  it("let in as many as there are places", function()
    local most = storm(3, 0).most
    assert.is_true(most >= 1 and most <= 3, most)
  end)

  it("answer each wait also where holders lose their place", function()
    storm(1, 1000000)
  end)

  it("give no more tokens than there are", function()
    local limiters = lib.limiters_new(clock)
    local unanswered = ffi.new "int[1]"
    local began = lib.clock_now_ns()
    local taken = lib.storm_limiter(limiters, 5000, 50, 8, 150, unanswered)
    local seconds = tonumber(lib.clock_now_ns() - began) / 1e9
    assert.equal(0, unanswered[0])
    assert.is_true(taken > 50 and taken <= 50 + seconds * 5000 + 1, taken)
    lib.clock_stop(clock)
    lib.limiters_free(limiters)
  end)
end)
