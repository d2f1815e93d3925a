-- A core subscription that gets more than its handler can do: bounded, counted, and by rule.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local BOUND = 65536 -- messages in the queue of one subscription

describe("a core subscription whose handler is too slow", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function flood(drop, count, size)
    local host = w:run(([[
local bus = require "moonbus"
local open = false
bus.script { workers = 1 }
bus.subscribe("flood", { concurrency = 1, drop = %q, timeout = "1m" }, function(msg)
  while not open do bus.sleep "10ms" end
  bus.publish("seen", msg.data:match "^%%d+")
end)
bus.subscribe("open", function() open = true return "" end)
bus.subscribe("good", function(msg) return msg.data end)]]):format(drop))
    local seen = w.client:subscribe "seen"
    local filler = ("x"):rep(size or 0)
    for index = 1, count do w.client:send("flood", index .. " " .. filler) end
    w.client:flush()
    return host, seen
  end

  local function all_seen(seen, count)
    w.client:request("open", "")
    local numbers = {}
    for index = 1, count do numbers[index] = tonumber(seen:next(10).data) end
    return numbers
  end

  for drop, first in pairs { new = 2, old = 102 } do
    it(("drops what is %s with drop = %q, and says how many"):format(
      drop == "new" and "new" or "old", drop), function()
      -- The first one runs, BOUND are queued, 100 are too many.
      local host, seen = flood(drop, 1 + BOUND + 100)
      host:wait_log({ level = "warn", msg = "64 messages dropped" }, 20)
      assert.equal("x", w.client:request("good", "x").data)
      local numbers = all_seen(seen, 1 + BOUND)
      assert.equal(1, numbers[1])
      assert.equal(first, numbers[2])
      assert.equal(first + BOUND - 1, numbers[#numbers])
      assert.same({}, seen:arrived())
    end)
  end

  it("holds 64 MB of them at most", function()
    local host = flood("old", 300, 500 * 1024)
    wait.eventually(function() return #host:logged { msg = "128 messages dropped" } > 0 end, 20)
    -- A sanitizer keeps what was freed.
    if wait.slow == 1 then
      assert.is_true(host:memory_mb() < 64 + 60, "it holds " .. host:memory_mb() .. " MB")
    end
  end)

  it("is refused another rule, by file and line", function()
    local ended = w:fail 'require "moonbus".subscribe("x", { drop = "all" }, print)'
    assert.equal(2, ended.status)
    assert.equal(1, ended.events[1].line)
    assert.matches('bus%.subscribe: drop: expected "new" or "old"', ended.events[1].msg)
  end)
end)
