--- The options of what comes at times: bus.cron.
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

return M
