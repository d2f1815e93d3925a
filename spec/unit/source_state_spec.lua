-- The machine of a source: where the work of one registered handler comes from, how far it is, and
-- what becomes of what comes to it.
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "engine/source/source_state.h"
local lib = units.lib

-- A source whose life is written as a row of words.
local function source(brings, rules)
  local state = ffi.new "struct source_state"
  lib.source_state_init(state, lib["SOURCE_BRINGS_" .. brings])
  state.rules = rules or { messages = 2, bytes = 100, batch_bytes = 1000 }
  local self = { state = state }

  function self.is(_, phase)
    assert.equal(lib["SOURCE_" .. phase], state.phase)
    return self
  end
  for _, event in ipairs { "start", "fail", "drained", "late" } do
    self[event] = function()
      lib["source_state_" .. event](state)
      return self
    end
  end
  function self.begin(_, count)
    lib.source_state_begin(state, count or 1)
    return self
  end
  self["end"] = function(_, count)
    lib.source_state_end(state, count or 1)
    return self
  end
  function self.share(_, expected)
    assert.equal(expected, lib.source_state_share(state, 4, 32))
    return self
  end
  function self.stop(_, what)
    assert.equal(lib["SOURCE_STOP_" .. what], lib.source_state_stop(state))
    return self
  end
  for _, event in ipairs { "cancel", "tick", "owe" } do
    self[event] = function(_, expected)
      assert.equal(expected, lib["source_state_" .. event](state))
      return self
    end
  end
  -- A message of so many bytes comes, and meets this fate.
  function self.comes(_, bytes, fate, waits)
    assert.equal(lib["SOURCE_" .. fate], lib.source_state_fate(state, bytes, waits or false))
    if fate == "QUEUE" then lib.source_state_queue(state, bytes) end
    return self
  end
  function self.leaves(_, bytes)
    lib.source_state_unqueue(state, bytes)
    return self
  end
  function self.may_begin(_, expected, waits)
    assert.equal(expected, lib.source_state_may_begin(state, waits ~= false))
    return self
  end
  function self.has_ended(_, expected)
    assert.equal(expected, lib.source_state_has_ended(state))
    return self
  end
  function self.is_quiet(_, expected)
    assert.equal(expected, lib.source_state_is_quiet(state))
    return self
  end
  return self
end

describe("a source of core messages", function()
  it("serves, drains, and has stopped", function()
    source "MESSAGES":is "IDLE":start():is "SERVING":stop "DRAIN":is "STOPPING":drained():is "STOPPED"
  end)

  it("handles what still arrives while it drains, until the stop waits for that no longer", function()
    local it = source "MESSAGES":start():stop "DRAIN":comes(10, "QUEUE"):leaves(10)
    it:late():comes(10, "HAND_BACK"):is "STOPPING":has_ended(false):drained():is "STOPPED":has_ended(true)
    source "MESSAGES":start():late():comes(10, "QUEUE")
  end)

  it("that could not subscribe has stopped", function()
    source "MESSAGES":start():fail():is "STOPPED":has_ended(true)
  end)

  it("drops what it has no room for, by number and by bytes", function()
    source "MESSAGES":start():comes(10, "QUEUE"):comes(10, "QUEUE"):comes(10, "DROP")
    source "MESSAGES":start():comes(60, "QUEUE"):comes(60, "DROP"):comes(40, "QUEUE")
  end)

  it("drops the oldest instead where the handler says so, and the newest when nothing else is left", function()
    local it = source("MESSAGES", { messages = 1, bytes = 100, drop_old = true }):start():comes(10, "QUEUE")
    it:comes(10, "MAKE_ROOM", true):leaves(10):comes(10, "QUEUE")
    it:leaves(10):comes(101, "DROP", false)
  end)

  it("still takes what comes while it drains, for that has arrived", function()
    source "MESSAGES":start():stop "DRAIN":comes(10, "QUEUE"):drained():comes(10, "HAND_BACK")
  end)
end)

describe("a source of a durable", function()
  it("has room for whatever comes", function()
    source "DELIVERIES":start():comes(1000, "QUEUE"):comes(1000, "QUEUE"):comes(1000, "QUEUE")
  end)

  it("keeps what comes while it drains, and hands back what comes after that", function()
    source "DELIVERIES":start():stop "DRAIN":comes(10, "PART"):drained():comes(10, "HAND_BACK")
  end)

  it("stops once", function()
    source "DELIVERIES":stop "NOTHING":start():stop "DRAIN":stop "NOTHING":drained():stop "NOTHING":is "STOPPED"
  end)
end)

describe("a timer", function()
  it("owes one run at a time, and none on top of itself", function()
    source "TICKS":tick(false):start():tick(true):tick(false)
    source "TICKS":start():begin():tick(false)["end"](nil):tick(true)
  end)

  it("that is cancelled owes nothing", function()
    local it = source "TICKS":cancel(false):start():tick(true):cancel(true):is "STOPPED":cancel(false)
    assert.equal(0, it.state.owed)
  end)

  it("has stopped at once, and a tick that is owed still runs", function()
    source "TICKS":start():tick(true):stop "ENDED":is "STOPPED":is_quiet(false):may_begin(true, false)
  end)

  it("is all that can be cancelled", function()
    source "MESSAGES":start():cancel(false):is "SERVING"
    source "START":start():cancel(false):is "SERVING"
  end)
end)

describe("a hook", function()
  it("of the start that has not begun does not begin after a stop", function()
    local it = source "START":start():tick(true):stop "ENDED":is "STOPPED"
    assert.equal(0, it.state.owed)
  end)

  it("of the stop is stopped by nobody, and runs when it is owed", function()
    source "STOP":owe(false):start():stop "NOTHING":is "SERVING":is_quiet(true):owe(true):is_quiet(false)
  end)
end)

describe("what runs of a source", function()
  it("begins when a message waits, or a run is owed", function()
    source "MESSAGES":start():may_begin(false, false):may_begin(true)
    source "TICKS":start():tick(true):may_begin(true, false)
  end)

  it("is no more than its limit at a time", function()
    source("MESSAGES", { limit = 2 }):start():begin():may_begin(true):begin():may_begin(false)["end"](nil)
      :may_begin(true)
  end)

  it("is shared out: a quarter of what is queued and has a place, at most so many, at least one", function()
    local it = source("DELIVERIES", { limit = 0 }):start():share(1)
    for _ = 1, 7 do it:comes(1, "QUEUE") end
    it:share(1):comes(1, "QUEUE"):share(2)
    for _ = 9, 127 do it:comes(1, "QUEUE") end
    it:share(31):comes(1, "QUEUE"):share(32)
    for _ = 129, 1000 do it:comes(1, "QUEUE") end
    it:share(32)
    it.state.rules.limit = 40
    it:share(10):begin(24):share(4):begin(15):share(1)
  end)

  it("in batches begins when there are enough, in number or bytes, or when the oldest has waited enough", function()
    local rules = { batch = 2, batch_bytes = 100 }
    source("DELIVERIES", rules):start():comes(10, "QUEUE"):may_begin(false):comes(10, "QUEUE"):may_begin(true)
    source("DELIVERIES", rules):start():comes(100, "QUEUE"):may_begin(true)
    local it = source("DELIVERIES", rules):start():comes(10, "QUEUE")
    it.state.batch_due = true
    it:may_begin(true):may_begin(false, false)
  end)
end)

describe("a source has ended", function()
  it("when it has stopped, and nothing of it is queued, runs, or is armed", function()
    local it = source "DELIVERIES":start():comes(10, "QUEUE"):stop "DRAIN":drained():has_ended(false)
    it:begin():leaves(10):has_ended(false)["end"](nil):has_ended(true)
    it.state.armed = 1
    it:has_ended(false)
  end)

  it("never before it began, nor while it serves", function()
    source "DELIVERIES":has_ended(false):start():has_ended(false)
  end)

  it("never, when a lost thread may come back to it", function()
    local it = source "TICKS":start():stop "ENDED":has_ended(true)
    it.state.pinned = true
    it:has_ended(false)
  end)

  it("for its version when nothing comes any more, though some of it still runs", function()
    local it = source "MESSAGES":is_quiet(true):start():is_quiet(false):begin():stop "DRAIN"
    it:is_quiet(false):drained():is_quiet(true)
  end)
end)

-- Whatever happens in whatever order: what holds in each phase, and that no count is lost.
describe("a source in any history", function()
  it("never serves again, never ends early, and never counts below zero", function()
    local kinds = { "MESSAGES", "DELIVERIES", "TICKS", "START", "STOP" }
    math.randomseed(7)
    for _ = 1, 300 do
      local brings = kinds[math.random(#kinds)]
      local rules = { messages = 3, bytes = 100, limit = math.random(0, 2), drop_old = math.random() < 0.5 }
      local it = source(brings, rules)
      local state, queue, running, furthest = it.state, {}, 0, 0
      for _ = 1, 60 do
        local what = math.random(8)
        if what == 1 then it:start() end
        if what == 2 and lib.source_state_stop(state) == lib.SOURCE_STOP_DRAIN then
          assert.equal(lib.SOURCE_STOPPING, tonumber(state.phase))
        end
        if what == 3 and state.phase == lib.SOURCE_STOPPING then it:drained() end
        if what == 4 then lib.source_state_cancel(state) end
        if what == 5 then lib.source_state_tick(state) end
        if what == 6 then
          local bytes = math.random(40)
          if lib.source_state_fate(state, bytes, #queue > 0) == lib.SOURCE_QUEUE then
            lib.source_state_queue(state, bytes)
            queue[#queue + 1] = bytes
          end
        end
        if what == 7 and lib.source_state_may_begin(state, #queue > 0) then
          if #queue > 0 then
            lib.source_state_unqueue(state, table.remove(queue, 1))
          else
            state.owed = state.owed - 1
          end
          it:begin()
          running = running + 1
        end
        if what == 8 and running > 0 then
          it["end"](nil)
          running = running - 1
        end
        local sum = 0
        for _, bytes in ipairs(queue) do sum = sum + bytes end
        local counted = state.queued == #queue and state.queued_bytes == sum and state.running == running
        local over = not lib.source_state_has_ended(state) or
          (#queue + running == 0 and (state.phase == lib.SOURCE_STOPPED or brings == "STOP"))
        if not counted or not over or tonumber(state.phase) < furthest then
          error(("%s, event %d: queued %d, running %d, phase %d"):format(brings, what, state.queued, state.running,
            tonumber(state.phase)))
        end
        furthest = tonumber(state.phase)
      end
    end
  end)
end)
