-- A subject has one stream.
local js = require "moonbus.jetstream"

js.stream { name = "ORDERS", subjects = { "orders.>" } }
js.stream { name = "PAID", subjects = { "orders.paid" } }
