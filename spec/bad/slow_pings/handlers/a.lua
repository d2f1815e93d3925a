-- A dead connection is noticed after 15 s.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
  ack_wait = "10s",
}, function() end)
