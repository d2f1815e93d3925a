-- About a tenth of a millisecond of computing for each message.
local bus = require "moonbus"

bus.subscribe("bench.in", function(msg)
  local sum = 0
  for i = 1, bus.settings.loops do sum = (sum * 31 + i) % 1000003 end
  bus.publish("bench.out", msg.data .. sum)
end)
