local bus = require "moonbus"

bus.subscribe("bench.in", function(msg)
  return msg.data
end)
