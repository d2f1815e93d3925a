-- Ids would be remembered for longer than messages are kept.
local js = require "moonbus.jetstream"

js.stream { name = "IN", subjects = { "in.>" }, max_age = "1m", duplicate_window = "2m" }
