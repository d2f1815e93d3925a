-- Nothing here stores dead.in.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
}, function() end)
