-- A worker takes several messages at once (host/engine/source/hand.h). Nobody waits for what it
-- computes, and nothing is lost with its thread. The exact times are in spec/sim/hand_spec.lua.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- The jump out of compiled code is left out of sanitized builds: there such a thread is lost, and no state given up.
local escapes = not (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS")
local escaping = escapes and it or pending

describe("what a worker has taken at once", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- What has been published to "done", in order, until there are so many different ones.
  local function gather(done, count)
    local order, times, seen = {}, {}, 0
    while seen < count do
      local message = done:next(20 * wait.slow)
      assert.is_truthy(message, ("%d of %d came"):format(seen, count))
      order[#order + 1] = message.data
      times[message.data] = (times[message.data] or 0) + 1
      if times[message.data] == 1 then seen = seen + 1 end
    end
    return order, times
  end

  local function fill(count)
    w.client:stream("IN", { "in" }, { storage = "memory" })
    for i = 1, count do w.client:store("in", tostring(i)) end
  end

  it("is begun by others while one computes", function()
    fill(400)
    local done = w.client:subscribe "done"
    -- The burner ends when all others have: otherwise by its timeout, and then its message comes again.
    w:run { config = "return { workers = 2 }", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local ended = bus.shared "ended"
js.consume("IN", { durable = "d", concurrency = 1000, timeout = "60s" }, function(msg)
  if msg.data == "3" then
    while (ended:get "n" or 0) < 399 do for _ = 1, 1000 do end end
  end
  ended:incr "n"
  bus.publish("done", msg.data .. " " .. msg.attempt)
end)]] } }
    local order = gather(done, 400)
    assert.equal("3 1", order[400])
    wait.eventually(function() return w.client:settled("IN", "d") end, 10)
    assert.equal(400, #order)
  end)

  it("of a core subscription, too", function()
    local done = w.client:subscribe "done"
    local host = w:run { config = "return { workers = 2 }", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local ended = bus.shared "ended"
bus.subscribe("in", function(msg)
  if msg.data == "3" then
    while (ended:get "n" or 0) < 399 do for _ = 1, 1000 do end end
  end
  ended:incr "n"
  bus.publish("done", msg.data)
end)]] } }
    for i = 1, 400 do w.client:publish("in", tostring(i)) end
    local order = gather(done, 400)
    assert.equal("3", order[400])
    assert.equal(400, #order)
    assert.same({}, host:logged { level = "error" })
  end)

  it("is no reason for what was published to wait: a handler that computes behind it has sent it", function()
    local done = w.client:subscribe "done"
    w:run { config = "return { workers = 2 }", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local seen = bus.shared "seen"
bus.subscribe("in", function(msg)
  bus.publish("done", "before " .. msg.data)
  while not seen:get(msg.data) do for _ = 1, 1000 do end end
  bus.publish("done", "after " .. msg.data)
end)
bus.subscribe("seen", function(msg) seen:set(msg.data, true) end)]] } }
    for i = 1, 20 do
      w.client:publish("in", tostring(i))
      assert.equal("before " .. i, done:next(20 * wait.slow).data)
      w.client:publish("seen", tostring(i))
      assert.equal("after " .. i, done:next(20 * wait.slow).data)
    end
  end)

  it("of messages that are handled one at a time, wakes no second worker at the end of each", function()
    local done = w.client:subscribe "done"
    local host = w:run { config = "return { workers = 2 }", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local seen = bus.shared "seen"
bus.subscribe("in", { concurrency = 1 }, function(msg)
  if msg.data == "1" then while not seen:get "all" do bus.sleep "10ms" end end
  if msg.data == "2000" then bus.publish("done", "") end
end)
bus.subscribe("seen", function() seen:set("all", true) end)]] } }
    for i = 1, 2000 do w.client:publish("in", tostring(i)) end
    local before = host:switches()
    w.client:publish("seen", "") -- behind all of them
    assert.is_truthy(done:next(20 * wait.slow))
    local slept = host:switches() - before
    assert.is_true(slept < 500, slept) -- else there are some 2,000
  end)

  it("runs elsewhere when its thread is lost, and nothing runs twice but what was lost", function()
    fill(200)
    local done = w.client:subscribe "done"
    local host = w:run {
      config = [[return { workers = 2, trust = true, limits = { cpu = "500ms" } }]],
      handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("IN", { durable = "d", concurrency = 1000 }, function(msg)
  if msg.data == "5" and msg.attempt == 1 then os.execute "sleep 4" end
  bus.publish("done", msg.data)
end)]] } }
    local _, times = gather(done, 200)
    host:wait_log({ msg = "its thread is lost" }, 10)
    wait.eventually(function() return w.client:settled("IN", "d") end, 20)
    host:wait_log({ msg = "given up late" }, 10)
    -- The lost run itself goes on in the end, and publishes; it has no verdict any more.
    wait.eventually(function()
      local last = done:next(0.1)
      if last then times[last.data] = times[last.data] + 1 end
      return not last
    end, 10)
    for n = 1, 200 do assert.is_true(times[tostring(n)] == 1 or n == 5, tostring(n)) end
  end)

  escaping("runs again when its state is given up while it waits for nothing but its last publishes", function()
    w.client:stream("IN", { "in" }, { storage = "memory" })
    w.client:stream("OUT", { "out" }, { storage = "memory" })
    local began = w.client:subscribe "began"
    local host = w:run { config = "return { workers = 1, limits = { cpu = '100ms' } }",
      handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("IN", { durable = "d", concurrency = 10, backoff = { min = "10ms" }, timeout = "2m" }, function(msg)
  bus.publish("began", msg.data .. " " .. msg.attempt)
  if msg.data == "returns" then
    if msg.attempt == 1 then bus.sleep "1s" end
    js.publish_async("out", "x")
  elseif msg.attempt == 1 then
    bus.sleep "2s"
    while true do pcall(function() while true do end end) end
  end
end)]] } }
    w.client:store("in", "returns")
    w.client:store("in", "breaks")
    assert.same({ "breaks 1", "returns 1" }, (function(a, b)
      local list = { a.data, b.data }
      table.sort(list)
      return list
    end)(began:next(10 * wait.slow), began:next(10 * wait.slow)))
    w.server:freeze()
    host:wait_log({ msg = "its Lua state was given up" }, 30)
    w.server:thaw()
    wait.eventually(function() return w.client:settled("IN", "d") end, 30)
    assert.equal(1, w.client:stream_info("OUT").state.messages)
  end)

  escaping("runs again when its state is given up while what it has spawned waits, too", function()
    w.client:stream("IN", { "in" }, { storage = "memory" })
    local began, done = w.client:subscribe "began", w.client:subscribe "done"
    local host = w:run { config = "return { workers = 1, limits = { cpu = '100ms' } }",
      handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local function runs(kind, msg)
  bus.sleep "1ms" -- it is known as one that waits before what it spawns is
  bus.publish("began", kind)
  local child = bus.spawn(function()
    bus.sleep "5s"
    return kind .. " " .. msg.data
  end)
  bus.publish("done", child:wait())
end
js.consume("IN", { durable = "d" }, function(msg) runs("stored", msg) end)
bus.subscribe("core", { timeout = "2m" }, function(msg) runs("core", msg) end)
bus.subscribe("break", { timeout = "2m" }, function()
  while true do pcall(function() while true do end end) end
end)]] } }
    w.client:store("in", "x")
    w.client:publish("core", "x")
    began:take(2)
    w.client:publish("break", "")
    host:wait_log({ msg = "its Lua state was given up" }, 30)
    local told = {}
    for _, message in ipairs(done:take(2, 30)) do told[#told + 1] = message.data end
    table.sort(told)
    assert.same({ "core x", "stored x" }, told)
    assert.is_true(host:running())
  end)

  escaping("runs in another state when its own is given up, each of it once", function()
    fill(200)
    local done = w.client:subscribe "done"
    w:run { config = [[return { workers = 2, limits = { cpu = "500ms" } }]], handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("IN", { durable = "d", concurrency = 1000, backoff = { min = "10ms" }, attempts = 3 }, function(msg)
  if msg.data == "5" and msg.attempt == 1 then while true do end end
  bus.publish("done", msg.data)
end)]] } }
    local _, times = gather(done, 200)
    wait.eventually(function() return w.client:settled("IN", "d") end, 20)
    for n = 1, 200 do assert.equal(1, times[tostring(n)], tostring(n)) end
  end)
end)
