-- enrich: each order gets its customer from another service, and goes on: once, and in the order of its customer.
--
-- Try it:  moonbus dev examples/cookbook
--          moonbus pub -J raw.orders.ada '{"id":1,"cents":900}'
--          moonbus sub --stream ENRICHED
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "RAW", subjects = { "raw.orders.*" } }
js.stream { name = "ENRICHED", subjects = { "enriched.orders.*" }, duplicate_window = "10m" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

js.consume("RAW", {
  durable = "enrich",
  order_by = 3, -- the customer: one order of each at a time; a retry holds up nobody else's
  timeout = "20s",
  attempts = 8,
  dead_letter = "dead.enrich",
  schema = { id = "integer", cents = "integer" },
}, function(msg, order)
  local name = msg.subject:match "[^.]+$"
  local reply, err = bus.request("customers.get", name, { timeout = "3s" })
  if not reply then
    if err.code == "service_error" and err.status == 404 then return msg:reject("no customer " .. name) end
    return nil, err -- away, busy, too slow: again, later
  end
  local customer = reply:json() -- one that is no JSON is not the order's fault: again, later
  order.customer = { name = name, country = customer.country, tier = customer.tier }
  -- The message id comes from the input, so of two runs the first one's result stays.
  js.publish("enriched.orders." .. name, order)
end)

-- In the place of the other service.
bus.subscribe("customers.get", { queue = "customers" }, function(msg)
  local customer = ({ ada = { country = "GB", tier = 1 }, bob = { country = "US", tier = 2 } })[msg.data]
  if not customer then return nil, { status = 404, message = "unknown" } end
  return customer
end)
