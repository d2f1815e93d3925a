local js = require "moonbus.jetstream"
local settings = require "moonbus".settings

js.consume("IN", { durable = settings.durable, concurrency = settings.concurrency }, function(msg)
  js.publish("bench.js.out", msg.data)
end)
