-- A request waits for its reply for 5 s.
local bus = require "moonbus"

bus.subscribe("a", { timeout = "2s" }, function(msg) return bus.request("b", msg.data).data end)
