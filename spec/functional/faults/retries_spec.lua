-- Hosts that are killed while messages are parked (backoff.park_after).
local faulty = require "spec.support.faulty"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local INPUTS, KILLS = faulty.pick(300, 3000), faulty.pick(4, 12)

describe("a host that is killed while it parks long retries", function()
  local w, schedules = world.new(), false
  setup(function()
    w:open()
    schedules = (w.client:api "INFO".api.level or 0) >= 2
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local HANDLER = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("IN", { durable = "worker", attempts = 100, ack_wait = "2s", concurrency = 32,
  backoff = { min = "3s", max = "3s", jitter = 0.5, park_after = "1s" } }, function(msg)
  bus.sleep(math.random() * 0.05)
  if msg.attempt < 3 then error "not yet" end
  js.publish("out.a", msg.data)
end)]]

  it("loses none of them, and has each output stored once", function()
    if not schedules then pending "this server has no schedules" return end
    w.client:stream("IN", { "in.>" }, { storage = "file" })
    w.client:stream("OUT", { "out.>" }, { storage = "file", duplicate_window = 600e9 })
    for index = 1, INPUTS do w.client:store("in.x", tostring(index)) end
    local function serve() return w:run { handlers = { ["handler.lua"] = HANDLER }, level = "info" } end
    local host = serve()
    for _ = 1, KILLS do
      local at = wait.now() + math.random()
      wait.eventually(function() return wait.now() >= at end)
      host:signal "KILL"
      host:wait()
      host = serve()
    end
    wait.eventually(function() return w.client:stream_info("OUT").state.messages >= INPUTS end, 120)
    wait.eventually(function()
      return w.client:settled("IN", "worker") and w.client:settled("MOONBUS_RETRIES", "IN=worker")
        and w.client:stream_info("MOONBUS_RETRIES").state.messages == 0
    end, 60)
    local seen, times = {}, 0
    for _, message in ipairs(w.client:messages "OUT") do
      assert.is_nil(seen[message.data])
      seen[message.data], times = true, times + 1
    end
    assert.equal(INPUTS, times)
  end)
end)
