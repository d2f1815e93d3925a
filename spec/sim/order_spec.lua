local sim = require "spec.sim.sim"

describe("Order by key, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function serve(body, options)
    return world:host { scripts = { ["moves.lua"] = sim.script(([[
      js.stream { name = "MOVES", subjects = { "moves.*" } }
      js.consume("MOVES", { durable = "ledger", order_by = 2, dead_letter = false, %s
        backoff = { min = "1s", max = "1s", jitter = 0 } }, function(msg)
        sim.note("began " .. msg.data)
        do %s end
        sim.note("ended " .. msg.data)
      end)
    ]]):format(options or "", body)) } }
  end

  local function publish(list)
    for _, data in ipairs(list) do world:publish("moves." .. data:sub(1, 1), data) end
  end

  it("runs the messages of a key one after the other, and different keys side by side", function()
    serve [[bus.sleep "1s"]]
    publish { "a1", "a2", "b1", "a3", "b2" }
    world:advance "10s"
    local said = world:said { at = true }
    table.sort(said)
    assert.same({
      "0 began a1", "0 began b1", "1000 began a2", "1000 began b2", "1000 ended a1", "1000 ended b1",
      "2000 began a3", "2000 ended a2", "2000 ended b2", "3000 ended a3",
    }, said)
  end)

  it("holds a key while its message is tried again, and no other", function()
    serve [[if msg.data == "a1" and msg.attempt < 3 then error "again" end]]
    publish { "a1", "a2", "b1" }
    world:advance "10s"
    local said = world:said()
    assert.same({ "began a1", "began a1", "began a1", "ended a1", "began a2", "ended a2" },
      (function()
        local list = {}
        for _, text in ipairs(said) do
          if text:find " a" then list[#list + 1] = text end
        end
        return list
      end)())
    assert.equal("ended b1", said[3] == "ended b1" and said[3] or said[2] == "ended b1" and said[2]
      or said[4])
  end)

  it("is kept over outages: nothing overtakes what was on its way", function()
    for seed = 1, 10 do
      local one = sim.new { seed = seed }
      world:close()
      world = one
      serve([[bus.sleep "300ms"]], [[ack_wait = "2s",]])
      local list = {}
      for i = 1, 40 do list[i] = (i % 3 == 0 and "b" or "a") .. i end
      publish(list)
      for _ = 1, 3 do
        world:advance(1000 + world:random(1500))
        world:cut "1s"
      end
      world:advance "2m"
      local last, ended = {}, 0
      for _, text in ipairs(world:said()) do
        local key, number = text:match "^began (%a)(%d+)"
        if key then
          assert.is_true((last[key] or 0) <= tonumber(number), ("seed %d: %s"):format(seed, text))
          last[key] = tonumber(number)
        else
          ended = ended + 1
        end
      end
      assert.equal(40, ended)
    end
  end)
end)
