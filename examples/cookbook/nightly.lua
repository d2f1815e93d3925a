-- nightly: at a quarter past three a report of yesterday is made: once, however many processes run, again if it
-- fails, and later if nobody was there.
--
-- Try it:  moonbus dev examples/cookbook
--          moonbus pub -J visits.home
--          moonbus req nightly.report '{"day":"2026-01-31"}'          (now, for a day of your choice)
--          moonbus sub --stream REPORTS
local bus = require "moonbus"
local js = require "moonbus.jetstream"

js.stream { name = "VISITS", subjects = { "visits.*" }, max_age = "30d", duplicate_window = "2h" }
js.stream { name = "REPORTS", subjects = { "reports.*" }, max_msgs_per_subject = 1, duplicate_window = "2h" }
js.stream { name = "DEAD", subjects = { "dead.>" } }

-- Reads what is stored, and keeps no count of its own: so a second run, or one by hand, makes the same report, and it
-- replaces the first.
local function report(day)
  local visits = {}
  local list, err = js.messages("VISITS", {
    from = { time = day .. "T00:00:00Z" }, to = { time = day .. "T23:59:59.999999999Z" },
  })
  if not list then return nil, err end
  for visit in list do
    local page = visit.subject:match "[^.]+$"
    visits[page] = (visits[page] or 0) + 1
  end
  return js.publish("reports." .. day, { day = day, visits = visits })
end

-- The clock of Berlin says when, also where it changes; the day is one of UTC, and is over by then.
js.cron("15 3 * * *", {
  name = "nightly-report",
  tz = "Europe/Berlin",
  timeout = "10m", -- the host keeps the firing alive for so long
  attempts = 5,
  backoff = { min = "1m", max = "10m" },
  dead_letter = "dead.nightly",
}, function(_, time)
  -- From the planned time, not from now: a retry after midnight is still of the same day.
  local stored, err = report(os.date("!%Y-%m-%d", time - 86400))
  if not stored then return nil, err end
end)

bus.subscribe("nightly.report", {
  queue = "nightly",
  timeout = "10m",
  schema = { day = bus.schema.string { pattern = "^%d%d%d%d%-%d%d%-%d%d$" } },
}, function(_, wanted)
  local stored, err = report(wanted.day)
  if not stored then return nil, err end
  return { sequence = stored.seq }
end)
