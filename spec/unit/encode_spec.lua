local ffi = require "ffi"
local units = require "spec.support.units"

for _, header in ipairs { "bus/link/transport.h", "bus/link/link_frame.h", "bus/wire.h", "bus/link/encode.h" } do
  units.include(header)
end
local lib = units.lib

local function encoded(message)
  local headers
  if message.headers then
    headers = ffi.new "struct headers"
    for name, value in message.headers:gmatch "([^:\r\n]+): ([^\r\n]*)\r\n" do
      assert.equal(0, lib.headers_add(headers, name, value, #value, nil))
    end
  end
  local frame = ffi.new("struct link_frame", {
    subject = message.subject, reply = message.reply, headers = headers, data = message.data,
    len = #(message.data or ""),
  })
  local measured = ffi.new "struct encoded"
  lib.encode_measure(frame, measured)
  local most = tonumber(measured.size)
  local out = ffi.new("char[?]", most)
  lib.encode(frame, measured, out)
  assert.is_true(measured.size <= most)
  local given = lib.encoded_message(measured, out)
  local function text(span) return span.at ~= nil and ffi.string(span.at, span.len) or nil end
  assert.same({ message.subject, message.reply, message.data or "", message.headers or "" },
    { text(given.subject), text(given.reply), text(given.data), text(given.headers) })
  return text(given.wire)
end

describe("a message to a server", function()
  it("is a PUB", function()
    assert.equal("PUB a.b 5\r\nhello\r\n", encoded { subject = "a.b", data = "hello" })
    assert.equal("PUB a.b c.d 0\r\n\r\n", encoded { subject = "a.b", reply = "c.d" })
  end)

  it("is an HPUB when it has headers", function()
    assert.equal("HPUB a.b 30 33\r\nNATS/1.0\r\nK: v\r\nLonger:  x\r\n\r\nabc\r\n",
      encoded { subject = "a.b", headers = "NATS/1.0\r\nK: v\r\nLonger:  x\r\n\r\n", data = "abc" })
    assert.equal("HPUB a c 17 17\r\nNATS/1.0\r\nK: \r\n\r\n\r\n",
      encoded { subject = "a", reply = "c", headers = "NATS/1.0\r\nK: \r\n\r\n" })
  end)

  it("has lengths of any number of digits", function()
    for digits = 1, 6 do
      local data = ("x"):rep(10 ^ digits)
      assert.equal(("PUB a %d\r\n%s\r\n"):format(#data, data), encoded { subject = "a", data = data })
    end
  end)

  it("keeps any bytes of its data", function()
    assert.equal("PUB a 5\r\n\r\n\0\r\n\r\n", encoded { subject = "a", data = "\r\n\0\r\n" })
  end)
end)
