local cjson = require "cjson"
local ffi = require "ffi"
local units = require "spec.support.units"

-- What bus/letter.h has from cJSON's own header; the library comes with the units.
if not pcall(ffi.typeof, "cJSON") then
  ffi.cdef [[
    typedef struct cJSON cJSON;
    cJSON *cJSON_Parse(const char *text);
    void cJSON_Delete(cJSON *item);
  ]]
end
units.include "bus/letter.h"
local lib = units.lib

local function base64(bytes)
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local out = bytes:gsub("..?.?", function(group)
    local a, b, c = group:byte(1, 3)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    local text = ""
    for place = 3, 0, -1 do
      local digit = math.floor(bits / 64 ^ place) % 64 + 1
      text = text .. alphabet:sub(digit, digit)
    end
    return text:sub(1, #group + 1) .. ("="):rep(3 - #group)
  end)
  return out
end

-- headers: a list of lines.
local function message(fields)
  local hdrs = fields.headers and
    base64("NATS/1.0\r\n" .. table.concat(fields.headers, "\r\n") .. "\r\n\r\n")
  return { message = { subject = fields.subject or "dead.x", seq = fields.seq or 7, hdrs = hdrs,
    data = fields.data and base64(fields.data), time = fields.time } }
end

local function parse(reply)
  local json = lib.cJSON_Parse(type(reply) == "string" and reply or cjson.encode(reply))
  local stored, err = ffi.new "struct stored_message", units.err()
  local code = lib.stored_parse(json, stored, err)
  lib.cJSON_Delete(json)
  ffi.gc(stored, lib.stored_clear)
  if code ~= 0 then return nil, units.read_err(err) end
  return stored
end

local function list(headers)
  local out, position = {}, ffi.new "size_t[1]"
  local field = ffi.new "struct header_field"
  while lib.headers_next(headers, position, field) do
    out[#out + 1] = ffi.string(field.name.at, field.name.len) .. ": " .. ffi.string(field.value.at, field.value.len)
  end
  return out
end

describe("a stored message", function()
  it("is read with its data, headers and time", function()
    local stored = parse(message { subject = "a.b", seq = 12, data = "x\0y\255",
      headers = { "K: v: 1", "Empty:", "K:2" }, time = "2023-11-14T22:13:20.123456789Z" })
    assert.equal("a.b", ffi.string(stored.subject))
    assert.equal(12, tonumber(stored.sequence))
    assert.equal("x\0y\255", ffi.string(stored.data, stored.len))
    assert.same({ "K: v: 1", "Empty: ", "K: 2" }, list(stored.headers))
    assert.equal("1700000000123456789LL", tostring(stored.timestamp_ns))
  end)

  it("may have no data and no headers", function()
    local stored = parse(message {})
    assert.equal(0, tonumber(stored.len))
    assert.same({}, list(stored.headers))
  end)

  it("is read whatever its length", function()
    for length = 0, 7 do
      local data = ("abcdefg"):sub(1, length)
      local stored = parse(message { data = data })
      assert.equal(data, ffi.string(stored.data, stored.len))
    end
  end)

  it("has a time with any number of digits, or none", function()
    for text, wanted in pairs {
      ["2023-11-14T22:13:20Z"] = "1700000000000000000LL",
      ["2023-11-14T22:13:20.5Z"] = "1700000000500000000LL",
      ["2023-11-14T22:13:20.000000001Z"] = "1700000000000000001LL",
      ["0001-01-01T00:00:00Z"] = "0LL", ["9999-12-31T23:59:59Z"] = "0LL",
      ["yesterday"] = "0LL", ["2023-11-14T22:13:20+01:00"] = "0LL", [""] = "0LL",
    } do
      assert.equal(wanted, tostring(parse(message { time = text }).timestamp_ns), text)
    end
  end)

  it("is refused when it is something else", function()
    for _, reply in ipairs { "{}", "[]", '{"message":{}}', '{"message":{"subject":"a","seq":0}}',
      '{"message":{"subject":"a","seq":1e300}}', '{"message":{"subject":"a","seq":-1}}',
      '{"message":{"subject":"a","seq":1,"data":"%"}}',
      '{"message":{"subject":"a","seq":1,"hdrs":"%"}}' } do
      assert.is_nil((parse(reply)), reply)
    end
    for _, line in ipairs { "a b: c", "K: a\0b" } do
      local stored, code = parse(message { headers = { line } })
      assert.is_nil(stored)
      assert.equal("invalid", code)
    end
  end)
end)

describe("a dead letter", function()
  local function letter(headers, data)
    local stored = assert(parse(message { headers = headers, data = data }))
    local out, err = ffi.gc(ffi.new "struct letter", lib.letter_clear), units.err()
    local code = lib.letter_read(stored, out, err)
    if code < 0 then return nil, units.read_err(err) end
    return code == 1 and out or nil, stored
  end

  local function restored(headers)
    local stored = assert(parse(message { headers = headers }))
    local out, err = ffi.gc(ffi.new "struct headers", lib.headers_clear), units.err()
    assert.equal(0, lib.letter_restore(stored, out, err))
    return list(out)
  end

  it("is told by its Moonbus-Subject", function()
    local out, stored = letter { "Moonbus-Subject: a.b", "Moonbus-Stream: S", "Moonbus-Sequence: 9",
      "Moonbus-Timestamp: 1700000000123456789" }
    assert.equal("a.b", ffi.string(out.subject))
    assert.equal("S", ffi.string(out.stream))
    assert.equal(9, tonumber(out.sequence))
    assert.equal("1700000000123456789LL", tostring(out.timestamp_ns))
    assert.is_false(out.reference)
    assert.is_truthy(stored)
    assert.is_nil((letter { "Moonbus-Stream: S" }))
    assert.is_nil((letter {}))
  end)

  it("must say where it came from", function()
    local _, code = letter { "Moonbus-Subject: a..b" }
    assert.equal("invalid", code)
    _, code = letter { "Moonbus-Subject: a.*" }
    assert.equal("invalid", code)
    _, code = letter { "Moonbus-Subject: a", "Moonbus-Reference: true", "Moonbus-Stream: S" }
    assert.equal("invalid", code)
    _, code = letter { "Moonbus-Subject: a", "Moonbus-Reference: true", "Moonbus-Stream: S.>",
      "Moonbus-Sequence: 1", "Moonbus-Timestamp: 1" }
    assert.equal("invalid", code)
  end)

  it("gives the original's headers back, in their order", function()
    assert.same({ "K: 1", "Z: z", "K: 2", "Other: o" }, restored { "K: 1", "Z: z", "K: 2",
      "Moonbus-Subject: a", "Moonbus-Error: no paper", "Moonbus-Orig-Other: o",
      "Nats-Msg-Id: S:1:c:9:dead" })
  end)

  it("gives a TTL back, but nothing that had its effect already", function()
    assert.same({ "Nats-TTL: 1h" }, restored {
      "Moonbus-Subject: a", "moonbus-orig-nats-msg-id: x", "Moonbus-Orig-Nats-Rollup: all",
      "Moonbus-Orig-Nats-Expected-Last-Subject-Sequence: 3", "Moonbus-Orig-Nats-TTL: 1h",
      "Moonbus-Orig-Nats-Schedule-Next: purge", "Moonbus-Orig-Nats-Incr: 1",
      "Moonbus-Orig-Nats-Batch-Id: u", "Nats-Stream-Source: S 1 > >" })
  end)

  it("passes over a header that would have no name", function()
    assert.same({ "K: v" }, restored { "K: v", "Moonbus-Subject: a", "Moonbus-Orig-: x" })
  end)

  it("of a dead letter gives that one back", function()
    assert.same({ "Moonbus-Subject: a", "Moonbus-Error: 1", "Moonbus-Orig-Nats-TTL: 1h",
      "Moonbus-Orig-Nats-Msg-Id: x" }, restored {
      "Moonbus-Subject: a", "Moonbus-Subject: dead.x", "Moonbus-Error: 1", "Moonbus-Error: 2",
      "Moonbus-Orig-Nats-TTL: 1h", "Moonbus-Orig-Nats-Msg-Id: x",
      "Moonbus-Orig-Nats-Msg-Id: y" })
  end)
end)

describe("what lies in the place that a letter refers to", function()
  local function original(fields)
    local letter = ffi.new "struct letter"
    letter.subject, letter.timestamp_ns = "a.b", 1700000000000000000LL
    local stored = assert(parse(message(fields)))
    local out, err = ffi.gc(ffi.new "struct headers", lib.headers_clear), units.err()
    if lib.letter_restore_original(letter, stored, out, err) ~= 0 then
      return nil, units.read_err(err)
    end
    return list(out)
  end

  it("has the original's headers, without what had its effect already", function()
    assert.same({ "Moonbus-Mine: stays", "K: v" }, original { subject = "a.b",
      time = "2023-11-14T22:13:20Z",
      headers = { "Moonbus-Mine: stays", "Nats-Msg-Id: x", "Nats-Rollup: sub", "K: v" } })
  end)

  it("is another message when its time or its subject differs", function()
    for subject, time in pairs { ["a.b"] = "2023-11-14T22:13:21Z",
      ["a.c"] = "2023-11-14T22:13:20Z" } do
      local headers, code = original { subject = subject, time = time }
      assert.is_nil(headers)
      assert.equal("not_found", code)
    end
  end)
end)
