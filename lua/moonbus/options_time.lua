--- The options of what comes at times: bus.cron, js.cron, and what is published later.
local core = require("moonbus.core")
local common = require("moonbus.options_kinds")
local check, misuse, refuse, need_function = common.check, common.misuse, common.refuse, common.need_function

local M = {}

local function check_zone(binding, field, value)
  if type(value) ~= "string" then refuse(binding, field, 'a time zone of IANA ("Europe/Berlin")', value) end
  local why = core.check_zone(value)
  if why then misuse(("%s: %s: %s"):format(binding, field, why)) end
  return value
end

local MISSED = { "string", values = { skip = true, last = true, all = true }, default = "skip" }

local CRON = {
  fields = { tz = { check = check_zone, default = "UTC" }, name = "token", missed = MISSED, timeout = "duration" },
  hints = {
    timezone = "tz", time_zone = "tz", zone = "tz", location = "tz", id = "name",
    misfire = "missed", catch_up = "missed", concurrency = "it never runs on top of itself",
    attempts = "it belongs to js.cron", dead_letter = "it belongs to js.cron", backoff = "it belongs to js.cron",
  },
}

local function check_line(binding, line)
  if type(line) ~= "string" then refuse(binding, "line", 'a cron line ("0 3 * * *")', line) end
  local why = core.check_cron(line)
  if why then misuse(("%s: %s"):format(binding, why)) end
  return line
end

function M.cron(line, opts, fn)
  local binding = "bus.cron"
  line = check_line(binding, line)
  opts, fn = need_function(binding, opts, fn, "what to run")
  local spec = check(binding, opts, CRON)
  spec.line, spec.name = line, spec.name or line
  return spec, fn
end

local CONSUMES = { "timeout", "ack_wait", "attempts", "backoff", "dead_letter", "update" }

local function pass(_, _, value) return value end -- js.consume checks it

local JS_CRON = {
  fields = {
    name = { "name", required = true, what = "name" }, tz = { check = check_zone, default = "UTC" },
    missed = { "string", values = { skip = true, last = true, all = true }, default = "last" },
    stream = "name", schedule = { "string", values = { hosts = true, server = true }, default = "hosts" },
  },
  hints = {
    timezone = "tz", time_zone = "tz", zone = "tz", location = "tz", durable = "it is cron- and the name",
    misfire = "missed", catch_up = "missed", concurrency = "it never runs on top of itself, in no process",
    filter = "a cron line has a subject of its own", retries = "attempts", max_retries = "attempts",
    dlq = "dead_letter", deadletter = "dead_letter", max_ack_pending = "it is 1: it never runs on top of itself",
  },
}
for _, name in ipairs(CONSUMES) do JS_CRON.fields[name] = { check = pass } end

--- The options; those of its durable, for js.consume; the function.
function M.js_cron(line, opts, fn)
  local binding = "js.cron"
  line = check_line(binding, line)
  opts, fn = need_function(binding, opts, fn, "what to run")
  local spec = check(binding, opts, JS_CRON)
  if spec.tz == "local" then
    misuse('js.cron: tz: "local" is another zone on another machine: write its name ("Europe/Berlin")')
  end
  if #spec.name > 200 then refuse(binding, "name", "at most 200 bytes", spec.name) end
  if spec.schedule == "server" and not core.cron_format(line) then
    misuse(('js.cron: schedule: the server has no such line as "%s": a day that begins with "*" and leaves some out')
      :format(line))
  end
  local consume = {}
  for _, name in ipairs(CONSUMES) do consume[name], spec[name] = spec[name], nil end
  spec.line = line
  return spec, consume, fn
end

-- Times as of RFC 3339 ---------------------------------------------------------------------------

--- Days since 1970-01-01.
local function day_of(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * month - 457) / 5) + day - 719469
end

local function days_in(year, month)
  return month == 12 and 31 or day_of(year, month + 1, 1) - day_of(year, month, 1)
end

--- Seconds since 1970 of a time as of RFC 3339; nil: it is none.
local function seconds_of(text)
  local year, month, day, hour, minute, second, rest =
    text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.*)$")
  if not year then return nil end
  local fraction, zone = rest:match("^(%.%d+)(.+)$")
  local sign, zone_hour, zone_minute = (zone or rest):match("^([%+%-])(%d%d):(%d%d)$")
  if not sign and not (zone or rest):find("^[Zz]$") then return nil end
  local y, mo, d = tonumber(year), tonumber(month), tonumber(day)
  if mo < 1 or mo > 12 or d < 1 or d > days_in(y, mo) or tonumber(hour) > 23 or tonumber(minute) > 59
    or tonumber(second) > 60 or tonumber(zone_hour or 0) > 23 or tonumber(zone_minute or 0) > 59 then
    return nil
  end
  local offset = sign and (zone_hour * 3600 + zone_minute * 60) * (sign == "-" and -1 or 1) or 0
  return day_of(y, mo, d) * 86400 + hour * 3600 + minute * 60 + second + tonumber(fraction or 0) - offset
end

M.seconds_of = seconds_of

-- Publishing later --------------------------------------------------------------------------------

local MOST = 10 * 365 * 86400 -- seconds ahead, as of durations

--- A point in time as people write it, in seconds since 1970.
function M.at(binding, field, value)
  local wanted = 'a time like "2026-01-01T00:00:00Z", or seconds since 1970'
  local seconds = value
  if type(value) == "string" then seconds = seconds_of(value) end
  if type(seconds) ~= "number" or seconds ~= seconds then refuse(binding, field, wanted, value) end
  if seconds > core.now() + MOST then
    refuse(binding, field, ("at most 10 years ahead, %s"):format(
      seconds > 1e11 and "in seconds, not in milliseconds" or "from now on"), value)
  end
  return seconds
end

--- opts of js.publish, checked: `at` alone says when, or it is gone: then it is published at once. A point in time
--- that is past stays, with `past`: an earlier run may have left it to the server when it was ahead.
function M.later(binding, opts)
  if opts.after == nil and opts.at == nil then return opts end
  local which = opts.after and "after" or "at"
  if binding ~= "js.publish" then misuse(("%s: %s: it belongs to js.publish"):format(binding, which)) end
  if opts.after and opts.at then misuse("js.publish: after and at exclude each other") end
  if opts.expect then
    misuse(("js.publish: %s and expect exclude each other: nobody knows what the stream has then"):format(which))
  end
  if opts.after then
    opts.at = opts.after > 0 and core.now() + opts.after or nil
  elseif opts.at <= core.now() then
    opts.at, opts.past = math.max(opts.at, 0), true
  end
  opts.after = nil
  return opts
end

return M
