local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/log_storm.h"
local lib = units.lib

local SECOND = 1000000000

describe("A storm of equal lines", function()
  local storms, now, formats

  before_each(function()
    storms, now, formats = ffi.new "struct storms", 1000, {}
  end)
  after_each(function() lib.storms_clear(storms) end)

  -- One and the same address for each text, as in C.
  local function format(text)
    formats[text] = formats[text] or ffi.new("char[?]", #text + 1, text)
    return formats[text]
  end

  -- Is the event written?
  local function writes(message, context, sentence)
    context = context or { script = "orders.lua", handler = "ORDERS/billing", code = "timeout", line = 14 }
    return not lib.storms_hold(storms, ffi.C.LOG_ERROR, ffi.new("struct log_context", context),
      format(sentence or "%s"), message, #message, now * SECOND)
  end

  local function written(count, ...)
    local lines = 0
    for _ = 1, count do lines = lines + (writes(...) and 1 or 0) end
    return lines
  end

  local function count(take)
    local out = ffi.new "struct storm_count"
    if not (take or lib.storms_due)(storms, now * SECOND, out) then return nil end
    return { held = tonumber(out.held), seconds = tonumber(out.span_ns) / SECOND, level = tonumber(out.level),
      context = out.last.context, message = out.last.message ~= nil and ffi.string(out.last.message) }
  end

  it("writes ten of them, and says every ten seconds how many more there were", function()
    assert.equal(10, written(10000, "boom"))
    assert.is_nil(count())
    now = now + 10
    local said = count()
    assert.same({ 9990, 10, "boom" }, { said.held, said.seconds, said.message })
    assert.equal("orders.lua", ffi.string(said.context.script))
    assert.is_nil(count())
    assert.equal(0, written(5000, "boom"))
    now = now + 10
    assert.equal(5000, count().held)
  end)

  it("shows the last one of those that it counted, with its message", function()
    written(10, "boom")
    for sequence = 1, 100 do
      writes("no such order " .. sequence, { script = "a.lua", subject = "orders." .. sequence, sequence = sequence,
        attempt = 2, attempts = 5, delayed = true, delay_ns = sequence })
    end
    now = now + 10
    local said = count()
    assert.equal("no such order 100", said.message)
    assert.equal("orders.100", ffi.string(said.context.subject))
    assert.same({ 100, 2, 5, 100 }, { tonumber(said.context.sequence), said.context.attempt, said.context.attempts,
      tonumber(said.context.delay_ns) })
  end)

  it("ends when few come: then each is written again", function()
    written(1000, "boom")
    now = now + 10
    assert.equal(990, count().held)
    assert.is_false(writes "boom")
    now = now + 10
    assert.equal(1, count().held)
    assert.is_true(writes "boom")
    written(1000, "boom")
    now = now + 10
    count()
    now = now + 10
    assert.is_nil(count())
    assert.equal(10, written(11, "boom"))
  end)

  it("is not made of a few lines now and then", function()
    for _ = 1, 100 do
      assert.equal(9, written(9, "boom"))
      now = now + 10
      assert.is_nil(count())
    end
  end)

  it("does not hide another error, whatever numbers and names are put into it", function()
    written(1000, "no such order 4711")
    assert.is_false(writes "no such order 4712")
    assert.is_false(writes "no such order 3f2a-77b1-c0de")
    assert.is_true(writes "the disk is full")
    assert.is_false(writes "the disk is full")
    local function other(context) return writes("no such order 4711", context) end
    assert.is_true(other { script = "other.lua", handler = "ORDERS/billing", code = "timeout", line = 14 })
    assert.is_true(other { script = "orders.lua", handler = "greet.*", code = "timeout", line = 14 })
    assert.is_true(other { script = "orders.lua", handler = "ORDERS/billing", code = "memory", line = 14 })
    assert.is_true(other { script = "orders.lua", handler = "ORDERS/billing", code = "timeout", line = 15 })
    assert.is_true(writes("no such order 4711", nil, "another sentence: %s"))
  end)

  it("counts ever new texts of one place, after the first ones", function()
    local lines = 0
    for name = 1, 1000 do
      local word = string.rep("x", name)
      if writes("no such customer: " .. word) then lines = lines + 1 end
    end
    assert.equal(10, lines)
  end)

  it("counts the user's own words only where all of them are equal", function()
    local function context(fields) return { script = "a.lua", line = 3, verbatim = true, fields = fields } end
    assert.equal(10, written(1000, "out of stock", context '{"n":1}'))
    assert.is_true(writes("out of stock", context '{"n":2}'))
    assert.is_true(writes("out of stock: 4711", context '{"n":1}'))
    assert.is_true(writes("out of stock: 4712", context '{"n":1}'))
  end)

  it("writes what there is no room to count, and forgets what is over", function()
    local function flood(kinds, verbatim)
      local lines = 0
      for line = 1, kinds do
        lines = lines + written(20, "boom", { script = "a.lua", line = line, verbatim = verbatim })
      end
      return lines
    end
    assert.equal(64 * 10 + 36 * 20, flood(100, true))
    assert.equal(64 * 10 + 36 * 20, flood(100, false))
    now = now + 10
    for _ = 1, 128 do assert.equal(10, count().held) end
    assert.is_nil(count())
    now = now + 10
    assert.equal(100 * 10, flood(100, false))
  end)

  it("says the rest at the end, and when it has to be asked", function()
    assert.is_true(lib.storms_next_ns(storms) == 0xffffffffffffffffULL)
    written(25, "boom")
    assert.equal((now + 10) * SECOND, tonumber(lib.storms_next_ns(storms)))
    now = now + 3
    assert.is_nil(count())
    local said = count(lib.storms_rest)
    assert.same({ 15, 3 }, { said.held, said.seconds })
    assert.is_nil(count(lib.storms_rest))
  end)

  it("keeps what fits of a long line", function()
    local long = { script = "a.lua", subject = ("s"):rep(1000), traceback = "t", fields = "{}" }
    written(20, ("é"):rep(1000), long)
    now = now + 10
    local said = count()
    assert.equal(1000, #ffi.string(said.context.subject))
    assert.is_true(#said.message > 400 and #said.message < 500 and #said.message % 2 == 0)
    assert.is_true(said.context.traceback == nil and said.context.fields == nil)
  end)
end)
