-- usage: blocking work. `du` reads a whole folder, which takes as long as it takes; no handler waits for it.
--
-- Try it:  moonbus dev examples/
--          moonbus req usage.of docs
local bus = require "moonbus"

local usage = bus.offload("slow.usage", { timeout = "10s" }) -- examples/slow/usage.lua

bus.subscribe("usage.of", function(msg)
  local kilobytes, err = usage.of(msg.data)
  if not kilobytes then return nil, err end
  return { folder = msg.data, kilobytes = kilobytes }
end)
