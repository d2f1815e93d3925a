-- orders: JetStream. An order is charged, and an invoice published; the charge fails at first, so
-- you see the order come back, be retried, and succeed.
--
-- Try it:  moonbus dev examples/
--          moonbus sub 'invoices.>'                          (in a second shell)
--          moonbus pub -J orders.created '{"id":1}'          (in a third)
--          moonbus pub -J orders.created 'not JSON'          (goes straight to dead.billing)
--
-- Nothing here is about acknowledgements: returning acknowledges, once the invoice is stored.
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "ORDERS", subjects = { "orders.>" } }
js.stream { name = "INVOICES", subjects = { "invoices.>" }, duplicate_window = "5m" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

-- The service that takes the money. It is busy whenever an order asks for the first time.
bus.subscribe("payments.charge", { queue = "payments", timeout = "10s" }, function(msg)
  bus.sleep("50ms")
  if msg.headers.attempt == "1" then return nil, "busy, ask again" end
  return { total = msg:json().amount or 42 }
end)

js.consume("ORDERS", {
  durable = "billing",
  filter = "orders.created",
  timeout = "20s",
  dead_letter = "dead.billing",
}, function(msg)
  local order = msg:json() -- raises bad_payload: straight to the dead letter, no retries
  bus.log.info("charging", { order = order.id, attempt = msg.attempt })

  local receipt, err = bus.request("payments.charge", order, {
    timeout = "5s",
    headers = { attempt = tostring(msg.attempt) },
  })
  if not receipt then
    bus.log.warn("not charged, nak: again in 1s", { order = order.id, reason = tostring(err) })
    return msg:nak("1s") -- or: return nil, err; then the backoff decides when
  end

  msg:progress() -- optional: the host already does it
  bus.log.info("charged, in progress", { order = order.id })

  local stored = js.publish("invoices.created", { order = order.id, total = receipt:json().total })
  if stored then bus.log.info("invoice published", { order = order.id, sequence = stored.seq }) end
end) -- returning acknowledges
