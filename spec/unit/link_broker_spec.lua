local ffi = require "ffi"
local units = require "spec.support.units"
local wait = require "spec.support.wait"

units.include "broker/broker_transport.h"
units.include "spec/support/wired.h"
units.include "base/log.h"
local lib = units.lib

local S, MS = 1000000000LL, 1000000LL

describe("A bus on a broker in its own process", function()
  local server, wireds

  setup(function() lib.log_setup(lib.LOG_OFF, lib.LOG_AUTO) end)
  teardown(function() lib.log_setup(lib.LOG_INFO, lib.LOG_AUTO) end)

  before_each(function()
    local err = units.err()
    server = lib.broker_server_new(ffi.new("struct broker_options", { seed = 1 }), err)
    wireds = {}
  end)

  after_each(function()
    lib.broker_server_freeze(server, false)
    lib.broker_server_down(server, false)
    for _, wired in ipairs(wireds) do assert.is_true(lib.wired_free(wired)) end
    wait.eventually(function() return lib.broker_server_connections(server) == 0 end)
    lib.broker_server_free(server)
  end)

  -- Each call with what went wrong as its message.
  local function call(name, ...)
    local err = units.err()
    local arguments = { ... }
    arguments[#arguments + 1] = err
    local result = lib["wired_" .. name](unpack(arguments))
    assert.is_true(result and result ~= nil, ffi.string(err.message))
    return result
  end

  local function bus(ping_interval_ns)
    local wired = lib.wired_new(server, ping_interval_ns or 0, units.err())
    wireds[#wireds + 1] = wired
    return wired
  end

  local function connected(ping_interval_ns)
    local wired = bus(ping_interval_ns)
    assert.is_true(lib.wired_wait_connected(wired, 5 * S))
    return wired
  end

  -- The broker knows of it when this returns.
  local function subscribe(wired, subject)
    call("subscribe", wired, subject)
    assert.is_true(lib.wired_flush(wired, 5 * S))
  end

  local function notes(wired) return ffi.string(lib.wired_notes(wired)) end

  local function expect(wired, beginning, count)
    wait.eventually(function()
      return lib.wired_count(wired, beginning) >= (count or 1)
    end, 10, function() return "\"" .. beginning .. "\" in:\n" .. notes(wired) end)
  end

  local function expect_all(wired, prefix, from, to)
    for number = from, to do expect(wired, prefix .. number) end
  end

  local function stream(wired)
    call("api", wired, "STREAM.CREATE.S", [[{"name":"S","subjects":["s.>"],"storage":"memory"}]])
  end

  it("connects both links, and ends", function()
    connected()
    assert.equal(2, lib.broker_server_connections(server))
  end)

  it("hands a message up to whoever subscribed, and a reply to whoever asked", function()
    local one, other = connected(), connected()
    subscribe(one, "a.>")
    call("request", other, "a.b", "hello", 5 * S)
    expect(other, "reply re:hello")
    assert.equal("got a.b hello\n", notes(one))
  end)

  it("tells whoever gathers when all that one read brought has come", function()
    local one, other = connected(), connected()
    call("gather", one, "a.>")
    assert.is_true(lib.wired_flush(one, 5 * S))
    lib.broker_server_freeze(server, true)
    for _ = 1, 20 do call("request", other, "a.b", "hello", 5 * S) end
    wait.eventually(function() return lib.wired_waiting(other) == 0 end)
    lib.broker_server_freeze(server, false)
    expect(one, "read ")
    assert.equal("read 20\n", notes(one))
  end)

  it("hands up at once what one read brought to a subscription, in its order, but not too much of it", function()
    local one, other = connected(), connected()
    subscribe(one, "a.>")
    lib.broker_server_freeze(server, true)
    local expected = {}
    for i = 1, 100 do
      call("request", other, "a.b", tostring(i), 5 * S)
      expected[i] = ("got a.b %d\n"):format(i)
    end
    wait.eventually(function() return lib.wired_waiting(other) == 0 end)
    lib.broker_server_freeze(server, false)
    expect(one, "got", 100)
    assert.equal(table.concat(expected), notes(one))
    wait.eventually(function() return lib.wired_most_at_once(one) == 64 end)
  end)

  it("has no frame wait for who wants to know how long the server takes", function()
    local best = math.huge -- of some: it would be half a second each time, and a busy machine is not always late
    for _ = 1, 10 do
      local wired = connected()
      assert.is_true(lib.wired_flush(wired, 5 * S)) -- behind what each connection begins with
      lib.broker_server_freeze(server, true)
      lib.wired_ask_rtt(wired)
      wait.holds(function() return lib.wired_waiting(wired) == 0 end, 0.03) -- the writer is asking
      local began = wait.now()
      call("request", wired, "nobody", "hello", 60 * S)
      wait.eventually(function() return lib.wired_waiting(wired) == 0 end)
      best = math.min(best, wait.now() - began)
      lib.broker_server_freeze(server, false)
      if best < 0.15 then break end
    end
    assert.is_true(best < 0.15, best)
  end)

  it("says at once that nobody serves a subject", function()
    local wired = connected()
    call("request", wired, "nobody", "hello", 60 * S)
    expect(wired, "no reply no_responders")
  end)

  it("ends a subscription when what was in flight has come", function()
    local one, other = connected(), connected()
    subscribe(one, "a.>")
    lib.broker_server_delay(server, 0, 50 * MS)
    for _ = 1, 20 do call("request", other, "a.b", "hello", 5 * S) end
    expect(one, "got a.b")
    lib.wired_unsubscribe(one)
    expect(one, "stopped")
    assert.is_truthy(notes(one):find "stopped\n$")
    expect(other, "reply re:hello", lib.wired_count(one, "got"))
  end)

  it("stores a publish once, and knows its id again", function()
    local wired = connected()
    stream(wired)
    call("publish", wired, "s.a", "1", "one")
    expect(wired, "stored 1")
    call("publish", wired, "s.a", "1", "one")
    expect(wired, "stored 1 again")
  end)

  it("pulls what a stream holds, and acknowledges it", function()
    local wired = connected()
    stream(wired)
    call("consume", wired, "S", "d", 30 * S)
    for number = 1, 50 do call("publish", wired, "s.a", "x", "id" .. number) end
    expect(wired, "took", 50)
    expect_all(wired, "took ", 1, 50)
    expect(wired, "stored", 50)
  end)

  it("subscribes and pulls again on a connection made anew", function()
    local one, other = connected(), connected()
    stream(one)
    subscribe(one, "a.>")
    call("consume", one, "S", "d", 1 * S)
    call("publish", one, "s.a", "x", "before")
    expect(one, "took 1")
    lib.broker_server_cut(server, lib.BROKER_ALL_LINKS, lib.BROKER_LOSE_BOTH)
    expect(one, "took 1") -- again, or its ack had arrived
    call("publish", other, "s.a", "x", "after")
    expect(one, "took 2")
    call("request", other, "a.b", "hello", 5 * S)
    expect(other, "reply re:hello")
  end)

  for _, loss in ipairs { "NOTHING", "IN", "OUT", "BOTH" } do
    it("stores each publish once over many cuts that lose: " .. loss:lower(), function()
      local wired = connected()
      stream(wired)
      call("consume", wired, "S", "d", 1 * S)
      lib.broker_server_delay(server, 2 * MS, 2 * MS)
      for number = 1, 100 do
        call("publish", wired, "s.a", "x", "id" .. number)
        if number % 20 == 0 then
          expect(wired, "stored", number - 19)
          lib.broker_server_cut(server, lib.BROKER_ALL_LINKS, lib["BROKER_LOSE_" .. loss])
        end
      end
      expect_all(wired, "stored ", 1, 100)
      expect_all(wired, "took ", 1, 100)
      assert.equal(0, lib.wired_count(wired, "stored 101"))
    end)
  end

  it("waits for a server that is down, says so, and goes on when it is up", function()
    local wired = connected()
    stream(wired)
    lib.broker_server_down(server, true)
    wait.eventually(function()
      return ffi.string(lib.wired_trouble(wired)) == "nats://broker:4222: nobody answers there"
    end)
    call("publish", wired, "s.a", "x", "meanwhile")
    assert.equal(0, lib.wired_count(wired, "stored"))
    lib.broker_server_down(server, false)
    expect(wired, "stored 1")
  end)

  it("waits for a server that refuses it, with the reason", function()
    lib.broker_server_refuse(server, "full moon")
    local wired = bus()
    wait.eventually(function()
      return ffi.string(lib.wired_trouble(wired)) == "nats://broker:4222: full moon"
    end)
    lib.broker_server_refuse(server, nil)
    assert.is_true(lib.wired_wait_connected(wired, 5 * S))
  end)

  it("takes a frozen server for lost when it misses too many PONGs, and goes on when it is thawed", function()
    local wired = connected(50 * MS)
    stream(wired)
    lib.broker_server_freeze(server, true)
    call("publish", wired, "s.a", "x", "meanwhile")
    wait.eventually(function()
      return ffi.string(lib.wired_trouble(wired)) ==
        "nats://broker:4222: it does not end the handshake within 1s"
    end)
    lib.broker_server_freeze(server, false)
    expect(wired, "stored 1")
    assert.equal(0, lib.wired_count(wired, "stored 2"))
  end)

  it("keeps its connection to a server that is frozen for a moment", function()
    local wired = connected()
    lib.broker_server_freeze(server, true)
    assert.is_false(lib.wired_flush(wired, 20 * MS))
    lib.broker_server_freeze(server, false)
    assert.is_true(lib.wired_flush(wired, 5 * S))
    assert.equal(2, lib.broker_server_connections(server))
  end)

  it("publishes again when a PubAck is lost, and is stored once", function()
    local wired = connected()
    stream(wired)
    lib.broker_server_lose(server, "_INBOX.>", 1)
    call("publish", wired, "s.a", "x", "one")
    expect(wired, "stored 1")
    assert.equal(0, lib.broker_server_losses_left(server))
    assert.equal(0, lib.wired_count(wired, "stored 1 again"))
  end)

  it("ends although the server is frozen, or down", function()
    for _, fault in ipairs { "freeze", "down" } do
      local wired = connected()
      subscribe(wired, "a")
      lib["broker_server_" .. fault](server, true)
      assert.is_true(lib.wired_free(table.remove(wireds)))
      lib["broker_server_" .. fault](server, false)
    end
    wait.eventually(function() return lib.broker_server_connections(server) == 0 end)
  end)
end)
