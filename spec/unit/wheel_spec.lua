local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/wheel.h"
local lib = units.lib

local NEVER = 0xffffffffffffffffULL

-- The same numbers in every run.
local function random_numbers(seed)
  local state = seed
  return function(limit)
    state = (state * 16807) % 2147483647
    return state % limit
  end
end

describe("The timer wheel", function()
  local wheel

  -- Each test's timers live as long as the test: the wheel does not own them.
  local timers

  before_each(function()
    wheel = ffi.gc(lib.wheel_new(1000), lib.wheel_free)
    timers = {}
  end)

  local function arm(due)
    local timer = ffi.new "struct wheel_timer"
    timers[#timers + 1] = timer
    lib.wheel_add(wheel, timer, due)
    return timer
  end

  local function take_all()
    local taken = {}
    while true do
      local timer = lib.wheel_take(wheel)
      if timer == nil then return taken end
      assert.is_false(lib.wheel_armed(timer))
      taken[#taken + 1] = tonumber(timer.due)
    end
  end

  local function advance(now)
    lib.wheel_advance(wheel, now)
    return take_all()
  end

  it("is empty at first, with nothing to wait for", function()
    assert.equal(0, tonumber(lib.wheel_count(wheel)))
    assert.equal(NEVER, lib.wheel_next(wheel))
    assert.same({}, advance(123456789))
  end)

  it("gives a timer at its tick, not before", function()
    local timer = arm(1005)
    assert.is_true(lib.wheel_armed(timer))
    assert.same({}, advance(1004))
    assert.same({ 1005 }, advance(1005))
    assert.is_false(lib.wheel_armed(timer))
    assert.same({}, advance(9999))
  end)

  it("gives timers in the order of their ticks, however they were armed", function()
    for _, due in ipairs { 5000, 1001, 300000, 1064, 1063, 70000, 1128 } do
      arm(due)
    end
    assert.same({ 1001, 1063, 1064, 1128, 5000, 70000, 300000 }, advance(300000))
  end)

  it("gives timers of one tick in the order of arming", function()
    local first = arm(5000)
    lib.wheel_advance(wheel, 4990)
    local second, third = arm(5000), arm(5000)
    lib.wheel_advance(wheel, 5000)
    assert.is_true(lib.wheel_take(wheel) == first)
    assert.is_true(lib.wheel_take(wheel) == second)
    assert.is_true(lib.wheel_take(wheel) == third)
  end)

  it("has a timer that is armed too late due at once", function()
    arm(1000)
    arm(7)
    assert.equal(1000ULL, lib.wheel_next(wheel))
    assert.same({ 1000, 7 }, advance(1000))
  end)

  it("never goes backwards", function()
    arm(2000)
    assert.same({}, advance(1500))
    assert.same({}, advance(3))
    arm(1400)
    assert.same({ 1400 }, take_all())
    arm(1501)
    assert.same({ 1501, 2000 }, advance(2000))
  end)

  it("disarms a timer, wherever it waits", function()
    for _, due in ipairs { 1, 1001, 1064, 5200, 400000, 2 ^ 40, 2 ^ 52 } do
      local timer, neighbour = arm(due), arm(due)
      assert.is_true(lib.wheel_remove(wheel, timer))
      assert.is_false(lib.wheel_armed(timer))
      assert.is_false(lib.wheel_remove(wheel, timer))
      assert.is_true(lib.wheel_remove(wheel, neighbour))
      assert.equal(NEVER, lib.wheel_next(wheel))
    end
    assert.equal(0, tonumber(lib.wheel_count(wheel)))
    assert.same({}, advance(2 ^ 53))
  end)

  it("keeps what is due armed until it is taken, so that it can still be disarmed", function()
    local timer = arm(1001)
    arm(1002)
    lib.wheel_advance(wheel, 2000)
    assert.is_true(lib.wheel_armed(timer))
    assert.is_true(lib.wheel_remove(wheel, timer))
    assert.same({ 1002 }, take_all())
  end)

  it("takes a timer again that was taken or removed", function()
    local timer = arm(1001)
    assert.same({ 1001 }, advance(1001))
    lib.wheel_add(wheel, timer, 1002)
    lib.wheel_remove(wheel, timer)
    lib.wheel_add(wheel, timer, 1003)
    assert.same({ 1003 }, advance(1003))
  end)

  it("has a place for every tick of 64 bits", function()
    for bit = 10, 62 do
      arm(2ULL ^ bit)
    end
    local last = arm(NEVER)
    local taken = advance(NEVER - 1)
    assert.equal(53, #taken)
    for i, due in ipairs(taken) do
      assert.equal(2 ^ (i + 9), due)
    end
    assert.is_true(lib.wheel_armed(last))
  end)

  it("says when to look again: perhaps early, never late", function()
    local now = 1000
    for _, due in ipairs { 1001, 1100, 70000, 12345678 } do
      local timer = arm(due)
      local looks = 0
      while lib.wheel_armed(timer) do
        local following = tonumber(lib.wheel_next(wheel))
        assert.is_true(following > now and following <= due)
        now = following
        advance(now)
        looks = looks + 1
      end
      assert.equal(due, now)
      assert.is_true(looks <= 11, "a timer moves down a level at a time")
    end
  end)

  it("crosses empty time at once", function()
    -- A step for each tick would take hundreds of years.
    assert.same({}, advance(2ULL ^ 62))
    arm(2ULL ^ 62 + 10)
    assert.equal(1, #advance(2ULL ^ 62 + 2ULL ^ 61))
  end)

  it("agrees with a sorted list over many random steps", function()
    local random = random_numbers(42)
    local now, model, pool = 1000, {}, {}
    for step = 1, 20000 do
      local what = random(10)
      if what < 5 then
        local due = now + random(({ 3, 64, 5000, 300000, 20000000 })[random(5) + 1]) - 1
        local timer = arm(due)
        pool[#pool + 1] = timer
        model[tostring(timer)] = due
      elseif what < 7 and #pool > 0 then
        local timer = table.remove(pool, random(#pool) + 1)
        assert.equal(model[tostring(timer)] ~= nil, lib.wheel_remove(wheel, timer))
        model[tostring(timer)] = nil
      else
        now = now + random(({ 2, 70, 5000, 400000 })[random(4) + 1])
        local expected = {}
        for key, due in pairs(model) do
          if due <= now then
            expected[#expected + 1] = due
            model[key] = nil
          end
        end
        local taken = advance(now)
        -- Those that were armed late come by their turn, not by their tick: compare sorted.
        table.sort(taken)
        table.sort(expected)
        assert.same(expected, taken, "step " .. step)
      end
    end
    local left = 0
    for _ in pairs(model) do left = left + 1 end
    assert.equal(left, tonumber(lib.wheel_count(wheel)))
  end)
end)
