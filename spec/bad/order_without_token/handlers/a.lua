-- Subjects of two tokens, and the third is to be the key.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.*" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", { durable = "worker", dead_letter = "dead.in", timeout = "10s", order_by = 3 }, function() end)
