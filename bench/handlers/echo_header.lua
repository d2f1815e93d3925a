local bus = require "moonbus"

local WITH = { headers = { ["content-type"] = "text/plain" } }

bus.subscribe("bench.in", function(msg)
  bus.publish("bench.out", msg.data, WITH)
end)
