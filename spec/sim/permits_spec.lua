local sim = require "spec.sim.sim"

describe("Locks, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function run(text, more)
    local scripts = { ["s.lua"] = sim.script(text) }
    for name, other in pairs(more or {}) do scripts[name] = sim.script(other) end
    return world:host { scripts = scripts }
  end

  it("let in one after the other, in their order, over scripts and instances", function()
    local text = [[
      bus.subscribe("%s.*", { timeout = "1h" }, function(msg)
        local name = msg.subject
        assert(bus.lock "door")
        sim.note(name .. " in")
        bus.sleep "1s"
        sim.note(name .. " out")
      end)]]
    run(text:format "a", { ["t.lua"] = text:format "b" })
    local expected = {}
    for i = 1, 5 do
      for _, script in ipairs { "a", "b" } do
        world:publish(("%s.%d"):format(script, i))
        world:advance "10ms"
        expected[#expected + 1] = ("%s.%d in"):format(script, i)
        expected[#expected + 1] = ("%s.%d out"):format(script, i)
      end
    end
    world:advance "20s"
    assert.same(expected, world:said())
  end)

  it("are given back however a handler ends", function()
    run [[
      bus.subscribe("end.*", { timeout = "3s" }, function(msg)
        local how = msg.subject:match "%a+$"
        assert(bus.lock "door")
        sim.note(how)
        bus.sleep "1s"
        if how == "raises" then error "broken" end
        if how == "fails" then return nil, "failed" end
        if how == "waits" then bus.sleep "1h" end
        if how == "releases" then bus.lock("other"):release() end
      end)
    ]]
    for _, how in ipairs { "raises", "fails", "returns", "releases", "waits" } do
      world:publish("end." .. how)
      world:advance "5s"
    end
    world:publish "end.last"
    world:advance "5s"
    assert.same({ "0 raises", "5000 fails", "10000 returns", "15000 releases", "20000 waits", "25000 last" },
      world:said { at = true })
  end)

  it("are given back by a spawned function that ends, by release, and by the function's form", function()
    run [[
      bus.subscribe("s", function()
        bus.spawn(function() assert(bus.lock "door") end):wait()
        local lock = assert(bus.lock("door", { wait = 0 }))
        sim.note(tostring(lock) .. tostring(lock:held()) .. tostring(lock:release()) .. tostring(lock:release()))
        sim.note(tostring(lock))
        sim.note(table.concat({ bus.lock("door", function() return 1, 2 end) }, ","))
        sim.note(select(2, pcall(bus.lock, "door", { wait = 0 }, function() error "inside" end)))
        assert(bus.lock("door", { wait = 0 }))
      end)
    ]]
    world:request "s"
    assert.same({ "lock (held)truetruefalse", "lock (given back)", "1,2", "s.lua:7: inside" }, world:said())
    assert.same({}, world:logged "error")
  end)

  it("wait no longer than they may", function()
    run [[
      bus.subscribe("hold", function() bus.lock "door"; bus.sleep "10s" end)
      bus.subscribe("wait", function()
        local lock, err = bus.lock("door", { wait = "2s" })
        sim.note(tostring(lock) .. " " .. err.code .. ": " .. err.message)
        local now, why = bus.lock("door", { wait = 0 })
        sim.note(tostring(now) .. " " .. why.code)
        assert(bus.lock "door")
        sim.note "in"
      end)
    ]]
    world:publish "hold"
    world:advance "1s"
    world:publish "wait"
    world:advance "20s"
    assert.same({ '3000 nil timeout: "door" has not come free in time', "3000 nil timeout", "10000 in" },
      world:said { at = true })
  end)

  it("are lost when their ttl is over", function()
    run [[
      bus.subscribe("hold", function()
        local lock = bus.lock("door", { ttl = "2s" })
        bus.sleep "5s"
        sim.note(tostring(lock:held()) .. tostring(lock:release()))
      end)
      bus.subscribe("wait", function() assert(bus.lock "door"); sim.note "in"; bus.sleep "10s" end)
    ]]
    world:publish "hold"
    world:publish "wait"
    world:advance "20s"
    assert.same({ "2000 in", "5000 falsefalse" }, world:said { at = true })
  end)

  it("leave the queue when their handler is cancelled, and the next one comes", function()
    run [[
      bus.subscribe("hold", function() bus.lock "door"; bus.sleep "10s" end)
      bus.subscribe("short", { timeout = "2s" }, function()
        local ok, err = pcall(bus.lock, "door")
        sim.note(tostring(ok) .. " " .. err.code)
        error(err)
      end)
      bus.subscribe("long", { timeout = "1m" }, function() bus.lock "door"; sim.note "long" end)
    ]]
    for _, name in ipairs { "hold", "short", "long" } do world:publish(name); world:advance "10ms" end
    world:advance "20s"
    assert.same({ "2010 false cancelled", "10000 long" }, world:said { at = true })
  end)

  it("are the same for the next version of a script, and the old one keeps its place", function()
    local text = [[
      bus.subscribe("s", { timeout = "1m" }, function() bus.lock "door"; sim.note "%s"; bus.sleep "5s" end)]]
    local host = run(text:format "old")
    world:publish "s"
    world:publish "s"
    world:advance "1s"
    host:reload("s.lua", sim.script(text:format "new"), true)
    world:publish "s"
    world:advance "30s"
    assert.same({ "0 old", "5000 old", "10000 new" }, world:said { at = true })
  end)

  it("refuse a handler that would wait for itself, and what is misused", function()
    run [[
      local function try(...) sim.note((select(2, pcall(...)))) end
      bus.subscribe("s", function()
        assert(bus.lock "door")
        try(bus.lock, "door")
        bus.spawn(function() try(bus.lock, "door") end):wait()
        assert(bus.semaphore("two", 2))
        assert(bus.semaphore("two", 2))
        try(bus.semaphore, "two", 2)
        try(bus.lock, "")
        try(bus.lock, "x", { retries = 3 })
        try(bus.lock, "x", { timeout = 1 })
        try(bus.lock, "x", "5s")
        try(bus.semaphore, "x")
        try(bus.semaphore, "x", 0)
        try(table.sort, { 1, 2, 3 }, function() return bus.lock("y", { wait = 1 }) end)
      end)
      try(bus.lock, "door")
    ]]
    world:request "s"
    local said = world:said()
    for i, text in ipairs {
      "bus.lock: not while the script loads",
      'bus.lock: this handler holds "door" already, and would wait for itself',
      'bus.lock: this handler holds "door" already, and would wait for itself',
      'bus.semaphore: this handler holds all 2 places of "two", and would wait for itself',
      "bus.lock: name: expected a string of 1 to 1024 bytes",
      'bus.lock: unknown option "retries": there are cluster, ttl, wait',
      'bus.lock: unknown option "timeout": here it is "wait"',
      "bus.lock: expected a table of options, got a string",
      "bus.semaphore: n (how many at a time): expected an integer from 1 to 1000000, got nothing",
      "bus.semaphore: n (how many at a time): expected an integer from 1 to 1000000, got 0",
      "bus.lock cannot wait inside",
    } do
      assert.is_truthy((said[i] or ""):find(text, 1, true), ("%d: %s"):format(i, tostring(said[i])))
      assert.matches("^s.lua:%d+: ", said[i])
    end
    assert.same({}, world:logged "error")
  end)

  it("of a semaphore are as many as it has, also when a new version has fewer", function()
    local text = [[
      bus.subscribe("s", { timeout = "1m" }, function()
        bus.semaphore("doors", %d, function() sim.note "in"; bus.sleep "5s" end)
      end)]]
    local host = run(text:format(3))
    for _ = 1, 5 do world:publish "s" end
    world:advance "1s"
    host:reload("s.lua", sim.script(text:format(1)), true)
    for _ = 1, 2 do world:publish "s" end
    world:advance "1m"
    local at = {}
    for _, text_ in ipairs(world:said { at = true }) do at[#at + 1] = text_:match "%d+" end
    assert.same({ "0", "0", "0", "5000", "10000", "15000", "20000" }, at)
  end)
end)

describe("Limiters, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function run(text) return world:host { scripts = { ["s.lua"] = sim.script(text) } } end

  it("let through a burst, then so many in a second, in their order, over all that have the name", function()
    run [[
      local limit = bus.limiter("calls", { rate = 2, burst = 3 })
      for _, name in ipairs { "a", "b" } do
        bus.subscribe(name, { timeout = "1m" }, function(msg)
          assert(limit:take())
          sim.note(msg.data)
        end)
      end
    ]]
    for i = 1, 7 do world:publish(i % 2 == 1 and "a" or "b", tostring(i)); world:settle() end
    world:advance "10s"
    local said = world:said { at = true }
    assert.same({ "0 1", "0 2", "0 3" }, { said[1], said[2], said[3] })
    local ms = {}
    for i = 4, 7 do
      local at, text = said[i]:match "^(%d+) (.*)$"
      assert.equal(tostring(i), text)
      ms[#ms + 1] = tonumber(at)
    end
    for i, at in ipairs { 500, 1000, 1500, 2000 } do assert.is_true(math.abs(ms[i] - at) <= 5, ms[i]) end
  end)

  it("say at once whether there is enough, and take several", function()
    run [[
      local limit = bus.limiter("calls", { rate = "600/m", burst = 10 })
      bus.subscribe("s", function()
        sim.note(tostring(limit) .. " " .. tostring(limit:try(8)) .. tostring(limit:try(3)) .. tostring(limit:try(2)))
        limit:take(10)
        sim.note(tostring(limit:try()))
      end)
    ]]
    world:request "s"
    world:advance "5s"
    local said = world:said { at = true }
    assert.equal('0 limiter "calls" truefalsetrue', said[1])
    local at, text = said[2]:match "^([%d.]+) (.*)$"
    assert.is_true(tonumber(at) >= 1000 and tonumber(at) < 1010, at)
    assert.equal("false", text)
  end)

  it("forget who was cancelled while he waited", function()
    run [[
      local limit = bus.limiter("calls", { rate = "1/m" })
      bus.subscribe("s", { timeout = "2s" }, function() limit:take(); sim.note "through" end)
      bus.subscribe("t", { timeout = "5m" }, function() limit:take(); sim.note "through, late" end)
    ]]
    for _, name in ipairs { "s", "s", "t" } do world:publish(name); world:advance "10ms" end
    world:advance "2m"
    local said = world:said { at = true }
    assert.equal("0 through", said[1])
    local at = said[2]:match "^(%d+) through, late$"
    assert.is_true(tonumber(at) >= 60000 and tonumber(at) < 60100, at)
    assert.is_nil(said[3])
  end)

  it("take what a new version states", function()
    local text = [[
      local limit = bus.limiter("calls", { rate = "%s" })
      bus.subscribe("s", { timeout = "1h" }, function() limit:take(); sim.note "%s" end)]]
    local host = run(text:format("1/h", "old"))
    world:publish "s"
    world:publish "s"
    world:advance "1m"
    host:reload("s.lua", sim.script(text:format("1/s", "new")), true)
    world:publish "s"
    world:advance "5s"
    assert.same({ "old", "old", "new" }, world:said())
  end)

  it("raise when they are misused", function()
    run [[
      local function try(...) sim.note((select(2, pcall(...)))) end
      try(bus.limiter, "x")
      try(bus.limiter, "x", { rate = 0 })
      try(bus.limiter, "x", { rate = "5 a day" })
      try(bus.limiter, "x", { rate = 1, burst = 0 })
      try(bus.limiter, "x", { rate = 1, retries = 3 })
      local limit = bus.limiter("x", { rate = 1, burst = 5 })
      try(limit.take, limit)
      bus.subscribe("s", function()
        try(limit.take, limit, 6)
        try(limit.take, limit, "1")
        try(limit.try)
        try(limit.try, {}, 0)
      end)
    ]]
    world:request "s"
    local said = world:said()
    for i, text in ipairs {
      "bus.limiter: rate is required", "bus.limiter: rate: expected how many a second", "rate: expected",
      "bus.limiter: burst: expected a number from 1 to 1000000000, got 0", 'unknown option "retries"',
      "limiter:take: not while the script loads",
      "limiter:take: n: expected a number above 0, at most the burst (5), got 6",
      "limiter:take: n: expected", "limiter:try: call it with a colon", "limiter:try: call it with a colon",
    } do
      assert.is_truthy((said[i] or ""):find(text, 1, true), ("%d: %s"):format(i, tostring(said[i])))
    end
  end)
end)
