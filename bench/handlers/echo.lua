local bus = require "moonbus"

bus.subscribe("bench.in", function(msg)
  bus.publish("bench.out", msg.data)
end)
