-- dead_letters: what failed for a reason that passes is put back by itself, twice; the rest somebody is told of.
--
-- Try it:  moonbus dev examples/cookbook
--          moonbus pub -J dead.try hello -H 'Moonbus-Subject: places.rome' -H 'Moonbus-Code: no_responders'
--          moonbus pub -J dead.try hello -H 'Moonbus-Subject: places.rome' -H 'Moonbus-Code: bad_payload'
--          moonbus sub --stream DEAD --json          (the first one is gone from there)
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "DEAD", subjects = { "dead.>" } }

local passes = {} -- codes of what time may mend
for code in ("timeout no_responders disconnected unavailable full refused dns closed"):gmatch "%S+" do
  passes[code] = true
end
local waits = { "5m", "1h" } -- before the first time, and before the second

-- Headers of the original, without those that say why it died.
local function original(msg, round)
  local headers = { ["Triage-Round"] = tostring(round) }
  for name in pairs(msg.headers) do
    local kept = not name:lower():find "^moonbus%-" and not headers[name]
    if kept then headers[name] = msg:header_values(name) end
  end
  return headers
end

local function tell(msg, code)
  -- One alert for each reason and handler in ten minutes, however many letters come.
  local what = ("%s of %s"):format(code, msg.headers["Moonbus-Consumer"] or "?")
  if not bus.limiter("alert " .. what, { rate = "6/h", burst = 1 }):try() then return end
  local text = ("dead letter: %s: %s (%s)"):format(what, msg.headers["Moonbus-Error"] or "", msg.subject)
  bus.log.warn(text)
  if not bus.settings.alerts then return end -- a webhook of Slack, Mattermost, ...
  local answer, err = bus.http.post(bus.settings.alerts, { json = { text = text }, timeout = "5s" })
  if not answer then bus.log.warn("nobody was told: " .. err) end
end

js.consume("DEAD", {
  durable = "triage",
  timeout = "20s",
  dead_letter = false, -- a letter that cannot be sorted stays where it is: in DEAD
}, function(msg)
  local code, subject = msg.headers["Moonbus-Code"] or "unknown", msg.headers["Moonbus-Subject"]
  local round = (tonumber(msg.headers["Triage-Round"]) or 0) + 1
  local whole = subject and not msg.headers["Moonbus-Reference"] -- else it has not the original's data
  if not (passes[code] and waits[round] and whole) then return tell(msg, code) end

  local parked, err = js.publish(subject, msg.data, { headers = original(msg, round), after = waits[round] })
  if not parked then return nil, err end
  -- It is stored: only now the letter may go. If that fails, all of this runs again, and is parked once.
  local deleted, why = bus.request("$JS.API.STREAM.MSG.DELETE.DEAD", { seq = msg.sequence })
  if not deleted then return nil, why end
  bus.log.info("put back", { subject = subject, code = code, round = round })
end)
