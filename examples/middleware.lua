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

-- How often: 10 in a second for each caller, and 20 at once.
local function limit_of(who) return bus.limiter("vault " .. who, { rate = 10, burst = 20 }) end

bus.use(function(msg, next)
  if not limit_of(msg:header "From" or "somebody"):try() then return nil, "too many calls" end
  return next(msg)
end)

bus.subscribe("vault.open", function() return "it is open" end)
bus.subscribe("vault.close", function() return "it is closed" end)
