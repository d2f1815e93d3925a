-- What the text of a script tells of a stream that it states.
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "app/words.h"
pcall(ffi.cdef, "struct cJSON *cJSON_Parse(const char *text);")
local lib = units.lib

local SUBJECTS = lib.cJSON_Parse '["orders.*.created", "orders.log"]'

local function only_reads(...)
  local use = ffi.new "struct words_use"
  for _, text in ipairs { ... } do lib.words_look(text, #text, "ORDERS", SUBJECTS, use) end
  return lib.words_only_reads(use)
end

local STATED = [[js.stream { name = "ORDERS", subjects = { "orders.*.created", "orders.log" } }]]

describe("A stream of a script", function()
  it("is only read when it is read, and none of its subjects is named", function()
    for _, reading in ipairs {
      [[for msg in js.messages("ORDERS") do end]], [[js.messages ( 'ORDERS', { filter = "orders.7.created" })]],
      [[js.get("ORDERS", { sequence = 1 })]], [[local it = js.messages "ORDERS"]],
    } do
      assert.is_true(only_reads(STATED, reading), reading)
      assert.is_false(only_reads(STATED), "it is not read")
      for _, publish in ipairs {
        [[js.publish("orders.7.created", {})]], [[js.publish("orders." .. id .. ".created")]],
        [[js.publish('orders.' .. rest)]], [[local subject = "orders.log"]],
      } do
        assert.is_false(only_reads(STATED, reading, publish), publish)
      end
      for _, other in ipairs {
        [[js.publish("invoices.7", {})]], [[js.publish("orders.7.deleted")]], [[-- the stream's name]],
        [[local subscribed = "orders.>"]],
      } do
        assert.is_true(only_reads(STATED, reading, other), other)
      end
    end
  end)

  it("is not read by what only ends so", function()
    assert.is_false(only_reads(STATED, [[forget("ORDERS")]]))
    assert.is_false(only_reads(STATED, [[print("ORDERS")]]))
  end)
end)

describe("A lock or a limit of a cluster", function()
  -- What is found, as "line bucket kind ttl".
  local function found(text)
    local words, list = ffi.new "struct words_cluster", {}
    while lib.words_next_cluster(text, #text, words) do
      list[#list + 1] = ("%d %s %s %g"):format(words.line, ffi.string(words.bucket),
        words.limits and "limit" or "lock", tonumber(words.ttl_ns) / 1e9)
    end
    return list
  end

  it("is found with its bucket, its line and its ttl", function()
    assert.same({ "1  lock 0" }, found 'bus.lock("x", { cluster = true })')
    assert.same({ "2 locks lock 300" }, found '\nbus.semaphore("x", 5, { ttl="5m", cluster = "locks", wait = 0 })')
    assert.same({ "1 quota limit 0", "3 other-1 lock 1" },
      found [[bus.limiter("m", { rate = "5/s", cluster='quota' })

        bus.lock("x", { cluster = "other-1", ttl = "1s" })]])
  end)

  it("is not what only looks like one", function()
    for _, text in ipairs {
      '-- bus.lock("x", { cluster = true })', "subcluster = true", "config.cluster = true", "cluster == true",
      "cluster = truely", 'cluster = "a.b"', "cluster = name", "cluster", "cluster =", 'cluster = "', "cluster = false",
    } do
      assert.same({}, found(text), text)
    end
  end)

  it("does not have the ttl of another one", function()
    assert.same({ "1 a lock 0" }, found '{ ttl = "1m" } { cluster = "a" } { ttl = "2m" }')
    assert.same({ "1 a lock 0" }, found '{ cluster = "a", ttl = ttl }')
  end)
end)

describe("A call without an option", function()
  local function without(text) return lib.words_calls_without(text, #text, "request", "timeout") end

  it("is one that says nothing of it, or cannot be seen", function()
    for _, text in ipairs {
      'bus.request("a", "b")', 'bus.request("a", f(timeout))\nbus.request("a")', "local ask = bus.request",
      'f("--", "\\"") bus.request("a")', 'bus.request(\n"a",\n"b" -- no timeout',
    } do
      assert.equal(text:find "no timeout" == nil, without(text), text)
    end
  end)

  it("is none that states it, none in a comment, and no other word", function()
    for _, text in ipairs {
      'bus.request("a", "b", { timeout = "1s" })', "-- a request is made", "requested()", "my_request()", "",
      'bus.http.request { url = "http://a" }', 'bus.log.info("a request failed")', "js.publish('a.request', 1)",
      [[bus.request("a", "\")", { timeout = "1s" })]], "bus.request(f(')'), b, { timeout = 1 }) -- it's all",
    } do
      assert.is_false(without(text), text)
    end
  end)
end)
