-- The same durable as in the other file.
local js = require "moonbus.jetstream"

js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
}, function() end)
