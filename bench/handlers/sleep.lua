local bus = require "moonbus"

bus.subscribe("bench.in", { concurrency = bus.settings.concurrency }, function(msg)
  bus.sleep "100ms"
  bus.publish("bench.out", msg.data)
end)
