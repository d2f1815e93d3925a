-- Locks and limits that hosts share, on a real server. What they do at which times is spec/sim/cluster_spec.lua's.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("Hosts that share locks:", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- One that takes the lock again and again, and says what it does while it holds it.
  local WORKER = [[
local bus = require "moonbus"
bus.subscribe("go.NUMBER", { timeout = "10m" }, function()
  while true do
    local lock = bus.lock("door", { cluster = true, ttl = "1s" })
    if not lock then bus.sleep "100ms" end
    for _ = 1, lock and 10 or 0 do
      bus.sleep "20ms"
      if not lock:held() then break end
      bus.publish("work.NUMBER", tostring(lock.token))
    end
    if lock then lock:release() end
  end
end)]]

  local function run(number)
    local host = w:run { handlers = { ["handler.lua"] = WORKER:gsub("NUMBER", tostring(number)) }, level = "info" }
    w.client:publish("go." .. number, "")
    return host
  end

  -- What was done so far: how much of each host, and how much under a token older than one that was used before.
  local function looker()
    local work, seen = w.client:subscribe "work.>", { stale = 0, newest = 0, count = {} }
    w.client:flush()
    return function()
      for _, message in ipairs(work:arrived()) do
        local token, host = tonumber(message.data), message.subject:match "%d$"
        if token < seen.newest then seen.stale = seen.stale + 1 end
        seen.newest = math.max(seen.newest, token)
        seen.count[host] = (seen.count[host] or 0) + 1
      end
      return seen
    end
  end

  local function await_more(look, host, more)
    local before = look().count[host] or 0
    wait.eventually(function() return (look().count[host] or 0) >= before + more end, 60, "work of host " .. host)
  end

  it("one is in at a time, through kills, freezes and a server that stands still or starts again", function()
    local look = looker()
    local hosts = { run(1), run(2) }
    await_more(look, "1", 15)
    await_more(look, "2", 15)
    for round = 1, 3 do
      local victim, other = round % 2 + 1, (round + 1) % 2 + 1
      await_more(look, tostring(victim), 1)
      hosts[victim]:signal "KILL"
      await_more(look, tostring(other), 12)
      hosts[victim] = run(victim)
      await_more(look, tostring(victim), 12)
      await_more(look, tostring(victim), 1)
      hosts[victim]:signal "STOP"
      await_more(look, tostring(other), 60) -- more than its ttl
      hosts[victim]:signal "CONT"
      await_more(look, tostring(victim), 12)
    end
    w.server:freeze()
    wait.holds(function() return hosts[1]:running() and hosts[2]:running() end, 2)
    w.server:thaw()
    await_more(look, "1", 12)
    await_more(look, "2", 12)
    w.server:restart()
    await_more(look, "1", 12)
    await_more(look, "2", 12)
    -- What was on its way when its host was stopped, or slept, may come late: that is what tokens are for.
    assert.is_true(look().stale <= 8, look().stale .. " under an older token")
    for _, host in ipairs(hosts) do assert.same({}, host:logged { level = "error" }) end
  end)

  it("the one that is stopped while it holds it knows that it has lost it, before it acts", function()
    local host = w:run { level = "info", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("hold", { timeout = "10m" }, function()
  local lock = assert(bus.lock("door", { cluster = true, ttl = "2s" }))
  bus.publish("held", tostring(lock.token))
  while lock:held() do bus.sleep "5ms" end
  bus.publish("over", tostring(lock:release()))
end)
bus.subscribe("take", { timeout = "10m" }, function()
  local lock = assert(bus.lock("door", { cluster = true, ttl = "2s" }))
  return tostring(lock.token)
end)]] } }
    local other = w:run { level = "info", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("other.take", { timeout = "10m" }, function()
  local lock = assert(bus.lock("door", { cluster = true, ttl = "2s" }))
  return tostring(lock.token)
end)]] } }
    local held, over = w.client:subscribe "held", w.client:subscribe "over"
    w.client:publish("hold", "")
    local token = tonumber(held:next(20).data)
    host:signal "STOP"
    local next_token = tonumber(w.client:request("other.take", "", { timeout = 60 }).data)
    assert.is_true(next_token > token)
    host:signal "CONT"
    assert.equal("false", over:next(20).data)
    assert.same({}, other:logged { level = "error" })
  end)

  it("a stop of the host gives back at once what its handlers hold", function()
    local holder = w:run { level = "info", config = 'return { graceful_timeout = "5s" }', handlers = { ["handler.lua"] =
[[
local bus = require "moonbus"
bus.subscribe("take", { timeout = "10m" }, function()
  local lock = assert(bus.lock("long", { cluster = true, ttl = "1h" }))
  bus.publish("taken", "")
  bus.sleep "10m"
end)]] } }
    local taken = w.client:subscribe "taken"
    w.client:publish("take", "")
    assert(taken:next(20))
    holder:signal "TERM"
    holder:wait(30)
    w:run { level = "info", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("again", function()
  return assert(bus.lock("long", { cluster = true, wait = "15s" })) and "mine"
end)]] } }
    assert.equal("mine", w.client:request("again", "", { timeout = 30 }).data)
  end)

  it("the bucket is one that every client of NATS reads, and says who holds what", function()
    local host = run(1)
    local look = looker()
    await_more(look, "1", 1)
    local info = w.client:stream_info "KV_moonbus_locks"
    assert.equal(1, info.config.num_replicas)
    assert.equal("file", info.config.storage)
    local found
    wait.eventually(function()
      for _, message in ipairs(w.client:messages "KV_moonbus_locks") do
        if message.subject == "$KV.moonbus_locks.lock.door" and message.data ~= "" then found = message:json() end
      end
      return found
    end)
    assert.equal("door", found.name)
    assert.equal(1, found.ttl)
    assert.equal(1, #host:logged { level = "warn" }) -- of its timeout
  end)

  it("a bucket that does not listen yet, as it was just made or elects its leader, is waited for", function()
    local config = w.client:stream("KV_moonbus_locks", { "$KV.moonbus_locks.none" },
      { storage = "file", max_msgs_per_subject = 1, allow_rollup_hdrs = true, deny_delete = true }).config
    local host = w:run { level = "info", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("try.*", { timeout = "1m" }, function(msg)
  local lock, err = bus.lock("door", { cluster = true, wait = msg.subject == "try.long" and "20s" or "1s" })
  if lock then lock:release() end
  return err and err.code or "mine"
end)]] } }
    assert.equal("no_responders", w.client:request("try.short", "", { timeout = 20 }).data)
    local answers, asked = w.client:subscribe "answer", w.client:subscribe "$JS.API.STREAM.INFO.KV_moonbus_locks"
    w.client:publish("try.long", "", nil, "answer")
    asked:take(2, 10) -- nobody has taken what it wrote
    config.subjects = { "$KV.moonbus_locks.>" }
    w.client:api("STREAM.UPDATE.KV_moonbus_locks", config)
    assert.equal("mine", answers:take(1, 30)[1].data)
    assert.same({}, host:logged { level = "error" })
  end)

  it("a limit is one for both", function()
    local text = [[
local bus = require "moonbus"
local limiter = bus.limiter("api", { rate = "20/s", burst = 4, cluster = true })
bus.subscribe("draw.*", { timeout = "10m" }, function()
  for _ = 1, 40 do
    assert(limiter:take())
    bus.publish("drawn", "")
  end
end)]]
    for _ = 1, 2 do w:run { level = "info", handlers = { ["handler.lua"] = text } } end
    local drawn = w.client:subscribe "drawn"
    w.client:flush()
    local began = wait.now()
    w.client:publish("draw.a", "")
    drawn:take(80, 60)
    local took = wait.now() - began
    assert.is_true(took >= (80 - 4) / 20 * 0.95, took .. " s")
  end)
end)
