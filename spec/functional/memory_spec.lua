-- limits.memory: a handler that holds too much fails alone.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("limits.memory", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local GOOD = [[
local bus = require "moonbus"
bus.subscribe("good", function(msg) return msg.data end)
bus.subscribe("sleeper", function() bus.sleep("300ms") return "slept" end)]]

  local function run(body, limit)
    return w:run {
      handlers = { ["good.lua"] = GOOD, ["handler.lua"] = body },
      config = ('return { workers = 2, limits = { memory = %q, cpu = "1m" } }'):format(limit or "16MB"),
    }
  end

  local BOMBS = {
    ["a string.rep"] = [[local s = ("x"):rep(1e9) return tostring(#s)]],
    ["a string that doubles"] = [[local s = "x" while true do s = s .. s end]],
    ["a table"] = [[local t = {} while true do t[#t + 1] = { #t } end]],
    ["a table of strings"] = [[local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end]],
    ["closures"] = [[local t = {} while true do local x = #t t[x + 1] = function() return x end end]],
    ["coroutines"] = [[local t = {} while true do t[#t + 1] = coroutine.create(print) end]],
    ["spawned functions"] = [[while true do bus.spawn(bus.sleep, "1m") end]],
    ["a bomb in pcall"] = [[local t = {}
      while true do
        local ok, err = pcall(function() while true do t[#t + 1] = {} end end)
        if not ok then error(err, 0) end
      end]],
  }

  for what, code in pairs(BOMBS) do
    it("stops " .. what .. ", and nobody else notices", function()
      local host = run(([[
local bus = require "moonbus"
bus.subscribe("burn", { timeout = "1m" }, function() %s end)
bus.subscribe("after", function() return "still there" end)]]):format(code))
      local slept = w.client:subscribe "slept"
      for round = 1, 3 do
        w.client:publish("sleeper", "", nil, "slept")
        w.client:publish("burn", "")
        local began = wait.now()
        for _ = 1, 20 do assert.equal("x", w.client:request("good", "x", { timeout = wait.least }).data) end
        assert.equal("slept", slept:next().data)
        assert.is_true(wait.now() - began < wait.within(0.8), "the sleeper woke late")
        host:wait_log({ level = "error", code = "memory", handler = "burn" }, 10, round)
        assert.equal("still there", w.client:request("after", "", { timeout = wait.least }).data)
      end
      assert.is_true(host:memory_mb() < 150 * wait.slow)
    end)
  end

  local HOARD = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.script { workers = 1 }
local hoard = {}
bus.subscribe("hoard", function() while true do hoard[#hoard + 1] = ("x"):rep(1000) .. #hoard end end)
bus.subscribe("wait", function() bus.sleep("500ms") return "waited" end)
bus.subscribe("count", function() return tostring(#hoard) end)
js.consume("IN", { durable = "d", backoff = { min = "10ms", max = "10ms" } }, function(msg)
  if msg.attempt == 1 then while true do hoard[#hoard + 1] = ("x"):rep(1000) .. #hoard end end
  bus.publish("done", msg.data)
end)]]

  it("has a state that stays full replaced; what waits in it ends there first", function()
    w.client:stream("IN", { "in" }, { storage = "memory" })
    local host = run(HOARD)
    local waited = w.client:subscribe "waited"
    w.client:publish("wait", "", nil, "waited")
    w.client:publish("hoard", "")
    host:wait_log { level = "warn", code = "memory", msg = "a new one takes its place" }
    assert.equal("0", w.client:request("count", "", { timeout = wait.least }).data)
    assert.equal("waited", waited:next().data)
    assert.equal("0", w.client:request("count", "", { timeout = wait.least }).data)
  end)

  it("naks the message of a handler that ran out of it; it works on the new state", function()
    w.client:stream("IN", { "in" }, { storage = "memory" })
    local done = w.client:subscribe "done"
    local host = run(HOARD)
    w.client:store("in", "x")
    assert.equal("x", done:next(5).data)
    host:wait_log { level = "error", code = "memory", attempt = 1 }
    wait.eventually(function() return w.client:settled("IN", "d") end, 10)
  end)

  describe("counts the payloads of messages that a script keeps", function()
    local KEEPER = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.script { workers = 1 }
local kept = {}
bus.subscribe("keep", function(msg) kept[#kept + 1] = msg end)
bus.subscribe("fetch", function()
  local reply = bus.request("big", "")
  kept[#kept + 1] = reply
end)
bus.subscribe("count", function() return tostring(#kept) end)
js.consume("IN", { durable = "d", attempts = 100, backoff = { min = "1ms", max = "1ms" } },
  function(msg) kept[#kept + 1] = msg end)]]
    local BIG = ("x"):rep(100 * 1024)

    it("5,000 of 100 KB do not fill the process, and nobody else notices", function()
      w.client:stream("IN", { "in" }, { storage = "memory" })
      local host = run(KEEPER, "32MB")
      local before = host:memory_mb()
      for index = 1, 5000 do
        w.client:send("keep", BIG)
        if index % 500 == 0 then
          assert.equal("x", w.client:request("good", "x", { timeout = wait.least }).data)
        end
      end
      host:wait_log { level = "warn", code = "memory", msg = "a new one takes its place" }
      assert.is_true(tonumber(w.client:request("count", "", { timeout = wait.least }).data) < 330)
      assert.is_true(host:memory_mb() - before < 200 * wait.slow, host:memory_mb() .. " MB")
      local event = host:wait_log { level = "error", code = "memory", handler = "keep" }
      assert.matches("32768 KB is reached with this message", event.msg)
    end)

    it("replies as well", function()
      w.client:stream("IN", { "in" }, { storage = "memory" })
      local host = run(KEEPER, "16MB")
      local big = w.client:subscribe "big"
      for _ = 1, 300 do
        w.client:publish("fetch", "")
        local request = big:next(0.5)
        if request then
          w.client:reply(request, BIG)
        elseif #host:logged { code = "memory" } > 0 then
          break
        end
      end
      host:wait_log({ level = "warn", code = "memory", msg = "a new one takes its place" }, 10)
    end)

    it("and the message that has no room is nak'd, and handled by the new state", function()
      w.client:stream("IN", { "in" }, { storage = "memory" })
      local host = run(KEEPER, "16MB")
      for _ = 1, 400 do w.client:store("in", BIG) end
      wait.eventually(function() return w.client:settled("IN", "d") end, 20)
      host:wait_log { level = "error", code = "memory", handler = "IN/d" }
    end)

    it("and not those that it has let go", function()
      local host = run([[
local bus = require "moonbus"
bus.subscribe("work", function(msg) bus.sleep "1ms" return tostring(#msg.data) end)]], "16MB")
      for _ = 1, 1000 do
        assert.equal("102400", w.client:request("work", BIG, { timeout = wait.least }).data)
      end
      assert.same({}, host:logged { code = "memory" })
    end)
  end)

  it("is not what bounds publishes that wait for a server: 64 MB of them lie in the outbox", function()
    w.client:stream("OUT", { "out" }, { storage = "memory", max_msgs = 1 })
    local host = w:run { handlers = { ["s.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
bus.subscribe("go", { timeout = "5m" }, function()
  bus.publish("begun", "")
  bus.sleep "500ms"
  local data = ("x"):rep(512 * 1024)
  for _ = 1, 1000 do js.publish_async("out", data, { attempts = 1000 }) end
end)]] } }
    local begun = w.client:subscribe "begun"
    w.client:publish("go", "")
    assert(begun:next())
    w.server:freeze()
    local most = 0
    wait.holds(function()
      most = math.max(most, host:memory_mb())
      return true
    end, 3)
    w.server:thaw()
    assert.is_true(most < 350 * wait.slow, ("%.0f MB"):format(most))
    wait.eventually(function() return w.client:stream_info("OUT").state.last_seq == 1000 end, 60)
  end)

  it("is not reached by garbage", function()
    local host = run [[
local bus = require "moonbus"
bus.subscribe("work", function()
  local last
  for i = 1, 20000 do last = ("y"):rep(5000) .. i end
  return tostring(#last)
end)]]
    for _ = 1, 5 do assert.equal("5005", w.client:request("work", "", { timeout = wait.least }).data) end
    assert.same({}, host:logged { code = "memory" })
  end)
end)
