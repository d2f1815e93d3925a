-- A handler that computes: what limits it is its workers, and what it holds is memory.
--   moonbus tune examples/tune/burner.lua --stream FIRES --generate '{"id":{{n}}}'
local js = require "moonbus.jetstream"

js.stream { name = "FIRES", subjects = { "fires.>" } }

local ROUNDS = 200000
local BYTES = 2 ^ 20

js.consume("FIRES", { durable = "burner", filter = "fires.lit", dead_letter = false }, function(msg)
  local fuel = ("."):rep(BYTES)
  local sum = 0
  for i = 1, ROUNDS do sum = (sum * 31 + fuel:byte(i % BYTES + 1) + #msg.data) % 4294967296 end
  return sum
end)
