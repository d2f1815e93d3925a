-- A handler that publishes: what limits it is the way to the stream and back.
--   moonbus tune examples/tune/publisher.lua --stream WISHES --generate '{"id":{{n}}}'
local js = require "moonbus.jetstream"

js.stream { name = "WISHES", subjects = { "wishes.>" } }
js.stream { name = "GIFTS", subjects = { "gifts.>" } }

js.consume("WISHES", { durable = "publisher", filter = "wishes.made", dead_letter = false }, function(msg)
  js.publish("gifts.wrapped", msg.data)
end)
