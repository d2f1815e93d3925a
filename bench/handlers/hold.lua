local bus = require "moonbus"
local js = require "moonbus.jetstream"
local settings = bus.settings

js.consume("IN", {
  durable = settings.durable, concurrency = settings.concurrency, ack_wait = "6s", timeout = "1h",
}, function()
  bus.sleep "30m"
end)
