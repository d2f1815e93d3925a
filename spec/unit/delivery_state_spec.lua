local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/consume/delivery_state.h"
local lib = units.lib

local S = 1e9
local ACK_WAIT = 30 * S
local NONE, ACK, NAK, TERM = lib.VERDICT_NONE, lib.VERDICT_ACK, lib.VERDICT_NAK, lib.VERDICT_TERM
local STORED, UNSTORED, DROPPED = lib.DELIVERY_STORED, lib.DELIVERY_UNSTORED, lib.DELIVERY_DROPPED

-- A delivery that has just arrived, and a clock of its own.
local function arrived()
  local self = { state = ffi.new "struct delivery_state", now = 1000 * S }
  local state, news = self.state, ffi.new "bool[1]"
  lib.delivery_state_init(state, self.now)
  function self.pass(seconds) self.now = self.now + seconds * S end
  function self.settle(verdict) return lib.delivery_state_settle(state, verdict) end
  function self.begin_letter() return lib.delivery_state_begin_letter(state) end
  function self.end_letter(how) return lib.delivery_state_end_letter(state, how) end
  function self.join(known) lib.delivery_state_join(state, known ~= false, self.now) end
  function self.is_lost()
    news[0] = false
    return lib.delivery_state_lapse(state, ACK_WAIT, self.now, news), news[0]
  end
  function self.phase() return lib.delivery_state_phase(state) end
  function self.verdict() return lib.delivery_state_verdict(state) end
  function self.is_done() return lib.delivery_state_is_done(state) end
  -- What goes out for the verdict, when the lane is written `after` so many seconds.
  function self.sent(after)
    local frame = lib.delivery_state_frame(state)
    if frame == NONE or frame == ACK then return frame end
    self.pass(after or 0)
    if lib.delivery_state_in_time(state, ACK_WAIT, self.now) then return frame end
    return lib.delivery_state_instead(state)
  end
  function self.hand_beat() return lib.delivery_state_beat(state) end
  function self.beat_wanted() return lib.delivery_state_beat_wanted(state, ACK_WAIT, self.now, news) end
  function self.end_beat(sent) lib.delivery_state_beat_ended(state, sent, self.now) end
  -- A heartbeat that is written at once.
  function self.beat()
    assert.is_true(self.hand_beat())
    local wanted = self.beat_wanted()
    self.end_beat(wanted)
    return wanted
  end
  function self.park(parked) return lib.delivery_state_park(state, parked) end
  return self
end

describe("the verdict of a delivery", function()
  for _, verdict in ipairs { ACK, NAK, TERM } do
    it("is given once: " .. tonumber(verdict), function()
      local d = arrived()
      assert.equal(NONE, d.verdict())
      assert.is_true(d.settle(verdict))
      assert.equal(verdict, d.verdict())
      for _, other in ipairs { ACK, NAK, TERM } do assert.is_false(d.settle(other)) end
      assert.is_false(d.begin_letter())
      assert.equal(verdict, d.verdict())
      assert.equal(verdict, d.sent())
    end)
  end

  it("says whether the message may run again: not after an ack or a term, also when nobody can be told", function()
    for verdict, done in pairs { [tonumber(ACK)] = true, [tonumber(TERM)] = true, [tonumber(NAK)] = false } do
      local d = arrived()
      d.pass(31)
      d.is_lost()
      d.settle(verdict)
      assert.equal(done, d.is_done())
    end
  end)
end)

describe("the dead letter of a delivery", function()
  it("takes the verdict for itself while it is under way", function()
    local d = arrived()
    assert.is_true(d.begin_letter())
    assert.equal(NONE, d.verdict())
    assert.is_true(lib.delivery_state_is_taken(d.state))
    for _, verdict in ipairs { ACK, NAK, TERM } do assert.is_false(d.settle(verdict)) end
    assert.is_false(d.begin_letter())
  end)

  it("ends with a term when it is stored, or when there is none; with a nak when it could not be stored", function()
    for how, sent in pairs { [tonumber(STORED)] = TERM, [tonumber(DROPPED)] = TERM, [tonumber(UNSTORED)] = NAK } do
      local d = arrived()
      d.begin_letter()
      assert.is_true(d.end_letter(how))
      assert.equal(sent, d.verdict())
      assert.equal(sent, d.sent())
      assert.is_false(d.end_letter(how))
    end
  end)

  it("ends nothing that has its verdict, and nothing that no letter was begun for", function()
    local d = arrived()
    assert.is_false(d.end_letter(STORED))
    d.settle(NAK)
    assert.is_false(d.end_letter(STORED))
    assert.equal(NAK, d.verdict())
  end)

  it("is remembered after its end", function()
    local d = arrived()
    assert.is_false(lib.delivery_state_is_letters(d.state))
    d.begin_letter()
    assert.is_true(lib.delivery_state_is_letters(d.state))
    d.end_letter(UNSTORED)
    assert.is_true(lib.delivery_state_is_letters(d.state))
  end)
end)

describe("the lease of a delivery", function()
  it("is lost when the server has not heard of us for ack_wait, which is news once", function()
    local d = arrived()
    d.pass(29)
    assert.is_false((d.is_lost()))
    d.pass(1)
    local lost, news = d.is_lost()
    assert.is_true(lost)
    assert.is_true(news)
    lost, news = d.is_lost()
    assert.is_true(lost)
    assert.is_false(news)
  end)

  it("goes on with each heartbeat that is written, and with none that is not", function()
    local d = arrived()
    for _ = 1, 10 do
      d.pass(20)
      assert.is_true(d.beat())
    end
    d.pass(20)
    d.hand_beat()
    d.end_beat(false)
    d.pass(10)
    assert.is_true((d.is_lost()))
  end)

  it("is found again when the message comes here once more", function()
    local d = arrived()
    d.pass(40)
    assert.is_true((d.is_lost()))
    d.join()
    assert.is_false((d.is_lost()))
    d.settle(NAK)
    assert.equal(NAK, d.sent())
  end)

  it("stays lost when its new ack subject could not be kept", function()
    local d = arrived()
    d.pass(40)
    d.is_lost()
    d.join(false)
    assert.is_true((d.is_lost()))
    assert.equal(1, lib.delivery_state_joined(d.state))
  end)
end)

describe("for a lease that is lost", function()
  local function lost()
    local d = arrived()
    d.pass(31)
    d.is_lost()
    return d
  end

  it("an ack is sent, and no nak, no term and no heartbeat", function()
    for verdict, sent in pairs { [tonumber(ACK)] = ACK, [tonumber(NAK)] = NONE, [tonumber(TERM)] = NONE } do
      local d = lost()
      d.settle(verdict)
      assert.equal(sent, lib.delivery_state_frame(d.state))
    end
    local d = lost()
    d.hand_beat()
    assert.is_false(d.beat_wanted())
  end)

  it("a stored letter is acked, for the message is done with", function()
    local d = lost()
    d.begin_letter()
    d.end_letter(STORED)
    assert.equal(ACK, d.sent())
  end)

  it("nothing is sent for a letter that was not stored", function()
    for _, how in ipairs { UNSTORED, DROPPED } do
      local d = lost()
      d.begin_letter()
      d.end_letter(how)
      assert.equal(NONE, d.sent())
    end
  end)
end)

describe("a verdict that waits in the lane until the lease is over", function()
  it("is not sent when it is a nak or a term", function()
    for _, verdict in ipairs { NAK, TERM } do
      local d = arrived()
      d.settle(verdict)
      assert.equal(NONE, d.sent(30))
    end
  end)

  it("is an ack instead when the letter is stored", function()
    local d = arrived()
    d.begin_letter()
    d.end_letter(STORED)
    assert.equal(ACK, d.sent(30))
  end)
end)

describe("the heartbeat of a delivery", function()
  it("waits alone to be written", function()
    local d = arrived()
    assert.is_true(d.hand_beat())
    assert.is_false(d.hand_beat())
    d.end_beat(true)
    assert.is_true(d.hand_beat())
  end)

  it("is not written once the verdict is given: it would cancel the delay of a nak", function()
    local d = arrived()
    d.hand_beat()
    d.settle(NAK)
    assert.is_false(d.beat_wanted())
  end)

  it("goes on while the letter is under way", function()
    local d = arrived()
    d.begin_letter()
    d.pass(20)
    assert.is_true(d.beat())
    d.pass(20)
    assert.is_false((d.is_lost()))
  end)

  it("of an ack subject from before a join is not written, and renews nothing", function()
    local d = arrived()
    d.hand_beat()
    d.pass(10)
    d.join()
    assert.is_false(d.beat_wanted())
    d.pass(20)
    d.end_beat(true)
    d.pass(10)
    assert.is_true((d.is_lost()))
  end)
end)

describe("a parked delivery", function()
  it("is news each way, and only while there is no verdict", function()
    local d = arrived()
    assert.is_true(d.park(true))
    assert.is_false(d.park(true))
    assert.is_true(d.park(false))
    assert.is_true(d.park(true))
    d.settle(NAK)
    assert.is_false(d.park(false))
    assert.is_true(d.state.parked)
  end)
end)

-- Whatever comes in whatever order, by a seed: the promises hold.
describe("any history of a delivery", function()
  local function run(seed)
    math.randomseed(seed)
    local d = arrived()
    local verdicts, heard, waiting = 0, d.now, false
    local history = {}
    local function note(...) history[#history + 1] = table.concat({ ... }, " ") end
    local function check(condition, what)
      if not condition then
        error(("seed %d: %s after %s"):format(seed, what, table.concat(history, ", ")), 0)
      end
    end
    local function given(yes)
      verdicts = verdicts + (yes and 1 or 0)
      check(verdicts <= 1, "a second verdict")
    end
    local steps = {
      function() d.pass(math.random(0, 12)); note("time", d.now / S) end,
      function() note "settle"; given(d.settle(math.random(1, 3))) end,
      function() note "begin_letter"; d.begin_letter() end,
      function() note "end_letter"; given(d.end_letter(math.random(5, 7))) end,
      function()
        if verdicts > 0 then return end -- it has left the table
        note "join"
        d.join()
        heard = d.now
      end,
      function()
        note "hand_beat"
        check(d.hand_beat() == not waiting, "two heartbeats, or none, wait")
        waiting = true
      end,
      function()
        if not waiting then return end
        local before = d.state.joined == d.state.beat_of
        local wanted = d.beat_wanted()
        note("beat", tostring(wanted))
        check(not wanted or verdicts == 0, "a heartbeat after the verdict")
        check(not wanted or before, "a heartbeat of an older ack subject")
        check(not wanted or d.now < heard + ACK_WAIT, "a heartbeat for a lost lease")
        d.end_beat(wanted)
        if wanted then heard = d.now end
        waiting = false
      end,
      function() note "look"; if verdicts == 0 then d.is_lost() end end,
      function() note "park"; d.park(math.random(2) == 1) end,
    }
    for _ = 1, math.random(3, 60) do steps[math.random(#steps)]() end
    if verdicts == 0 then return "open" end
    if d.now >= heard + ACK_WAIT then d.is_lost() end
    local sent = d.sent(math.random(0, 40))
    local in_time = d.now < heard + ACK_WAIT
    check(sent == NONE or sent == ACK or in_time, "a nak or term for a lost lease")
    check(d.verdict() ~= ACK or sent == ACK, "an ack that is not sent")
    check(d.phase() ~= STORED or sent == TERM or sent == ACK, "a stored message that may run again")
    check(d.phase() == STORED or sent == NONE or sent == d.verdict(), "another verdict than was given")
    check(d.is_done() == (d.verdict() ~= NAK), "a done message that may run again")
    return tonumber(sent)
  end

  it("gives one verdict, nothing but an ack for a lost lease, no heartbeat after the verdict (3000 histories)",
    function()
      local ends = {}
      for seed = 1, 3000 do
        local how = run(seed)
        ends[how] = (ends[how] or 0) + 1
      end
      -- The histories get everywhere.
      for _, how in ipairs { "open", tonumber(NONE), tonumber(ACK), tonumber(NAK), tonumber(TERM) } do
        assert.is_true((ends[how] or 0) > 20, ("%s ended so: %s"):format(tostring(ends[how]), how))
      end
    end)
end)

describe("the copy of a delivery, to be tried again much later", function()
  it("has the message acked when it is stored, and nak'd when it is not", function()
    for stored, ends in pairs { [true] = { lib.DELIVERY_COPIED, ACK }, [false] = { lib.DELIVERY_NAKED, NAK } } do
      local d = arrived()
      assert.is_true(lib.delivery_state_begin_copy(d.state))
      assert.is_true(lib.delivery_state_is_copied(d.state))
      assert.is_false(lib.delivery_state_is_letters(d.state))
      assert.equal(NONE, d.verdict())
      assert.is_true(d.beat(), "its lease goes on meanwhile")
      for _, verdict in ipairs { ACK, NAK, TERM } do assert.is_false(d.settle(verdict)) end
      assert.is_false(d.begin_letter())
      assert.is_true(lib.delivery_state_end_copy(d.state, ends[1]))
      assert.equal(ends[2], d.verdict())
      assert.equal(stored, d.is_done())
      assert.equal(stored, lib.delivery_state_is_copied(d.state))
      assert.is_false(lib.delivery_state_end_copy(d.state, ends[1]))
    end
  end)
end)
