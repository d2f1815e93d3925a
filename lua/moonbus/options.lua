--- The options tables of the bindings, checked and brought into one form: durations in seconds,
--- sizes in bytes, defaults filled in. A mistake is raised at the script's line, and names the
--- binding, the option, the value, and what would be right.
---
---     local spec, fn = options.subscribe(subject, opts, fn)   -- opts may be left out
---     core.register("subscribe", spec, fn)
local common = require("moonbus.options_kinds")
local groups = require("moonbus.options_group")
local publishing = require("moonbus.options_publish")
local schemas = require("moonbus.schema")
local kinds, check, misuse, refuse = common.kinds, common.check, common.misuse, common.refuse
local show, copy_plain, nanoseconds = common.show, common.copy_plain, common.nanoseconds
local need_function = common.need_function

local M = { misuse = misuse }
for name, checked in pairs(require("moonbus.options_core")) do M[name] = checked end

-- Timers, hooks, the script -----------------------------------------------------------------------

--- binding: "bus.every" or "bus.after".
function M.timer(binding, period, fn)
  local _
  _, fn = need_function(binding, nil, fn, "what to run")
  return { period = kinds.duration(binding, "duration", period, {}) }, fn
end

local ON = {
  fields = { required = { "boolean", default = false }, timeout = "duration" },
  hints = { require = "required", wait = "required", must = "required" },
}
local REQUIRED_TIMEOUT = 60

--- The kind of registration ("start" or "stop"), its options, and the function.
function M.on(event, opts, fn)
  if event ~= "start" and event ~= "stop" then
    refuse("bus.on", "event", '"start" or "stop"', event)
  end
  opts, fn = need_function("bus.on", opts, fn, "what to run")
  local spec = check("bus.on", opts, ON)
  if spec.required and event == "stop" then misuse('bus.on: required is for "start"') end
  if spec.required then spec.timeout = spec.timeout or REQUIRED_TIMEOUT end
  return event, spec, fn
end

local SCRIPT = {
  fields = {
    workers = { "integer", max = 256 },
    memory = { "size", min = 1024 * 1024 },
    cpu = { "duration", min = 0.01 },
    jit = "boolean",
  },
  hints = { instances = "workers", concurrency = "workers" },
}

function M.script(opts)
  return check("bus.script", opts, SCRIPT)
end

-- Blocking work ----------------------------------------------------------------------------------

local OFFLOAD = {
  fields = { timeout = "duration" },
  hints = { threads = "it is limits.offload_threads of the config", max_wait = "timeout" },
}

function M.offload(module, opts)
  if type(module) ~= "string" or module == "" or module:find("[%c\\]") or module:find("^[./]")
    or module:find("[./]$") or module:find("[./][./]") then
    refuse("bus.offload", "module", 'the name of a module, as for require ("img")', module)
  end
  return check("bus.offload", opts, OFFLOAD)
end

-- JetStream: publishing ---------------------------------------------------------------------------

--- binding: "js.publish" or "js.publish_async".
M.js_publish, M.js_count, M.js_counter = publishing.publish, publishing.count, publishing.counter

-- JetStream: reading ------------------------------------------------------------------------------

local JS_GET = {
  fields = {
    sequence = { "integer", max = 2 ^ 53 },
    last = "subject",
    next = "pattern",
  },
  hints = {
    seq = "sequence", last_by_subject = "last", last_by_subj = "last", next_by_subj = "next", subject = "last",
  },
}
local JS_GET_OPTIONS = { fields = { timeout = "duration" }, hints = { max_wait = "timeout" } }

--- The request as NATS has it, and the timeout.
function M.js_get(stream, query, opts)
  local binding = "js.get"
  kinds.name(binding, "stream", stream, {})
  local wanted = "{ sequence = 42 }, { last = SUBJECT } or { sequence = 42, next = SUBJECT }"
  if type(query) ~= "table" then refuse(binding, "query", wanted, query) end
  local asked = check(binding, query, JS_GET)
  if asked.last and (asked.sequence or asked.next) or not (asked.sequence or asked.last or asked.next) then
    misuse(("%s: expected %s"):format(binding, wanted))
  end
  local request = { seq = asked.sequence, last_by_subj = asked.last, next_by_subj = asked.next }
  return request, check(binding, opts, JS_GET_OPTIONS).timeout
end

-- JetStream: streams ------------------------------------------------------------------------------

local COUNT = { "integer", min = -1, max = 2 ^ 53 }
local SIZE = { "size", unlimited = true }
local DURATION = { check = nanoseconds }

local function check_consumer_limits(binding, field, value)
  value = copy_plain(binding, field, kinds.table(binding, field, value))
  if value.inactive_threshold ~= nil then
    value.inactive_threshold =
      nanoseconds(binding, field .. ".inactive_threshold", value.inactive_threshold)
  end
  return value
end

--- What we know of a stream's settings; all else passes through as it is.
local STREAM = {
  name = { "name", what = "stream" }, subjects = "patterns", description = "string",
  storage = { "string", values = { file = true, memory = true } },
  retention = { "string", values = { limits = true, interest = true, workqueue = true } },
  discard = { "string", values = { old = true, new = true } },
  compression = { "string", values = { none = true, s2 = true } },
  max_age = DURATION, duplicate_window = DURATION, subject_delete_marker_ttl = DURATION,
  max_bytes = SIZE, max_msg_size = SIZE,
  max_msgs = COUNT, max_msgs_per_subject = COUNT, max_consumers = COUNT,
  num_replicas = { "integer", max = 5 },
  no_ack = "boolean", sealed = "boolean", deny_delete = "boolean", deny_purge = "boolean",
  allow_rollup_hdrs = "boolean", allow_direct = "boolean", mirror_direct = "boolean",
  discard_new_per_subject = "boolean", allow_msg_ttl = "boolean", allow_msg_counter = "boolean",
  allow_msg_schedules = "boolean", allow_atomic = "boolean", allow_batched = "boolean",
  persist_mode = { "string", values = { default = true, async = true } },
  sources = "table", mirror = "table", placement = "table", republish = "table",
  metadata = "metadata", subject_transform = "table",
  consumer_limits = { check = check_consumer_limits },
  update = "boolean",
}

local STREAM_HINTS = {
  subject = "subjects", replicas = "num_replicas", max_messages = "max_msgs", ttl = "max_age",
  max_message_size = "max_msg_size", dupe_window = "duplicate_window",
  duplicates = "duplicate_window", durable = "it belongs to js.consume",
}

M.stream_fields = STREAM

function M.stream(settings)
  local binding = "js.stream"
  if type(settings) ~= "table" then refuse(binding, "settings", "a table", settings) end
  if settings.name == nil then misuse(binding .. ": name is required") end
  local result = {}
  for name, given in pairs(settings) do
    if type(name) ~= "string" then
      misuse(("%s: settings have names, but there is one with the key %s")
        :format(binding, show(name)))
    end
    local hint = STREAM_HINTS[name]
    if hint then
      misuse(("%s: unknown setting %q: %s"):format(binding, name,
        STREAM[hint] and ("NATS calls it %q"):format(hint) or hint))
    end
    local spec = STREAM[name]
    local check_value = spec == nil and copy_plain
      or type(spec) == "string" and kinds[spec] or spec.check or kinds[spec[1]]
    local value = check_value(binding, name, given, type(spec) == "table" and spec or {})
    result[name] = copy_plain(binding, name, value)
  end
  local update = result.update -- ours; all else is NATS'
  result.update = nil
  if result.metadata and next(result.metadata) == nil then result.metadata = nil end -- others' stay
  return { settings = result, update = update }
end

-- JetStream: consuming ----------------------------------------------------------------------------

local function check_schema(binding, field, value)
  return schemas.of(binding .. ": " .. field, value)
end

--- Or is the default taken?
local function is_stated(opts, name)
  return opts ~= nil and opts[name] ~= nil
end

local BACKOFF = {
  fields = {
    min = "duration", max = "duration",
    factor = { check = function(binding, field, value)
      if type(value) ~= "number" or not (value >= 1 and value <= 100) then
        refuse(binding, field, "a number from 1 to 100", value)
      end
      return value
    end, default = 2 },
    jitter = { check = function(binding, field, value)
      if type(value) ~= "number" or not (value >= 0 and value <= 1) then
        refuse(binding, field, "a number from 0 to 1", value)
      end
      return value
    end, default = 0.2 },
    park_after = { "duration", min = 1 },
  },
  hints = {
    base = "min", initial = "min", multiplier = "factor", park = "park_after", schedule_after = "park_after",
  },
}

local function check_backoff(binding, field, value)
  if type(value) ~= "table" or #value > 0 then
    misuse(('%s: %s: expected {min="1s", max="1m", factor=2, jitter=0.2}%s'):format(binding, field,
      type(value) == "table" and ", not a list of delays: the host computes them" or
      ", got " .. show(value)))
  end
  local result = check(binding, value, BACKOFF, field)
  local min = result.min or math.min(1, result.max or 1)
  local max = result.max or math.max(60, min)
  if min > max then
    misuse(("%s: %s.min (%gs) is more than %s.max (%gs)"):format(binding, field, min, field, max))
  end
  result.min, result.max = min, max
  return result
end

--- What is parked leaves the durable: nothing can wait for it there.
local function check_parking(binding, spec)
  if not (spec.backoff and spec.backoff.park_after) then return end
  local against = spec.order_by and "order_by, as the key of a message waits for it"
    or spec.pinned and "pinned, as what is parked may come back to another process"
    or spec.max_ack_pending == 1 and "max_ack_pending = 1, as the next message would not wait for it"
  if against then misuse(("%s: backoff.park_after does not go with %s"):format(binding, against)) end
end

local RFC3339 = "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d[%.%d]*[Z%+%-][%d:]*$"

local function check_deliver(binding, field, value)
  local wanted = '"all", "new", "last", "last_per_subject", {sequence=42} or {time="2026-01-01T00:00:00Z"}'
  if value == "all" or value == "new" or value == "last" or value == "last_per_subject" then
    return { from = value }
  end
  if type(value) ~= "table" then refuse(binding, field, wanted, value) end
  for key in pairs(value) do
    if key ~= "sequence" and key ~= "time" then
      misuse(("%s: %s: unknown option %s: expected %s"):format(binding, field, show(key), wanted))
    end
  end
  if (value.sequence == nil) == (value.time == nil) then
    misuse(("%s: %s: expected %s"):format(binding, field, wanted))
  end
  if value.sequence ~= nil then
    local sequence = kinds.integer(binding, field .. ".sequence", value.sequence, { max = 2 ^ 53 })
    return { from = "sequence", sequence = sequence }
  end
  if type(value.time) ~= "string" or not value.time:find(RFC3339) then
    refuse(binding, field .. ".time", 'a time like "2026-01-01T00:00:00Z"', value.time)
  end
  return { from = "time", time = value.time }
end

local PULL_ONLY = "js.consume pulls: it has no settings for pushing"
local EXPLICIT = "it is always explicit: returning from the handler acknowledges"

--- NATS' settings of a consumer that are ours to set, and what to write instead.
local OURS = {
  durable_name = "durable", name = "durable", durable = "durable", ack_wait = "ack_wait",
  max_deliver = "attempts", attempts = "attempts", backoff = "backoff", deliver_policy = "deliver",
  opt_start_seq = "deliver", opt_start_time = "deliver", filter_subject = "filter",
  filter_subjects = "filter", max_ack_pending = "max_ack_pending", ack_policy = EXPLICIT,
  deliver_subject = PULL_ONLY, deliver_group = PULL_ONLY, flow_control = PULL_ONLY,
  idle_heartbeat = PULL_ONLY, rate_limit_bps = PULL_ONLY,
  priority_groups = "group", priority_policy = "write pinned = true, overflow = { ... } or priority = N",
  priority_timeout = "write pinned = { timeout = ... }",
}

--- Names that are the server's, or tell us whose a durable is.
local function check_metadata(binding, field, value)
  for name in pairs(kinds.metadata(binding, field, value)) do
    if name:find "^_nats%." or name:find "^moonbus%." then
      misuse(("%s: %s: the name %q is not a script's to set: _nats. and moonbus. begin others' names"):format(binding,
        field, name))
    end
  end
end

local function check_consumer(binding, field, value)
  kinds.table(binding, field, value)
  for name in pairs(value) do
    local instead = OURS[name]
    if type(name) ~= "string" then
      misuse(("%s: %s: settings have names, but there is one with the key %s")
        :format(binding, field, show(name)))
    elseif instead then
      misuse(("%s: %s.%s: %s"):format(binding, field, name, instead:find(" ") and instead
        or ("write the option %q of js.consume instead"):format(instead)))
    end
  end
  if value.metadata ~= nil then check_metadata(binding, field .. ".metadata", value.metadata) end
  local result = copy_plain(binding, field, value)
  -- What others have beside it stays: without any it states nothing.
  if result.metadata and next(result.metadata) == nil then result.metadata = nil end
  for _, name in ipairs({ "inactive_threshold", "max_expires" }) do
    if result[name] ~= nil then
      result[name] = nanoseconds(binding, field .. "." .. name, result[name])
    end
  end
  return result
end

--- "subject", a token number, or "header:Name".
local function check_order(binding, field, value)
  if value == "subject" then return { by = "subject" } end
  if type(value) == "number" then
    return { by = "token", token = kinds.integer(binding, field, value, { max = 128 }) }
  end
  local header = type(value) == "string" and value:match "^header:([%w%-_]+)$"
  if header then return { by = "header", header = header } end
  refuse(binding, field, '"subject", the number of a token (2 for the second), or "header:Name"',
    value)
end

local function check_dead_letter(binding, field, value)
  if value == false then return value end
  if type(value) ~= "string" then
    refuse(binding, field, "a subject, or false (what fails is terminated)", value)
  end
  return kinds.subject(binding, field, value)
end

local BATCH = {
  fields = {
    size = { "integer", max = 10000, required = true },
    wait = { "duration", default = 0.05 },
  },
  hints = { max = "size", count = "size", timeout = "wait", linger = "wait", max_wait = "wait" },
}

local function check_batch(binding, field, value)
  if type(value) ~= "table" then refuse(binding, field, '{ size = 100, wait = "50ms" }', value) end
  return check(binding .. ": " .. field, value, BATCH)
end

local CONSUME = {
  fields = {
    durable = { "name", required = true },
    bind = { "boolean", default = false },
    filter = "patterns",
    ack_wait = { "duration", min = 0.1 },
    timeout = { "duration", default = 300 },
    concurrency = { "integer", max = 65536, default = 64 },
    attempts = { "integer", max = 1000000, default = 5 },
    backoff = { check = check_backoff },
    dead_letter = { check = check_dead_letter },
    order_by = { check = check_order },
    batch = { check = check_batch },
    deliver = { check = check_deliver },
    max_ack_pending = { "integer", min = -1 },
    consumer = { check = check_consumer },
    update = "boolean",
    schema = { check = check_schema },
  },
  hints = {
    max_inflight = "concurrency", max_in_flight = "concurrency", workers = "concurrency",
    queue = "every process that consumes with the same durable shares its messages",
    max_deliveries = "attempts", retries = "attempts", max_retries = "attempts",
    dlq = "dead_letter", deadletter = "dead_letter", dead_letter_subject = "dead_letter",
    subject = "filter", subjects = "filter", deliver_from = "deliver", start = "deliver",
  },
}
for name, field in pairs(groups.fields) do CONSUME.fields[name] = field end
for name, hint in pairs(groups.hints) do CONSUME.hints[name] = hint end
for name, instead in pairs(OURS) do
  if not CONSUME.fields[name] then CONSUME.hints[name] = instead end
end
for _, name in ipairs({
  "inactive_threshold", "max_waiting", "max_batch", "max_expires", "max_bytes", "headers_only",
  "num_replicas", "mem_storage", "sample_freq", "replay_policy", "description", "metadata",
  "pause_until",
}) do
  CONSUME.hints[name] = ("write consumer = { %s = ... }"):format(name)
end

function M.consume(stream, opts, fn)
  local binding = "js.consume"
  opts, fn = need_function(binding, opts, fn, "the handler")
  stream = kinds.name(binding, "stream", stream, {})
  local spec = check(binding, opts, CONSUME)
  spec.timeout_stated = is_stated(opts, "timeout")
  if spec.max_ack_pending == 0 then
    refuse(binding, "max_ack_pending", "an integer from 1, or -1 for no limit", 0)
  end
  spec.stream = stream
  spec.filters, spec.filter = spec.filter or {}, nil
  if spec.order_by and spec.batch then
    misuse("js.consume: order_by and batch exclude each other: a batch has many keys")
  end
  check_parking(binding, spec)
  groups.read(binding, spec)
  spec.ack_wait_stated = spec.ack_wait ~= nil
  spec.backoff_stated = spec.backoff ~= nil
  spec.ack_wait = spec.ack_wait or 30
  spec.backoff = spec.backoff or check_backoff(binding, "backoff", {})
  spec.deliver = spec.deliver or { from = "all" }
  if spec.schema and spec.consumer and spec.consumer.headers_only then
    misuse("js.consume: schema: with consumer = { headers_only = true } there are no payloads to check")
  end
  spec.schema_json = spec.schema and schemas.json(spec.schema)
  return spec, fn
end

return M
