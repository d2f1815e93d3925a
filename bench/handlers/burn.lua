-- Computes for a second, again and again, once it was told to.
local bus = require "moonbus"

bus.subscribe("bench.burn", { concurrency = 1 }, function()
  local until_time = bus.now() + 1
  local spins = 0
  while bus.now() < until_time do
    for _ = 1, 1000 do spins = spins + 1 end
  end
  bus.publish("bench.burn", tostring(spins))
end)
