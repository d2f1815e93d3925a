-- When the server starts again, nobody knows who held what.
local bus = require "moonbus"
local kv = require "moonbus.kv"

kv.bucket { name = "locks", storage = "memory" }
bus.subscribe("report", { timeout = "10s" }, function()
  local lock = bus.lock("report", { cluster = "locks" })
  return lock and "done"
end)
