-- The ids of what a run publishes: a retry's are the same, and no two publishes have the same one.
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/join.h"
units.include "engine/run/message_id.h"
local lib = units.lib

-- The counts of one run. What an input is known by while it goes on is an address, another one each
-- time.
local addresses = 0
local function new_run()
  local run = ffi.gc(ffi.new "struct publish_counts", lib.publish_counts_clear)
  local inputs = {}
  return function(input, subject)
    if not inputs[input] then
      addresses = addresses + 4096
      inputs[input] = ffi.cast("void *", addresses)
    end
    return lib.publish_counts_next(run, inputs[input], subject)
  end
end

local function id_of(input, path, k, subject, size)
  local buf = ffi.new("char[?]", size or 1280)
  local id = ffi.new("struct join[1]", { lib.join_in(buf, size or 1280) })
  lib.join_text(id, input)
  local fits = lib.message_id(id, path, k, subject)
  return ffi.string(buf), fits
end

describe("a publish's number", function()
  it("counts the publishes of its input to its subject", function()
    local count = new_run()
    assert.same({ 1, 2, 1, 3, 2, 1 }, { count("a", "x"), count("a", "x"), count("a", "y"),
      count("a", "x"), count("a", "y"), count("a", "z") })
  end)

  it("counts each input by itself", function()
    local count = new_run()
    assert.same({ 1, 1, 2, 2, 1 }, { count("a", "x"), count("b", "x"), count("a", "x"),
      count("b", "x"), count("b", "y") })
  end)

  it("is not another subject's that only begins or ends like it", function()
    local count = new_run()
    assert.same({ 1, 1, 1, 2 }, { count("a", "x"), count("a", "xx"), count("a", "x.x"),
      count("a", "xx") })
  end)

  it("begins anew with the next run", function()
    assert.equal(1, new_run()("a", "x"))
    assert.equal(1, new_run()("a", "x"))
  end)

  it("counts subjects as long as any may be, and no longer", function()
    local count, longest = new_run(), ("s"):rep(2000)
    assert.same({ 1, 2, 0 }, { count("a", longest), count("a", longest), count("a", longest .. "s") })
  end)

  it("counts ten thousand inputs of a batch", function()
    local count = new_run()
    for round = 1, 3 do
      for input = 1, 10000 do assert.equal(round, count(input, "x")) end
    end
  end)
end)

describe("a message id", function()
  it("has the input, the task, the number and the subject", function()
    assert.same({ "ORDERS:17:billing:4711:2.1.3:invoices.new", true },
      { id_of("ORDERS:17:billing:4711", "2.1", 3, "invoices.new") })
  end)

  it("has the hash of a subject that is too long for it, and still tells two of them apart", function()
    local long = ("s"):rep(1300)
    local one, fits = id_of("in", "0", 1, long .. ".a")
    assert.is_true(fits)
    assert.matches("^in:0%.1:%x+$", one)
    assert.not_equal(one, (id_of("in", "0", 1, long .. ".b")))
  end)

  it("says when it has no room at all", function()
    assert.is_false(select(2, id_of(("i"):rep(100), "0", 1, "x", 64)))
  end)
end)

-- Each input publishes to these subjects in this order, at each of its attempts. Who else is in its
-- batch, and how the handlers of a batch take turns, is chance.
describe("whatever the batches are", function()
  local random = math.random

  local function programs(inputs)
    local list = {}
    for input = 1, inputs do
      list[input] = {}
      for step = 1, random(0, 6) do list[input][step] = "out." .. random(3) end
    end
    return list
  end

  -- One batch: its inputs publish in any interleaving, each up to where its attempt fails.
  -- publish(input, step, id) is called for each.
  local function attempt(batch, program, publish)
    local count, at, left = new_run(), {}, {}
    for _, input in ipairs(batch) do
      at[input], left[#left + 1] = 0, input
    end
    while #left > 0 do
      local place = random(#left)
      local input = left[place]
      at[input] = at[input] + 1
      local subject = program[input][at[input]]
      if not subject or random(8) == 1 then
        table.remove(left, place)
      else
        publish(input, at[input],
          (id_of("IN:1:worker:" .. input, "0", count(input, subject), subject)))
      end
    end
  end

  it("an input's publishes have the same ids at each attempt, and no other has them", function()
    math.randomseed(20)
    for _ = 1, 200 do
      local inputs = random(1, 12)
      local program, known, owner = programs(inputs), {}, {}
      for _ = 1, 6 do
        local batch = {}
        for input = 1, inputs do
          if random(2) == 1 then table.insert(batch, random(#batch + 1), input) end
        end
        attempt(batch, program, function(input, step, id)
          local publish = input .. "/" .. step
          assert.equal(known[publish] or id, id)
          assert.equal(owner[id] or publish, publish)
          known[publish], owner[id] = id, publish
        end)
      end
    end
  end)
end)
