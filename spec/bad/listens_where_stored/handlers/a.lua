-- It may reply before the stream confirms.
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "ORDERS", subjects = { "orders.>" } }
bus.subscribe("orders.new", function(msg) bus.log.info(msg.data) end)
