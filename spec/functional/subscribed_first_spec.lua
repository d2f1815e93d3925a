-- What is asked for can come: no request is written before the subscription for its answers, however
-- much else the connection has to write. A server drops a pull request that nobody waits for, and
-- says nothing.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local SCRIPTS, DURABLES = 4, 40

-- Each message makes the next one, so that acks are written all the time.
local LOAD = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("LOAD", { durable = "load", concurrency = 256 }, function(msg) bus.publish(msg.subject, "") end)
]]

-- Durables with one message each; says how long after its "start" the last of them came.
local LATE = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local state = bus.shared "%s"
for number = 1, %d do
  js.consume("ONCE", { durable = "%s-" .. number, filter = "once.%s." .. number }, function()
    if state:incr("came", 1) == %d then
      bus.log.info(("all came after %%.3f s"):format(bus.now() - (state:get "began" or bus.now())))
    end
  end)
end
bus.on("start", function() state:set("began", bus.now()) end)
]]

describe("a durable that starts while its connection is busy", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("gets its first message at once, not when its silence is noticed", function()
    w.client:stream("LOAD", { "load" }, { retention = "workqueue" })
    w.client:stream("ONCE", { "once.>" })
    local handlers = { ["a.lua"] = LOAD }
    for script = 1, SCRIPTS do
      local name = "b" .. script
      handlers[name .. ".lua"] = LATE:format(name, DURABLES, name, name, DURABLES)
      for number = 1, DURABLES do w.client:send(("once.%s.%d"):format(name, number), "") end
    end
    for _ = 1, 1000 do w.client:send("load", "") end
    w.client:flush()
    local host = w:run { handlers = handlers, level = "info" }
    wait.eventually(function() return #host:logged "all came after" == SCRIPTS end, 20, function()
      return host:explain():sub(-4000)
    end)
    for _, event in ipairs(host:logged "all came after") do
      local seconds = tonumber(event.msg:match "after (%-?[%d.]+) s")
      assert.is_true(seconds < wait.within(3), event.msg)
    end
  end)
end)
