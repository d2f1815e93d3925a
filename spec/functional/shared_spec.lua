-- bus.shared: one store for all instances and generations of the process.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"
local posix = require "spec.support.posix"
local cjson = require "cjson"

describe("bus.shared", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- The reply, decoded, of a handler that runs `body`.
  local function result_of(body, options)
    options = options or {}
    options.handlers = { ["handler.lua"] = ([[
local bus = require "moonbus"
local s = bus.shared("spec")
local function try(...)
  local ok, err = pcall(...)
  return ok and "no error" or tostring(err)
end
bus.subscribe("spec", function(msg)
%s
end)]]):format(body) }
    w:run(options)
    local reply = w.client:request("spec", "", { timeout = wait.least })
    assert.is_nil(reply:header "Nats-Service-Error")
    return reply:json()
  end

  it("keeps what is set, until it is deleted", function()
    assert.same({ "nil", 5, "text", true, false, "nil", true, false }, result_of [[
      local r = { tostring(s:get("a")) }
      s:set("a", 5)          r[#r + 1] = s:get("a")
      s:set("a", "text")     r[#r + 1] = s:get("a")
      s:set("a", true)       r[#r + 1] = s:get("a")
      s:set("a", false)      r[#r + 1] = s:get("a")
      local was = s:delete("a")
      r[#r + 1] = tostring(s:get("a"))
      r[#r + 1] = was
      r[#r + 1] = s:delete("a")
      return r]])
  end)

  it("copies tables in and out, as deep as they are", function()
    assert.same({ 1, 2, "deep", "key", "[]", true, "changed", true }, result_of [[
      local original = { 1, 2, nested = { list = { { name = "deep" } }, [true] = "key", [2.5] = 1,
        empty = bus.json.array {}, null = bus.json.null } }
      s:set("t", original)
      original.nested.list[1].name = "changed"
      local a, b = s:get("t"), s:get("t")
      return { a[1], a[2], a.nested.list[1].name, a.nested[true], bus.json.encode(a.nested.empty),
        a.nested.null == bus.json.null, original.nested.list[1].name,
        a ~= b and a.nested ~= b.nested and b.nested[2.5] == 1 and #b == 2 }]])
  end)

  it("adds only what is absent", function()
    assert.same({ true, false, 1, true, 3 }, result_of [[
      local r = { s:add("a", 1), s:add("a", 2), s:get("a") }
      s:delete("a")
      r[4] = s:add("a", 3)
      r[5] = s:get("a")
      return r]])
  end)

  it("counts, from 0 or from init", function()
    assert.same({ 1, 3, 2.5, 2.5, 110, 111 }, result_of [[
      return { s:incr("a"), s:incr("a", 2), s:incr("a", -0.5), s:get("a"),
        s:incr("b", 10, { init = 100 }), s:incr("b", 1, { init = 100 }) }]])
  end)

  it("counts no further than there are numbers: what would not be finite raises, and the value stays",
    function()
      local result = result_of [[
        s:set("n", 1e308)
        local too_far = try(s.incr, s, "n", 1e308)
        local absent = try(s.incr, s, "absent", 1e308, { init = 1e308 })
        s:set("endless", 1 / 0)
        s:set("none", 0 / 0)
        return { too_far, s:get "n", absent, s:get "absent" == nil, try(s.incr, s, "endless", -1),
          s:get "endless" == 1 / 0, try(s.incr, s, "none"), s:get "none" ~= s:get "none" }]]
      assert.matches('shared:incr: 1e%+308 %+ 1e%+308 is no finite number: "n" stays as it is', result[1])
      assert.equal(1e308, result[2])
      assert.matches('"absent" stays as it is', result[3])
      assert.matches("inf %+ %-1 is no finite number", result[5])
      assert.matches("nan %+ 1 is no finite number", result[7])
      assert.same({ true, true, true }, { result[4], result[6], result[8] })
    end)

  it("forgets at the end of a ttl, not before; a set without one has none", function()
    local result = result_of [[
      local began = bus.now()
      s:set("short", "x", { ttl = "300ms" })
      s:set("kept", "x", { ttl = "300ms" })
      s:set("kept", "y")
      s:incr("count", 1, { ttl = "300ms" })
      s:incr("count", 1, { ttl = "1h" })
      assert(s:add("added", "x", { ttl = 0.3 }))
      assert(not s:add("added", "z", { ttl = "1h" }))
      local first = { s:get("short"), s:get("count"), s:get("added") }
      local early = bus.now() - began < 0.3
      while s:get("short") or s:get("count") or s:get("added") do bus.sleep("5ms") end
      return { first = first, early = early, took = bus.now() - began, kept = s:get("kept"),
        again = s:incr("count"), added = s:add("added", "x") }]]
    if result.early then assert.same({ "x", 2, "x" }, result.first) end
    assert.is_true(result.took >= 0.299 and result.took < wait.within(2), result.took)
    assert.same({ "y", 1, true }, { result.kept, result.again, result.added })
  end)

  local function status(host)
    local host_name, port = host.admin:match "^(.*):(%d+)$"
    assert.is_string(host_name)
    return cjson.decode((posix.http_get(tonumber(port), "/status")))
  end

  -- What expires is freed by itself: spec/sim/shared_spec.lua.
  it("shows in the status what it holds", function()
    local host = w:run { admin = true, handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local s = bus.shared("spec", { size = "8MB" })
bus.subscribe("fill", function() s:set("stays", 1) return "" end)]] } }
    w.client:request("fill", "", { timeout = 10 })
    local store = status(host).shared[1]
    assert.same({ "spec", 1, 8 * 2 ^ 20 }, { store.name, store.entries, store.size })
    assert.is_true(store.bytes > 0 and store.bytes < 400, store.bytes)
    local told = w:moonbus({ "status", "--admin", host.admin }).stdout
    assert.matches('shared "spec": entries 1, ', told)
  end)

  it("is bounded: a full store refuses, and forgets nothing", function()
    local result = result_of [[
      local small = bus.shared("small", { size = "64KB" })
      local count, ok, err = 0
      repeat
        ok, err = small:set("k" .. count, ("x"):rep(1000))
        count = count + 1
      until not ok
      local added, err_add = small:add("new", ("x"):rep(2000))
      local sum, err_incr = true, nil
      for i = 1, 1000 do
        sum, err_incr = small:incr("n" .. i)
        if not sum then break end
      end
      local all = true
      for i = 0, count - 2 do all = all and small:get("k" .. i) == ("x"):rep(1000) end
      local large, err_large = small:set("large", ("x"):rep(70000))
      small:delete("k0")
      local after = small:set("again", ("x"):rep(900))
      local bigger = bus.shared("small", { size = "128KB" }):set("more", ("x"):rep(20000))
      return { count = count, codes = { err.code, err_add.code, err_incr.code, err_large.code },
        message = err.message, all = all, after = after, bigger = bigger }]]
    assert.same({ "full", "full", "full", "too_large" }, result.codes)
    assert.matches('the store "small" is full %(%d+ of 65536 bytes', result.message)
    assert.is_true(result.count > 45 and result.count < 60, result.count)
    assert.same({ true, true, true }, { result.all, result.after, result.bigger })
  end)

  it("makes room of what has expired before it refuses", function()
    assert.same({ true, 200 }, result_of [[
      local small = bus.shared("small", { size = "64KB" })
      local sets = 0
      for round = 1, 4 do
        for i = 1, 50 do
          local ok, err = small:set(round .. ":" .. i, ("x"):rep(800), { ttl = "20ms" })
          if not ok then return { err.message, sets } end
          sets = sets + 1
        end
        local until_then = bus.now() + 0.025
        while bus.now() < until_then do end
      end
      return { true, sets }]])
  end)

  local COUNT = [[
local bus = require "moonbus"
local s = bus.shared("count")
bus.subscribe("count", { concurrency = 500 }, function(msg)
  s:incr("n")
  s:incr("by worker %s")
  if tonumber(msg.data) %% 3 == 0 then bus.sleep(0) end
  s:incr("n")
end)
bus.subscribe("sum", function() return { n = s:get("n"), old = s:get("by worker one") } end)]]

  local function sum() return w.client:request("sum", ""):json() end

  it("counts exactly what four workers add at a time", function()
    w:run { args = { "--workers", "4" }, handlers = { ["handler.lua"] = COUNT:format "one" } }
    for i = 1, 5000 do w.client:publish("count", tostring(i)) end
    wait.eventually(function() return sum().n == 10000 end, 20, function() return sum().n end)
    assert.is_true(wait.holds(function() return sum().n == 10000 end, 0.1))
  end)

  it("goes on counting over a reload, of which no call is lost", function()
    local host = w:run { args = { "--workers", "4", "--watch" },
      handlers = { ["handler.lua"] = COUNT:format "one" } }
    for i = 1, 2500 do w.client:publish("count", tostring(i)) end
    temp.write(host.folder, "handlers/handler.lua", COUNT:format "two")
    for i = 2501, 5000 do w.client:publish("count", tostring(i)) end
    host:wait_log "handler%.lua: generation 2 live"
    wait.eventually(function() return sum().n == 10000 end, 20, function() return sum().n end)
    assert.is_true(sum().old > 0)
  end)

  it("is one for all scripts, of handlers of JetStream and timers too", function()
    w.client:stream("IN", { "in" }, { storage = "memory" })
    w:run { handlers = {
      ["a.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.consume("IN", { durable = "d" }, function(msg) bus.shared("one"):set("from js", msg.data) end)]],
      ["b.lua"] = [[
local bus = require "moonbus"
bus.every("20ms", function() bus.shared("one"):set("from timer", bus.shared("one"):get("from js")) end)
bus.subscribe("seen", function() return bus.shared("one"):get("from timer") or "" end)]],
    } }
    w.client:store("in", "hello")
    wait.eventually(function() return w.client:request("seen", "").data == "hello" end)
  end)

  it("raises when it is misused, and says what is right", function()
    local errors = result_of [[
      local loop = {}
      loop.again = { loop }
      local deep = {}
      for _ = 1, 200 do deep = { deep } end
      return {
        try(bus.shared), try(bus.shared, ""), try(bus.shared, {}), try(bus.shared, "x", { sise = 1 }),
        try(bus.shared, "x", { size = 10 }),
        try(s.get, "key"), try(s.get, s), try(s.get, s, 5), try(s.set, s, "a"),
        try(s.set, s, "a", print), try(s.set, s, "a", { items = { 1, { fn = print } } }),
        try(s.set, s, "a", loop), try(s.set, s, "a", deep), try(s.set, s, "a", { [{}] = 1 }),
        try(s.set, s, "a", 1, { ttl = "soon" }), try(s.add, s, "a", 1, { exptime = 1 }),
        try(s.incr, s, "a", "1"), try(s.incr, s, "a", 0 / 0), try(s.incr, s, "a", 1, { init = {} }),
        try(function() s:set("text", "x") s:incr("text") end), try(function() s.field = 1 end),
        try(s.set, s, "a", { ["two words"] = { msg } }), try(s.delete, s, ("k"):rep(70000)),
        try(s.set, s, "a", coroutine.create(print)),
        try(s.set, s, "a", msg), try(s.set, s, "a", s), try(s.set, s, "a", 1, { init = 1 }),
        try(s.set, s, "a", 1, 60), try(s.incr, s, "a", 1, 0), try(s.add, s, "a", 1, { ttl = 0 }),
      }]]
    local expected = {
      "name must be a string, got nil", "1 to 255 bytes", "got table", 'unknown option "sise"',
      "size: expected at least 4096 bytes",
      "with a colon", "key must be a string, got nil", "use tostring", "shared:delete removes",
      "shared:set: a function cannot be stored: only booleans, numbers, strings and tables of them$",
      "shared:set: items%[2%]%.fn: a function cannot be stored",
      "shared:set: again%[1%]: a table that contains itself", "nested more than 128 deep",
      "a table as key cannot be stored",
      "shared:set: ttl: ", 'unknown option "exptime": here it is "ttl"',
      "what is added must be a number, got string", "not finite", "init: expected a number",
      'the value of "text" is not a number', "has no fields",
      'shared:set: %["two words"%]%[1%]: a message cannot be stored: take what you need of it',
      "at most 65535",
      "a thread cannot be stored",
      "shared:set: a message cannot be stored: take", "shared:set: a shared cannot be stored",
      'shared:set: unknown option "init": it belongs to shared:incr',
      "shared:set: expected a table of options, got a number: write { ttl = 60 }",
      "shared:incr: expected a table of options, got a number: write { init = 0 }",
      "shared:add: ttl: expected at least 1ms, got 0",
    }
    for index, text in ipairs(expected) do
      assert.matches(text, errors[index])
      assert.matches("^handler%.lua:%d+: ", errors[index])
    end
  end)

  it("can be named while a script loads, and used only after that", function()
    local failed = w:fail [[
local bus = require "moonbus"
bus.shared("x"):set("a", 1)]]
    assert.equal(2, failed.status)
    assert.matches('shared:set: not while the script loads', failed.events[1].msg)
    assert.equal(2, failed.events[1].line)
  end)

  it("raises in a cancelled handler, as every binding", function()
    local host = w:run [[
local bus = require "moonbus"
local s = bus.shared("spec")
bus.subscribe("stubborn", { timeout = "100ms" }, function()
  pcall(bus.sleep, "1m")
  pcall(s.set, s, "leak", 1)
end)
bus.subscribe("leak", function() return tostring(s:get("leak")) end)]]
    w.client:publish("stubborn", "")
    host:wait_log { level = "error", code = "timeout", handler = "stubborn" }
    assert.equal("nil", w.client:request("leak", "").data)
  end)

  it("gives a table that is larger than the script's memory to nobody", function()
    local host = w:run { config = 'return { limits = { memory = "8MB" } }', handlers = {
      ["handler.lua"] = [[
local bus = require "moonbus"
local s = bus.shared("spec", { size = "64MB" })
bus.subscribe("fill", function()
  local list = {}
  for i = 1, 5000 do list[i] = { i } end
  for i = 1, 20 do assert(s:set("part" .. i, list)) end
  return ""
end)
bus.subscribe("read", function()
  local all = {}
  for i = 1, 20 do all[i] = s:get("part" .. i) end
end)
bus.subscribe("alive", function() return "yes" end)]] } }
    w.client:request("fill", "", { timeout = wait.least })
    w.client:request("read", "", { timeout = wait.least })
    host:wait_log { level = "error", code = "memory", handler = "read" }
    assert.equal("yes", w.client:request("alive", "").data)
  end)
end)
