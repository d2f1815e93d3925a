--- js.cron: at the times of a cron line, once per cluster, whichever hosts are there.
---
---     each host, at a time ── fire ──▶ MOONBUS_CRON, moonbus.cron.<name> ──▶ durable cron-<name> ──▶ fn
---
--- A firing expects to follow the last one that the stream has, and its id is of the time that was
--- planned: of any number of hosts one stores it, and the others see that. There is no leader, and no
--- clock is trusted further than to say that a time has come.
local core = require("moonbus.core")
local js_api = require("moonbus.js_api")
local options = require("moonbus.options_time")
local publish = require("moonbus.publish")
local task = require("moonbus.task")

local STREAM = "MOONBUS_CRON"
local SUBJECTS = "moonbus.cron."
local SCHEDULES = "moonbus.cron.schedule."
local KEPT = 1000 -- firings of each name
local LATE = core.cron_late -- seconds: missed = "skip" leaves out what is older when it could run
local AGAIN = 5 -- seconds until what the server did not answer is tried again
local RACED_AGAIN = 0.1 -- seconds, where another host was faster twice in a row
local TIME = "Moonbus-Cron-Time"
local NEEDS_SCHEDULES = { level = 4, what = 'js.cron: schedule = "server"' }

local stated = {} -- the streams that this script has stated
local named = {} -- the names of its lines

-- The time of a firing ----------------------------------------------------------------------------

--- What a firing says is believed only if its time has come, by the server's clock or by ours: a host whose
--- clock is ahead, and whoever else may publish there, would stop the line until then.
local function believed(msg, time)
  time = tonumber(time)
  if time and time >= 0 and time <= math.max(msg.timestamp, core.now()) + LATE then return math.floor(time) end
end

local function stated_time(msg) return believed(msg, msg:header(TIME) or "") end

--- Of one that a person has published: what its data says. It does not count as the line's last firing.
local function asked_time(msg)
  local body = msg:json { strict = false }
  return type(body) == "table" and believed(msg, body.time) or nil
end

--- What the server has fired says when the next one is due; it was the line's last time until then.
local function planned(spec, msg)
  return stated_time(msg) or core.cron_last(spec.line, spec.tz, 0, math.floor(msg.timestamp))
    or math.floor(msg.timestamp)
end

-- Firing ------------------------------------------------------------------------------------------

--- The last firing that the stream has: its time and its sequence; nil, 0: none.
local function last_firing(spec)
  local msg, err = js_api.get("js.cron", spec.stream, { last_by_subj = spec.subject })
  if msg then return planned(spec, msg), msg.sequence end
  if err.code == "not_found" then return nil, 0 end
  return nil, nil, err
end

--- The times that are to be fired, in order: those from `first` on that have come, and what was missed
--- since the last firing. Without one nothing was missed.
local function due(spec, last, first, now)
  local after = last or first - 1
  if spec.missed == "skip" then after = math.max(after, now - LATE) end
  if spec.missed ~= "all" then return { core.cron_last(spec.line, spec.tz, after, now) } end
  local times, time = {}, core.cron_next(spec.line, spec.tz, after)
  while time and time <= now and #times < KEPT do
    times[#times + 1] = time
    time = core.cron_next(spec.line, spec.tz, time)
  end
  return times
end

--- The sequence of the firing; or nil and why not: "wrong_sequence" when another host was faster.
local function fire(spec, time, sequence)
  local receipt, err = publish.send(spec.subject, { name = spec.name, time = time }, {
    id = ("cron:%s:%.0f"):format(spec.name, time),
    headers = { [TIME] = ("%.0f"):format(time) },
    expect = { last_subject_sequence = sequence, stream = spec.stream },
  }, nil, "js.cron")
  return receipt and receipt.seq, err
end

--- True when everything up to `now` is fired, or KEPT of it; or nil and an error.
local function catch_up(spec, first, now)
  local last, sequence, err = last_firing(spec)
  if not sequence then return nil, err end
  for _, time in ipairs(due(spec, last, first, now)) do
    sequence, err = fire(spec, time, sequence)
    if not sequence then return nil, err end
  end
  return true
end

-- The server's schedule ---------------------------------------------------------------------------

--- An empty table has no form in JSON: servers leave out what is not there.
local function without_empty(config)
  for name, value in pairs(config) do
    if type(value) == "table" and next(value) == nil then config[name] = nil end
  end
  return config
end

local function allow_schedules(stream)
  local info, err = js_api.call("js.cron", "STREAM.INFO." .. stream)
  if not info then return nil, err end
  if info.config.allow_msg_schedules then return true end
  local config = without_empty(info.config)
  config.allow_msg_schedules = true
  return js_api.call("js.cron", "STREAM.UPDATE." .. stream, config)
end

--- The schedule is as the script states it; or nil and an error.
local function ensure_schedule(spec)
  local ok, err = allow_schedules(spec.stream)
  if not ok then return nil, err end
  local subject, line = SCHEDULES .. spec.name, core.cron_format(spec.line)
  local zone = not line:find "^@" and spec.tz ~= "UTC" and spec.tz or nil
  local there
  there, err = js_api.get("js.cron", spec.stream, { last_by_subj = subject })
  if there and there:header "Nats-Schedule" == line and there:header "Nats-Schedule-Time-Zone" == zone then
    return true
  elseif not there and err.code ~= "not_found" then
    return nil, err
  end
  ok, err = publish.send(subject, { name = spec.name }, {
    headers = { ["Nats-Schedule"] = line, ["Nats-Schedule-Target"] = spec.subject, ["Nats-Schedule-Time-Zone"] = zone },
    expect = { last_subject_sequence = there and there.sequence or 0, stream = spec.stream },
  }, nil, "js.cron")
  return ok, err
end

--- The other way: what the server fires by itself must be no more. True, or nil and an error.
local function drop_schedule(spec)
  local there, err = js_api.get("js.cron", spec.stream, { last_by_subj = SCHEDULES .. spec.name })
  if there then
    return js_api.call("js.cron", "STREAM.MSG.DELETE." .. spec.stream, { seq = there.sequence, no_erase = true })
  elseif err.code ~= "not_found" then
    return nil, err
  end
  return true
end

-- Each host ---------------------------------------------------------------------------------------

--- Called when the script begins to serve, and at each time of the line. What fails is tried again for as
--- long as it takes: the next time may be a year ahead. Only whether there is a schedule of the server is the
--- matter of the version that serves: one that does not any more neither makes nor removes it.
local function tick_of(spec)
  local said, prepared = false, false
  return function(first)
    local now, raced = math.abs(first), false
    if first < 0 then first = now + 1 end -- at the start: what comes from now on is not due yet
    while true do
      local ok, err
      local retired = core.is_retired()
      if spec.schedule == "server" then
        if retired then return end
        ok, err = ensure_schedule(spec)
      else
        if not (prepared or retired) then prepared, err = drop_schedule(spec) end
        if prepared or retired then ok, err = catch_up(spec, first, now) end
      end
      if ok then
        said = false
        return
      end
      -- Another host was faster: we look again at once, and from the second time on in a moment.
      local faster = err and err.code == "wrong_sequence"
      if err and not faster then
        if not said then core.log.warn(("js.cron %s: %s; it is tried again"):format(spec.name, tostring(err))) end
        said = true
      end
      if err and (raced or not faster) then
        task.resumed(core.sleep(faster and RACED_AGAIN or AGAIN, "js.cron"))
        now = math.max(now, math.floor(core.now()))
      end
      raced = faster
    end
  end
end

--- A firing that comes for the first time may have been missed; one that comes again has begun.
local function is_missed(spec, msg, time)
  if msg.attempt > 1 then return false end
  if spec.missed == "skip" then return time < core.now() - LATE end
  return spec.missed == "last" and msg.pending > 0
end

local function handler_of(spec, fn)
  return function(msg)
    local time = msg:header(TIME) == nil and asked_time(msg) or planned(spec, msg)
    if not is_missed(spec, msg, time) then return fn(msg, time) end
  end
end

--- js: moonbus.jetstream.
return function(js, line, opts, fn)
  local spec, consume
  spec, consume, fn = options.js_cron(line, opts, fn)
  if named[spec.name] then
    core.misuse(("js.cron: name: there is a line of the name %q already; each needs its own"):format(spec.name))
  end
  named[spec.name] = true
  if not spec.stream then
    spec.stream = STREAM
    if not stated[STREAM] then
      stated[STREAM] = true
      js.stream { name = STREAM, subjects = { SUBJECTS .. ">" }, max_msgs_per_subject = KEPT }
    end
  end
  spec.subject = SUBJECTS .. spec.name
  consume.durable, consume.filter = "cron-" .. spec.name, spec.subject
  consume.concurrency, consume.max_ack_pending = 1, 1
  -- One that fails for ever would keep all that come after it.
  if consume.dead_letter == nil then consume.dead_letter = false end
  js.consume(spec.stream, consume, handler_of(spec, fn))
  core.register_bare("js_cron", {
    line = line, tz = spec.tz, name = spec.name, missed = "last",
    needs = spec.schedule == "server" and NEEDS_SCHEDULES or nil,
  }, tick_of(spec))
end
