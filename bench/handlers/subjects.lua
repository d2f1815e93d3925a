-- A hundred subscriptions, from the number `first` on: the benchmark writes a local of that name above.
-- luacheck: read globals first
local bus = require "moonbus"

for number = first, first + 99 do
  bus.subscribe(("bench.in.%05d"):format(number), function(msg)
    bus.publish("bench.out", msg.data)
  end)
end
