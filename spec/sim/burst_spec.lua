local sim = require "spec.sim.sim"

-- A worker writes what its handlers send, while the writer sleeps (host/bus/link/burst.h).
-- Computing is sim.burn. Seeds that are even have links to which each thread may write.
describe("What handlers send, in virtual time", function()
  local world

  before_each(function() world = sim.new { seed = 2, yields = 0, false_wakes = 0 } end)
  after_each(function() world:close() end)

  local function serve(body)
    return world:host { settings = { workers = 3 }, scripts = {
      ["send.lua"] = sim.script(([[bus.subscribe("in", { reply = false }, function(msg) %s end)]]):format(body)),
      ["look.lua"] = sim.script [[
        bus.subscribe("out", { reply = false, concurrency = 1 }, function(msg) sim.note(msg.data) end)
      ]],
    } }
  end

  -- { { when, what }, ... } in milliseconds since the first message was published.
  local function arrived(began)
    local list = {}
    for i, note in ipairs(world:said { at = true }) do
      local ms, what = note:match "^(%S+) (.*)$"
      list[i] = { tonumber(ms) - began, what }
    end
    return list
  end

  it("goes out when they have returned", function()
    serve [[bus.publish("out", "now")]]
    local began = world:now()
    world:publish("in", "")
    world:advance "100ms"
    local list = arrived(began)
    assert.equal(1, #list)
    assert.is_true(list[1][1] <= 0.2, list[1][1])
  end)

  it("goes out within 10 ms though they compute behind it, and what others send at once", function()
    serve [[
      if msg.data == "burn" then
        bus.publish("out", "first")
        sim.burn(300)
        bus.publish("out", "last")
      else
        bus.publish("out", "other")
      end
    ]]
    local began = world:now()
    world:publish("in", "burn")
    world:advance "50ms"
    world:publish("in", "")
    world:advance "1s"
    local list = arrived(began)
    assert.same({ "first", "other", "last" }, { list[1][2], list[2][2], list[3][2] })
    assert.is_true(list[1][1] <= 11, "the first came after ms " .. list[1][1])
    assert.is_true(list[2][1] <= 51, "the other's came after ms " .. list[2][1])
  end)

  it("goes out within 10 ms each time, as long as they compute", function()
    serve [[for i = 1, 5 do bus.publish("out", tostring(i)); sim.burn(50) end]]
    local began = world:now()
    world:publish("in", "")
    world:advance "1s"
    for i, one in ipairs(arrived(began)) do
      assert.equal(tostring(i), one[2])
      assert.is_true(one[1] - 50 * (i - 1) <= 11, ("%d came after %g ms"):format(i, one[1]))
    end
  end)

  it("keeps its order, whoever writes it", function()
    for seed = 2, 40, 2 do
      local one = sim.new { seed = seed, yields = 300 }
      one:host { settings = { workers = 3 }, scripts = { ["s.lua"] = sim.script [[
        bus.subscribe("in", { reply = false, concurrency = 1 }, function(msg)
          for i = 1, 20 do
            bus.publish("out", msg.data .. " " .. i)
            if i % 7 == 0 then bus.sleep "1ms" end
          end
        end)
        local last = {}
        bus.subscribe("out", { reply = false, concurrency = 1 }, function(msg)
          local from, i = msg.data:match "(%d+) (%d+)"
          if tonumber(i) ~= (last[from] or 0) + 1 then sim.note(msg.data .. " after " .. tostring(last[from])) end
          last[from] = tonumber(i)
          if i == "20" then sim.note("all of " .. from) end
        end)
      ]] } }
      for i = 1, 10 do one:publish("in", tostring(i)) end
      one:advance "2s"
      local said = one:said()
      table.sort(said)
      assert.equal(10, #said, ("seed %d: %s"):format(seed, table.concat(said, ", ")))
      for _, note in ipairs(said) do assert.is_truthy(note:find "^all of ", ("seed %d: %s"):format(seed, note)) end
      one:close()
    end
  end)
end)
