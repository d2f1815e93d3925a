local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/link/nats_received.h"
local lib = units.lib

-- nats.c's own, by which it makes a message of what it has read; not in its header, and a release may
-- hide it.
if not pcall(ffi.typeof, "struct moonbus_spec_received") then
  ffi.cdef [[
    struct moonbus_spec_received { int declared; };
    int nats_Open(int64_t spin);
    int natsMsg_create(natsMsg **msg, const char *subject, int subject_len, const char *reply,
                       int reply_len, const char *bytes, int len, int header_len);
  ]]
end
pcall(ffi.cdef, [[
  void natsMsg_Destroy(natsMsg *msg);
  int natsMsgHeader_Get(natsMsg *msg, const char *key, const char **value);
]])

describe("where nats.c has the headers of a message", function()
  if not pcall(function() return lib.natsMsg_create end) then return end

  setup(function() lib.nats_Open(-1) end)

  local function received(options)
    local out = ffi.new "natsMsg *[1]"
    local block, data, subject = options.block or "", options.data or "data", options.subject or "a.b"
    local reply = options.reply or ""
    lib.natsMsg_create(out, subject, #subject, reply, #reply, block .. data, #block + #data,
      #block > 0 and #block or -1)
    return ffi.gc(out[0], lib.natsMsg_Destroy)
  end

  -- Its bytes, and whether they were written anew.
  local function headers_of(msg)
    local block = lib.nats_received_headers(msg)
    local text = block.at ~= nil and ffi.string(block.at, block.len) or nil
    local owned = block.owned ~= nil
    lib.header_block_clear(block)
    return text, owned
  end

  local BLOCK = "NATS/1.0\r\ntracestate:\r\nK: v\r\nlast:\r\n\r\n"

  it("is behind the subject, or the reply, with data or without", function()
    for _, reply in ipairs { "", "_INBOX.x" } do
      for _, data in ipairs { "", "data", "NATS/1.0\r\nX: y\r\n\r\n" } do
        local text, owned = headers_of(received { block = BLOCK, reply = reply, data = data })
        assert.equal(BLOCK, text)
        assert.is_false(owned)
      end
    end
  end)

  it("is read again and again", function()
    local msg = received { block = BLOCK }
    for _ = 1, 3 do assert.equal(BLOCK, (headers_of(msg))) end
  end)

  it("is nowhere when it has none, whatever its data looks like", function()
    assert.is_nil((headers_of(received {})))
    assert.is_nil((headers_of(received { data = BLOCK })))
    assert.is_nil((headers_of(received { data = BLOCK, reply = "_INBOX.x" })))
  end)

  it("is nowhere when it is no header block", function()
    for _, block in ipairs { "x", "NATS/1.0", "NATS/1.0\r\n\0", "\r\n\r\n", "NATS/2.0\r\n\r\n" } do
      local text = headers_of(received { block = block })
      assert.is_true(text == nil or text == block, block)
    end
  end)

  it("is not in a subject, nor a reply, that holds a NUL", function()
    assert.is_nil((headers_of(received { subject = "a\0NATS/1.0", reply = "NATS/1.0" })))
    assert.is_nil((headers_of(received { subject = "NATS/1.0\0NATS/1.0", block = "x" })))
    assert.is_nil((headers_of(received { subject = "a", reply = "b\0NATS/1.0" })))
  end)

  it("is asked of the library when that has read it already, and so changed it", function()
    local value = ffi.new "const char *[1]"
    for _, block in ipairs { "NATS/1.0\r\nK: v\r\nK: w\r\n\r\n", "NATS/1.0 404 No\r\nK: v\r\nK: w\r\n\r\n" } do
      local msg = received { block = block }
      lib.natsMsgHeader_Get(msg, "K", value)
      local text, owned = headers_of(msg)
      assert.is_true(owned)
      assert.matches("^NATS/1%.0\r\n.*K: v\r\nK: w\r\n.*\r\n$", text)
    end
  end)
end)
