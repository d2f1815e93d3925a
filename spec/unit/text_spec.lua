-- The growing text: what is put into it, and that it is always a C string.
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/text.h"
local lib = units.lib

describe("A text", function()
  local text

  -- What its room had before does not matter.
  before_each(function()
    text = ffi.new "struct text"
    ffi.fill(text, ffi.sizeof(text), 0x78)
    lib.text_init(text)
  end)
  after_each(function() lib.text_clear(text) end)

  it("is a C string from the beginning, and after it was cleared", function()
    assert.equal("", ffi.string(text.bytes))
    lib.text_puts(text, "x")
    lib.text_clear(text)
    assert.equal("", ffi.string(text.bytes))
  end)

  for name, put in pairs {
    puts = function(piece) lib.text_puts(text, piece) end,
    add = function(piece) lib.text_add(text, piece .. "more", #piece) end,
    printf = function(piece) lib.text_printf(text, "%s", piece) end,
    escape = function(piece) lib.text_escape(text, piece, #piece) end,
    json_raw = function(piece) lib.text_json_raw(text, piece, #piece) end,
  } do
    it("ends with a NUL that does not count, however long it gets: text_" .. name, function()
      local whole = ""
      for length = 1, 120 do
        local piece = ("y"):rep(length)
        whole = whole .. piece
        put(piece)
        assert.equal(#whole, tonumber(text.len))
        assert.equal(0, text.bytes[text.len])
        assert.equal(whole, ffi.string(text.bytes))
      end
    end)

    it("ends with it also where it fills its room exactly: text_" .. name, function()
      for length = 1020, 1026 do
        lib.text_clear(text)
        put(("z"):rep(length))
        assert.equal(length, #ffi.string(text.bytes))
      end
    end)
  end
end)
