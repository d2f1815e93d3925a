-- The config names credentials that are not there.
require "moonbus".subscribe("greet.*", { timeout = "10s" }, function() return "hello" end)
