-- One message of `per_mark` comes back; each instance counts its own.
local bus = require "moonbus"

local per_mark = bus.settings.per_mark
local count, bytes = 0, 0

bus.subscribe("bench.in", function(msg)
  local data = msg.data
  count, bytes = count + 1, bytes + #data
  if count % per_mark == 0 then bus.publish("bench.out", data) end
end)
