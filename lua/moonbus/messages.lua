--- js.messages: the iterator over what lies in a stream. It is read by the host (core.reader*).
local core = require("moonbus.core")
local common = require("moonbus.options_kinds")
local nearest = require("moonbus.nearest")
local logged = require("moonbus.logged")
local resumed = require("moonbus.task").resumed
local walk = require("moonbus.messages_walk")
local check, misuse, refuse, kinds = common.check, common.misuse, common.refuse, common.kinds

local BINDING = "js.messages"

-- Options -----------------------------------------------------------------------------------------

local WANTED = 'a sequence (42), a time ("2026-01-01T00:00:00Z"), or how long ago ("1h")'
local RFC3339 = "^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt](%d%d):(%d%d):(%d%d)(%.?%d*)([Zz+-])(%d?%d?):?(%d?%d?)$"

--- Days since 1970-01-01 of a date of the Gregorian calendar.
local function days_of(year, month, day)
  local y = month <= 2 and year - 1 or year
  local era = math.floor(y / 400)
  local of_era = y - era * 400
  local of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
end

--- Seconds since 1970 of a time as RFC 3339 has it; nil: it is none.
local function seconds_of(text)
  local year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = text:match(RFC3339)
  if not year or fraction == "." or (sign:upper() == "Z") ~= (off_hours == "" and off_minutes == "") then return nil end
  local month_number, day_number = tonumber(month), tonumber(day)
  if month_number < 1 or month_number > 12 or day_number < 1 or day_number > 31 or tonumber(hour) > 23
    or tonumber(minute) > 59 or tonumber(second) > 60 then
    return nil
  end
  local offset = (tonumber(off_hours) or 0) * 3600 + (tonumber(off_minutes) or 0) * 60
  if sign == "-" then offset = -offset end
  return days_of(tonumber(year), month_number, day_number) * 86400 + tonumber(hour) * 3600 + tonumber(minute) * 60
    + tonumber(second) + (fraction == "" and 0 or tonumber("0" .. fraction)) - offset
end

local function sequence_of(field, value)
  return kinds.integer(BINDING, field, value, { min = 1, max = 2 ^ 53 })
end

--- { sequence = } or { time = seconds since 1970 }
local function place_of(_, field, value)
  if type(value) == "number" then return { sequence = sequence_of(field, value) } end
  if type(value) == "string" then
    local seconds = seconds_of(value)
    if not seconds then
      if not value:find("^[%d.]+%a") or value:find("[-:]") then refuse(BINDING, field, WANTED, value) end
      seconds = core.now() - core.duration(value, BINDING, field)
    end
    return { time = seconds }
  end
  if type(value) ~= "table" then refuse(BINDING, field, WANTED, value) end
  local given = check(BINDING, value, {
    fields = { sequence = { check = function(_, name, n) return { sequence = sequence_of(name, n) } end },
      time = { check = function(_, name, time)
        if type(time) == "number" and time >= 0 and time < 2 ^ 33 then return { time = time } end
        if type(time) ~= "string" or not seconds_of(time) then
          refuse(BINDING, name, 'a time like "2026-01-01T00:00:00Z", or seconds since 1970', time)
        end
        return { time = seconds_of(time) }
      end } },
    hints = { seq = "sequence", at = "time" },
  }, field)
  if (given.sequence == nil) == (given.time == nil) then refuse(BINDING, field, WANTED, value) end
  return given.sequence or given.time
end

local FORM = {
  fields = {
    filter = "patterns",
    from = { check = place_of },
    to = { check = place_of },
    max = { "integer", max = 2 ^ 53 },
    timeout = "duration",
  },
  hints = {
    subject = "filter", subjects = "filter", filters = "filter", start = "from", since = "from", deliver = "from",
    start_sequence = "from", until_ = "to", stop = "to", limit = "max", count = "max", batch = "max",
    max_wait = "timeout", durable = "what is read has no durable: that is js.consume",
  },
}

local function rfc3339(seconds)
  local whole = math.floor(seconds)
  return os.date("!%Y-%m-%dT%H:%M:%S", whole) .. (".%09dZ"):format(math.floor((seconds - whole) * 1e9))
end

-- The iterator ------------------------------------------------------------------------------------

--- messages -> { ticket, count, ended = "end" | "error" | "left" }
local states = setmetatable({}, { __mode = "k" })

local function end_by(state, why)
  state.ended = why
  if state.ticket then core.reader_close(state.ticket) end
end

--- A message; nil when that was all. Raises when the rest cannot be read: a loop that just ended
--- would take a part for the whole.
local function next_message(messages)
  local state = states[messages]
  if state.failure then error(state.failure, 0) end
  if state.ended then return nil end
  local msg, err
  repeat
    if state.walk then
      msg, err = state.walk()
    else
      msg, err = resumed(core.reader_next(state.ticket))
    end
  until msg ~= false
  if msg then
    state.count = state.count + 1
    return msg
  end
  end_by(state, err and "error" or "end")
  if err then
    state.failure = err
    error(err, 0)
  end
  return nil
end

local methods = {}

--- Nothing more is wanted.
function methods.close(messages)
  local state = states[messages]
  if not state then misuse("messages:close: call it with a colon, on what js.messages returned") end
  if not state.ended then end_by(state, "left") end
end

local NAMES = { "close", "count", "ended" }
local ELSEWHERE = { stop = "close", cancel = "close", received = "count" }

local Messages = {
  __call = next_message,
  __index = function(messages, name)
    if methods[name] then return methods[name] end
    if name == "count" or name == "ended" then return states[messages][name] end
    local shown = type(name) == "string" and "." .. name or ("[%s]"):format(logged(name))
    local meant = ELSEWHERE[name] or type(name) == "string" and nearest(name, NAMES)
    return misuse(("messages%s: there is no such field: %s"):format(shown,
      meant and ("did you mean %q?"):format(meant) or "there are " .. table.concat(NAMES, ", ")))
  end,
  __newindex = function() misuse("messages: its fields cannot be set") end,
  __tostring = function(messages) return "messages (" .. (states[messages].ended or "going on") .. ")" end,
  __metatable = "messages",
}

--- Opens it: the iterator, or nil and an error.
return function(stream, opts)
  kinds.name(BINDING, "stream", stream, {})
  local spec = check(BINDING, opts, FORM)
  local from, to = spec.from or {}, spec.to or {}
  local ticket, err = core.reader(stream, spec.filter or {}, from.sequence or from.time and rfc3339(from.time),
    to.sequence, to.time, spec.max, spec.timeout)
  if not ticket then return nil, err end
  local open
  repeat
    open, err = resumed(core.reader_await(ticket))
  until open ~= false
  if not open then
    core.reader_close(ticket)
    if err.code ~= "unsupported" then return nil, err end
    ticket = nil
  end
  local step
  if not ticket then
    step, err = walk(stream, spec, from, to)
    if not step then return nil, err end
  end
  local messages = setmetatable({}, Messages)
  states[messages] = { ticket = ticket, walk = step, count = 0 }
  return messages
end
