-- Each order that is stored becomes an invoice. Returning acknowledges the order, once the invoice is stored too.
--
-- Try it:  moonbus dev
--          moonbus sub 'invoices.>'                                (in a second shell)
--          moonbus pub -J orders.created '{"id":1,"amount":9}'     (in a third)
--          moonbus pub -J orders.created '{"id":"?"}'              (goes to dead.billing, and says why)
--          moonbus req orders.hello
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "ORDERS", subjects = { "orders.created" } }
js.stream { name = "INVOICES", subjects = { "invoices.>" }, duplicate_window = "5m" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

bus.subscribe("orders.hello", function()
  return "hello, orders are billed in " .. bus.settings.currency
end)

js.consume("ORDERS", {
  durable = "billing",
  timeout = "20s",
  dead_letter = "dead.billing",
  schema = { id = "integer", amount = "number" },
}, function(msg, order)
  bus.log.info("billing", { order = order.id, attempt = msg.attempt })
  js.publish("invoices.created", { order = order.id, total = order.amount, currency = bus.settings.currency })
end)
