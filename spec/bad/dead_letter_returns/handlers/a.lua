-- The stream takes the letters of its own handler, and nothing leaves them out.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>", "dead.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
}, function() end)
