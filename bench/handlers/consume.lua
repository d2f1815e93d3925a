local js = require "moonbus.jetstream"
local settings = require "moonbus".settings

js.consume("IN", {
  durable = settings.durable, filter = settings.filter, concurrency = settings.concurrency,
}, function(msg)
  return #msg.data > 0
end)
