--- "moonbus": what every script requires. Thin: options are checked by moonbus.options, waits are
--- finished by moonbus.task, the rest is the host's (moonbus.core).
local core = require("moonbus.core")
local middleware = require("moonbus.middleware") -- first: it sees what is registered
local cache = require("moonbus.cache")
local http = require("moonbus.http")
local logged = require("moonbus.logged")
local methods_of = require("moonbus.methods")
local module_of = require("moonbus.members")
local nearest = require("moonbus.nearest")
local offload = require("moonbus.offload")
local options = require("moonbus.options")
local shared_options = require("moonbus.options_shared")
local permits = require("moonbus.permits")
local replies = require("moonbus.replies")
local service = require("moonbus.service")
local schema = require("moonbus.schema")
local task = require("moonbus.task")
local time_options = require("moonbus.options_time")
local views = require("moonbus.views")

local resumed = task.resumed

local function log_of(level)
  local write = core.log[level]
  return function(...)
    if select("#", ...) == 0 then core.misuse(("bus.log.%s: a text is missing"):format(level)) end
    local text, fields = ...
    return write(logged(text), fields)
  end
end

local M = {
  log = module_of({
    debug = log_of("debug"), info = log_of("info"), warn = log_of("warn"), error = log_of("error"),
  }, "bus.log"),
  now = core.now,
  settings = views.of(core.settings, "bus.settings",
    "settings are the config's, in each state of a script the same; keep it in a local, or in bus.shared"),
  version = core.version,
  json = module_of({
    encode = core.json_encode,
    decode = core.json_decode,
    array = core.json_array,
    null = core.json_null,
  }, "bus.json"),
  spawn = task.spawn,
  gather = task.gather,
  offload = offload,
  request_many = replies,
  service = service,
  http = module_of(http, "bus.http"),
  use = middleware,
  cache = cache,
  lock = permits.lock,
  semaphore = permits.semaphore,
  limiter = permits.limiter,
  schema = schema.public,
}

-- Only while a script loads -----------------------------------------------------------------------

function M.subscribe(subject, opts, fn)
  local spec
  spec, fn = options.subscribe(subject, opts, fn)
  core.register("subscribe", spec, fn, spec.schema and schema.around(spec.schema, false, fn))
end

function M.on(event, opts, fn)
  event, opts, fn = options.on(event, opts, fn)
  core.register(event, opts, fn)
end

function M.script(opts)
  core.script_limits(options.script(opts))
end

-- Messages ----------------------------------------------------------------------------------------

function M.publish(subject, data, opts)
  if opts == nil then return core.publish(subject, data) end
  opts = options.publish(opts)
  return core.publish(subject, data, opts.headers, opts.reply)
end

function M.request(subject, data, opts)
  if opts == nil then return resumed(core.request(subject, data)) end
  opts = options.request(opts)
  return resumed(core.request(subject, data, opts.timeout, opts.headers))
end

local ack = core.methods.ack
function core.methods.ack(...) return resumed(ack(...)) end

--- What it is called elsewhere.
local ELSEWHERE = {
  body = "data", payload = "data", content = "data", topic = "subject", seq = "sequence",
  stream_sequence = "sequence", num_delivered = "attempt", deliveries = "attempt",
  reply_to = "reply", time = "timestamp", durable = "consumer", nack = "nak", decode = "json",
}

setmetatable(core.methods, {
  __index = function(members, name)
    local names = {}
    for each in pairs(members) do names[#names + 1] = each end
    table.sort(names)
    local shown = type(name) == "string" and "." .. name or ("[%s]"):format(logged(name))
    local meant = ELSEWHERE[name] or type(name) == "string" and nearest(name, names)
    core.misuse(("msg%s: a message has no such field: %s"):format(shown,
      meant and ("did you mean %q?"):format(meant) or "there are " .. table.concat(names, ", ")))
  end,
})

-- What instances share ---------------------------------------------------------------------------

function M.shared(name, opts)
  if opts == nil then return core.shared(name) end
  opts = shared_options.shared(opts)
  return core.shared(name, opts.size, opts.evict)
end

local store = methods_of(core.shared_methods, "shared", { put = "set", remove = "delete", clear = "flush",
  flush_all = "flush", get_keys = "keys", increment = "incr", decr = "incr", safe_set = "set", safe_add = "add" })
local set, add, replace, incr = store.set, store.add, store.replace, store.incr
local expire, keys = store.expire, store.keys

function store.set(self, key, value, opts)
  if opts == nil then return set(self, key, value) end
  return set(self, key, value, shared_options.shared_put("shared:set", opts).ttl)
end

function store.add(self, key, value, opts)
  if opts == nil then return add(self, key, value) end
  return add(self, key, value, shared_options.shared_put("shared:add", opts).ttl)
end

function store.replace(self, key, value, opts)
  if opts == nil then return replace(self, key, value) end
  return replace(self, key, value, shared_options.shared_put("shared:replace", opts).ttl)
end

function store.expire(self, key, ttl)
  return expire(self, key, shared_options.expire(ttl))
end

function store.keys(self, most)
  return keys(self, shared_options.keys(most))
end

function store.incr(self, key, by, opts)
  if opts == nil then return incr(self, key, by) end
  opts = shared_options.shared_incr(opts)
  return incr(self, key, by, opts.init, opts.ttl)
end

-- Time --------------------------------------------------------------------------------------------

function M.sleep(duration)
  return resumed(core.sleep(duration))
end

local function timer(kind, duration, fn)
  local spec
  spec, fn = options.timer("bus." .. kind, duration, fn)
  if core.in_task() then
    core.check("bus." .. kind)
    return task[kind](spec.period, fn)
  end
  local index = core.register(kind, spec, fn)
  return task.new_timer(function() core.cancel_timer(index) end)
end

function M.after(duration, fn)
  return timer("after", duration, fn)
end

function M.every(duration, fn)
  return timer("every", duration, fn)
end

function M.cron(line, opts, fn)
  local spec
  spec, fn = time_options.cron(line, opts, fn)
  local index = core.register("cron", spec, fn)
  return task.new_timer(function() core.cancel_timer(index) end)
end

return module_of(M, "bus")
