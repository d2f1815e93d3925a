local bus, kv = require "moonbus", require "moonbus.kv"

local bucket = kv.bucket { name = "bench", storage = "memory" }
local count, first, last, bytes = 0, nil, nil, 0

bus.script { workers = 1 } -- the counts are this instance's

bucket:watch(">", { updates_only = true }, function(entry)
  last = bus.now()
  first = first or last
  bytes = bytes + #entry.value
  count = count + 1
end)

bus.subscribe("bench.count", function()
  return { count = count, seconds = count > 0 and last - first or 0 }
end)
