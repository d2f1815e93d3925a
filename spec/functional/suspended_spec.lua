-- A handler that waits costs a coroutine and a few small blocks: there may be very many of them.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local sanitized = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"

describe("handlers that wait", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("may be 100,000 in one process, at about 2 KB each, and others come and go meanwhile", function()
    local count = sanitized and 5000 or 100000
    local host = w:run {
      handlers = {
        ["handler.lua"] = [[
local bus = require "moonbus"
bus.script { workers = 1 }
local waiting, ended = 0, 0
bus.subscribe("wait", { concurrency = 1000000, timeout = "10m" }, function()
  waiting = waiting + 1
  bus.sleep("5m")
end)
bus.subscribe("short", { concurrency = 1000000, timeout = "10m" }, function()
  bus.sleep("1s")
  ended = ended + 1
end)
bus.subscribe("count", function() return { waiting = waiting, ended = ended } end)]],
        ["feed.lua"] = [[
local bus = require "moonbus"
bus.subscribe("feed", { timeout = "10m" }, function(msg)
  local feed = msg:json()
  for index = 1, feed.count do
    while not bus.publish(feed.subject, "x") do bus.sleep("10ms") end
    if index % 500 == 0 then bus.sleep("10ms") end
  end
end)]],
      },
      config = 'return { graceful_timeout = "500ms", workers = 2, limits = { memory = "512MB" } }', level = "info",
    }
    local function counted()
      return assert(w.client:request("count", "", { timeout = 20 * wait.slow })):json()
    end
    counted()
    local before = host:memory_mb()
    w.client:publish("feed", ('{"subject":"wait","count":%d}'):format(count))
    wait.eventually(function() return counted().waiting == count end, 60)
    local each = (host:memory_mb() - before) * 1024 * 1024 / count
    print(("  %d handlers wait, %.0f bytes each"):format(count, each))
    if not sanitized then assert.is_true(each < 2500, ("%.0f bytes each"):format(each)) end
    assert.equal(count, counted().waiting)
    w.client:publish("feed", ('{"subject":"short","count":%d}'):format(count))
    wait.eventually(function() return counted().ended == count end, 60)
    assert.equal(count, counted().waiting)
    assert.same({}, host:logged { level = "error" })
    local codes = {} -- of the settings, at the start
    for _, event in ipairs(host:logged { level = "warn" }) do codes[event.code or event.msg] = true end
    assert.same({ short_graceful_timeout = true }, codes)
    assert.equal(3, host:stop(20)) -- unfinished at the graceful deadline, and no later
  end)
end)
