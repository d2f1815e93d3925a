-- fanout: several requests at once. The answer takes as long as the slowest, not as all together.
--
-- Try it:  moonbus dev examples/
--          moonbus req quote.bread
local bus = require "moonbus"

local shops = { north = 310, south = 290, west = 305 } -- cents for a loaf

bus.subscribe("shop.*.price", function(msg)
  bus.sleep("100ms") -- shops think
  return { cents = shops[msg.subject:match "^shop%.([^.]+)"] }
end)

local function ask(shop, item)
  return function()
    local answer, err = bus.request("shop." .. shop .. ".price", item, { timeout = "2s" })
    if not answer then error(err) end -- the others are cancelled, and the requester hears of it
    return { shop = shop, cents = answer:json().cents }
  end
end

bus.subscribe("quote.*", function(msg)
  local item = msg.subject:match "[^.]+$"
  local began = bus.now()
  local north, south, west = bus.gather {
    ask("north", item), ask("south", item), ask("west", item),
  }
  local best = north
  for _, offer in ipairs { south, west } do
    if offer.cents < best.cents then best = offer end
  end
  return { item = item, best = best.shop, cents = best.cents, seconds = bus.now() - began }
end)
