local js = require "moonbus.jetstream"
local settings = require "moonbus".settings

js.consume("IN", { durable = settings.durable, concurrency = settings.concurrency }, function(msg)
  local order = msg:json()
  order.id = order.id + 1
  js.publish("bench.js.out", order)
end)
