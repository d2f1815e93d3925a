local sim = require "spec.sim.sim"

-- A worker takes several messages at once (host/engine/source/hand.h). Computing is sim.burn.
describe("What a worker has in hand, in virtual time", function()
  local world

  before_each(function() world = sim.new { yields = 0, false_wakes = 0 } end)
  after_each(function() world:close() end)

  -- The messages 1 to count lie in the stream before the host starts; each notes where it runs.
  local function script(version, body, options)
    return sim.script(([[
      js.stream { name = "JOBS", subjects = { "jobs" } }
      js.consume("JOBS", { durable = "work", dead_letter = false, concurrency = %d }, function(msg)
        local n = tonumber(msg.data)
        sim.note("%s began " .. n)
        %s
        sim.note("%s ended " .. n)
      end)
    ]]):format(options and options.concurrency or 1000, version, body, version))
  end

  local function serve(text, count, settings)
    local other = world:host { scripts = { ["s.lua"] = sim.script
      [[js.stream { name = "JOBS", subjects = { "jobs" } }]] } }
    for i = 1, count do world:publish("jobs", tostring(i)) end
    other:finish()
    return world:host { settings = settings, scripts = { ["j.lua"] = text } }
  end

  -- { [n] = when it began }, and how often each began; with a version: only there.
  local function begun(version)
    local at, times, order = {}, {}, {}
    for _, note in ipairs(world:said { at = true }) do
      local ms, where, n = note:match "^(%S+) (%S+) began (%d+)$"
      n = tonumber(n)
      if n and (not version or where == version) then
        at[n], times[n] = tonumber(ms), (times[n] or 0) + 1
        order[#order + 1] = n
      end
    end
    return at, times, order
  end

  local function count(list)
    local sum = 0
    for _ in pairs(list) do sum = sum + 1 end
    return sum
  end

  it("waits for no burner while another worker is idle: it starts within 5 ms", function()
    serve(script("v", [[if n == 1 then sim.burn(300) end]]), 100)
    world:advance "100ms"
    local at, _, order = begun()
    assert.equal(100, #order)
    for n = 2, 100 do
      assert.is_true(at[n] - at[1] <= 5, ("message %d began %g ms after the burner"):format(n, at[n] - at[1]))
    end
  end)

  it("waits for none in the middle of it either", function()
    serve(script("v", [[if n == 5 then sim.burn(300) end]]), 100)
    world:advance "100ms"
    local at = begun()
    assert.equal(100, count(at))
    for n = 1, 100 do assert.is_true(at[n] - at[5] <= 5, ("message %d"):format(n)) end
  end)

  it("waits for none when as many burn as there are workers but one", function()
    serve(script("v", [[if n == 1 or n == 30 then sim.burn(300) end]]), 100, { workers = 3 })
    world:advance "100ms"
    local at = begun()
    for n = 1, 100 do assert.is_true(at[n] and at[n] - at[1] <= 5, ("message %d"):format(n)) end
  end)

  it("gives back the places of what has ended, though its worker computes", function()
    -- 16 places, a hand of 4: three of them have ended when the fourth computes. It has one place, and
    -- 15 others run beside it.
    serve(script("v", [[if n == 4 then sim.burn(300) elseif n > 4 then bus.sleep "200ms" end]], { concurrency = 16 }),
      150)
    world:advance "100ms"
    assert.equal(4 + 15, count(begun()))
  end)

  it("gives back the place of what ends when its worker has been relieved, too", function()
    -- On one instance: while `first` computes the others wake. Then `second` computes, until its worker is
    -- relieved, and waits; the first of `single` ends; and `last` computes for long.
    world:host { settings = { workers = 2 }, scripts = { ["s.lua"] = sim.script [[
      local function computes(name, pause, burn)
        bus.subscribe(name, function()
          bus.sleep(pause)
          sim.burn(burn)
          bus.sleep "1s"
        end)
      end
      computes("first", "90ms", 30)
      computes("second", "100ms", 5)
      bus.subscribe("single", { concurrency = 1 }, function(msg)
        if msg.data == "1" then bus.sleep "100ms" end
        sim.note("single " .. msg.data)
      end)
      computes("last", "100ms", 400)
    ]] } }
    world:settle()
    world:publish "first"
    world:publish "second"
    world:publish("single", "1")
    world:publish("single", "2")
    world:publish "last"
    world:advance "1s"
    local at = {}
    for _, note in ipairs(world:said { at = true }) do
      local ms, n = note:match "^(%S+) single (%d)$"
      at[tonumber(n)] = tonumber(ms)
    end
    assert.is_true(at[2] - at[1] <= 5, ("%g ms after the first has ended"):format(at[2] - at[1]))
  end)

  it("begins for a millisecond: handlers that compute a little do not add up to a long wait", function()
    serve(script("v", [[sim.burn(0.4)]]), 64)
    world:advance "1s"
    local at, _, order = begun()
    assert.equal(64, #order)
    -- 64 of 0.4 ms on two workers: with a hand of 16 to its end the last one would wait for its own worker.
    assert.is_true(at[order[64]] - at[order[1]] <= 64 * 0.4 / 2 + 4)
  end)

  it("keeps its order when it goes back", function()
    serve(script("v", [[sim.burn(0.3)]]), 100, { workers = 1 })
    world:advance "1s"
    local _, _, order = begun()
    assert.equal(100, #order)
    for i, n in ipairs(order) do assert.equal(i, n) end
  end)

  describe("when its version is replaced", function()
    it("is run by the new one, but for what has begun", function()
      for step = 1, 15 do
        world:close()
        world = sim.new { yields = 0, false_wakes = 0 }
        local body = [[sim.burn(0.1 + n % 4 * 0.15)]]
        local host = serve(script("old", body), 100)
        world:advance(step / 5)
        assert.is_true(count(begun "old") > 0)
        host:reload("j.lua", script("new", body), true)
        world:advance "1s"
        local _, times, order = begun()
        assert.equal(100, #order)
        for n = 1, 100 do assert.equal(1, times[n], n) end
        local switched
        for _, note in ipairs(world:said()) do
          switched = switched or note:find "^new began"
          assert.is_false(switched and note:find "^old began" ~= nil or false, note)
        end
        assert.equal(0, world:consumer("JOBS", "work").num_redelivered)
      end
    end)
  end)

  describe("when its host stops", function()
    it("is handed back at once, and another host has it", function()
      local host = serve(script("old", [[sim.burn(0.9)]]), 100)
      world:advance(0.5)
      assert.equal(0, host:finish "30s")
      local old = begun "old"
      assert.is_true(count(old) <= 4, ("%d messages ran on the host that stopped"):format(count(old)))
      world:host { scripts = { ["j.lua"] = script("new", "") } }
      world:advance "1s"
      local _, times, order = begun()
      assert.equal(100, #order)
      for n = 1, 100 do assert.equal(1, times[n], n) end
    end)
  end)

  it("is neither lost nor doubled, whatever it meets", function()
    for seed = 1, 30 do
      world:close()
      world = sim.new { seed = seed }
      local body = [[if n % 7 == 0 then sim.burn(n % 5) elseif n % 3 == 0 then bus.sleep "3ms" end
        if n % 11 == 0 then error "planned" end]]
      local host = serve(script("v0", body, { concurrency = 200 }), 150)
      for n = 1, 3 do
        world:advance(world:random(8) / 2)
        if seed % 3 == 0 then
          world:cut(50)
        elseif seed % 3 == 1 then
          host:reload("j.lua", script("v" .. n, body, { concurrency = 200 }), true)
        else
          host:finish "1s"
          host = world:host { scripts = { ["j.lua"] = script("v" .. n, body, { concurrency = 200 }) } }
        end
      end
      local settled = world:wait(function()
        local info = world:consumer("JOBS", "work")
        local _, times = begun()
        return count(times) == 150 and info.num_pending == 0 and #world:said() >= 150
      end, "5m")
      assert.is_true(settled, ("seed %d"):format(seed))
      local ended = {}
      for _, note in ipairs(world:said()) do
        local n = tonumber(note:match "ended (%d+)$")
        if n then
          ended[n] = (ended[n] or 0) + 1
          assert.is_true(ended[n] == 1 or seed % 3 ~= 1, ("seed %d: message %d was done twice"):format(seed, n))
        end
      end
      for n = 1, 150 do
        if n % 11 ~= 0 then assert.is_truthy(ended[n], ("seed %d: message %d"):format(seed, n)) end
      end
    end
  end)
end)
