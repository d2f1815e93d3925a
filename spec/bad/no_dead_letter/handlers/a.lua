-- What fails comes again for ever.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" } }
js.consume("IN", {
  durable = "worker",
  timeout = "10s",
}, function() end)
