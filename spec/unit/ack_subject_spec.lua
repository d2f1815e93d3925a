local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/ack_subject.h"
local lib = units.lib

describe("the reply subject of a JetStream message", function()
  local function text(span)
    return span.at ~= nil and ffi.string(span.at, span.len) or nil
  end

  local function fields(out)
    return {
      stream = text(out.stream),
      consumer = text(out.consumer),
      domain = text(out.domain),
      delivered = tonumber(out.delivered),
      stream_sequence = tonumber(out.stream_sequence),
      consumer_sequence = tonumber(out.consumer_sequence),
      timestamp_ns = tostring(out.timestamp_ns),
      pending = tonumber(out.pending),
    }
  end

  local function parse(subject)
    local out = ffi.new "struct ack_subject"
    return lib.ack_subject_read(subject, out) and fields(out) or nil
  end

  local expected = {
    stream = "ORDERS", consumer = "billing", delivered = 3, stream_sequence = 4711,
    consumer_sequence = 12, timestamp_ns = "1700000000123456789LL", pending = 7,
  }

  it("is read in its short form", function()
    assert.same(expected, parse "$JS.ACK.ORDERS.billing.3.4711.12.1700000000123456789.7")
  end)

  it("is read with a domain and an account", function()
    expected.domain = "hub"
    assert.same(expected, parse "$JS.ACK.hub.ACCHASH.ORDERS.billing.3.4711.12.1700000000123456789.7")
  end)

  it("is read with whatever may follow", function()
    assert.same(expected,
      parse "$JS.ACK.hub.ACCHASH.ORDERS.billing.3.4711.12.1700000000123456789.7.random.more")
  end)

  it("has no domain where the server writes '_'", function()
    expected.domain = nil
    assert.same(expected, parse "$JS.ACK._.ACCHASH.ORDERS.billing.3.4711.12.1700000000123456789.7")
  end)

  it("keeps a sequence of 64 bits", function()
    local out = ffi.new "struct ack_subject"
    assert.is_true(lib.ack_subject_read("$JS.ACK.S.c.1.18446744073709551615.1.1.0", out))
    assert.equal(0xffffffffffffffffULL, out.stream_sequence)
  end)

  it("has numbers of any length", function()
    local out = ffi.new "struct ack_subject"
    local digits, value = "", 0ULL
    for i = 1, 19 do
      digits, value = digits .. i * 7 % 10, value * 10 + i * 7 % 10
      assert.is_true(lib.ack_subject_read("$JS.ACK.S.c.1." .. digits .. ".1.1.0", out))
      assert.equal(value, out.stream_sequence)
    end
  end)

  it("has digits in its numbers, and nothing else, wherever that stands", function()
    local out = ffi.new "struct ack_subject"
    for place = 1, 19 do
      for byte = 1, 255 do
        local char = string.char(byte)
        local number = ("7"):rep(place - 1) .. char .. ("7"):rep(19 - place)
        local read = lib.ack_subject_read("$JS.ACK.S.c.1." .. number .. ".1.1.0", out)
        assert.equal(char:find "%d" ~= nil, read)
      end
    end
  end)

  for _, subject in ipairs {
    "",
    "orders.created",
    "$JS.ACK",
    "$JS.ACK.",
    "$JS.ACK.S.c.1.2.3.4",
    "$JS.ACK.S.c.1.2.3.4.5.6",
    "$JS.ACK.S.c.1.2..4.5",
    "$JS.ACK.S.c.1.2.3.4.5.",
    "$JS.ACK.S.c.one.2.3.4.5",
    "$JS.ACK.S.c.1.-2.3.4.5",
    "$JS.ACK.S.c.1.18446744073709551616.3.4.5",
    "$JS.ACK.S.c.1.2.3.9223372036854775808.5",
    "$JS.ACK.S.c.0.2.3.4.5",
    "$JS.ACK.S.c.1.0.3.4.5",
    "$JS.ACK.S.c.1.2.0.4.5",
    "$JS.ACK." .. ("s"):rep(256) .. ".c.1.2.3.4.5",
    "$JS.ACK.S." .. ("c"):rep(256) .. ".1.2.3.4.5",
  } do
    it(("is not: %q"):format(#subject > 60 and subject:sub(1, 60) .. "..." or subject), function()
      assert.is_nil(parse(subject))
    end)
  end

  describe("after others of its consumer", function()
    -- A reader of one consumer's subjects: what the next one says.
    local function reader()
      local names, out = ffi.new "struct ack_names", ffi.new "struct ack_subject"
      return function(subject)
        return lib.ack_subject_read_next(names, subject, out) and fields(out) or nil
      end
    end

    local FORMS = {
      short = "$JS.ACK.ORDERS.billing.",
      ["with a domain"] = "$JS.ACK.hub.ACCHASH.ORDERS.billing.",
      ["with an account alone"] = "$JS.ACK._.ACCHASH.ORDERS.billing.",
      ["of another consumer"] = "$JS.ACK.ORDERS.bill.",
      ["of one with a name as long"] = "$JS.ACK.ORDERS.billinx.",
      ["of numbers"] = "$JS.ACK.1.2.",
      ["of numbers, with a domain"] = "$JS.ACK.1.2.3.4.",
      ["too long to be kept"] = "$JS.ACK." .. ("d"):rep(250) .. ".H." .. ("s"):rep(250) .. "." .. ("c"):rep(250) .. ".",
    }
    local NUMBERS = {
      "3.4711.12.1700000000123456789.7", "1.1.1.1.0", "1.18446744073709551615.1.1.0",
      "1.2.3.4.5.random", "1.2.3.4.5.random.more",
      "1.2.3.4.5.", "1.2.3.4.5..more", "1.2.3.4", "1.2..4.5", "1.2.3.4.5x", "x.2.3.4.5", "0.2.3.4.5", "", ".",
      "1.18446744073709551616.3.4.5", "1.2.3.9223372036854775808.5",
    }

    for before, first in pairs(FORMS) do
      for form, names in pairs(FORMS) do
        it(("says the same: %s, after one %s"):format(form, before), function()
          local read = reader()
          assert.is_table(read(first .. "1.2.3.4.5"))
          for _, numbers in ipairs(NUMBERS) do
            assert.same(parse(names .. numbers), read(names .. numbers), names .. numbers)
            assert.same(parse(first .. numbers), read(first .. numbers), first .. numbers)
          end
        end)
      end
    end

    it("is none where it is no reply subject, and what came before it is not forgotten", function()
      local read = reader()
      assert.is_nil(read(nil))
      read "$JS.ACK.ORDERS.billing.1.2.3.4.5"
      assert.is_nil(read(nil))
      assert.is_nil(read "$JS.ACK.ORDERS.billing")
      assert.same({ "ORDERS", 9 }, (function(ack) return { ack.stream, ack.pending } end)(
        read "$JS.ACK.ORDERS.billing.1.2.3.4.9"))
    end)
  end)
end)
