local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/retry.h"
local lib = units.lib

local MS, S = 1e6, 1e9

local function backoff(options)
  return ffi.new("struct backoff", {
    min_ns = options.min or 1 * S,
    max_ns = options.max or 60 * S,
    factor = options.factor or 2,
    jitter = options.jitter or 0,
  })
end

local function delay(options, attempt, random01)
  return tonumber(lib.backoff_delay_ns(backoff(options), attempt, random01 or 0.5))
end

describe("the backoff", function()
  it("waits the minimum after the first failure", function()
    assert.equal(1 * S, delay({}, 1))
  end)

  it("grows by its factor with each failure", function()
    assert.equal(2 * S, delay({}, 2))
    assert.equal(4 * S, delay({}, 3))
    assert.equal(8 * S, delay({}, 4))
    assert.equal(900 * MS, delay({ min = 100 * MS, factor = 3 }, 3))
  end)

  it("never exceeds its maximum, however many failures there were", function()
    assert.equal(60 * S, delay({}, 7))
    assert.equal(60 * S, delay({}, 1000))
    assert.equal(60 * S, delay({}, 0xffffffffffffffffULL))
  end)

  it("keeps to the maximum even when the minimum is larger", function()
    assert.equal(2 * S, delay({ min = 5 * S, max = 2 * S }, 1))
  end)

  it("stays where it is with a factor of 1, at once for any attempt", function()
    assert.equal(1 * S, delay({ factor = 1 }, 0xffffffffffffffffULL))
  end)

  it("moves by at most its jitter, either way", function()
    assert.equal(800 * MS, delay({ jitter = 0.2 }, 1, 0))
    assert.equal(1 * S, delay({ jitter = 0.2 }, 1, 0.5))
    local most = delay({ jitter = 0.2 }, 1, 0.999999)
    assert.is_true(most > 1.19 * S and most <= 1.2 * S)
  end)

  it("is never negative and never above max * (1 + jitter)", function()
    for attempt = 0, 70 do
      for _, random01 in ipairs { 0, 0.25, 0.75, 0.9999999 } do
        local ns = delay({ jitter = 1 }, attempt, random01)
        assert.is_true(ns >= 0 and ns <= 120 * S)
      end
    end
  end)

  it("is zero when it is zero", function()
    assert.equal(0, delay({ min = 0, max = 0 }, 5))
    assert.equal(0, delay({ min = 0 }, 0xffffffffffffffffULL))
  end)

  it("counts an attempt 0 as the first", function()
    assert.equal(1 * S, delay({}, 0))
  end)
end)

describe("the random numbers for it", function()
  it("are in [0, 1), differ, and fill it evenly", function()
    local sum, seen, distinct = 0, {}, 0
    for _ = 1, 10000 do
      local r = lib.retry_random()
      assert.is_true(r >= 0 and r < 1)
      sum = sum + r
      if not seen[r] then
        seen[r] = true
        distinct = distinct + 1
      end
    end
    assert.is_true(distinct > 9990)
    assert.is_true(sum > 4700 and sum < 5300)
  end)
end)
