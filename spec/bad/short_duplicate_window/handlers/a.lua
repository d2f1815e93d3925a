-- Five attempts of 20 s and ack_wait take longer than the 2 minutes for which OUT knows message ids.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.stream { name = "OUT", subjects = { "out.>" } }
js.consume("IN", {
  durable = "worker",
  dead_letter = "dead.in",
  timeout = "20s",
  attempts = 5,
  filter = "in.a",
}, function(msg) js.publish("out.a", msg.data) end)
