local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/link/nats_transport.h"
local lib = units.lib
local maker = lib.nats_transport_maker

local MS = 1000000ULL
local TRANSPORTS = 100 -- each freed at another moment of the clock's tick

local function spin(ns)
  local until_ns = lib.clock_now_ns() + ns
  repeat until lib.clock_now_ns() >= until_ns
end

describe("A transport over nats.c", function()
  local clock
  before_each(function() clock = lib.clock_new(nil) end)
  after_each(function() lib.clock_free(clock) end)

  -- The clock may have taken the deadline of the next look without having called yet: then an
  -- interrupt arms it once more.
  it("may be interrupted and freed while it looks at its connects", function()
    local url = ffi.new("char[?]", 32, "nats://127.0.0.1:1")
    local servers = ffi.new("const char *[1]", { url })
    local options =
      ffi.new("struct link_options", { servers = servers, server_count = 1, connect_timeout_ns = 200 * 1000000 })
    local events = ffi.new "struct transport_events"
    for nth = 1, TRANSPORTS do
      local err = units.err()
      local transport = maker.make(maker, options, clock, events, err)
      assert(transport ~= nil, ffi.string(err.message))
      local server = ffi.new("struct transport_server", { url = url })
      assert.is_false(transport.kind.connect(transport, server))
      assert.equals("nobody answers there", ffi.string(server.reason))
      local free_ns = lib.clock_now_ns() + 3 * MS * nth / TRANSPORTS
      repeat
        transport.kind.interrupt(transport)
        spin(MS / 5)
      until lib.clock_now_ns() > free_ns
      transport.kind["end_thread"](transport)
      transport.kind.free(transport)
    end
  end)
end)
