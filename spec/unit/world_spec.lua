local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/clock.h"
units.include "base/pool.h"
units.include "spec/support/probe.h"
units.include "spec/support/strands.h"
local lib = units.lib

local MS, FOREVER = 1000000ULL, 0xffffffffffffffffULL

describe("A simulated world", function()
  local made

  before_each(function() made = {} end)
  after_each(function()
    for _, one in ipairs(made) do
      lib.world_free(one.world)
      lib.strands_free(one.strands)
    end
  end)

  -- Runs the first of the programs (spec/support/strands.h), which starts the others.
  local function run(programs, options)
    options = options or {}
    local world = lib.world_new(ffi.new("struct world_options", {
      seed = options.seed or 1, yields = options.yields or 0,
      false_wakes = options.false_wakes or 0, max_steps = options.max_steps or 0,
    }))
    local texts = ffi.new("const char *[?]", #programs, programs)
    local one = { world = world, strands = lib.strands_new(texts, #programs) }
    made[#made + 1] = one
    local began = lib.world_now_ns(world)
    one.ended = lib.strands_run(one.strands, world, options.until_ns or FOREVER)
    one.notes = ffi.string(lib.strands_notes(one.strands)):gsub(" $", "")
    one.took_ms = tonumber(lib.world_now_ns(world) - began) / 1e6
    one.trace = tostring(lib.world_trace(world))
    one.report = ffi.string(lib.world_report(world))
    return one
  end

  it("runs threads as fibers: they wait for each other, and end", function()
    local one = run {
      "start 1; start 2; join 1; join 2; note all",
      "take a; note second; post b", "note first; post a; take b; note third",
    }
    assert.equal(lib.WORLD_DONE, one.ended)
    assert.equal("first second third all", one.notes)
    assert.equal(0, lib.world_fibers(one.world))
  end)

  it("has a time of its own, which jumps to the next deadline when nobody can run", function()
    local before = lib.clock_now_ns()
    local one = run {
      "start 1; start 2; sleep 3600000; note hour; join 1; join 2",
      "sleep 20; note second", "sleep 10; note first; sleep 86400000; note day",
    }
    assert.equal("first second hour day", one.notes)
    assert.equal(86400010, one.took_ms)
    assert.is_true(lib.clock_now_ns() - before < 1000 * MS)
  end)

  it("stops at the time that it may run to, and goes on later", function()
    local one = run({ "sleep 1000; note late" }, { until_ns = 1000500 * MS })
    assert.equal(lib.WORLD_LATE, one.ended)
    assert.equal("", one.notes)
    assert.equal(lib.WORLD_DONE, lib.world_run_until(one.world, 1000999 * MS))
    assert.equal(1000999 * MS, lib.world_now_ns(one.world))
    assert.equal("", ffi.string(lib.strands_notes(one.strands)))
    assert.equal(lib.WORLD_DONE, lib.world_run_until(one.world, 1002000 * MS))
    assert.equal("late ", ffi.string(lib.strands_notes(one.strands)))
    assert.equal(0, lib.world_fibers(one.world))
  end)

  it("tells a condition that was signalled from one whose time was over", function()
    local one = run {
      "start 1; lock a; wait a a 20; unlock a; lock a; wait a a 20; unlock a; join 1",
      "sleep 10; signal a",
    }
    assert.equal("+ -", one.notes)
    assert.equal(30, one.took_ms)
  end)

  it("wakes one who waits, or all", function()
    local waits = "lock a; wait a a; note woken; unlock a"
    local one = run {
      "start 1; start 2; start 3; sleep 1; signal a; sleep 1; note then; broadcast a; " ..
        "join 1; join 2; join 3", waits, waits, waits,
    }
    assert.equal("woken then woken woken", one.notes)
  end)

  it("lets one at a time hold a mutex, whoever is let go first", function()
    for seed = 1, 50 do
      local holds = "lock a; note in; lock b; unlock b; note out; unlock a; again 5"
      local one = run({ "start 1; start 2; start 3; join 1; join 2; join 3", holds, holds, holds },
        { seed = seed, yields = 300 })
      assert.equal(("in out "):rep(15), one.notes .. " ")
    end
  end)

  local RACE = {
    "start 1; start 2; start 3; join 1; join 2; join 3",
    "lock a; note x; unlock a; again 6", "lock a; note y; unlock a; again 6",
    "lock a; note z; unlock a; again 6",
  }

  it("runs the same way again with the same seed", function()
    for seed = 1, 20 do
      local one = run(RACE, { seed = seed, yields = 500, false_wakes = 100 })
      local other = run(RACE, { seed = seed, yields = 500, false_wakes = 100 })
      assert.equal(one.notes, other.notes)
      assert.equal(one.trace, other.trace)
    end
  end)

  it("runs another way with another seed", function()
    local orders, count = {}, 0
    for seed = 1, 20 do
      local notes = run(RACE, { seed = seed, yields = 500 }).notes
      count = count + (orders[notes] and 0 or 1)
      orders[notes] = true
    end
    assert.is_true(count >= 15, count .. " orders of 20 seeds")
  end)

  it("wakes who waits for nothing now and then, if it is asked to", function()
    local waits = { "lock a; wait a a 10; unlock a; again 100" }
    assert.equal(("- "):rep(100), run(waits).notes .. " ")
    assert.is_truthy(run(waits, { false_wakes = 200 }).notes:find("+", 1, true))
  end)

  it("says of a deadlock who waits for what, and where in the code", function()
    local one = run {
      "start 1; lock a; post a; take b; lock b; unlock b; unlock a; join 1",
      "lock b; post b; take a; lock a; unlock a; unlock b",
    }
    assert.equal(lib.WORLD_STUCK, one.ended)
    assert.is_truthy(one.report:find("1 strand 0 waits for a mutex", 1, true), one.report)
    assert.is_truthy(one.report:find("2 strand 1 waits for a mutex", 1, true), one.report)
    assert.is_truthy(one.report:find(", at [^\n]*moonbus_units[^\n]*%+0x%x+\n"), one.report)
    assert.equal(2, lib.world_fibers(one.world))
  end)

  it("tells threads that wait for each other's end or for a condition that nobody signals", function()
    local one = run { "start 1; join 1", "lock a; wait c a; unlock a" }
    assert.equal(lib.WORLD_STUCK, one.ended)
    assert.is_truthy(one.report:find("waits for the end of strand 1", 1, true), one.report)
    assert.is_truthy(one.report:find("strand 1 waits for a condition", 1, true), one.report)
  end)

  it("ends what goes round and round", function()
    local one = run({ "sleep 1; again 1000000" }, { max_steps = 1000 })
    assert.equal(lib.WORLD_ENDLESS, one.ended)
  end)

  it("gives each thread a stack as large as usual, and knows its bounds", function()
    local one = run { "start 1; deep; join 1; deep", "deep; note end" }
    assert.is_nil(one.notes:find "outside")
    assert.is_truthy(one.notes:find "end")
  end)

  it("gives each thread its own of what a thread has of its own", function()
    local one = run { "own; own; start 1; join 1; own; start 2; join 2; own", "own; own", "own" }
    assert.equal("1 2 1 2 3 1 4", one.notes)
  end)

  it("leaves nothing of itself: time and threads are the real ones outside", function()
    run { "sleep 1000000" }
    local before = lib.clock_now_ns()
    local clock = lib.clock_new(nil)
    local probe = lib.probe_new(clock, 0)
    lib.clock_arm(clock, lib.probe_deadline(probe), before + 5 * MS)
    while lib.probe_count(probe) == 0 do assert.is_true(lib.clock_now_ns() < before + 5000 * MS) end
    lib.clock_free(clock)
    lib.probe_free(probe)
  end)

  it("costs little: a hundred thousand switches take no second", function()
    local began = os.clock()
    local one = run {
      "start 1; start 2; join 1; join 2",
      "post a; take b; again 50000", "take a; post b; again 50000",
    }
    assert.equal(lib.WORLD_DONE, one.ended)
    assert.is_true(os.clock() - began < (tonumber(os.getenv "SPEC_SLOW") or 1), "it is slow")
  end)
end)
