local sim = require "spec.sim.sim"

describe("bus.shared, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  it("frees what has expired by itself", function()
    local host = world:host { scripts = { ["s.lua"] = sim.script [[
      local s = bus.shared("spec", { size = "8MB" })
      bus.subscribe("fill", function()
        for i = 1, 1000 do s:set("k" .. i, ("x"):rep(100), { ttl = "200ms" }) end
        s:set("later", 1, { ttl = "1m" })
        s:set("stays", 1)
      end)
    ]] } }
    world:publish "fill"
    world:advance "100ms"
    assert.equal(1002, host:status().shared[1].entries)
    assert.is_true(host:status().shared[1].bytes > 100000)
    world:advance "15s"
    assert.equal(2, host:status().shared[1].entries)
    assert.is_true(host:status().shared[1].bytes < 800)
    world:advance "1m"
    assert.equal(1, host:status().shared[1].entries)
  end)

  it("gives to nobody what has expired, however long it stays", function()
    world:host { scripts = { ["s.lua"] = sim.script [[
      local s = bus.shared "spec"
      bus.subscribe("put", function() s:set("k", 1, { ttl = "200ms" }) end)
      bus.subscribe("get", function() return tostring(s:get "k") end)
    ]] } }
    world:publish "put"
    assert.equal("1", world:request("get").data)
    world:advance "190ms"
    assert.equal("1", world:request("get").data)
    world:advance "10ms"
    assert.equal("nil", world:request("get").data)
  end)

  local function run(text)
    world:host { scripts = { ["s.lua"] = sim.script(text) } }
    world:publish "s"
    world:advance "5m"
    assert.same({}, world:logged "error")
    return world:said()
  end

  it("replaces only what is there, and tells and changes how long it stays", function()
    assert.same({ "false", "nil", "true", "2", "false", "true", "10", "4", "true", "false", "false", "nil" }, run [[
      local s = bus.shared "spec"
      local function note(value) sim.note(tostring(value)) end
      bus.subscribe("s", { timeout = "10m" }, function()
        note(s:replace("k", 1)); note(s:ttl "k")
        s:set("k", 1)
        note(s:replace("k", 2)); note(s:get "k"); note(s:ttl "k")
        note(s:expire("k", "10s")); note(s:ttl "k")
        bus.sleep "6s"
        note(math.floor(s:ttl "k" + 0.5))
        note(s:expire("k", false)); note(s:ttl "k")
        note(s:expire("absent", "1s"))
        s:replace("k", 3, { ttl = "1s" })
        bus.sleep "2s"
        note(s:get "k")
      end)
    ]])
  end)

  it("lists its keys, but not those that have expired, and flushes them", function()
    assert.same({ "a,b,c", "2", "3", "0", "nil", "1", "x", "nil" }, run [[
      local s = bus.shared "spec"
      local function note(value) sim.note(tostring(value)) end
      bus.subscribe("s", { timeout = "10m" }, function()
        s:set("c", 1); s:set("a", 1); s:set("b", "x", { ttl = "1m" })
        s:set("gone", 1, { ttl = "5ms" })
        bus.sleep "5ms"
        local keys = s:keys()
        table.sort(keys)
        note(table.concat(keys, ","))
        note(#s:keys(2))
        s:get "gone"
        note(s:flush()); note(#s:keys()); note(s:get "b")
        s:set("x", 1, { ttl = "2m" })
        note(s:stats().entries); note(s:keys()[1])
        bus.sleep "3m"
        note(s:get "x")
      end)
    ]])
  end)

  it("forgets what was used longest ago, where that is asked for, and never what is put", function()
    assert.same({ "full", "true", "true", "true", "true", "true", "too_large", "full" }, run [[
      local s = bus.shared("spec", { size = 4096 })
      local function note(value) sim.note(tostring(value)) end
      local function fill()
        for i = 1, 1000 do
          local ok, err = s:set("k" .. i, ("x"):rep(100))
          if not ok then return err.code end
          s:get "k1"
        end
      end
      bus.subscribe("s", { timeout = "10m" }, function()
        note(fill())
        bus.shared("spec", { evict = "lru" })
        note(fill() == nil)
        local stats = s:stats()
        note(stats.evicted > 900 and stats.bytes <= stats.size and stats.hits > 1000 and stats.entries > 5)
        note(s:get "k1" and s:get "k1000" and not s:get "k2" and true)
        note(s:set("k1", ("y"):rep(3500)) and s:get "k1" == ("y"):rep(3500))
        note(s:stats().bytes <= 4096)
        note((select(2, s:set("k1", ("y"):rep(5000)))).code)
        bus.shared("spec", { evict = "none" })
        note(fill())
      end)
    ]])
  end)

  it("refuses what is misused", function()
    local said = run [[
      local function try(...) sim.note((select(2, pcall(...)))) end
      local s = bus.shared "spec"
      try(bus.shared, "spec", { evict = "fifo" })
      try(s.keys, s)
      bus.subscribe("s", function()
        try(s.keys, s, 0) try(s.keys, {}) try(s.flush) try(s.stats, 1) try(s.ttl, s) try(s.expire, s, "k")
        try(s.expire, s, "k", "soon") try(s.replace, s, "k") try(s.replace, s, "k", 1, 5)
      end)
    ]]
    for i, text in ipairs {
      'bus.shared: evict: expected "lru" or "none", got "fifo"', "shared:keys: not while the script loads",
      "shared:keys: max (how many keys at most): expected an integer from 1 to 100000, got 0",
      "shared:keys: call it with a colon", "shared:flush: call it with a colon",
      "shared:stats: call it with a colon", "shared:ttl: the key must be a string, got nil",
      'shared:expire: ttl: expected a duration ("10s"), or false', "shared:expire: ttl: ",
      "shared:replace: the value is missing", "shared:replace: expected a table of options, got a number",
    } do
      assert.is_truthy((said[i] or ""):find(text, 1, true), ("%d: %s"):format(i, tostring(said[i])))
      assert.matches("^s.lua:%d+: ", said[i])
    end
  end)
end)
