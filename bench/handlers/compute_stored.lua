-- As compute.lua, for a stream.
local js = require "moonbus.jetstream"
local settings = require "moonbus".settings

js.consume("IN", { durable = settings.durable }, function()
  local sum = 0
  for i = 1, settings.loops do sum = (sum * 31 + i) % 1000003 end
  return sum >= 0
end)
