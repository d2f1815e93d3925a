-- Hours were meant; a number is seconds.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" }, max_age = 24 }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", { durable = "worker", dead_letter = "dead.in", timeout = "10s" }, function() end)
