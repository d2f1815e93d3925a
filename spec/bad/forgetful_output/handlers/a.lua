-- JOBS forgets message ids when its server restarts.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.stream { name = "JOBS", subjects = { "jobs.>" }, retention = "workqueue" }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "10s",
  attempts = 2,
}, function(msg) js.publish("jobs.a", msg.data) end)
