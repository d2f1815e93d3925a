-- Each allocation of what works without a server is refused once: nothing crashes, nothing leaks, the
-- error says that memory ran out, and afterwards the same works.
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "spec/support/refuse.h"
units.include "base/text.h"
units.include "bus/wire.h"
units.include "bus/letter.h"
units.include "engine/run/message_id.h"
-- What these have to do with consumers is atomic, which the FFI does not know: what is needed of it.
do
  local function text_of(path)
    local file = assert(io.open(path))
    local text = file:read "*a"
    file:close()
    return text
  end
  local consumer = text_of "host/bus/consume/consumer.h"
  ffi.cdef(assert(text_of("host/bus/consume/deliver.h"):match "\nenum deliver_from {.-\n};")
    .. assert(consumer:match "\nenum consumer_policy {.-};")
    .. assert(consumer:match "\nstruct consumer_spec {.-\n};"))
end
ffi.cdef [[
struct cJSON *jsapi_parse(const char *operation, const char *data, size_t len, int *api_code, struct err *err);
struct cJSON *cJSON_Parse(const char *text);
void cJSON_Delete(struct cJSON *json);
char *cJSON_PrintUnformatted(const struct cJSON *json);
void cJSON_free(void *memory);
int consumer_spec_copy(struct consumer_spec *to, const struct consumer_spec *from, struct err *err);
void consumer_spec_clear(struct consumer_spec *spec);
struct cJSON *consumer_config_new(const struct consumer_spec *spec);
]]
local lib = units.lib

-- Calls run() with one more allocation granted each time, until none is refused. It returns a code (0:
-- done) and the error's sentence, and has given everything back.
local function refuse_each(run)
  for nth = 1, 10000 do
    lib.refuse_begin(nth)
    local code, sentence = run()
    local refused = lib.refuse_end()
    assert.equal(0, tonumber(lib.refuse_kept()), "kept by allocation " .. nth)
    if not refused then
      assert.equal(0, code, sentence)
      assert.is_true(nth > 1, "nothing was allocated")
      return nth - 1
    end
    assert.is_true(code ~= 0, "done, though allocation " .. nth .. " was refused")
    if sentence then assert.is_truthy(sentence:find "memory", sentence) end
  end
end

local function base64(text)
  local pipe = io.popen("printf '%b' '" .. text:gsub("\r", "\\r"):gsub("\n", "\\n") .. "' | base64 -w0")
  local out = pipe:read "*a"
  pipe:close()
  return out
end

describe("when memory is refused", function()
  it("headers that are to be sent stay as they are, and say so", function()
    refuse_each(function()
      local err = units.err()
      local headers = ffi.new "struct headers"
      local code = 0
      for i = 1, 40 do
        local value = ("v"):rep(i)
        if code == 0 then code = lib.headers_add(headers, "Name-" .. i, value, #value, err) end
      end
      lib.headers_clear(headers)
      return code, ffi.string(err.message)
    end)
  end)

  it("a text notes that something is missing", function()
    refuse_each(function()
      local text = ffi.new "struct text"
      lib.text_init(text)
      for _ = 1, 20 do lib.text_add(text, ("x"):rep(500), 500) end
      local failed = text.failed
      lib.text_clear(text)
      return failed and -1 or 0
    end)
  end)

  describe("a stored message", function()
    local hdrs = "NATS/1.0\r\nMoonbus-Stream: ORDERS\r\nMoonbus-Subject: orders.created\r\n" ..
      "big: " .. ("b"):rep(5000) .. "\r\nMoonbus-Sequence: 7\r\nMoonbus-Orig-Nats-Msg-Id: id\r\nx: y\r\n\r\n"
    local json
    setup(function()
      json = lib.cJSON_Parse(('{"message":{"subject":"dead.a","seq":7,"time":"2026-01-01T00:00:00Z",' ..
        '"data":"%s","hdrs":"%s"}}'):format(base64 "some data", base64(hdrs)))
      assert(json ~= nil)
    end)
    teardown(function() lib.cJSON_Delete(json) end)

    it("is not read", function()
      refuse_each(function()
        local err, stored = units.err(), ffi.new "struct stored_message"
        local code = lib.stored_parse(json, stored, err)
        lib.stored_clear(stored)
        return code
      end)
    end)

    it("is not restored from its dead letter", function()
      local err, stored = units.err(), ffi.new "struct stored_message"
      assert.equal(0, lib.stored_parse(json, stored, err), ffi.string(err.message))
      refuse_each(function()
        local headers = ffi.new "struct headers"
        local code = lib.letter_restore(stored, headers, err)
        lib.headers_clear(headers)
        return code, ffi.string(err.message)
      end)
      lib.stored_clear(stored)
    end)
  end)

  it("an answer of JetStream is not read", function()
    local answer = '{"config":{"name":"ORDERS","subjects":["orders.>"]},"state":{"messages":7}}'
    refuse_each(function()
      local err, api_code = units.err(), ffi.new "int[1]"
      local json = lib.jsapi_parse("STREAM.INFO.ORDERS", answer, #answer, api_code, err)
      lib.cJSON_Delete(json)
      return json == nil and -1 or 0
    end)
  end)

  it("a publish has no number", function()
    refuse_each(function()
      local counts, input = ffi.new "struct publish_counts", ffi.new "int[2]"
      local code = 0
      for i = 0, 1 do
        for _, subject in ipairs { "a", "b", "c" } do
          if code == 0 and lib.publish_counts_next(counts, input + i, subject) == 0 then code = -1 end
        end
      end
      lib.publish_counts_clear(counts)
      return code
    end)
  end)

  describe("a durable", function()
    local filters = ffi.new("const char *[2]", { "orders.a", "orders.b" })
    local spec = ffi.new("struct consumer_spec", {
      stream = "ORDERS", durable = "billing", filters = filters, filter_count = 2, ack_wait_ns = 30e9,
      concurrency = 64, deliver = 0, owner = "orders.lua", group = "jobs", policy = 2, pin_timeout_ns = 5e9,
    })

    it("is not copied by half", function()
      refuse_each(function()
        local err, copy = units.err(), ffi.new "struct consumer_spec"
        local code = lib.consumer_spec_copy(copy, spec, err)
        lib.consumer_spec_clear(copy)
        return code, ffi.string(err.message)
      end)
    end)

    it("is not made with settings that lack some", function()
      local function show(config)
        local text = lib.cJSON_PrintUnformatted(config)
        if text == nil then return nil end -- nobody can send it
        local copy = ffi.string(text)
        lib.cJSON_free(text)
        return copy
      end
      local config = lib.consumer_config_new(spec)
      local whole = show(config)
      lib.cJSON_Delete(config)
      refuse_each(function()
        config = lib.consumer_config_new(spec)
        lib.refuse_pause()
        local text = config ~= nil and show(config)
        local code = text and 0 or -1
        if text then assert.equal(whole, text) end
        lib.refuse_resume()
        lib.cJSON_Delete(config)
        return code
      end)
    end)
  end)
end)
