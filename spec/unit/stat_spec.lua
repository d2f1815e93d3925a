local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/stat.h"
local lib = units.lib

local MS = 1000000

local function histogram_of(durations_ns)
  local histogram = ffi.new "struct stat_histogram"
  for _, ns in ipairs(durations_ns) do lib.stat_observe(histogram, ns) end
  return histogram
end

local function sum_of(...)
  local sum = ffi.new "struct stat_sum"
  for _, histogram in ipairs { ... } do lib.stat_sum_histogram(sum, histogram) end
  return sum
end

-- Which buckets have something: their numbers, from 1, and how much.
local function filled(sum)
  local list = {}
  for i = 0, lib.STAT_BUCKETS - 1 do
    if sum.buckets[i] > 0 then list[i + 1] = tonumber(sum.buckets[i]) end
  end
  return list
end

local function quantile_ms(sum, share)
  return tonumber(lib.stat_quantile_ns(sum, share)) / MS
end

describe("a histogram", function()
  it("has bounds that rise, from a tenth of a millisecond to five minutes", function()
    assert.equal(0.1 * MS, tonumber(lib.stat_bounds_ns[0]))
    assert.equal(300e9, tonumber(lib.stat_bounds_ns[lib.STAT_BOUNDS - 1]))
    for i = 1, lib.STAT_BOUNDS - 1 do
      assert.is_true(lib.stat_bounds_ns[i] > lib.stat_bounds_ns[i - 1])
    end
  end)

  it("counts a duration that is a bound in the bucket below it, as Prometheus does", function()
    assert.same({ [3] = 1 }, filled(sum_of(histogram_of { 1 * MS })))
    assert.same({ [4] = 1 }, filled(sum_of(histogram_of { 1 * MS + 1 })))
  end)

  it("counts what takes no time at all in the first, and what takes for ever in the last", function()
    local sum = sum_of(histogram_of { 0, 301e9, 1e15 })
    assert.same({ [1] = 1, [tonumber(lib.STAT_BUCKETS)] = 2 }, filled(sum))
    assert.equal(3, tonumber(lib.stat_count(sum)))
  end)

  it("adds the durations up", function()
    assert.equal(35 * MS, tonumber(sum_of(histogram_of { 5 * MS, 10 * MS, 20 * MS }).sum_ns))
  end)

  it("is read into a sum, with others", function()
    local sum = sum_of(histogram_of { 2 * MS }, histogram_of { 2 * MS, 40 * MS })
    assert.same({ [4] = 2, [8] = 1 }, filled(sum))
    local twice = ffi.new "struct stat_sum"
    lib.stat_sum_sum(twice, sum)
    lib.stat_sum_sum(twice, sum)
    assert.same({ [4] = 4, [8] = 2 }, filled(twice))
    assert.equal(88 * MS, tonumber(twice.sum_ns))
  end)
end)

describe("a quantile", function()
  it("is 0 while there is nothing", function()
    assert.equal(0, quantile_ms(ffi.new "struct stat_sum", 0.99))
  end)

  it("lies within the bucket of the duration that it is", function()
    local durations = {}
    for i = 1, 100 do durations[i] = i * MS end
    local sum = sum_of(histogram_of(durations))
    assert.equal(50, quantile_ms(sum, 0.5))
    assert.equal(100, quantile_ms(sum, 1))
    assert.equal(99, quantile_ms(sum, 0.99))
  end)

  it("is the last bound for what lies beyond", function()
    assert.equal(300000, quantile_ms(sum_of(histogram_of { 1e15 }), 0.5))
  end)
end)
