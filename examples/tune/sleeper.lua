-- A handler that waits for somebody else most of its time: what limits it is its concurrency.
--   moonbus tune examples/tune/sleeper.lua --stream NAPS --generate '{"id":{{n}}}'
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "NAPS", subjects = { "naps.>" } }

js.consume("NAPS", { durable = "sleeper", filter = "naps.taken", concurrency = 40, dead_letter = false }, function()
  bus.sleep("200ms")
end)
