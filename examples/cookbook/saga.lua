-- saga: a trip is a flight, a hotel and a car of three services, or nothing: what was booked is cancelled when
-- a later step cannot be done.
--
-- Try it:  moonbus dev examples/cookbook
--          moonbus pub -J trips.wanted '{"id":"t1","days":3}'
--          moonbus pub -J trips.wanted '{"id":"t2","days":90}'          (no car for so long: all is cancelled)
--          moonbus sub --stream TRIPS --json
local bus = require "moonbus"
local js = require "moonbus.jetstream"
local kv = require "moonbus.kv"

js.stream { name = "TRIPS", subjects = { "trips.>" }, duplicate_window = "30m" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

local undoing = kv.bucket { name = "trips_undone", ttl = "30d" } -- trip -> { step, why }
local steps = { "flight", "hotel", "car" }
local FORWARD = 4 -- attempts that try to book; the other ones can only cancel

-- The key is the same in each attempt, and a service does once what has one key. Cancelling what was never
-- booked must be fine with it, too: we ask for that when nobody knows.
local function ask(step, verb, trip)
  return bus.request(("travel.%s.%s"):format(step, verb), trip, {
    timeout = "3s", headers = { ["Idempotency-Key"] = ("%s:%s:%s"):format(trip.id, step, verb) },
  })
end

local function undo(trip, last, why)
  for index = last, 1, -1 do
    local done, err = ask(steps[index], "cancel", trip)
    if not done then return nil, err end -- all of it again, until each has said yes
  end
  js.publish("trips.failed", { id = trip.id, why = why })
end

js.consume("TRIPS", {
  durable = "saga",
  filter = "trips.wanted",
  timeout = "20s", -- six steps of 3 s
  attempts = 20,
  backoff = { min = "1s", max = "30s" },
  dead_letter = "dead.trips", -- a cancellation failed for 8 minutes: somebody has to look
  schema = { id = bus.schema.string { pattern = "^[%w_-]+$" }, days = "integer" },
}, function(msg, trip)
  local begun, missing = undoing:get(trip.id)
  if begun then return undo(trip, begun:json().step, begun:json().why) end
  if missing.code ~= "not_found" then return nil, missing end

  for index, step in ipairs(steps) do
    local booked, err = ask(step, "book", trip)
    if not booked then
      local refused = err.code == "service_error" and err.status < 500 -- a "no" for good; the rest may pass
      if not refused and msg.attempt < FORWARD then return nil, err end
      -- Decided, and written down before anything is cancelled: no later attempt books again. This step is
      -- cancelled, too: its answer may have been lost.
      local why = step .. ": " .. err.message
      local decided, failed = undoing:put(trip.id, { step = index, why = why })
      if not decided then return nil, failed end
      return undo(trip, index, why)
    end
  end
  js.publish("trips.booked", { id = trip.id })
end)

-- In the place of the three services.
bus.subscribe("travel.*.*", { queue = "travel" }, function(msg)
  if msg.subject == "travel.car.book" and msg:json().days > 28 then
    return nil, { status = 409, message = "no car for so long" }
  end
  return "done"
end)
