-- in.a is within in.> already.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>", "in.a" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", { durable = "worker", dead_letter = "dead.in", timeout = "10s" }, function() end)
