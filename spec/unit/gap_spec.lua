local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/consume/gap.h"
local lib = units.lib

local S = 1e9
local WAIT = 30 * S
local NOTHING, OPENED = lib.GAP_NOTHING, lib.GAP_OPENED
local CLOSED, GIVEN_UP = lib.GAP_CLOSED, lib.GAP_GIVEN_UP

-- A gap and a clock of its own. arrive(consumer sequence, stream sequence, how): how.again, how.known.
local function watch()
  local self = { gap = ffi.new "struct gap", now = 1000 * S }
  -- The connection was cut, and is back.
  function self.cut() lib.gap_broken(self.gap, self.now + 60 * S) end
  function self.arrive(_, consumer_sequence, stream_sequence, how)
    local delivery = ffi.new("struct gap_delivery", consumer_sequence, stream_sequence or consumer_sequence,
      how and how.again or false, how and how.known or false)
    return lib.gap_arrived(self.gap, delivery, WAIT, self.now)
  end
  function self.floor(_, floor) return lib.gap_floor(self.gap, floor, self.now) end
  function self.tick() return lib.gap_tick(self.gap, self.now) end
  function self.missing() return tonumber(self.gap.missing) end
  return self
end

local AGAIN = { again = true }

describe("a gap in what was delivered", function()
  it("is none while the numbers follow each other, wherever they begin", function()
    local w = watch()
    w:cut()
    for sequence = 70, 90 do assert.equal(NOTHING, w:arrive(sequence)) end
    w:cut()
    for sequence = 91, 99 do assert.equal(NOTHING, w:arrive(sequence)) end
    assert.equal(0, w.missing())
  end)

  it("is none before anything has arrived here: then nothing was lost to us", function()
    local w = watch()
    w:cut()
    w:arrive(1)
    assert.equal(NOTHING, w:arrive(9))
    assert.equal(0, w.missing())
  end)

  it("opens where a number is left out after a break, and closes when as many have come again", function()
    local w = watch()
    w:arrive(1)
    w:cut()
    assert.equal(OPENED, w:arrive(4))
    assert.equal(2, w.missing())
    assert.equal(NOTHING, w:arrive(5))
    assert.equal(NOTHING, w:arrive(6, 2, AGAIN))
    assert.equal(CLOSED, w:arrive(7, 3, AGAIN))
  end)

  it("is none when what comes first is what was missing", function()
    local w = watch()
    w:arrive(1)
    w:cut()
    assert.equal(NOTHING, w:arrive(3, 2, AGAIN))
    assert.equal(0, w.missing())
  end)

  it("is not closed by a redelivery of what this process holds or has settled", function()
    local w = watch()
    w:arrive(1)
    w:cut()
    w:arrive(3)
    assert.equal(NOTHING, w:arrive(4, 1, { again = true, known = true }))
    assert.equal(1, w.missing())
  end)

  it("is not closed by what comes again though it was never missing", function()
    local w = watch()
    w:arrive(10, 100)
    w:cut()
    w:arrive(12, 110)
    for _, never_missing in ipairs { 50, 100, 111 } do
      assert.equal(NOTHING, w:arrive(tonumber(w.gap.last) + 1, never_missing, AGAIN))
    end
    assert.equal(CLOSED, w:arrive(tonumber(w.gap.last) + 1, 105, AGAIN))
  end)

  it("grows with the next break, and is waited for from then on", function()
    local w = watch()
    w:arrive(1)
    w:cut()
    w:arrive(3)
    w.now = w.now + 10 * S
    assert.equal(NOTHING, w:arrive(6))
    assert.equal(3, w.missing())
    w.now = w.now + WAIT - 1
    assert.equal(NOTHING, w.tick())
    w.now = w.now + 1
    assert.equal(GIVEN_UP, w.tick())
    assert.equal(NOTHING, w.tick())
  end)

  it("closes when everything up to it is settled, by whomever", function()
    local w = watch()
    w:arrive(10, 100)
    w:cut()
    w:arrive(12, 110)
    assert.equal(NOTHING, w:floor(108))
    assert.equal(CLOSED, w:floor(109))
    assert.equal(NOTHING, w:floor(120))
  end)

  it("is no wider than what the server has outstanding, and this process does not hold", function()
    local w = watch()
    w:arrive(1)
    w:cut()
    w:arrive(5)
    assert.equal(NOTHING, lib.gap_outstanding(w.gap, 3))
    assert.equal(NOTHING, lib.gap_outstanding(w.gap, 2))
    assert.equal(2, w.missing())
    assert.equal(CLOSED, lib.gap_outstanding(w.gap, 0))
    assert.equal(NOTHING, lib.gap_outstanding(w.gap, 0))
  end)

  it("does not know what the floor means before a first delivery has come", function()
    local w = watch()
    w:arrive(1, 1)
    w:cut()
    w:arrive(4, 2, AGAIN)
    assert.equal(1, w.missing())
    assert.equal(NOTHING, w:floor(50))
    w:arrive(5, 60)
    assert.equal(CLOSED, w:floor(59))
  end)

  it("is none when the consumer counts anew: it sends again, in order, what did not arrive", function()
    local w = watch()
    w:arrive(100)
    w:cut()
    assert.equal(NOTHING, w:arrive(3))
    assert.equal(NOTHING, w:arrive(4))
    assert.equal(0, w.missing())
  end)
end)

describe("a durable that is shared with another process", function()
  it("is known by numbers that are left out without a break, and then nothing is missing", function()
    local w = watch()
    w:arrive(1)
    assert.equal(NOTHING, w:arrive(5))
    w.now = w.now + 59 * S
    w:cut()
    assert.equal(NOTHING, w:arrive(9))
  end)

  it("is forgotten after a minute", function()
    local w = watch()
    w:arrive(1)
    w:arrive(5)
    w.now = w.now + 60 * S
    w:cut()
    assert.equal(OPENED, w:arrive(9))
  end)

  it("is waited for once: what is settled or does not come was the other's", function()
    for _, finish in ipairs { "floor", "tick" } do
      local w = watch()
      w:arrive(1)
      w:cut()
      assert.equal(OPENED, w:arrive(3))
      w.now = w.now + WAIT
      assert.is_true(w[finish](w, 2) ~= NOTHING)
      assert.equal(NOTHING, w:arrive(7))
    end
  end)
end)

-- A server that loses connections, and redelivers; and whoever holds back what comes while the gap is
-- open, sorted, and lets it go when it is whole.
describe("what is held back while a gap is open", function()
  it("is in the order of the stream, however often the connection is cut", function()
    math.randomseed(11)
    for _ = 1, 300 do
      local w = watch()
      local stream, numbers, lost, held, run = 0, 0, {}, {}, {}
      local function let_go()
        table.sort(held)
        for _, sequence in ipairs(held) do run[#run + 1] = sequence end
        held = {}
      end
      local function deliver(sequence, again, arrives)
        numbers = numbers + 1
        if not arrives then
          table.insert(lost, sequence)
          return
        end
        local event = w:arrive(numbers, sequence, { again = again })
        if w.missing() > 0 or #held > 0 then held[#held + 1] = sequence else run[#run + 1] = sequence end
        if event == CLOSED then let_go() end
      end
      deliver(0, false, true)
      w:cut()
      for _ = 1, math.random(1, 6) do
        for _ = 1, math.random(0, 20) do
          stream = stream + 1
          deliver(stream, false, true)
        end
        for _ = 1, math.random(0, 5) do -- on their way when the connection is cut
          stream = stream + 1
          deliver(stream, false, false)
        end
        stream = stream + 1
        deliver(stream, false, true)
        local again = lost
        lost = {}
        local through = math.random(0, #again) -- the next cut takes the rest
        for index, sequence in ipairs(again) do deliver(sequence, true, index <= through) end
      end
      stream = stream + 1
      deliver(stream, false, true)
      while #lost > 0 do
        local again = lost
        lost = {}
        for _, sequence in ipairs(again) do deliver(sequence, true, true) end
      end
      w.now = w.now + WAIT
      if w.tick() == GIVEN_UP then let_go() end
      assert.equal(stream + 1, #run)
      for index = 2, #run do assert.is_true(run[index] > run[index - 1]) end
    end
  end)
end)
