-- What the cookbook promises of its handlers holds while acknowledgements and answers are lost, connections break,
-- and two hosts share the work.
local cjson = require "cjson"
local sim = require "spec.sim.sim"
local temp = require "spec.support.temp"

describe("The cookbook, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function serve(name, text)
    text = text or assert(temp.read("examples/cookbook/" .. name))
    for _ = 1, 2 do world:host { scripts = { [name] = text } } end
    world:settle()
    world:delay(15, "1m") -- so that each thing is under way when something breaks
  end

  -- Deliveries and answers are lost, and again and again all connections, with what is on its way: sooner or later an
  -- acknowledgement, after which another host has the message again. publish(round): more work, of which the end is
  -- about to come then.
  local function trouble(publish)
    world:lose("$JS.ACK.>", 5)
    for round = 1, 30 do
      if publish then publish(round) end
      world:advance(("%dms"):format(publish and 90 + 2 * round or 400 + 17 * round))
      world:lose_answers(2)
      world:advance "7ms"
      world:cut "100ms"
      world:advance "1s"
    end
    world:advance "30m"
  end

  it("adds each sale once", function()
    serve("totals.lua")
    for cents = 1, 40 do
      world:publish("sales.berlin", ('{"cents":%d}'):format(cents))
      for shop = 1, 9 do world:publish("sales.s" .. shop, '{"cents":1}') end
    end
    trouble()
    local totals = {}
    for _, message in ipairs(world:messages "KV_totals") do totals[message.subject] = cjson.decode(message.data) end
    assert.same({ count = 40, cents = 820 }, totals["$KV.totals.berlin"])
    for shop = 1, 9 do assert.same({ count = 40, cents = 40 }, totals["$KV.totals.s" .. shop]) end
    assert.equal(0, world:stream("DEAD").state.messages)
  end)

  it("forwards each order once", function()
    serve("enrich.lua")
    for id = 1, 300 do
      world:publish(id % 2 == 0 and "raw.orders.ada" or "raw.orders.bob", ('{"id":%d,"cents":1}'):format(id))
    end
    trouble()
    local seen, count = {}, 0
    for _, message in ipairs(world:messages "ENRICHED") do
      seen[cjson.decode(message.data).id], count = true, count + 1
    end
    assert.equal(300, count)
    assert.equal(300, #seen)
  end)

  it("books each trip, or cancels all of it", function()
    serve("saga.lua")
    for id = 1, 20 do
      world:publish("trips.wanted", ('{"id":"t%d","days":%d}'):format(id, id % 2 == 0 and 3 or 90))
    end
    trouble()
    local came = {}
    for _, message in ipairs(world:messages "TRIPS") do
      if message.subject ~= "trips.wanted" then
        local id = cjson.decode(message.data).id
        came[id] = (came[id] or "") .. message.subject
      end
    end
    for id = 1, 20 do
      local outcome = came["t" .. id]
      local fits = outcome == "trips.failed" or id % 2 == 0 and outcome == "trips.booked"
      assert.is_true(fits, ("t%d: %s"):format(id, tostring(outcome)))
    end
  end)

  it("makes one delivery of an event for each subscriber", function()
    serve("webhook_fanout.lua")
    for _, name in ipairs { "a", "b", "c" } do world:publish("$KV.webhooks." .. name, '{"url":"http://127.0.0.1/"}') end
    world:settle()
    trouble(function(round)
      for id = 1, 5 do world:publish("events.n", ('{"id":%d}'):format(round * 5 + id)) end
    end)
    assert.equal(150 * 3, world:stream("DELIVERIES").state.messages)
  end)

  for seed = 1, 6 do
    it("counts each message once with the loop of the guide, seed " .. seed, function()
      world:close()
      world = sim.new { seed = seed }
      local count = assert(temp.read("docs/GUIDE.md"):match "\n```lua\n(local function count%(.-)\n```\n")
      serve("count.lua", sim.script(([[
        local kv = require "moonbus.kv"
        js.stream { name = "SALES", subjects = { "sales.*" } }
        js.stream { name = "DEAD", subjects = { "dead.>" } }
        local totals = kv.bucket { name = "totals" }
        %s
        local options = { durable = "count", concurrency = 3, timeout = "20s", attempts = 20, dead_letter = "dead.a" }
        js.consume("SALES", options, function(msg)
          local done, err = count(totals, msg.subject:match "[^.]+$", msg)
          if not done then return nil, err end
        end)
      ]]):format(count)))
      for _ = 1, 100 do
        world:publish("sales.a", "")
        world:publish("sales.b", "")
      end
      trouble()
      local totals = {}
      for _, message in ipairs(world:messages "KV_totals") do totals[message.subject] = message.data end
      assert.same({ ["$KV.totals.a"] = "100", ["$KV.totals.b"] = "100" }, totals)
    end)
  end
end)
