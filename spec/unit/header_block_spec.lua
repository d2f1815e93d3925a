local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/wire.h"
local lib = units.lib

local function block(text) return ffi.new("struct header_block", { at = text, len = #text }) end

local function lines(...) return block("NATS/1.0\r\n" .. table.concat({ ... }, "\r\n") .. "\r\n\r\n") end

local function text_of(span) return span.at ~= nil and ffi.string(span.at, span.len) or nil end

local function fields(of)
  local list, position = {}, ffi.new "size_t[1]"
  local field = ffi.new "struct header_field"
  while lib.header_block_next(of, position, field) do
    list[#list + 1] = text_of(field.name) .. "=" .. text_of(field.value)
  end
  return list
end

local function find(of, name) return text_of(lib.header_block_find(of, name)) end

local function last(of, name) return text_of(lib.header_block_last(of, name)) end

describe("a header block", function()
  it("has its fields in their order, several of one name among them", function()
    assert.same({ "K=v", "L=w", "k=x", "K=y" }, fields(lines("K: v", "L: w", "k: x", "K: y")))
  end)

  it("keeps what stands behind an empty value, and the empty value", function()
    assert.same({ "tracestate=", "traceparent=00-1", "last=" },
      fields(lines("tracestate:", "traceparent: 00-1", "last:")))
    assert.same({ "blank=", "K=v" }, fields(lines("blank: \t ", "K: v")))
  end)

  it("gives values without the spaces and tabs around them, and with those within", function()
    assert.same({ "A=a  b", "B=c", "C=d:e" }, fields(lines("A:\t a  b ", "B:c", "C: d:e")))
  end)

  it("keeps any byte of a value: CR, LF and NUL alone, and what is not UTF-8", function()
    assert.same({ "A=a\rb\nc\0d\255" }, fields(lines "A: a\rb\nc\0d\255"))
    assert.same({ "A=a\r", "B=b" }, fields(block "NATS/1.0\r\nA: a\r\r\nB: b\r\n\r\n"))
  end)

  it("passes over what is no field, and reads on", function()
    assert.same({ "A=1", "B=2" }, fields(lines("A: 1", "no colon", ": no name", " folded: x", "\ty",
      "", "B: 2")))
  end)

  it("may end anywhere", function()
    local whole = "NATS/1.0 404 No\r\nK: v\r\nEmpty:\r\n\r\n"
    for len = 0, #whole do
      local bytes = ffi.new("char[?]", len + 1)
      ffi.copy(bytes, whole:sub(1, len), len)
      local cut = ffi.new("struct header_block", { at = bytes, len = len })
      for _, field in ipairs(fields(cut)) do
        assert.is_truthy(("K=v\r Empty=\r"):find(field, 1, true), field)
      end
      assert.equal(len >= #"NATS/1.0 404" and 404 or 0, lib.header_block_status(cut, nil))
    end
  end)

  it("is found by any case of a name: the first one, or the last", function()
    local of = lines("X-Case: one", "x-case: two", "X-CASE: three", "X-Case-Other: four")
    assert.equal("one", find(of, "x-cASE"))
    assert.equal("three", last(of, "x-cASE"))
    assert.is_nil(find(of, "X-Cas"))
    assert.is_nil(last(of, ""))
  end)

  it("that is not there has nothing", function()
    local none = ffi.new "struct header_block"
    assert.same({}, fields(none))
    assert.is_nil(find(none, "K"))
    assert.equal(0, lib.header_block_status(none, nil))
  end)

  it("begins with a whole version line", function()
    for text, is in pairs {
      ["NATS/1.0\r\n\r\n"] = true, ["NATS/1.0 404 No Messages\r\n\r\n"] = true,
      ["NATS/1.0\r\nK: v"] = true, ["NATS/1.0 \r\n"] = true,
      [""] = false, ["NATS/1.0"] = false, ["NATS/1.0\r"] = false, ["NATS/1.1\r\n\r\n"] = false,
      ["NATS/1.01\r\n\r\n"] = false, ["NATS/1.0\n\r\n"] = false, ["nats/1.0\r\n"] = false,
      -- As nats.c leaves one that it has read.
      ["NATS/1.0\0\nK\0 v\0\n\r\n"] = false, ["NATS/1.0 404\0\nK\0 v\0\n\r\n"] = false,
    } do
      assert.equal(is, lib.header_block_is(text, #text), text)
    end
  end)
end)

describe("a status", function()
  local function read(of, len)
    local status = ffi.new "struct wire_status"
    if not lib.wire_status(of, len or 0, status) then return nil end
    return { status.code, ffi.string(status.description), status.pending }
  end

  it("stands in the version line, with its description", function()
    assert.same({ 408, "Request Timeout", 3 },
      read(block "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\n\r\n"))
    assert.same({ 404, "", -1 }, read(block "NATS/1.0 404\r\n\r\n"))
  end)

  it("or in fields, as some clients hand it on", function()
    assert.same({ 404, "No Messages", -1 }, read(lines("Status: 404", "Description: No Messages")))
  end)

  it("has three digits", function()
    for _, code in ipairs { "40", "4040", "40x", "x", "-40", "+404", "4 4" } do
      assert.is_nil(read(block("NATS/1.0 " .. code .. "\r\n\r\n")), code)
      assert.is_nil(read(lines("Status: " .. code)), code)
    end
  end)

  it("has no data", function()
    assert.is_nil(read(block "NATS/1.0 404\r\n\r\n", 1))
  end)

  it("is cut where its description is long", function()
    local description = read(block("NATS/1.0 409 " .. ("x"):rep(1000) .. "\r\n\r\n"))[2]
    assert.equal(("x"):rep(127), description)
  end)

  it("says how many messages will not come, where it is a number", function()
    local function pending(value) return read(lines("Status: 408", "nats-pending-messages: " .. value))[3] end
    assert.equal(0, pending "0")
    assert.equal(17, pending "17")
    for _, value in ipairs { "", "-1", "1x", "x" } do assert.equal(-1, pending(value), value) end
    assert.equal(0x7fffffff, pending "4294967295")
    assert.equal(0x7fffffff, pending "99999999999999999999")
  end)

  it("of 503 says that nobody serves the subject, when nothing stands beside it", function()
    local function nobody(of, len) return lib.wire_no_responders(of, len or 0) end
    assert.is_true(nobody(block "NATS/1.0 503\r\n\r\n"))
    assert.is_true(nobody(block "NATS/1.0 503\r\nNats-Subject: a.b\r\n\r\n"))
    assert.is_true(nobody(lines "Status: 503"))
    assert.is_false(nobody(block "NATS/1.0 503\r\n\r\n", 1))
    assert.is_false(nobody(block "NATS/1.0 404\r\n\r\n"))
    assert.is_false(nobody(block "NATS/1.0 503\r\nRetry-After: 5\r\n\r\n"))
    assert.is_false(nobody(lines("Status: 503", "Nats-Service-Error: overloaded")))
    assert.is_false(nobody(lines "K: v"))
  end)
end)

describe("what a headers_only consumer left out", function()
  local function left_out(of, len) return tonumber(lib.wire_left_out(of, len or 0)) end

  it("is what the server says, behind all that a publisher wrote", function()
    assert.equal(12, left_out(lines("K: v", "Nats-Msg-Size: 12")))
    assert.equal(0, left_out(lines("Nats-Msg-Size: 12", "nats-msg-size: 0")))
    assert.equal(7, left_out(lines("Nats-Msg-Size: 0", "Nats-Msg-Size: x", "Nats-Msg-Size: 7")))
  end)

  it("is nothing of a message that has data, no such header, or no number in it", function()
    assert.equal(0, left_out(lines "Nats-Msg-Size: 12", 1))
    assert.equal(0, left_out(lines "K: v"))
    assert.equal(0, left_out(lines "Nats-Msg-Size: -1"))
  end)
end)
