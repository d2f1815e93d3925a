-- rate_limit: an API lets in five calls a second. Work in the background waits for its turn; whoever waits
-- for an answer is told at once that there is no room.
--
-- Try it:  moonbus dev examples/cookbook
--          moonbus pub -J --count 20 places.berlin
--          moonbus req geocode.now berlin
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "PLACES", subjects = { "places.*" } }
js.stream { name = "FOUND", subjects = { "found.*" }, duplicate_window = "10m" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

-- Of this process: with three processes state a third of what the API allows.
local turns = bus.limiter("geocode", { rate = "5/s", burst = 5 })
local settings = bus.settings.geocode or {} -- moonbus.lua: settings = { geocode = { url = ..., key = secret "..." } }
local api = bus.http.client {
  base = settings.url or "http://127.0.0.1:8000",
  headers = { Authorization = "Bearer " .. (settings.key or "none") },
  timeout = "5s",
}

local function ask(place)
  local answer, err = api:get("/geocode", { query = { q = place } })
  if not answer then return nil, err end
  if answer.status == 200 then return answer:json() end
  return nil, { status = answer.status == 429 and 429 or 502, message = "the API answered " .. answer.status },
    tonumber(answer.headers["Retry-After"])
end

js.consume("PLACES", {
  durable = "geocode",
  concurrency = 20, -- the last of them waits for 4 s: that is well within its timeout
  timeout = "20s",
  attempts = 8,
  dead_letter = "dead.geocode",
}, function(msg)
  local place = msg.subject:match "[^.]+$"
  local mine, full = turns:take() -- waits, with heartbeats: nothing is delivered again meanwhile
  if not mine then return nil, full end
  local found, err, wait = ask(place)
  if wait then return msg:nak(math.max(1, math.min(wait, 600))) end -- somebody else uses the API up, too
  if not found then return nil, err end
  js.publish("found." .. place, found)
end)

bus.subscribe("geocode.now", { queue = "geocode", timeout = "6s" }, function(msg)
  if not turns:try() then return nil, { status = 429, message = "too many calls: ask again in a second" } end
  return ask(msg.data)
end)
