local sim = require "spec.sim.sim"

describe("bus.cache, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function run(text, more)
    local scripts = { ["s.lua"] = sim.script(text) }
    for name, other in pairs(more or {}) do scripts[name] = sim.script(other) end
    return world:host { scripts = scripts }
  end

  -- A script whose load takes a second and gives `gives`; "get.KEY" notes what get has given.
  local function script(opts, gives)
    return ([[
      local cache = bus.cache("c", { %s, load = function(key)
        sim.note("load " .. key)
        bus.sleep "1s"
        %s
      end })
      local function note(ok, value, err)
        sim.note(("%%s %%s"):format(ok and "got" or "raised", tostring(value)))
        if err then sim.note("err " .. tostring(err)) end
      end
      local function key_of(msg) return msg.subject:match "%%w+$" end
      bus.subscribe("get.*", { timeout = "1m" }, function(msg) note(pcall(cache.get, cache, key_of(msg))) end)
      bus.subscribe("delete.*", function(msg) cache:delete(key_of(msg)) end)
      bus.subscribe("set.*", function(msg) cache:set(key_of(msg), msg.data) end)
      bus.subscribe("flush", function() cache:flush() end)
    ]]):format(opts, gives)
  end

  it("says who put there what cannot be kept", function()
    run [[
      local cache = bus.cache("c", { ttl = "1s", load = function() return { a = print } end })
      bus.subscribe("in", function(msg)
        if msg.data == "set" then cache:set("k", { b = { print } }) else cache:get "k" end
      end)
    ]]
    for data, said in pairs {
      set = "cache:set: value.b[1]: a function cannot be stored: only booleans",
      get = 'cache:get: what load gave for "k".a: a function cannot be stored: only booleans',
    } do
      assert.matches(said, world:request("in", data).headers["Nats-Service-Error"], 1, true)
    end
  end)

  it("loads a key once for all that want it, in all scripts, and keeps it for its ttl", function()
    local text = script('ttl = "10s"', 'return { n = key .. bus.now() }')
    run(text, { ["t.lua"] = text:gsub("get%.", "other."):gsub('"delete%.%*"', '"d.*"'):gsub('"set%.%*"', '"s.*"') })
    for _ = 1, 5 do world:publish "get.a"; world:publish "other.a" end
    world:publish "get.b"
    world:advance "5s"
    world:publish "get.a"
    world:advance "1s"
    local loads, got = {}, 0
    for _, text_ in ipairs(world:said()) do
      if text_:match "^load" then loads[#loads + 1] = text_ else got = got + 1 end
    end
    table.sort(loads)
    assert.same({ "load a", "load b" }, loads)
    assert.equal(12, got)
    world:advance "10s"
    world:publish "get.a"
    world:advance "2s"
    local said = world:said()
    assert.equal("load a", said[#said - 1])
  end)

  it("gives a failed load to all that waited for it, and loads again for the next one", function()
    for _, case in ipairs {
      { 'return nil, "no database"', { "got nil", "err no database" } },
      { 'return nil', { "got nil" } },
      { 'error "broken"', { "raised s.lua:4: broken" } },
      { 'error { code = "mine", message = "broken" }', { "raised table" } },
    } do
      run(script('ttl = "10s"', case[1]))
      for _ = 1, 3 do world:publish "get.a" end
      world:advance "5s"
      world:publish "get.a"
      world:advance "5s"
      local expected = { "load a" }
      for i = 1, 4 do
        if i == 4 then expected[#expected + 1] = "load a" end
        for _, text in ipairs(case[2]) do expected[#expected + 1] = text end
      end
      local said = {}
      for i, text in ipairs(world:said()) do
        said[i] = text:gsub("^raised table.*", "raised table"):gsub("^raised mine: broken", "raised table")
      end
      assert.same(expected, said)
      world:close()
      world = sim.new()
    end
  end)

  it("has nothing of keys whose load failed, a minute later", function()
    run(script('ttl = "10s"', 'if key == "c" then return print end return nil, key == "a" and "no" or nil') .. [[
      bus.subscribe("entries", function() return tostring(bus.shared("cache:c"):stats().entries) end)]])
    for key in ("abcd"):gmatch "." do world:publish("get." .. key) end
    world:advance "10s"
    world:advance "61s"
    assert.equal("1", world:request("entries").data) -- how many loads were begun
  end)

  it("keeps a failure where that is asked for", function()
    run(script('error_ttl = "5s"', 'return nil, "no database"'))
    for _ = 1, 4 do world:publish "get.a"; world:advance "2s" end
    assert.same({ "load a", "got nil", "err no database", "got nil", "err no database", "got nil",
      "err no database", "load a", "got nil", "err no database" }, world:said())
  end)

  it("serves the old value while one loads anew, and when that fails", function()
    run(script('ttl = "10s", stale = "1m"', [[
      loads = (rawget(_G, "loads") or 0) + 1
      if loads == 2 then error "broken" end
      return "value " .. loads]]))
    world:publish "get.a"
    world:advance "15s"
    world:publish "get.a"
    world:advance "100ms"
    world:publish "get.a"
    world:advance "2s"
    world:publish "get.a"
    world:advance "2s"
    world:publish "get.a"
    world:advance "2s"
    assert.same({ "load a", "got value 1", "load a", "got value 1", "got value 1", "load a", "got value 3",
      "got value 3" }, world:said())
    assert.matches('cache "c": a load failed, the old value is served: s.lua', world:logged("warn")[2].msg)
  end)

  it("does not keep what was deleted, set or flushed while it was loaded", function()
    for _, how in ipairs { "delete.a", "flush" } do
      run(script('ttl = "1h"', 'return "old"'))
      world:publish "get.a"
      world:advance "500ms"
      world:publish(how)
      world:advance "5s"
      world:publish "get.a"
      world:advance "5s"
      local said = world:said()
      assert.same({ "load a", "got old" }, { said[#said - 1], said[#said] })
      world:close()
      world = sim.new()
    end
    run(script('ttl = "1h"', 'return "old"'))
    world:publish "get.a"
    world:advance "500ms"
    world:publish("set.a", "new")
    world:advance "5s"
    world:publish "get.a"
    world:advance "5s"
    assert.same({ "load a", "got old", "got new" }, world:said())
  end)

  it("lets the next one load, when the handler that loads is cancelled", function()
    run [[
      local function load(key) sim.note "load"; bus.sleep "10s"; return key end
      local cache = bus.cache("c", { load = load })
      bus.subscribe("short", { timeout = "2s" }, function() cache:get "a" end)
      bus.subscribe("long", { timeout = "1m" }, function() sim.note(cache:get "a") end)
    ]]
    world:publish "short"
    world:advance "10ms"
    world:publish "long"
    world:advance "30s"
    assert.same({ "0 load", "2000 load", "12000 a" }, world:said { at = true })
  end)

  it("is the same for the next version of a script", function()
    local host = run(script('ttl = "1h"', 'return "old"'))
    world:publish "get.a"
    world:publish "get.a"
    world:advance "500ms"
    host:reload("s.lua", sim.script(script('ttl = "1h"', 'return "new"')), true)
    world:publish "get.a"
    world:advance "5s"
    assert.same({ "load a", "got old", "got old", "got old" }, world:said())
  end)

  it("raises when it is misused", function()
    run [[
      local function try(...) sim.note((tostring(select(2, pcall(...))))) end
      local function load(key) return key end
      try(bus.cache)
      try(bus.cache, "c")
      try(bus.cache, "c", { load = 1 })
      try(bus.cache, "c", { load = load, stale = "1s" })
      try(bus.cache, "c", { load = load, timeout = "1s" })
      local cache
      cache = bus.cache("c", { load = function(key) return cache:get(key) end })
      try(cache.get, cache, "a")
      local bad = bus.cache("d", { load = function() return print end })
      bus.subscribe("s", function()
        try(cache.get, {}, "a") try(cache.get, cache) try(cache.get, cache, ("x"):rep(513))
        try(cache.set, cache, "a") try(cache.get, cache, "a") try(bad.get, bad, "a")
      end)
    ]]
    world:request "s"
    local said = world:said()
    for i, text in ipairs {
      "bus.cache: name: expected a string of 1 to 200 bytes", "bus.cache: load is required",
      "bus.cache: load: expected a function of the key, got 1", "bus.cache: stale: without a ttl",
      'bus.cache: unknown option "timeout": there are', "cache:get: not while the script loads",
      "cache:get: call it with a colon", "cache:get: key: expected a string of at most 512 bytes, got nothing",
      "cache:get: key: expected", "cache:set: the value is missing",
      'cache:get: this handler holds "cache c: a" already', 'cache:get: what load gave for "a": a',
    } do
      assert.is_truthy((said[i] or ""):find(text, 1, true), ("%d: %s"):format(i, tostring(said[i])))
      assert.matches("^s.lua:%d+: ", said[i])
    end
  end)
end)
