-- In a work queue a message has one consumer.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" }, retention = "workqueue" }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
  filter = "in.*",
}, function() end)
js.consume("IN", {
  durable = "other",
  dead_letter = "dead.in",
  timeout = "10s",
  filter = "in.a",
}, function() end)
