-- Two handlers for each message, as one runs at most 65,536 at a time.
local bus = require "moonbus"

bus.subscribe("bench.in", { concurrency = 65536, timeout = "1h" }, function(msg)
  bus.publish("bench.out", msg.data)
  bus.sleep "30m"
end)

bus.subscribe("bench.in", { concurrency = 65536, timeout = "1h" }, function()
  bus.sleep "30m"
end)
