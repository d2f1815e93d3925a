-- ticker: timers. One that repeats, one that fires once, one that a handler starts and cancels.
--
-- Try it:  moonbus dev examples/
--          moonbus sub ticks                       (a tick every 10 seconds)
--          moonbus req ticker.countdown 3          (in a second shell, `moonbus sub ticker.count`)
local bus = require "moonbus"

-- Runs once per process, however many workers there are, and never on top of itself.
bus.every("10s", function() bus.publish("ticks", tostring(bus.now())) end)

bus.after("1s", function() bus.log.info("the ticker has been up for a second") end)

-- A timer made inside a handler ends with it, or when it is cancelled.
bus.subscribe("ticker.countdown", { timeout = "20s" }, function(msg)
  local left = tonumber(msg.data) or 3
  local count = bus.every("100ms", function()
    if left > 0 then bus.publish("ticker.count", tostring(left)) end
    left = left - 1
  end)
  while left > 0 do bus.sleep("20ms") end
  count:cancel()
  return "lift-off"
end)
