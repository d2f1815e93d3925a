-- No script states the bucket, and no host makes it.
local bus = require "moonbus"

bus.subscribe("report", { timeout = "10s" }, function()
  local lock = bus.lock("report", { cluster = "locks" })
  return lock and "done"
end)
