local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/consume/retry_copy.h"
if not pcall(ffi.typeof, "marker_retry_copy_spec") then
  ffi.cdef [[
    size_t malloc_usable_size(void *memory);
    void free(void *memory);
    typedef int marker_retry_copy_spec;
  ]]
end
local lib = units.lib

-- What the delivery of a copy becomes; lines: those of its headers, as they come. Its packet, and what holds that.
local function open(lines, subject)
  local block = "NATS/1.0\r\n" .. table.concat(lines, "\r\n") .. "\r\n\r\n"
  local kept = { block, subject or "moonbus.retries.IN.worker.7-1700000000000000000.due", "IN", "worker" }
  local delivery = ffi.new "struct delivery"
  delivery.packet.subject = kept[2]
  delivery.packet.headers.at, delivery.packet.headers.len = block, #block
  delivery.attempt = 1
  local code = lib.retry_copy_open(delivery, kept[3], kept[4])
  ffi.gc(delivery, function(old) ffi.C.free(old.packet.headers.owned) end)
  return delivery, code, kept
end

local function headers_of(delivery)
  local headers = delivery.packet.headers
  return headers.at ~= nil and ffi.string(headers.at, headers.len) or ""
end

describe("A copy that comes", function()
  it("is what was copied, with the headers that this had", function()
    local delivery, code, kept = open { "color: red", "Moonbus-Retry-Orig-Nats-Msg-Id: a", "Nats-Scheduler: x",
      "Moonbus-Retry-Subject: in.a", "Moonbus-Retry-Attempts: 2", "Moonbus-Retry-Ack: $JS.ACK.x" }
    assert.equal(0, code)
    assert.equal("in.a", ffi.string(delivery.packet.subject))
    assert.equal("NATS/1.0\r\ncolor: red\r\nNats-Msg-Id: a\r\n\r\n", headers_of(delivery))
    assert.equal(7, tonumber(delivery.stream_sequence))
    assert.equal(3, tonumber(delivery.attempt))
    assert.is_table(kept)
  end)

  it("has room for its headers, however its publisher has spelt them", function()
    for _, count in ipairs { 1, 60, 300, 3000 } do
      local lines, expected = { "Moonbus-Retry-Subject:a", "Moonbus-Retry-Attempts:1" }, {}
      for i = 1, count do lines[i + 2], expected[i] = "a:", "a: \r\n" end
      local delivery, code = open(lines)
      assert.equal(0, code)
      local needed = #"a\0" + tonumber(delivery.packet.headers.len)
      local room = tonumber(ffi.C.malloc_usable_size(delivery.packet.headers.owned))
      assert.is_true(room >= needed, ("%d headers: %d bytes in %d"):format(count, needed, room))
      assert.equal("NATS/1.0\r\n" .. table.concat(expected) .. "\r\n", headers_of(delivery))
    end
  end)

  it("is none without the subject and the attempts of what was copied", function()
    local invalid = lib.ERR_INVALID
    for _, lines in ipairs {
      { "Moonbus-Retry-Attempts: 1" }, { "Moonbus-Retry-Subject: a" },
      { "Moonbus-Retry-Subject: a b", "Moonbus-Retry-Attempts: 1" },
      { "Moonbus-Retry-Subject: a", "Moonbus-Retry-Attempts: none" },
    } do
      local _, code = open(lines)
      assert.equal(invalid, code)
    end
    local _, code = open({ "Moonbus-Retry-Subject: a", "Moonbus-Retry-Attempts: 1" }, "moonbus.retries.IN.worker.7.due")
    assert.equal(invalid, code)
  end)
end)
