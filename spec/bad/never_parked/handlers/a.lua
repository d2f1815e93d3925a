-- The backoff ends at a minute, and what is longer than an hour would be parked.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
  backoff = { min = "1s", max = "1m", park_after = "1h" },
}, function() end)
