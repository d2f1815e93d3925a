-- DEAD confirms nothing.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" }, no_ack = true }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
}, function() end)
