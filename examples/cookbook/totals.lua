-- totals: what each shop has sold, added up once for each sale, however often a sale is delivered.
--
-- Try it:  moonbus dev examples/cookbook
--          moonbus pub -J sales.berlin '{"cents":250}' --count 10
--          moonbus req totals.berlin
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local kv = require "moonbus.kv"

js.stream { name = "SALES", subjects = { "sales.*" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }

local totals = kv.bucket { name = "totals" } -- shop -> { count, cents }

js.consume("SALES", {
  durable = "totals",
  order_by = 2, -- one sale of a shop at a time, so they do not get into each other's way; shops run side by side
  timeout = "20s",
  attempts = 10,
  dead_letter = "dead.sales",
  schema = { cents = "integer" },
}, function(msg, sale)
  local shop = msg.subject:match "[^.]+$"
  local entry, err = totals:get(shop)
  if not entry and err.code ~= "not_found" then return nil, err end
  local sum = entry and entry:json() or { count = 0, cents = 0 }
  -- The write has an id that comes from its message: if this very sale has been added by a run whose ack was lost,
  -- the bucket says "done", and adds nothing.
  local done, why = totals:update(shop, { count = sum.count + 1, cents = sum.cents + sale.cents },
    entry and entry.revision or 0, { id = msg.id .. ":total" })
  if not done then return nil, why end -- wrong_sequence: another process was faster; the next attempt reads again
end)

bus.subscribe("totals.*", { queue = "totals" }, function(msg)
  local entry, err = totals:get(msg.subject:match "[^.]+$")
  if entry then return entry:json() end
  if err.code == "not_found" then return nil, { status = 404, message = "no such shop" } end
  return nil, err
end)
