-- hello: core request/reply. What a handler returns is the reply.
--
-- Try it:  moonbus dev examples/
--          moonbus req greet.ada
--          moonbus req greet.ada -H 'Language: de'
local bus = require "moonbus"

local greetings = { de = "hallo", en = "hello", fr = "bonjour" }

bus.subscribe("greet.*", function(msg)
  local name = msg.subject:match "[^.]+$"
  local greeting = greetings[msg.headers.language or "en"]
  if not greeting then return nil, "greetings are in de, en and fr" end -- an error reply
  return greeting .. " " .. name
end)
