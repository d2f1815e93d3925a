--- js.messages: the iterator over what lies in a stream. It is read by the host (core.reader*).
local core = require("moonbus.core")
local common = require("moonbus.options_kinds")
local nearest = require("moonbus.nearest")
local seconds_of = require("moonbus.options_time").seconds_of
local logged = require("moonbus.logged")
local resumed = require("moonbus.task").resumed
local walk = require("moonbus.messages_walk")
local check, misuse, refuse, kinds = common.check, common.misuse, common.refuse, common.kinds

local BINDING = "js.messages"

-- Options -----------------------------------------------------------------------------------------

local WANTED = 'a sequence (42), a time ("2026-01-01T00:00:00Z"), or how long ago ("1h")'
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

--- What clocks and servers count in nanoseconds, in seconds: nothing was stored earlier, and nothing is later.
local FIRST, LAST = 1e-9, 2 ^ 33

--- From when on; nil: from the first one.
local function start_of(time)
  return time and time > FIRST and math.min(time, LAST) or nil
end

--- Until when; nil: there is no end.
local function end_of(time)
  return time and time < LAST and math.max(time, FIRST) or nil
end

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
  local since = start_of(from.time)
  local ticket, err = core.reader(stream, spec.filter or {}, from.sequence or since and rfc3339(since), to.sequence,
    end_of(to.time), spec.max, spec.timeout)
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
