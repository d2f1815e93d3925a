-- A publish waits for its confirmation for 5 s.
local bus = require "moonbus"
local js = require "moonbus.jetstream"

bus.subscribe("a", { timeout = "2s" }, function(msg) js.publish("b", msg.data) end)
