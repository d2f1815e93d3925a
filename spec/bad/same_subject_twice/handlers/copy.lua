-- The same subject as in the other file.
local bus = require "moonbus"

bus.subscribe("a", function() return 2 end)
