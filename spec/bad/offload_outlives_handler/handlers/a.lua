-- The call may take longer than the handler that makes it.
local bus = require "moonbus"

local img = bus.offload("img", { timeout = "30s" })
bus.subscribe("a", { timeout = "10s" }, function(msg) return img.resize(msg.data) end)
