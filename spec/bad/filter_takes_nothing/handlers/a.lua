-- The stream has orders.>, and the filter says order.
local js = require "moonbus.jetstream"

js.stream { name = "ORDERS", subjects = { "orders.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("ORDERS", {
  durable = "billing",
  dead_letter = "dead.billing",
  timeout = "10s",
  filter = "order.created",
}, function() end)
