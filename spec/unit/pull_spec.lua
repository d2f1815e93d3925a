local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/consume/pull.h"
local lib = units.lib

local MS, S = 1e6, 1e9
local NEVER = 0xffffffffffffffffULL

-- A pull machine and a clock of its own. Every event takes the present time of that clock, and the
-- request that it makes is written at once, unless `held_back`.
local function machine(base, most, max_bytes)
  local self = { now = 1000 * S, requests = {}, warnings = {}, looks = 0 }
  local pull = ffi.new "struct pull"
  lib.pull_init(pull, base, most or 0, max_bytes or 0)
  self.pull = pull

  local function note(action)
    self.action = action
    if action.look then
      self.looks = self.looks + 1
    end
    if action.warn ~= nil then
      table.insert(self.warnings, ffi.string(action.warn))
    end
    if action.batch > 0 then
      table.insert(self.requests, {
        batch = action.batch,
        max_bytes = tonumber(action.max_bytes),
        expires = tonumber(action.expires_ns),
        heartbeat = tonumber(action.heartbeat_ns),
        number = tonumber(action.request),
      })
      if not self.held_back then
        self:sent(true)
      end
    end
  end

  for _, event in ipairs { "connected", "disconnected", "joined", "tick", "found", "gone", "moved" } do
    self[event] = function(_, times)
      for _ = 1, times or 1 do
        note(lib["pull_" .. event](pull, self.now))
      end
    end
  end
  -- Where it says that there is nothing to do until the tick, there is nothing.
  for _, event in ipairs { "message", "released" } do
    self[event] = function(_, times)
      for _ = 1, times or 1 do
        local tick = self.now + 1
        local rests = lib["pull_" .. event](pull, tick, self.now)
        note(lib.pull_tick(pull, self.now))
        local action = self.action
        assert.is_true(not rests or (action.batch == 0 and not action.look and not action.keep
          and action.warn == nil and action.wake_ns >= tick))
      end
    end
  end
  function self.sent(_, ok)
    note(lib.pull_sent(pull, ok, self.now))
  end
  -- About the last request; or about an older one, by its number.
  function self.status(_, code, description, pending, number)
    note(lib.pull_status(pull, number or pull.requests, code, description or "", pending or -1, self.now))
  end
  function self.stop()
    note(lib.pull_stop(pull))
  end
  function self.wait(_, ns)
    self.now = self.now + ns
  end
  -- Lets the time pass until the machine wants to be woken, and wakes it.
  function self.wake()
    assert.is_true(self.action.wake_ns ~= NEVER, "it waits for nothing")
    self.now = math.max(self.now, tonumber(self.action.wake_ns))
    self:tick()
  end
  -- The batch of the only request since the last call; nil when there was none.
  function self.asked()
    assert.is_true(#self.requests <= 1, "more than one request")
    local request = table.remove(self.requests)
    return request and request.batch
  end
  function self.state()
    return tonumber(pull.state)
  end
  return self
end

local function connected(...)
  local m = machine(...)
  m:connected()
  return m
end

local PULLING, BACKING_OFF = lib.PULL_PULLING, lib.PULL_BACKING_OFF
local LOOKING, PAUSED, STOPPED = lib.PULL_LOOKING, lib.PULL_PAUSED, lib.PULL_STOPPED

describe("asking", function()
  it("waits for a connection, then asks for all that fits", function()
    local m = machine(10)
    m:tick()
    assert.is_nil(m.asked())
    m:connected()
    assert.equal(10, m.asked())
    assert.equal(PULLING, m.state())
  end)

  it("states how long the request lives and how often the server says that it does", function()
    local m = connected(10, 0, 4096)
    local request = m.requests[1]
    assert.equal(30 * S, request.expires)
    assert.equal(2 * S, request.heartbeat)
    assert.is_true(request.heartbeat <= request.expires / 2)
    assert.equal(4096, request.max_bytes)
  end)

  it("asks for nothing while everything asked for is still owed", function()
    local m = connected(10)
    m.asked()
    m:tick()
    m:message(3)
    assert.is_nil(m.asked())
  end)

  it("asks again when as much is free as is asked for", function()
    local m = connected(8)
    m.asked()
    m:message(4) -- 4 held, 4 owed
    m:released(3)
    assert.is_nil(m.asked())
    m:released() -- 4 free, 4 owed
    assert.equal(4, m.asked())
  end)

  it("works with a limit of 1", function()
    local m = connected(1)
    assert.equal(1, m.asked())
    for _ = 1, 3 do
      m:message()
      assert.is_nil(m.asked())
      m:released()
      assert.equal(1, m.asked())
    end
  end)

  it("takes a limit below 1 for 1", function()
    assert.equal(1, connected(0).asked())
  end)

  it("never lets held and asked exceed the limit", function()
    math.randomseed(7)
    for _ = 1, 200 do
      local m = machine(math.random(1, 40), math.random(0, 1) * 64)
      m:connected()
      local pull, top = m.pull, m.pull.limit
      for _ = 1, 400 do
        local draw = math.random()
        if draw < 0.45 and pull.asked > 0 then
          m:message()
        elseif draw < 0.8 and pull.held > 0 then
          m:released()
        elseif draw < 0.85 and pull.asked > 0 then
          m:status(408, "Request Timeout", math.random(0, pull.asked))
        elseif draw < 0.9 and pull.asked > 0 then
          m:joined()
        else
          m:tick()
        end
        m:wait(math.random(1, 3) * MS)
        top = math.max(top, pull.limit)
        assert.is_true(pull.held >= 0 and pull.asked >= 0)
        assert.is_true(pull.held + pull.asked <= top)
        m.requests = {}
      end
    end
  end)

  it("always has at least half of the free credit asked for", function()
    local m = connected(64)
    m:message(64)
    for released = 1, 64 do
      m:released()
      assert.is_true(m.pull.asked * 2 >= released)
    end
  end)

  it("has few requests under way, however slowly places come free", function()
    local m = connected(1000)
    m:message(1000)
    m.requests = {}
    m:released(1000)
    assert.is_true(#m.requests <= 11)
  end)

  it("makes one request at a time: what comes free meanwhile goes into the next", function()
    local m = connected(8)
    m.asked()
    m:message(8)
    m.held_back = true
    m:released()
    assert.equal(1, m.asked())
    m:released(5)
    assert.is_nil(m.asked())
    m:sent(true)
    assert.equal(5, m.asked())
  end)

  it("backs off when a request could not be handed over, and its credit is free again", function()
    local m = machine(4)
    m.held_back = true
    m:connected()
    assert.equal(4, m.asked())
    m:sent(false)
    assert.is_nil(m.asked())
    assert.equal(BACKING_OFF, m.state())
    m.wake()
    assert.equal(4, m.asked())
  end)

  it("counts a redelivery of what is held as arrived, not as held", function()
    local m = connected(2)
    m.asked()
    m:message()
    m:joined()
    assert.equal(1, m.asked())
    assert.equal(1, m.pull.held)
  end)

  it("asks for nothing more once stopped, and goes on counting", function()
    local m = connected(4)
    m.asked()
    m:message(2)
    m:stop()
    m:released()
    m:message()
    m:released(2)
    m:tick()
    m:connected()
    m:status(408, "Request Timeout", 1)
    assert.is_nil(m.asked())
    assert.equal(0, m.pull.held)
    assert.equal(STOPPED, m.state())
    assert.is_true(m.action.wake_ns == NEVER)
  end)
end)

describe("prefetch", function()
  -- `count` messages, each handled in `ns` on every one of the places.
  local function run(m, count, ns)
    for _ = 1, count do
      if m.pull.asked > 0 then
        m:message()
      end
      m:wait(ns)
      m:released()
    end
    m.requests = {}
  end

  it("is none for handlers whose pace is not known", function()
    local m = connected(4, 1000)
    assert.equal(4, m.asked())
  end)

  it("grows to what the handlers start within 20 ms", function()
    local m = connected(4, 1000)
    run(m, 1000, 0.1 * MS) -- 10,000 a second
    assert.is_true(m.pull.limit >= 4 + 190 and m.pull.limit <= 4 + 210)
  end)

  it("has a bound", function()
    local m = connected(4, 50)
    run(m, 1000, 0.1 * MS)
    assert.equal(54, m.pull.limit)
  end)

  it("goes back to none when the handlers become slow", function()
    local m = connected(4, 1000)
    run(m, 1000, 0.1 * MS)
    run(m, 20, 500 * MS)
    assert.equal(4, m.pull.limit)
  end)

  it("asks when half of it is used up, not for each message", function()
    local m = connected(4, 1000)
    run(m, 1000, 0.1 * MS)
    while m.pull.asked > 0 do
      m:message()
    end
    m.requests = {}
    local half = math.floor((m.pull.limit - 4) / 2)
    m:released(half - (m.pull.limit - m.pull.held) - 1)
    assert.is_nil(m.asked())
    m:released()
    assert.equal(half, m.asked())
  end)

  it("starts anew when the number of handlers changes", function()
    local m = connected(4, 1000)
    run(m, 1000, 0.1 * MS)
    lib.pull_resize(m.pull, 10, 1000)
    assert.equal(10, m.pull.limit)
  end)
end)

describe("statuses", function()
  it("100 is a sign of life and changes nothing", function()
    local m = connected(4)
    m.asked()
    m:wait(3 * S)
    m:status(100, "Idle Heartbeat")
    m:wait(3 * S)
    m:tick()
    assert.is_nil(m.asked())
    assert.equal(4, m.pull.asked)
    assert.same({}, m.warnings)
  end)

  for code, text in pairs { [404] = "No Messages", [408] = "Request Timeout" } do
    it(code .. " gives the rest of its request back, and pulls again", function()
      local m = connected(4)
      m.asked()
      m:message()
      m:wait(30 * S)
      m:status(code, text, 3)
      assert.equal(3, m.asked())
      assert.equal(3, m.pull.asked)
      assert.same({}, m.warnings)
    end)
  end

  it("without a count give back the last request", function()
    local m = connected(4)
    m.asked()
    m:wait(30 * S)
    m:status(408, "Request Timeout")
    assert.equal(4, m.asked())
  end)

  it("give back no more than is owed", function()
    local m = connected(4)
    m.asked()
    m:message(4)
    m:status(408, "Request Timeout", 100)
    assert.equal(0, m.pull.asked)
    m:released(4)
    assert.equal(4, m.pull.asked)
  end)

  it("that end each request at once do not make it spin", function()
    local m = connected(4)
    local requests = 0
    for _ = 1, 100 do
      requests = requests + #m.requests
      m.requests = {}
      m:wait(1 * MS)
      if m.state() == PULLING then
        m:status(408, "Request Timeout", 4)
      else
        m:tick()
      end
    end
    assert.is_true(requests <= 5)
  end)

  it("409 Message Size Exceeds MaxBytes: one message, without a bound, then as before", function()
    local m = connected(4, 0, 1000)
    m.requests = {}
    m:status(409, "Message Size Exceeds MaxBytes", 4)
    local one, rest = unpack(m.requests)
    assert.same({ 1, 0 }, { one.batch, one.max_bytes })
    assert.same({ 3, 1000 }, { rest.batch, rest.max_bytes })
  end)

  it("409 Message Size Exceeds MaxBytes after messages only ended a full request", function()
    local m = connected(8, 0, 1000)
    m.requests = {}
    m:message(3)
    m:status(409, "Message Size Exceeds MaxBytes", 5)
    assert.equal(1000, m.requests[1].max_bytes)
    assert.equal(5, m.requests[1].batch)
  end)

  it("409 Message Size Exceeds MaxBytes waits for a free place, then asks without a bound", function()
    local m = connected(1, 0, 1000)
    m.requests = {}
    m:message()
    m:released()
    m:status(409, "Message Size Exceeds MaxBytes", 1)
    assert.equal(2, #m.requests)
    assert.equal(0, m.requests[2].max_bytes)
  end)

  it("409 Batch Completed pulls again", function()
    local m = connected(4)
    m.asked()
    m:message(2)
    m:released(2)
    m.requests = {}
    m:status(409, "Batch Completed", 2)
    assert.equal(4, m.pull.asked)
    assert.equal(PULLING, m.state())
  end)

  it("409 Exceeded MaxRequestBatch: warns once, keeps to the bound, backs off", function()
    local m = connected(100)
    m.asked()
    m:status(409, "Exceeded MaxRequestBatch of 10")
    assert.equal(1, #m.warnings)
    assert.is_nil(m.asked())
    assert.equal(BACKING_OFF, m.state())
    m.wake()
    assert.is_true(#m.requests > 0)
    for _, request in ipairs(m.requests) do
      assert.equal(10, request.batch)
    end
  end)

  it("409 Exceeded MaxRequestExpires: the next lives shorter, its heartbeat at most half", function()
    local m = connected(4)
    m.asked()
    m:status(409, "Exceeded MaxRequestExpires of 1m30s")
    m.wake()
    assert.equal(90 * S, m.requests[1].expires)
    assert.equal(2 * S, m.requests[1].heartbeat)
    m.requests = {}
    m:status(409, "Exceeded MaxRequestExpires of 3s")
    m.wake()
    assert.equal(3 * S, m.requests[1].expires)
    assert.equal(1.5 * S, m.requests[1].heartbeat)
  end)

  it("409 Exceeded MaxRequestMaxBytes: the next asks for less", function()
    local m = connected(4, 0, 1e6)
    m.asked()
    m:status(409, "Exceeded MaxRequestMaxBytes of 1024")
    m.wake()
    assert.equal(1024, m.requests[1].max_bytes)
  end)

  it("409 Exceeded, of what no server bounds a consumer to, changes nothing that would harm", function()
    local m = connected(4, 0, 1e6)
    local first = table.remove(m.requests)
    for _, bound in ipairs { "MaxRequestExpires of 1ns", "MaxRequestExpires of 0s",
      "MaxRequestBatch of 99999999999999999999", "MaxRequestMaxBytes of 99999999999999999999" } do
      m:status(409, "Exceeded " .. bound)
      m.wake()
      local request = table.remove(m.requests)
      assert.equal(first.expires, request.expires)
      assert.equal(first.heartbeat, request.heartbeat)
      assert.equal(4, request.batch)
      assert.is_true(request.max_bytes > 0)
    end
  end)

  it("409 Exceeded MaxWaiting: warns once and backs off, further each time, up to 5 s", function()
    local m = connected(4)
    local waited = {}
    for _ = 1, 10 do
      m:status(409, "Exceeded MaxWaiting")
      assert.equal(BACKING_OFF, m.state())
      local before = m.now
      m.wake()
      table.insert(waited, m.now - before)
    end
    assert.equal(1, #m.warnings)
    assert.equal(100 * MS, waited[1])
    assert.equal(200 * MS, waited[2])
    assert.equal(5 * S, waited[10])
  end)

  describe("409 Leadership Change", function()
    it("forgets the credit and pulls again, when all has come that the leader has to say", function()
      local m = connected(8)
      m:message(4)
      m:released(4) -- three requests are under way
      m.requests = {}
      m:wait(1 * S)
      local before = m.now
      for number = 1, 3 do m:status(409, "Leadership Change", nil, number) end
      assert.is_nil(m.asked())
      assert.equal(0, m.pull.asked)
      m.wake()
      assert.equal(50 * MS, m.now - before)
      assert.equal(8, m.asked())
      assert.equal(PULLING, m.state())
      assert.same({}, m.warnings)
    end)

    it("is news, whichever request it answers: a newer one may have gone to the last leader", function()
      local m = connected(4)
      m:wait(5 * S)
      m:tick() -- silence: the first request is forgotten, and there is a second one
      assert.equal(2, tonumber(m.pull.requests))
      m.requests = {}
      m:wait(1 * S)
      m:status(409, "Leadership Change", nil, 1)
      assert.equal(0, m.pull.asked)
      m.wake()
      assert.equal(4, m.asked())
    end)

    it("of leaders that change all the time does not make it spin", function()
      local m = connected(4)
      m.requests = {}
      local from = m.now
      for _ = 1, 20 do
        m:status(409, "Leadership Change")
        m.wake()
      end
      assert.is_true(m.now - from > 60 * S)
      assert.equal(20, #m.requests)
    end)

    it("is no news to a consumer that is looked for, or has no connection", function()
      local m = connected(4)
      m:status(409, "Consumer Deleted")
      m:status(409, "Leadership Change", nil, 1)
      assert.equal(LOOKING, m.state())
      m:disconnected()
      m:status(409, "Leadership Change", nil, 1)
      assert.equal(PAUSED, m.state())
    end)
  end)

  it("of a request that is not counted on any more give nothing back, and are no sign of life", function()
    local m = connected(4)
    m:wait(5 * S)
    m:tick()
    m.requests = {}
    local heard = m.pull.heard_ns
    m:wait(1 * S)
    for code, text in pairs { [100] = "Idle Heartbeat", [404] = "No Messages", [408] = "Request Timeout",
      [409] = "Batch Completed", [503] = "" } do
      m:status(code, text, 4, 1)
    end
    assert.equal(4, m.pull.asked)
    assert.is_true(heard == m.pull.heard_ns)
    assert.same({}, m.requests)
  end)

  it("409 Server Shutdown waits for the reconnect", function()
    local m = connected(4)
    m.asked()
    m:status(409, "Server Shutdown")
    assert.is_nil(m.asked())
    m:disconnected()
    m:wait(10 * S)
    m:tick()
    assert.is_nil(m.asked())
    m:connected()
    assert.equal(4, m.asked())
  end)

  it("409 Server Shutdown of a server that is not ours pulls again after a while", function()
    local m = connected(4)
    m.asked()
    m:status(409, "Server Shutdown")
    m.wake()
    assert.equal(4, m.asked())
  end)

  it("409 Consumer Deleted looks, once, and pulls when it was found", function()
    local m = connected(4)
    m.asked()
    m:status(409, "Consumer Deleted")
    m:status(409, "Consumer Deleted")
    assert.equal(1, m.looks)
    assert.equal(LOOKING, m.state())
    assert.is_nil(m.asked())
    assert.is_true(m.action.wake_ns == NEVER)
    m:found()
    assert.equal(4, m.asked())
  end)

  it("409 Consumer Deleted of one that is always found backs off", function()
    local m = connected(4)
    for _ = 1, 10 do
      m:status(409, "Consumer Deleted")
      m:found()
      if m.state() == BACKING_OFF then
        m.wake()
      end
      assert.equal(PULLING, m.state())
    end
    assert.is_true(m.now > 1010 * S)
  end)

  it("409 with words that we do not know warns and backs off", function()
    local m = connected(4)
    m.asked()
    m:status(409, "Consumer is push based")
    assert.equal(1, #m.warnings)
    assert.is_nil(m.asked())
    m.wake()
    assert.equal(4, m.asked())
  end)

  it("400 warns and looks; found, it waits before it asks the same again", function()
    local m = connected(4)
    m.asked()
    m:status(400, "Bad Request")
    assert.equal(1, #m.warnings)
    assert.equal(1, m.looks)
    m:found()
    assert.is_nil(m.asked())
    assert.equal(BACKING_OFF, m.state())
    m.wake()
    assert.equal(4, m.asked())
    m:status(400, "Bad Request")
    assert.equal(1, #m.warnings)
  end)

  it("503 backs off; the third in a row looks", function()
    local m = connected(4)
    m.asked()
    for _ = 1, 2 do
      m:status(503)
      assert.equal(BACKING_OFF, m.state())
      assert.equal(0, m.looks)
      m.wake()
      assert.equal(4, m.asked())
    end
    m:status(503)
    assert.equal(1, m.looks)
    assert.same({}, m.warnings)
  end)

  for _, code in ipairs { 429, 500, 599 } do
    it(code .. " backs off, with a warning", function()
      local m = connected(4)
      m.asked()
      m:status(code, "whatever")
      assert.equal(1, #m.warnings)
      assert.equal(BACKING_OFF, m.state())
      m.wake()
      assert.equal(4, m.asked())
    end)
  end

  it("a message between failures starts the backoff anew", function()
    local m = connected(4)
    for _ = 1, 5 do
      m:status(429)
      m.wake()
    end
    m:message()
    m:status(429)
    local before = m.now
    m.wake()
    assert.equal(100 * MS, m.now - before)
  end)
end)

describe("silence", function()
  it("of two heartbeats warns, forgets the credit and pulls again", function()
    local m = connected(4)
    m.asked()
    m.wake()
    assert.equal(1004 * S, m.now)
    assert.equal(4, m.asked())
    assert.equal(4, m.pull.asked)
    assert.equal(1, #m.warnings)
    assert.equal(0, m.looks)
  end)

  it("three times in a row looks, having warned once", function()
    local m = connected(4)
    for _ = 1, 3 do
      m.wake()
    end
    assert.equal(1, #m.warnings)
    assert.equal(1, m.looks)
    assert.equal(LOOKING, m.state())
    m:found()
    assert.equal(PULLING, m.state())
    for _ = 1, 3 do
      m.wake()
    end
    assert.equal(2, m.looks)
    assert.equal(1, #m.warnings)
  end)

  it("is broken by any message, and warned of anew later", function()
    local m = connected(4)
    m.wake()
    m:message()
    m:released()
    m.wake()
    assert.equal(2, #m.warnings)
    assert.equal(0, m.looks)
  end)

  it("is none within a second, however short the requests live", function()
    local m = connected(4)
    m:status(409, "Exceeded MaxRequestExpires of 1ms")
    m.wake()
    assert.equal(0.5 * MS, m.requests[#m.requests].heartbeat)
    m:wait(999 * MS)
    m:tick()
    assert.equal(0, m.pull.silences)
    m:wait(1 * MS)
    m:tick()
    assert.equal(1, m.pull.silences)
  end)

  it("is no silence while nothing is asked for", function()
    local m = connected(2)
    m:message(2)
    m.requests = {}
    assert.is_true(m.action.wake_ns == NEVER)
    m:wait(3600 * S)
    m:tick()
    assert.same({}, m.warnings)
    m:released()
    assert.equal(1, m.asked())
    assert.equal(m.now + 4 * S, tonumber(m.action.wake_ns))
  end)

  it("a request that the server lost while others live gives its credit back when it lapses",
    function()
      local m = connected(4)
      m.asked()
      m:message(2) -- the other two never come
      for _ = 1, 20 do
        m:wait(2 * S)
        m:status(100, "Idle Heartbeat")
        m:tick()
      end
      assert.equal(2, m.asked())
      assert.same({}, m.warnings)
    end)
end)

describe("the connection", function()
  it("pauses while it is away", function()
    local m = connected(4)
    m.asked()
    m:message(2)
    m:disconnected()
    assert.equal(PAUSED, m.state())
    m:released(2)
    m:wait(60 * S)
    m:tick()
    assert.is_nil(m.asked())
    assert.is_true(m.action.wake_ns == NEVER)
    assert.same({}, m.warnings)
  end)

  it("back again forgets the credit, pulls at once, and has the consumer looked at", function()
    local m = connected(4)
    m.asked()
    assert.equal(0, m.looks)
    m:message()
    m:disconnected()
    m:connected()
    assert.equal(3, m.asked())
    assert.equal(1, m.looks)
    assert.equal(PULLING, m.state())
    m:found()
    assert.is_nil(m.asked())
  end)

  it("coming twice is coming once", function()
    local m = connected(4)
    m.asked()
    m:connected()
    assert.is_nil(m.asked())
  end)

  it("that takes a request away before it was written lets the next be made", function()
    local m = machine(4)
    m.held_back = true
    m:connected()
    assert.equal(4, m.asked())
    m:disconnected()
    m:connected()
    assert.is_nil(m.asked())
    m:sent(false)
    assert.equal(4, m.asked())
    assert.equal(PULLING, m.state())
  end)

  it("gives each request a number of its own, over all connections", function()
    local m = connected(4)
    m:message(2)
    m:released(2)
    m:disconnected()
    m:connected()
    local numbers = {}
    for _, request in ipairs(m.requests) do table.insert(numbers, request.number) end
    assert.same({ 1, 2, 3 }, numbers)
  end)

  it("keeps in mind that the consumer was gone", function()
    local m = connected(4)
    m:status(409, "Consumer Deleted")
    m:gone()
    m:disconnected()
    m.requests = {}
    m:connected()
    assert.is_nil(m.asked())
    assert.equal(LOOKING, m.state())
    m:found()
    assert.equal(4, m.asked())
  end)
end)

describe("what is gone", function()
  it("is looked for with backoff, every 5 s at most", function()
    local m = connected(4)
    m:status(409, "Consumer Deleted")
    local last
    for look = 1, 12 do
      assert.equal(look, m.looks)
      m:gone()
      assert.equal(LOOKING, m.state())
      last = m.now
      m.wake()
    end
    assert.equal(5 * S, m.now - last)
  end)

  it("is pulled from at once when it is back, however long it was away", function()
    local m = connected(4)
    m:status(503)
    m.wake()
    m:status(409, "Consumer Deleted")
    for _ = 1, 20 do
      m:gone()
      m.wake()
    end
    m.requests = {}
    m:found()
    assert.equal(4, m.asked())
  end)

  it("can be told by others: then it is looked for soon", function()
    local m = connected(4)
    m:gone()
    assert.equal(LOOKING, m.state())
    m.wake()
    assert.equal(1, m.looks)
  end)

  it("may still deliver: what is held counts", function()
    local m = connected(4)
    m:message(2)
    m:status(409, "Consumer Deleted")
    m:message()
    m:found()
    assert.equal(3, m.pull.held)
    assert.equal(1, m.pull.asked)
  end)

  it("does not stop a stop", function()
    local m = connected(4)
    m:status(409, "Consumer Deleted")
    m:stop()
    m:found()
    m:gone()
    assert.equal(STOPPED, m.state())
    assert.is_true(m.action.wake_ns == NEVER)
  end)
end)

describe("pulls that go to another consumer", function()
  it("are made anew at once, whatever was asked of the one before", function()
    local m = connected(4)
    assert.equal(4, m.asked())
    m:moved()
    assert.equal(4, m.asked())
    assert.equal(4, m.pull.asked)
  end)

  it("hear no news of the one before: not that it was deleted, nor that it has another leader", function()
    local m = connected(4)
    m.asked()
    m:moved()
    m:status(409, "Consumer Deleted", nil, 1)
    m:status(409, "Leadership Change", nil, 1)
    assert.equal(PULLING, m.state())
    assert.equal(0, m.looks)
    m:status(409, "Consumer Deleted", nil, 2)
    assert.equal(LOOKING, m.state())
  end)

  it("count what is held from the one before", function()
    local m = connected(4)
    m:message(3)
    m:moved()
    assert.equal(3, m.pull.held)
    assert.equal(1, m.pull.asked)
  end)

  it("wait while it is looked for", function()
    local m = connected(4)
    m.asked()
    m:gone()
    m:moved()
    assert.is_nil(m.asked())
    m:found()
    assert.equal(4, m.asked())
  end)
end)

-- Of a consumer that pins its clients (ADR-42).
describe("a pin", function()
  local function pinning(base, timeout)
    local m = machine(base)
    lib.pin_set(m.pull.pin, true, (timeout or 60) * S)
    m:connected()
    function m.pinned(_, id, request)
      local new = lib.pin_taken(m.pull.pin, request or m.pull.requests, id, #id, m.now)
      m:message()
      return new
    end
    function m.id() return ffi.string(m.pull.pin.id) end
    return m
  end

  it("is waited for with one request at a time: the server pins one, and leaves the others unanswered", function()
    local m = pinning(10)
    assert.equal(10, m.asked())
    m:status(404, "", 6) -- of the ten, six are not owed any more
    assert.is_nil(m.asked())
    assert.is_true(m:pinned "one")
    assert.equal("one", m.id())
    assert.equal(6, m.asked())
  end)

  it("is new once, and another when it is another", function()
    local m = pinning(4)
    m.asked()
    assert.is_true(m:pinned "one")
    assert.is_false(m:pinned "one")
    assert.is_true(m:pinned "two")
    assert.equal("two", m.id())
  end)

  it("is no text that could not be put into a request, and none where none is expected", function()
    local m = pinning(8)
    m.asked()
    for _, id in ipairs { "", '"', "a b", "a\n", ("x"):rep(64) } do assert.is_false(m:pinned(id)) end
    assert.equal("", m.id())
    assert.is_true(m:pinned(("x"):rep(63)))
    lib.pin_set(m.pull.pin, false, 0)
    assert.equal("", m.id())
    assert.is_false(m:pinned "one")
  end)

  it("is lost by the refusal of a request that names it: then one request is made without", function()
    local m = pinning(4)
    m.asked()
    m:pinned "one"
    m:released()
    m.asked()
    m:wait(1 * S)
    m:status(423, "Nats-Wrong-Pin-Id", 3, 1)
    assert.equal("", m.id())
    assert.equal(4, m.asked())
    m:status(423, "Nats-Wrong-Pin-Id", 1, 2)
    assert.is_nil(m.asked())
    assert.equal(PULLING, m.state())
    assert.same({}, m.warnings)
  end)

  it("is not lost by the late refusal of a request that named the one before", function()
    local m = pinning(4)
    m.asked()
    m:pinned "one"
    m:wait(1 * S)
    m:status(423, "Nats-Wrong-Pin-Id", 3, 1)
    m.asked()
    m:pinned "two"
    m:status(423, "Nats-Wrong-Pin-Id", 3, 1)
    assert.equal("two", m.id())
  end)

  it("is kept by requests, and, where none is due, by one that gets nothing", function()
    local m = pinning(1, 60)
    m.asked()
    m:pinned "one" -- its handler runs: there is no room for another
    assert.is_false(m.action.keep)
    m:wake()
    assert.equal(1030 * S, m.now)
    assert.is_true(m.action.keep)
    assert.is_nil(m.asked())
    m:wake()
    assert.equal(1060 * S, m.now)
    assert.is_true(m.action.keep)
    m:released()
    assert.equal(1, m.asked())
    assert.is_false(m.action.keep)
  end)

  it("is ours for as long as a request that named it counts, less what the way of another message may take", function()
    local m = pinning(1, 80)
    assert.is_false(lib.pin_is_ours(m.pull.pin, m.now))
    m.asked()
    m:pinned "one"
    assert.is_true(lib.pin_is_ours(m.pull.pin, m.now + 69 * S))
    assert.is_false(lib.pin_is_ours(m.pull.pin, m.now + 70 * S))
  end)

  it("is kept by who has stopped, until nothing is held", function()
    local m = pinning(1, 80)
    m.asked()
    m:pinned "one"
    m:stop()
    m:tick()
    for _ = 1, 3 do
      m:wake()
      assert.is_true(m.action.keep)
    end
    assert.equal(1120 * S, m.now)
    m:released()
    assert.is_true(m.action.wake_ns == NEVER)
    m:tick()
    assert.is_false(m.action.keep)
  end)

  it("is not kept by who has stopped, and comes too late", function()
    local m = pinning(1, 80)
    m.asked()
    m:pinned "one"
    m:stop()
    m:wait(75 * S)
    m:tick()
    assert.is_false(m.action.keep)
  end)

  it("stays over a lost connection, and is kept by none while there is none", function()
    local m = pinning(2, 60)
    m.asked()
    m:pinned "one"
    m:disconnected()
    m:wait(100 * S)
    m:tick()
    assert.is_false(m.action.keep)
    m:connected()
    assert.equal("one", m.id())
    assert.equal(1, m.asked())
  end)

  it("does not have a server that refuses each request be asked without end", function()
    local m = pinning(1)
    m:pinned "one"
    m:released()
    for _ = 1, 10 do m:status(423, "Nats-Pin-Id mismatch") end
    assert.equal(BACKING_OFF, m.state())
  end)
end)
