local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/utf8.h"
local lib = units.lib

-- The code point as UTF-8 spells it; also of those that may not be.
local function spell(point)
  if point < 0x80 then return string.char(point) end
  local bytes, lead = {}, point < 0x800 and 0xC0 or point < 0x10000 and 0xE0 or 0xF0
  local rest = point < 0x800 and 1 or point < 0x10000 and 2 or 3
  for i = rest, 1, -1 do
    bytes[i] = string.char(0x80 + point % 64)
    point = math.floor(point / 64)
  end
  return string.char(lead + point) .. table.concat(bytes)
end

local function decode(bytes)
  local point = ffi.new "uint32_t[1]"
  return tonumber(lib.utf8_decode(bytes, #bytes, point)), tonumber(point[0])
end

describe("a character of UTF-8", function()
  it("is read as its code point, whichever it is", function()
    for point = 0, 0x10FFFF, 7 do
      if point < 0xD800 or point > 0xDFFF then
        local bytes = spell(point)
        local size, read = decode(bytes .. "x")
        if size ~= #bytes or read ~= point then
          error(("U+%04X is read as %d bytes, U+%04X"):format(point, size, read))
        end
      end
    end
  end)

  it("is none when it is a surrogate, too high, overlong, incomplete, or a byte of the middle", function()
    for _, bytes in ipairs {
      spell(0xD800), spell(0xDFFF), spell(0x110000), "\xF5\x80\x80\x80", "\xFF", "\xC0\x80", "\xC1\xBF",
      "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\x80", "\xBF", "\xC3", "\xE2\x82", "\xF0\x9F\x8C", "\xC3x",
      "\xE2\x82x", "\xF0\x9F\x8Cx",
    } do
      assert.equal(0, tonumber(lib.utf8_length(bytes, #bytes)), (bytes:gsub(".", function(c)
        return ("%02x"):format(c:byte())
      end)))
      assert.is_false(lib.utf8_is_valid("ok" .. bytes, #bytes + 2))
    end
    local all = "é€🌙 plain"
    assert.is_true(lib.utf8_is_valid(all, #all))
    assert.is_true(lib.utf8_is_valid("", 0))
  end)

  it("is never left half where a text is cut", function()
    local text = "aé€🌙z"
    local whole = { [0] = 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11 }
    for most = 0, #text + 1 do
      assert.equal(whole[most], tonumber(lib.utf8_cut(text, #text, most)), "at " .. most)
    end
  end)

  it("takes nothing with it, where a text is cut that is none", function()
    for _, text in ipairs { "\x80\x80\x80\x80\x80", "abc\xFF", "abc\x80", "\xBF" } do
      assert.equal(#text, tonumber(lib.utf8_whole(text, #text)))
    end
  end)
end)
