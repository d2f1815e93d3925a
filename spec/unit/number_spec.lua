local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/number.h"
local lib = units.lib

local function format(number)
  local buf = ffi.new "char[320]"
  return ffi.string(buf, lib.number_format(number, buf))
end

local function show(number)
  local buf = ffi.new "char[40]"
  return ffi.string(lib.number_show(number, buf))
end

describe("a number's text", function()
  it("has all digits of an integral one, and never an exponent", function()
    for text in ("0 7 -7 123456789012345 9007199254740992 -9007199254740991 1541815603606036480 " ..
      "1000000000000000000000"):gmatch "%S+" do
      assert.equal(text, format(tonumber(text)))
    end
    assert.equal("0", format(-0.0))
    assert.equal("1" .. ("0"):rep(22), format(1e22))
    assert.is_nil(format(1.7976931348623157e308):find "e")
  end)

  it("has the fewest digits of another one that read back as the same", function()
    for text in ("0.1 -0.25 1.1 3.14159 0.30000000000000004 1e-07 5e-324 9.95"):gmatch "%S+" do
      local written = format(tonumber(text))
      assert.equal(tonumber(text), tonumber(written))
      assert.is_true(#written <= #text or text == "5e-324", written)
    end
  end)

  it("is a word for what is no number", function()
    assert.same({ "nan", "inf", "-inf" }, { format(0 / 0), format(1 / 0), format(-1 / 0) })
  end)

  it("reads back as the same, whatever its bits", function()
    local bits = ffi.new "union { double number; uint32_t half[2]; }"
    math.randomseed(7)
    for _ = 1, 20000 do
      bits.half[0], bits.half[1] = math.random(0, 2 ^ 32 - 1), math.random(0, 2 ^ 32 - 1)
      if math.floor(bits.half[1] / 2 ^ 20) % 2048 < 2047 then -- neither infinite nor NaN
        local number = bits.number
        local text = format(number)
        if tonumber(text) ~= number or lib.number_parse(text) ~= number then
          error(("%.17g is written as %s"):format(number, text))
        end
      end
    end
  end)

  it("in a sentence is short where digits would tell nothing", function()
    assert.same({ "123456789012345", "-9007199254740992", "1e+300", "0.33333333333333", "nan", "0" },
      { show(123456789012345), show(-2 ^ 53), show(1e300), show(1 / 3), show(0 / 0), show(-0.0) })
  end)

  it("names what becomes of big integers", function()
    local big = ffi.new "enum number_big[1]"
    for index, name in ipairs { "error", "string", "number" } do
      assert.is_true(lib.number_big_named(name, big))
      assert.equal(index - 1, tonumber(big[0]))
    end
    assert.is_false(lib.number_big_named("strings", big))
  end)
end)
