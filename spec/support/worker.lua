-- The script of most specs of JetStream.
local worker = {}

worker.QUICK = 'backoff = { min = "20ms", max = "100ms", jitter = 0 }'
worker.DEAD = worker.QUICK .. ', dead_letter = "dead.worker"'

-- A script that consumes IN as "worker", with these options and this body of the handler; OUT and
-- DEAD are there.
function worker.script(options, body)
  return ([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" }, storage = "memory" }
js.stream { name = "OUT", subjects = { "out.>" }, storage = "memory" }
js.stream { name = "DEAD", subjects = { "dead.>" }, storage = "memory" }
js.consume("IN", { durable = "worker", %s }, function(msg)
%s
end)]]):format(options or "", body)
end

return worker
