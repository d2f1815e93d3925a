-- handlers/orders.lua
local bus = require "moonbus"
local js  = require "moonbus.jetstream"

js.stream { name = "ORDERS",   subjects = { "orders.>" } }      -- create if absent, else compare what is stated; NATS' own field names
js.stream { name = "INVOICES", subjects = { "invoices.>" } }
js.stream { name = "DEAD",     subjects = { "dead.>" } }

bus.subscribe("greet.*", function(msg)                          -- core NATS: what the handler returns is the reply
  return "hello " .. msg.subject:match("[^.]+$")
end)

bus.subscribe("payments.charge", { queue = "payments", timeout = "10s" }, function(msg)
  bus.sleep("50ms")
  return { total = msg:json().amount or 42 }
end)

js.consume("ORDERS", { durable = "billing", filter = "orders.created", timeout = "20s", dead_letter = "dead.billing" }, function(msg)
  local order = msg:json()                            -- raises bad_payload: straight to the dead letter, no retries
  local receipt, err = bus.request("payments.charge", order, { timeout = "5s" })
  if not receipt then return msg:nak("10s") end       -- or: return nil, err
  msg:progress()                                      -- optional: the host already does it
  js.publish("invoices.created", { order = order.id, total = receipt:json().total })
end)                                                  -- returning acknowledges

bus.every("10s", function() bus.publish("ticks", tostring(bus.now())) end)
