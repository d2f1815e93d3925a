-- What comes later, and at times, on replicated streams whose leaders change.
local cluster = require "spec.support.cluster"
local faulty = require "spec.support.faulty"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local COUNT, STEPDOWNS = faulty.pick(40, 300), faulty.pick(3, 10)

describe("in a cluster of three whose leaders step down", function()
  local w = world.new()
  before_each(function()
    w.server = cluster.start(3)
    w.client = w.server:connect()
  end)
  after_each(function()
    w:clear()
    w:close()
  end)

  local function step_down(streams)
    for _, stream in ipairs(streams) do
      w.client:api("STREAM.LEADER.STEPDOWN." .. stream)
      w.server:leader(stream)
    end
  end

  -- { data = how often } of a subject.
  local function times(subject)
    local list = {}
    for _, message in ipairs(w.client:messages "OUT") do
      if message.subject == subject then list[message.data] = (list[message.data] or 0) + 1 end
    end
    return list
  end

  local LATER = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "OUT", num_replicas = 3, duplicate_window = "10m", %s }
js.stream { name = "MOONBUS_LATER", subjects = { "moonbus.later.>" }, retention = "workqueue", num_replicas = 3 }
js.stream { name = "IN", subjects = { "in" }, num_replicas = 3 }
js.consume("IN", { durable = "worker", attempts = 100, backoff = { min = "100ms", max = "1s" }, dead_letter = false },
  function(msg)
    local receipt = assert(js.publish("out.due", msg.data, { after = 2 + tonumber(msg.data) %% 40 / 10 }))
    if tonumber(msg.data) %% 4 > 0 then return end
    bus.sleep(tonumber(msg.data) %% 28 / 10)
    local ok, err = js.cancel(receipt)
    if not ok and err.code ~= "not_found" then return nil, err end
    assert(js.publish(ok and "out.cancelled" or "out.late", msg.data))
  end)]]

  -- streams: whose leaders step down.
  local function parks(stated, streams)
    for _ = 1, 2 do
      w:start { level = "info", handlers = { ["handler.lua"] = LATER:format(stated) } }:wait_ready(90)
    end
    for i = 1, COUNT do w.client:store("in", tostring(i)) end
    for _ = 1, STEPDOWNS do step_down(streams) end
    wait.eventually(function()
      local due, cancelled, late = times "out.due", times "out.cancelled", times "out.late"
      for i = 1, COUNT do
        local data = tostring(i)
        if i % 4 == 0 and not (cancelled[data] or late[data]) then return false end
        if not due[data] and not cancelled[data] then return false end
      end
      return w.client:settled("IN", "worker")
    end, 90)
    -- Nothing is still to come.
    wait.eventually(function()
      for _, message in ipairs(w.client:messages "OUT") do
        if message.subject:find "^moonbus%.at%." then return false end
      end
      return w.client:stream_info("MOONBUS_LATER").state.messages == 0
    end, 60)
    local due, cancelled = times "out.due", times "out.cancelled"
    for i = 1, COUNT do
      local data = tostring(i)
      assert.equal(cancelled[data] and 0 or 1, due[data] or 0, data)
    end
  end

  it("what hosts park is published once, or cancelled", function()
    parks('subjects = { "out.>" }', { "MOONBUS_LATER", "OUT", "IN" })
  end)

  it("so is what the server schedules", function()
    if (w.client:api "INFO".api.level or 0) < 2 then
      pending "these servers have no schedules"
      return
    end
    parks('subjects = { "out.>", "moonbus.at.OUT.>" }, allow_msg_schedules = true, allow_rollup_hdrs = true',
      { "OUT", "IN" })
  end)

  it("long retries are parked on as many replicas, and come once", function()
    if (w.client:api "INFO".api.level or 0) < 2 then
      pending "these servers have no schedules"
      return
    end
    for _ = 1, 2 do
      w:start { level = "info", handlers = { ["handler.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in" }, num_replicas = 3 }
js.stream { name = "OUT", subjects = { "out.>" }, num_replicas = 3, duplicate_window = "10m" }
js.consume("IN", { durable = "worker", attempts = 100, dead_letter = false,
  backoff = { min = "2s", max = "3s", park_after = "1s" } }, function(msg)
  if msg.attempt < 3 then error "not yet" end
  assert(js.publish("out.done", msg.data))
end)]] } }:wait_ready(90)
    end
    assert.equal(3, w.client:stream_info("MOONBUS_RETRIES").config.num_replicas)
    for i = 1, COUNT do w.client:store("in", tostring(i)) end
    for _ = 1, STEPDOWNS do step_down { "MOONBUS_RETRIES", "IN", "OUT" } end
    wait.eventually(function() return w.client:stream_info("OUT").state.messages >= COUNT end, 90)
    wait.eventually(function()
      return w.client:settled("IN", "worker") and w.client:settled("MOONBUS_RETRIES", "IN=worker")
        and w.client:stream_info("MOONBUS_RETRIES").state.messages == 0
    end, 60)
    local done = times "out.done"
    for i = 1, COUNT do assert.equal(1, done[tostring(i)], i) end
  end)

  it("each time of a js.cron comes once", function()
    for _ = 1, 2 do
      w:start { level = "info", handlers = { ["handler.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "OUT", subjects = { "out.>" }, num_replicas = 3 }
js.stream { name = "CRON", subjects = { "moonbus.cron.>" }, num_replicas = 3 }
local options = { name = "tick", stream = "CRON", missed = "all", ack_wait = "5s", attempts = 100 }
js.cron("* * * * * *", options, function(msg, time)
  assert(js.publish("out.tick", ("%d"):format(time)))
end)]] } }:wait_ready(90)
    end
    local function count()
      local number = 0
      for _ in pairs(times "out.tick") do number = number + 1 end
      return number
    end
    wait.eventually(function() return count() >= 2 end, 60)
    for round = 1, STEPDOWNS do
      step_down { "CRON", "OUT" }
      w.client:api "CONSUMER.LEADER.STEPDOWN.CRON.cron-tick"
      wait.eventually(function() return count() >= 2 + 2 * round end, 60)
    end
    local first, last, seen = math.huge, 0, 0 -- of one look: they go on
    for time, often in pairs(times "out.tick") do
      assert.equal(1, often, time)
      first, last, seen = math.min(first, tonumber(time)), math.max(last, tonumber(time)), seen + 1
    end
    assert.equal(last - first + 1, seen)
  end)
end)
