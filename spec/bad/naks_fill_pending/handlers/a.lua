-- Four messages that fail, and nothing else is delivered.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
  concurrency = 8,
  max_ack_pending = 12,
}, function() end)
