-- Memory that is refused to a host at work: `make refuse` tries each allocation, this some of them.
local ffi = require "ffi"
local refused = require "spec.sim.refused"
local sim = require "spec.sim.sim"

local C = ffi.C
-- A sanitized build takes ten times as long.
local TRIALS = (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS") and 24 or 80

describe("A host to which memory is refused", function()
  it("keeps all promises, and nothing for itself, whichever allocation fails", function()
    local count = refused.count()
    assert.is_true(count > 4000, count .. " allocations")
    for i = 1, TRIALS do
      local nth = i * 7919 % count + 1
      local one = refused.run(nth, 1, i)
      assert.is_nil(one.complaint, ("allocation %d, seed %d: %s"):format(nth, i, tostring(one.complaint)))
    end
  end)

  it("keeps them when it is refused for a while", function()
    for i = 1, TRIALS / 4 do
      local nth, in_a_row = 1500 + i * 104729 % 3500, 10 ^ (i % 4)
      local one = refused.run(nth, in_a_row, i)
      assert.is_nil(one.complaint, ("%d allocations from %d on, seed %d: %s"):format(in_a_row, nth, i,
        tostring(one.complaint)))
    end
  end)

  it("counts a message of core NATS that it could not take, and says so", function()
    local world = sim.new()
    local host = world:host { scripts = { ["a.lua"] = sim.script
      [[bus.subscribe("a", function(msg) sim.note(msg.data) end)]] } }
    local sent, was_refused = 0
    C.refuse_pause() -- what is done from outside
    repeat
      sent = sent + 1
      C.refuse_begin(sent)
      world:publish("a", tostring(sent))
      world:advance "1s"
      was_refused = C.refuse_end()
    until not was_refused
    C.refuse_resume()
    local dropped = host:status().scripts[1].handlers[1].dropped
    assert.is_true(dropped > 0)
    assert.is_truthy(world:logged "warn"[1].msg:find "^out of memory: a message was dropped unseen")
    local failed = #world:logged "error"
    assert.equal(sent, #world:said() + dropped + failed)
    world:close()
  end)
end)
