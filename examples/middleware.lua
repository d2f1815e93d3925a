-- middleware: what all handlers of a script have in common, written once.
--
-- Try it:  moonbus dev examples/
--          moonbus req vault.open -H "Token: sesame"
--          moonbus req vault.open
local bus = require "moonbus"

-- How long each took; what fails has its duration in the log by itself.
local function took(msg, began, ...)
  bus.log.debug("handled", { subject = msg.subject, ms = (bus.now() - began) * 1000 })
  return ...
end

bus.use(function(msg, next) return took(msg, bus.now(), next(msg)) end)

-- Who may come in: the handler does not run for anybody else.
bus.use(function(msg, next)
  if msg:header "Token" ~= "sesame" then return nil, "a token is missing" end
  return next(msg)
end)

bus.subscribe("vault.open", function() return "it is open" end)
bus.subscribe("vault.close", function() return "it is closed" end)
