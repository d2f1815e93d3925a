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

  it("ends within the write deadline, though the server goes on to take a little", function()
    local url = ffi.new("char[?]", #front.url + 1, front.url)
    local servers = ffi.new("const char *[1]", { url })
    local options = ffi.new("struct link_options", { servers = servers, server_count = 1,
      connect_timeout_ns = 5 * NS_PER_S, write_deadline_ns = 1.5 * NS_PER_S })
    local err = units.err()
    local transport = maker.make(maker, options, clock, EVENTS, err)
    assert(transport ~= nil, ffi.string(err.message))
    local to = ffi.new("struct transport_server", { url = url })
    assert.is_true(transport.kind.connect(transport, to), ffi.string(to.reason))
    front:trickle()
    local data, why = ("x"):rep(60 * MB), ffi.new "const char *[1]"
    local frame = ffi.new("struct link_frame", { subject = "flood", data = data, len = #data })
    local measured = ffi.new "struct encoded"
    lib.encode_measure(frame, measured)
    local wire = ffi.new("char[?]", measured.size)
    lib.encode(frame, measured, wire)
    local message = lib.encoded_message(measured, wire)
    assert.equal(lib.TRANSPORT_SENT, transport.kind.publish(transport, message, why))
    local began = wait.now()
    transport.kind.disconnect(transport)
    local took = wait.now() - began
    assert.is_true(took >= 1.4, "it was all written in " .. took)
    assert.is_true(took < wait.within(5), took .. " s")
    transport.kind["end_thread"](transport)
    transport.kind.free(transport)
  end)
end)
