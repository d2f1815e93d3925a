local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/consume/beats.h"
local lib = units.lib

local MS, S = 1000000ULL, 1000000000ULL
local NEVER = 0xffffffffffffffffULL

-- The same numbers in every run.
local function random_numbers(seed)
  local state = seed
  return function(limit)
    state = (state * 16807) % 2147483647
    return state % limit
  end
end

describe("The heartbeats of a consumer's leases", function()
  local beats, held

  -- Each test's timers live as long as the test: the list does not own them.
  before_each(function()
    beats, held = ffi.new "struct beats", {}
    assert.is_true(lib.beats_init(beats, 1000 * S))
  end)
  after_each(function() lib.beats_clear(beats) end)

  local function timer()
    held[#held + 1] = ffi.new "struct beat"
    return held[#held]
  end

  local function put(beat, ack_wait, now, chance, renewed)
    return lib.beats_put(beats, beat, ack_wait, renewed or now, chance or 0, now)
  end

  local function next_ns() return lib.beats_next_ns(beats) end

  -- As whoever has the list does: looks when it says, until one is due.
  local function take(limit)
    while next_ns() <= limit do
      local now = next_ns()
      local beat = lib.beats_take(beats, now)
      if beat ~= nil then return beat, now end
    end
  end

  it("are none at first, with nothing to wait for", function()
    assert.is_true(lib.beats_empty(beats))
    assert.equal(NEVER, next_ns())
    assert.is_true(lib.beats_take(beats, 2000 * S) == nil)
  end)

  it("are due after a third of ack_wait, less up to a tenth of that by chance", function()
    assert.equal(1002 * S, put(timer(), 6 * S, 1000 * S))
    local early = put(timer(), 6 * S, 1000 * S, 0.999999)
    assert.is_true(early >= 1001 * S + 700 * MS and early <= 1001 * S + 800 * MS)
  end)

  for ack_wait, step in pairs { [6] = 62500000ULL, [30] = 250 * MS, [3600] = 250 * MS } do
    it(("are due at multiples of a step: with an ack_wait of %d s"):format(ack_wait), function()
      local random = random_numbers(ack_wait)
      for _ = 1, 200 do
        local now = 1000 * S + random(1000000) * 1000ULL
        assert.equal(0ULL, put(timer(), ack_wait * S, now, random(1000) / 1000) % step)
      end
    end)
  end

  it("are due at the end of the lease, if that comes first", function()
    assert.equal(1001 * S, put(timer(), 6 * S, 1000 * S, 0, 995 * S))
  end)

  it("come in their order, none early and none late, whatever is put, moved and removed meanwhile", function()
    local random = random_numbers(7)
    local now, due, taken = 1000 * S, {}, 0
    for _ = 1, 3000 do
      local what = random(10)
      if what < 5 then
        local beat = timer()
        due[beat] = put(beat, (1 + random(100)) * S, now, random(1000) / 1000)
      elseif what < 7 then
        local beat = held[1 + random(#held + 1)]
        if beat and due[beat] then
          if random(2) == 0 then
            lib.beats_remove(beats, beat)
            due[beat] = nil
          else
            due[beat] = put(beat, (1 + random(100)) * S, now, random(1000) / 1000)
          end
        end
      else
        local limit = now + random(3000) * MS
        while true do
          local beat, at = take(limit)
          if not beat then break end
          for _, mine in ipairs(held) do
            if mine == beat then beat = mine end
          end
          assert.is_true(at >= due[beat] and at < due[beat] + MS)
          for _, other in pairs(due) do assert.is_true(other + MS > due[beat]) end
          due[beat], taken = nil, taken + 1
        end
        now = limit
      end
    end
    assert.is_true(taken > 100)
    for beat in pairs(due) do lib.beats_remove(beats, beat) end
    assert.is_true(lib.beats_empty(beats))
  end)

  it("are due now when ack_wait has become shorter, but not those of lost leases", function()
    local beat, lost = timer(), timer()
    put(beat, 3600 * S, 1000 * S)
    assert.is_true(lib.beats_put_now(beats, beat, 1005 * S))
    assert.is_false(lib.beats_put_now(beats, lost, 1005 * S))
    local taken, at = take(1010 * S)
    assert.is_true(taken == beat)
    assert.equal(1005 * S, at)
    assert.equal(1007 * S, put(beat, 6 * S, 1005 * S))
  end)

  describe("of young leases", function()
    local function begin(ack_wait, now)
      local beat = timer()
      return beat, lib.beats_begin(beats, beat, ack_wait, now)
    end

    it("wait in the order in which they came, for three quarters of the time", function()
      local first, ripe = begin(6 * S, 1000 * S)
      local second = begin(6 * S, 1001 * S)
      assert.equal(1001 * S + 500 * MS, ripe)
      assert.equal(ripe, next_ns())
      assert.is_true(lib.beats_ripe(beats, ripe - 1) == nil)
      assert.is_true(lib.beats_ripe(beats, ripe) == first)
      assert.is_true(lib.beats_ripe(beats, ripe) == nil)
      assert.equal(1002 * S + 500 * MS, next_ns())
      assert.is_true(lib.beats_ripe(beats, 1003 * S) == second)
      assert.is_true(lib.beats_empty(beats))
    end)

    it("are never late: no chance has one due before it is put", function()
      for ack_wait = 1, 120 do
        local beat, ripe = begin(ack_wait * S, 1000 * S)
        assert.is_true(put(beat, ack_wait * S, 1000 * S, 0.9999999) >= ripe)
        lib.beats_remove(beats, beat)
      end
    end)

    it("are forgotten with them, and due now when ack_wait has become shorter", function()
      local one, other, third = begin(6 * S, 1000 * S), begin(6 * S, 1000 * S), begin(6 * S, 1000 * S)
      lib.beats_remove(beats, other)
      assert.is_true(lib.beats_put_now(beats, one, 1000 * S + 5 * MS))
      assert.is_true(take(1000 * S + 5 * MS) == one)
      lib.beats_remove(beats, third)
      assert.is_true(lib.beats_empty(beats))
      assert.equal(NEVER, next_ns())
    end)
  end)

  it("of 10,000 messages that came together are due in few steps", function()
    local random = random_numbers(3)
    for _ = 1, 10000 do put(timer(), 6 * S, 1000 * S, random(100000) / 100000) end
    local times, count = {}, 0
    while true do
      local beat, at = take(1003 * S)
      if not beat then break end
      count = count + 1
      times[tostring(at)] = true
    end
    local steps = 0
    for _ in pairs(times) do steps = steps + 1 end
    assert.equal(10000, count)
    assert.is_true(steps <= 5, steps)
  end)
end)
