-- W3C Trace Context: a stranger writes these headers, so whatever is not exactly one is none.
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "trace/trace_context.h"
units.include "trace/trace_state.h"
local lib = units.lib

local GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

-- What is sent on of a traceparent; nil: nothing.
local function passed_on(text)
  local context, out = ffi.new "struct trace_context", ffi.new "char[56]"
  if not lib.trace_context_parse(text, #text, context) then return nil end
  return ffi.string(lib.trace_context_format(context, out))
end

-- The same of a tracestate that came in these fields.
local function state_of(...)
  local state = ffi.new "struct trace_state"
  for _, field in ipairs { ... } do lib.trace_state_add(state, field, #field) end
  return ffi.string(lib.trace_state_end(state))
end

describe("a traceparent", function()
  it("is read and written as it was", function()
    assert.equal(GOOD, passed_on(GOOD))
    assert.equal((GOOD:gsub("01$", "00")), passed_on((GOOD:gsub("01$", "00"))))
  end)

  it("keeps the two flags that mean something, and no other", function()
    assert.equal("03", passed_on((GOOD:gsub("01$", "ff"))):sub(-2))
    assert.equal("00", passed_on((GOOD:gsub("01$", "fc"))):sub(-2))
  end)

  it("of a later version is read as far as it is known, and sent on as version 00", function()
    for _, more in ipairs { "", "-", "-what-else.there may be" } do
      assert.equal(GOOD, passed_on("cc" .. GOOD:sub(3) .. more), more)
    end
  end)

  it("is none when it is malformed", function()
    local ids = GOOD:sub(4, -4)
    for _, bad in ipairs {
      "", "00", "-", (" "):rep(55), ("0"):rep(55), GOOD:sub(1, -2), GOOD .. "0", GOOD .. "-", GOOD .. "-00",
      "ff-" .. ids .. "-01", "0-" .. ids .. "-01", "zz-" .. ids .. "-01", "cc-" .. ids .. "-01x",
      GOOD:upper(), (GOOD:gsub("4736", "473g")), (GOOD:gsub("-", "_")), "00_" .. ids .. "-01",
      "00-" .. ("0"):rep(32) .. "-00f067aa0ba902b7-01",
      "00-4bf92f3577b34da6a3ce929d0e0e4736-" .. ("0"):rep(16) .. "-01",
      "00-" .. ids .. "-0x", GOOD:sub(1, 20) .. "\0" .. GOOD:sub(22), ("a"):rep(10000),
      (GOOD:gsub("00f067", "00f06\200")),
    } do
      assert.is_nil(passed_on(bad), bad)
    end
  end)
end)

describe("ids", function()
  it("are new for each trace, and of a child the span's alone", function()
    local seen = {}
    for _ = 1, 1000 do
      local one, child = ffi.new "struct trace_context", ffi.new "struct trace_context"
      lib.trace_context_begin(one)
      lib.trace_context_child(one, child)
      local parent, of_child = ffi.new "char[56]", ffi.new "char[56]"
      lib.trace_context_format(one, parent)
      lib.trace_context_format(child, of_child)
      parent, of_child = ffi.string(parent), ffi.string(of_child)
      assert.equal(parent:sub(1, 36), of_child:sub(1, 36))
      assert.equal("-02", parent:sub(-3))
      for _, id in ipairs { parent:sub(4, 35), parent:sub(37, 52), of_child:sub(37, 52) } do
        assert.is_nil(seen[id])
        seen[id] = true
      end
    end
  end)
end)

describe("a tracestate", function()
  it("is passed on with the members of all its fields, in their order", function()
    assert.equal("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,tenant@vendor=a b",
      state_of("rojo=00f067aa0ba902b7 , \tcongo=t61rcWkgMzE,,", "", "tenant@vendor=a b "))
    assert.equal("", state_of())
  end)

  it("is dropped as a whole when something of it is malformed", function()
    for _, bad in ipairs { "a", "a=", "=b", "A=b", "a=b=c", "a b=c", "a=b\1", "a=\200", "a=b,c", "a=b,\255=c",
      ("n"):rep(257) .. "=v", "n=" .. ("v"):rep(257), ("a=b,"):rep(33), "a=b\0c" } do
      assert.equal("", state_of("fine=1", bad), bad)
    end
    assert.equal(32 * 4 - 1, #state_of(("a=b,"):rep(32)))
  end)

  it("is bounded, whatever comes: its first members stay, and a large one goes where it does not fit", function()
    local function member(name, size) return name .. "=" .. ("v"):rep(size - #name - 1) end
    local first, large = member("first", 250), member("large", 250)
    local small, last = member("small", 120), member("last", 20)
    assert.equal(first .. "," .. large, state_of(first, large, small, last))
    assert.equal(first .. "," .. small .. "," .. last, state_of(first, small, large, last))
    assert.equal(512, #state_of(member("a", 250), member("b", 250), member("c", 10), member("d", 8)))
    assert.equal("", state_of(("x"):rep(10000)))
    assert.is_true(#state_of(("x=1,"):rep(31) .. member("y", 128)) <= 512)
  end)
end)
