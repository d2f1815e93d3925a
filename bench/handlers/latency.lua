-- A message is the time at which it was sent; the answer is how late its handler began.
local bus = require "moonbus"

bus.subscribe("bench.in", function(msg)
  local late = bus.now() - tonumber(msg.data)
  bus.publish("bench.out", ("%.9f"):format(late))
end)
