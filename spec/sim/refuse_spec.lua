-- Memory that is refused to a host at work: `make refuse` tries each allocation, this some of them.
local ffi = require "ffi"
local refused = require "spec.sim.refused"
local sim = require "spec.sim.sim"

local C = ffi.C
-- A sanitized build takes ten times as long.
local SANITIZED = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"
local TRIALS = SANITIZED and 24 or 80
-- Of what is tried for each allocation: so many are passed over.
local STEP = SANITIZED and 20 or 3

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
    local count = refused.count()
    local served = math.floor(count * 0.4) -- before, it loads: then it ends
    for i = 1, TRIALS / 4 do
      local nth, in_a_row = served + i * 104729 % (count - served), 10 ^ (i % 4)
      local one = refused.run(nth, in_a_row, i)
      assert.is_nil(one.complaint, ("%d allocations from %d on, seed %d: %s"):format(in_a_row, nth, i,
        tostring(one.complaint)))
    end
  end)

  local BATCH = 'batch = { size = 2, wait = "10ms" },'
  for what, options in pairs { ["of a message"] = "", ["of each of a batch"] = BATCH } do
    it(("stores what a handler makes %s once, though it runs again and is refused memory"):format(what), function()
      local nth, was_refused = 0
      repeat
        nth = nth + 1
        local world = sim.new()
        world:host { scripts = { ["a.lua"] = sim.script(([[
          js.stream { name = "IN", subjects = { "in" } }
          js.stream { name = "OUT", subjects = { "out.*" } }
          js.consume("IN", { durable = "d", %s ack_wait = "1s", backoff = { max = "1s" } }, function(msgs)
            local list = msgs.data and { msgs } or msgs
            for _, msg in ipairs(list) do
              for _, subject in ipairs { "out.a", "out.b", "out.a" } do
                assert(js.publish(subject, msg.data, { from = msg }))
              end
            end
            if list[1].attempt == 1 then error "once more" end
          end)
        ]]):format(options)) } }
        world:settle()
        C.refuse_pause() -- what is done from outside
        C.refuse_begin(nth)
        for i = 1, 2 do world:publish("in", tostring(i)) end
        world:advance "50ms"
        was_refused = C.refuse_end()
        C.refuse_resume()
        world:advance "30s"
        local data = world:data_of "OUT"
        table.sort(data)
        assert.same({ "1", "1", "1", "2", "2", "2" }, data, "allocation " .. nth)
        world:close()
      until not was_refused
      assert.is_true(nth > 20, nth .. " allocations")
    end)
  end

  -- One after the other, so that what came before and after is dropped, too.
  it("keeps the order of a key whose messages it had to drop", function()
    local counts = { dropped = 0 }
    for nth = 1, 40, SANITIZED and 4 or 1 do
      for in_a_row = 1, 16, 3 do
        local world = sim.new()
        world:host { scripts = { ["a.lua"] = sim.script [[
          js.stream { name = "IN", subjects = { "in.*" } }
          js.consume("IN", { durable = "d", order_by = 2, concurrency = 4, ack_wait = "1s" }, function(msg)
            sim.note(msg.data)
          end)
        ]] } }
        world:publish("in.z", "z 0") -- what is lost before anything has come is not missed
        world:advance "10ms"
        C.refuse_pause() -- what is done from outside
        C.refuse_some(nth, in_a_row)
        for _, data in ipairs { "a 1", "b 1", "b 2", "c 1" } do world:publish("in." .. data:sub(1, 1), data) end
        world:advance "5ms"
        C.refuse_no_more()
        for _, data in ipairs { "a 2", "b 3", "c 2", "c 3" } do world:publish("in." .. data:sub(1, 1), data) end
        world:advance "30s"
        C.refuse_end()
        C.refuse_resume()
        for _, event in ipairs(world:logged "warn") do
          if event.msg:find "dropped unseen" then counts.dropped = counts.dropped + 1 end
        end
        local last, what = {}, ("%d refused from %d on: "):format(in_a_row, nth) .. table.concat(world:said(), ", ")
        for _, data in ipairs(world:said()) do
          local key, number = data:match "(%a) (%d)"
          assert.is_true(tonumber(number) >= (last[key] or 0), what)
          last[key] = tonumber(number)
        end
        assert.same({ z = 0, a = 2, b = 3, c = 3 }, last, what)
        world:close()
      end
    end
    assert.is_true(counts.dropped > 20, counts.dropped .. " were dropped")
  end)

  -- Its chunks are published by functions of their own, which may be refused memory where nobody waits for them.
  it("ends a put of an object that it cannot go on with, at once", function()
    local world = sim.new()
    world:host { scripts = { ["a.lua"] = sim.script [[
      local files = require "moonbus.objects".bucket { name = "b" }
      bus.subscribe("put", { timeout = "40s" }, function(msg)
        local left = 24
        local info, err = files:put("o", function()
          left = left - 1
          if left % 8 == 0 then bus.sleep "10ms" end
          return left >= 0 and ("x"):rep(1024) or nil
        end, { chunk_size = 1024 })
        if not info then error(err) end
        return tostring(info.chunks)
      end)
    ]] } }
    C.refuse_pause() -- what is done from outside
    local nth, put, was_refused = 0, 0
    repeat
      nth = nth + STEP
      C.refuse_begin(nth)
      local began = world:now()
      local reply = world:request("put", "", { timeout = "1m" })
      was_refused = C.refuse_end()
      local took = world:now() - began
      -- None: there was no memory for the request itself, or for its answer.
      assert.is_true(reply == nil or took < 30000, ("allocation %d: %g ms\n%s"):format(nth, took,
        ffi.string(C.refuse_report())))
      if reply and reply.data == "24" then put = put + 1 end
      world:advance "10s"
    until not was_refused
    C.refuse_resume()
    assert.is_true(nth > 100 and put > 0, nth .. " allocations")
    world:close()
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
