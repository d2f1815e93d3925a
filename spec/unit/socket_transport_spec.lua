local ffi = require "ffi"
local proxy = require "spec.support.proxy"
local server = require "spec.support.server"
local units = require "spec.support.units"
local wait = require "spec.support.wait"

for _, header in ipairs { "bus/link/socket_transport.h", "bus/link/link_frame.h", "bus/link/encode.h" } do
  units.include(header)
end
local lib = units.lib
local maker = lib.socket_transport_maker

local MB = 1024 * 1024
local NS_PER_S = 1000000000

-- A call up from another thread must not be Lua's.
local function nothing(kind) return ffi.cast(kind, lib.clock_now_ns) end

local EVENTS = ffi.new("struct transport_events", {
  on_lost = nothing "void (*)(void *)", on_back = nothing "void (*)(void *)", on_gone = nothing "void (*)(void *)",
  on_closed = nothing "void (*)(void *)", on_read_end = nothing "void (*)(void *)",
  on_refused = nothing "void (*)(void *, const struct transport_refusal *)",
  on_max_payload = nothing "void (*)(void *, size_t)", on_error = nothing "void (*)(void *, const char *)",
})

describe("A transport over a socket", function()
  local own, front, clock
  setup(function()
    own = server.start { config = "max_payload: 67108864" }
    front = proxy.start(own)
  end)
  before_each(function() clock = lib.clock_new(nil) end)
  after_each(function() lib.clock_free(clock) end)
  teardown(function()
    front:close()
    own:close()
  end)

  -- A transport that is connected to the proxy.
  local function connected()
    local url = ffi.new("char[?]", #front.url + 1, front.url)
    local servers = ffi.new("const char *[1]", { url })
    local options = ffi.new("struct link_options", { servers = servers, server_count = 1,
      connect_timeout_ns = 5 * NS_PER_S, write_deadline_ns = 1.5 * NS_PER_S, ping_interval_ns = 3600 * NS_PER_S })
    local err = units.err()
    local transport = maker.make(maker, options, clock, EVENTS, err)
    assert(transport ~= nil, ffi.string(err.message))
    local to = ffi.new("struct transport_server", { url = url })
    assert.is_true(transport.kind.connect(transport, to), ffi.string(to.reason))
    return transport, { url, servers, options, to }
  end

  local function publish(transport, subject, data)
    local why = ffi.new "const char *[1]"
    local frame = ffi.new("struct link_frame", { subject = subject, data = data, len = #data })
    local measured = ffi.new "struct encoded"
    lib.encode_measure(frame, measured)
    local wire = ffi.new("char[?]", measured.size)
    lib.encode(frame, measured, wire)
    local message = lib.encoded_message(measured, wire)
    assert.equal(lib.TRANSPORT_SENT, transport.kind.publish(transport, message, why))
  end

  local function finish(transport)
    transport.kind["end_thread"](transport)
    transport.kind.free(transport)
  end

  it("ends within the write deadline, though the server goes on to take a little", function()
    local transport, kept = connected()
    front:trickle()
    publish(transport, "flood", ("x"):rep(60 * MB))
    local began = wait.now()
    transport.kind.disconnect(transport)
    local took = wait.now() - began
    assert.is_true(took >= 1.4, "it was all written in " .. took)
    assert.is_true(took < wait.within(5), took .. " s")
    finish(transport)
    assert.is_table(kept)
  end)

  it("writes everything when it is asked for a PONG, also where an older one is waited for, or has come", function()
    local listener = own:connect()
    local sub = listener:subscribe "told"
    local transport, kept = connected()
    local function ping(wait_ms) return tonumber(transport.kind.ping(transport, wait_ms * NS_PER_S / 1000)) end
    front:delay(300)
    assert.equal(lib.TRANSPORT_LATE, ping(1))
    publish(transport, "told", "while it is waited for")
    assert.equal(lib.TRANSPORT_LATE, ping(1))
    assert.equal("while it is waited for", assert(sub:next()).data)
    front:delay(0)
    wait.eventually(function() return ping(1) == lib.TRANSPORT_PONG end)
    front:delay(300)
    assert.equal(lib.TRANSPORT_LATE, ping(1))
    wait.holds(function() return true end, 0.7) -- its PONG has come meanwhile
    publish(transport, "told", "when it has come")
    assert.equal(lib.TRANSPORT_PONG, ping(1))
    assert.equal("when it has come", assert(sub:next()).data)
    front:delay(0)
    transport.kind.disconnect(transport)
    finish(transport)
    listener:close()
    assert.is_table(kept)
  end)
end)
