-- services: a service that is found by its name, and a handler that finds all services there are.
--
-- Try it:  moonbus dev examples/
--          moonbus req weather.rome
--          moonbus req services.list
local bus = require "moonbus"

local weather = bus.service { name = "weather", version = "1.0.0", description = "forecasts, made up" }

weather:endpoint("forecast", { subject = "weather.*", metadata = { unit = "celsius" } }, function(msg)
  local city = msg.subject:match "[^.]+$"
  if #city > 20 then return nil, { status = 404, message = "there is no such city" } end
  return { city = city, degrees = 10 + #city }
end)

-- Whoever serves anything answers, in whatever language it is written; nobody knows how many they are. So it is
-- enough when no other answer has come for a while.
bus.subscribe("services.list", function()
  local found = bus.json.array {}
  local replies = bus.request_many("$SRV.INFO", nil, { timeout = "2s", stall = "200ms" })
  for reply, err in replies do
    local info = not err and reply:json { strict = false }
    if info then
      local subjects = bus.json.array {}
      for i, endpoint in ipairs(info.endpoints) do subjects[i] = endpoint.subject end
      found[#found + 1] = { name = info.name, version = info.version, id = info.id, subjects = subjects }
    end
  end
  if replies.error and replies.error.code ~= "no_responders" then return nil, replies.error end
  table.sort(found, function(a, b) return a.name .. a.id < b.name .. b.id end)
  return found
end)
