local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/join.h"
local lib = units.lib

-- What stands in a buffer of `size` bytes after these calls, and whether something is missing.
local function joined(size, fill)
  local buf = ffi.new("char[?]", size + 1, ("#"):rep(size + 1))
  local join = lib.join_in(buf, size)
  fill(join)
  assert.equal(("#"):byte(), buf[size], "written past the end")
  return ffi.string(buf), lib.join_cut(join)
end

describe("a joined text", function()
  it("is empty at first", function()
    assert.same({ "", false }, { joined(1, function() end) })
  end)

  it("has its parts one after the other", function()
    assert.same({ "ORDERS:0:4711.1f", false }, { joined(64, function(join)
      lib.join_text(join, "ORDERS:")
      lib.join_number(join, 0)
      lib.join_text(join, ":")
      lib.join_number(join, 4711)
      lib.join_text(join, ".")
      lib.join_hex(join, 31)
    end) })
  end)

  it("writes the largest numbers", function()
    assert.equal("18446744073709551615 ffffffffffffffff", (joined(64, function(join)
      lib.join_number(join, -1ULL)
      lib.join_text(join, " ")
      lib.join_hex(join, -1ULL)
    end)))
  end)

  it("writes numbers of any length, with their zeros", function()
    for _, digits in ipairs { "1", "10", "99", "100", "1000", "9999", "10000", "99999", "12345678", "10000000",
      "99999999", "100000000", "900000001", "1764499999000000007", "9999999999999999", "10000000000000000",
      "10000000100000001", "18446744073709551614" } do
      local number = 0ULL
      for digit in digits:gmatch "%d" do number = number * 10 + tonumber(digit) end
      for _, room in ipairs { 64, #digits + 1 } do
        assert.equal(digits, (joined(room, function(join) lib.join_number(join, number) end)))
      end
    end
    for number = 0, 20000 do
      local text = joined(32, function(join) lib.join_number(join, number * 7919) end)
      assert.equal(("%d"):format(number * 7919), text)
    end
  end)

  it("may fill its buffer to the last byte", function()
    assert.same({ "abc", false }, { joined(4, function(join) lib.join_text(join, "abc") end) })
  end)

  it("is cut where it does not fit, and says so", function()
    assert.same({ "abc12", true }, { joined(6, function(join)
      lib.join_text(join, "abc")
      lib.join_number(join, 1234)
      lib.join_text(join, "more")
    end) })
    assert.same({ "", true }, { joined(1, function(join) lib.join_text(join, "a") end) })
  end)
end)
