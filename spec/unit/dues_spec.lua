local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/wheel.h"
units.include "base/dues.h"
units.include "spec/support/refuse.h"
local lib = units.lib

local NEVER = 0xffffffffffffffffULL
local MS = 1000000

-- The same numbers in every run.
local function random_numbers(seed)
  local state = seed
  return function(limit)
    state = (state * 16807) % 2147483647
    return state % limit
  end
end

describe("Dues", function()
  local dues

  -- Each test's live as long as the test: they own themselves.
  local mine

  before_each(function()
    dues = ffi.gc(ffi.new "struct dues", lib.dues_clear)
    lib.dues_init(dues, 0)
    mine = {}
  end)

  local function add(at_ms)
    local due = ffi.new "struct due"
    mine[#mine + 1] = due
    lib.dues_add(dues, due, at_ms * MS)
    return due
  end

  local function take_all(now_ms)
    local taken = {}
    while true do
      local due = lib.dues_take(dues, now_ms * MS)
      if due == nil then return taken end
      assert.is_false(lib.dues_remove(dues, due))
      taken[#taken + 1] = tonumber(due.at_ns) / MS
    end
  end

  local function next_ms()
    local at_ns = lib.dues_next_ns(dues)
    return at_ns ~= NEVER and tonumber(at_ns) / MS or nil
  end

  it("are none at first", function()
    assert.is_nil(next_ms())
    assert.same({}, take_all(1000))
    assert.is_false(lib.dues_remove(dues, ffi.new "struct due"))
  end)

  it("are taken when their time has come, not before", function()
    add(5)
    assert.equal(5, next_ms())
    assert.same({}, take_all(4.999))
    assert.same({ 5 }, take_all(5))
    assert.is_nil(next_ms())
  end)

  it("of one timeout are taken in the order in which they came, without a wheel", function()
    for at = 1, 100 do add(at) end
    assert.is_true(lib.dues_remove(dues, mine[1]))
    assert.is_true(lib.dues_remove(dues, mine[50]))
    assert.is_true(lib.dues_remove(dues, mine[100]))
    assert.is_false(lib.dues_remove(dues, mine[50]))
    assert.equal(2, next_ms())
    local taken = take_all(1000)
    assert.equal(97, #taken)
    for i = 2, #taken do assert.is_true(taken[i - 1] < taken[i]) end
    assert.is_true(dues.wheel == nil)
  end)

  it("of four timeouts need no wheel either, whichever comes first", function()
    for now = 1, 200 do
      for _, timeout in ipairs { 30000, 50, 7000, 5 } do add(now + timeout) end
    end
    assert.is_true(dues.wheel == nil)
    assert.equal(6, next_ms())
    assert.same({ 6, 7, 8 }, take_all(8))
    assert.equal(800 - 3, #take_all(40000))
  end)

  it("that came a little out of order are taken in order", function()
    for _, at in ipairs { 10, 10.5, 10.2, 10.9, 10.1 } do add(at) end
    assert.is_true(dues.wheel == nil)
    assert.same({ 10, 10.1, 10.2, 10.5, 10.9 }, take_all(11))
  end)

  it("of many timeouts wait in a wheel: none comes early, none is missed", function()
    local random = random_numbers(42)
    for _ = 1, 2000 do add(1 + random(100000)) end
    assert.is_false(dues.wheel == nil)
    local removed = 0
    for i = 1, 2000, 3 do
      assert.is_true(lib.dues_remove(dues, mine[i]))
      removed = removed + 1
    end
    local seen, now = 0, 0
    while next_ms() do
      now = math.max(next_ms(), now + 0.25)
      for _, at in ipairs(take_all(now)) do
        assert.is_true(at <= now)
        assert.is_true(now - at < 2, ("%g is taken at %g"):format(at, now))
        seen = seen + 1
      end
    end
    assert.equal(2000 - removed, seen)
  end)

  it("without memory for a wheel are in order all the same", function()
    local random = random_numbers(7)
    lib.refuse_some(1, 1000)
    for _ = 1, 200 do add(1 + random(1000)) end
    assert.is_true(lib.refuse_end())
    assert.is_true(dues.wheel == nil)
    assert.equal(200, #take_all(1001))
  end)

  it("may never be due", function()
    local due = ffi.new "struct due"
    lib.dues_add(dues, due, NEVER)
    add(5)
    assert.same({ 5 }, take_all(6))
    assert.is_true(lib.dues_remove(dues, due))
  end)
end)
