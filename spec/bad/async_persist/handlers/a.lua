-- The server confirms before it has written.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" }, persist_mode = "async" }
