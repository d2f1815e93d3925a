-- One heartbeat that is lost with its connection, and the message comes again.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
  ack_wait = "500ms",
}, function() end)
