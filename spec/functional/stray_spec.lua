local wait = require "spec.support.wait"
local world = require "spec.support.world"

local MANY = 5000

describe("the inbox of a consumer", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("drops what is no message of JetStream, counts it, and says so at powers of two", function()
    w.client:stream("IN", { "in" })
    local pulls = w.client:subscribe "$JS.API.CONSUMER.MSG.NEXT.IN.worker"
    local handled = w.client:subscribe "handled"
    local host = w:run [[
      local bus = require "moonbus"
      require("moonbus.jetstream").consume("IN", { durable = "worker" }, function(msg)
        bus.publish("handled", msg.data)
      end)]]
    local inbox = pulls:next().reply
    for _ = 1, MANY do w.client:send(inbox, "stray") end
    w.client:flush()
    host:wait_log(("dropped.*; %d so far"):format(2 ^ math.floor(math.log(MANY, 2))), 20)
    w.client:store("in", "real")
    assert.equal("real", handled:next().data)
    wait.holds(function() return #host:logged "without an ack subject" <= 13 end, 0.2)
  end)
end)
