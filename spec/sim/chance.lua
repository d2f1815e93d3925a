-- A generator of its own for what a trial does, from the trial's seed (xorshift, 32 bits).
local bit = require "bit"

local chance = {}
chance.__index = chance

function chance.new(seed)
  local state = bit.tobit(seed * 2654435761 % 4294967296)
  local self = setmetatable({ state = state ~= 0 and state or 1 }, chance)
  for _ = 1, 8 do self:next() end
  return self
end

function chance:next()
  local x = self.state
  x = bit.bxor(x, bit.lshift(x, 13))
  x = bit.bxor(x, bit.rshift(x, 17))
  x = bit.bxor(x, bit.lshift(x, 5))
  self.state = x
  return x % 4294967296
end

-- A whole number from low to high.
function chance:int(low, high) return low + self:next() % (high - low + 1) end
-- True, so many times of a hundred.
function chance:of_hundred(n) return self:next() % 100 < n end
function chance:pick(list) return list[self:int(1, #list)] end

return chance
