-- A durable of a work queue begins with the first message.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" }, retention = "workqueue" }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
  deliver = "new",
}, function() end)
