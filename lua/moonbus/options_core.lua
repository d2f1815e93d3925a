--- The options of core NATS, checked and brought into one form: a part of moonbus.options.
local common = require("moonbus.options_kinds")
local schemas = require("moonbus.schema")
local kinds, check, refuse = common.kinds, common.check, common.refuse

local M = {}

local function check_drop(binding, field, value)
  if value ~= "new" and value ~= "old" then
    refuse(binding, field, '"new" or "old" (which message goes when the queue is full)', value)
  end
  return value
end

local function check_schema(binding, field, value)
  return schemas.of(binding .. ": " .. field, value)
end

local SUBSCRIBE = {
  fields = {
    queue = "name",
    timeout = { "duration", default = 20 },
    concurrency = { "integer", max = 1000000, default = 256 },
    drop = { check = check_drop, default = "new" },
    reply = { "boolean", default = true },
    schema = { check = check_schema },
  },
  hints = {
    drop_policy = "drop", overflow = "drop", queue_group = "queue", group = "queue", max_in_flight = "concurrency",
    max_inflight = "concurrency", workers = "concurrency", respond = "reply", replies = "reply",
    no_reply = "write reply = false", durable = "it belongs to js.consume", ack_wait = "it belongs to js.consume",
    attempts = "it belongs to js.consume", dead_letter = "it belongs to js.consume",
  },
  later = { batch = true, order_by = true },
}

--- Or is the default taken?
local function is_stated(opts, name)
  return opts ~= nil and opts[name] ~= nil
end

function M.subscribe(subject, opts, fn)
  local binding = "bus.subscribe"
  opts, fn = common.need_function(binding, opts, fn, "the handler")
  subject = kinds.pattern(binding, "subject", subject)
  if type(opts) == "string" then
    common.misuse(("%s: expected a table of options, got a string: write { queue = %q }"):format(binding, opts))
  end
  local spec = check(binding, opts, SUBSCRIBE)
  spec.timeout_stated = is_stated(opts, "timeout")
  spec.subject = subject
  spec.schema_json = spec.schema and schemas.json(spec.schema)
  return spec, fn
end

M.SUBSCRIBE = SUBSCRIBE -- endpoints of services have most of it

local PUBLISH = {
  as_it_is = true,
  fields = { headers = "table", reply = "subject" },
  hints = { reply_to = "reply", header = "headers", id = "it belongs to js.publish" },
}
local REQUEST = {
  fields = { timeout = "duration", headers = "table" },
  hints = { header = "headers", max_wait = "timeout" },
}

local function check_sentinel(binding, field, value)
  if value ~= true and type(value) ~= "function" then
    refuse(binding, field, "true (an empty reply is the end) or a function that gets each reply, and returns true"
      .. " for the end", value)
  end
  return value
end

local REQUEST_MANY = {
  fields = {
    timeout = "duration", stall = "duration", max = { "integer", max = 2 ^ 31 - 1 },
    sentinel = { check = check_sentinel }, headers = "table",
  },
  hints = {
    header = "headers", max_wait = "timeout", total = "timeout", max_messages = "max", max_responses = "max",
    count = "max", jitter = "stall", interval = "stall", stall_timeout = "stall",
    strategy = "state max, stall, sentinel or timeout: the first of them that comes about is the end",
  },
}

function M.publish(opts)
  return check("bus.publish", opts, PUBLISH)
end

function M.request(opts)
  return check("bus.request", opts, REQUEST)
end

function M.request_many(opts)
  return check("bus.request_many", opts, REQUEST_MANY)
end

return M
