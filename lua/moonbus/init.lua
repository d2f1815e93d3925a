--- "moonbus": what every script requires. Thin: options are checked by moonbus.options, waits are
--- finished by moonbus.task, the rest is the host's (moonbus.core).
local core = require("moonbus.core")
local offload = require("moonbus.offload")
local options = require("moonbus.options")
local task = require("moonbus.task")

local resumed = task.resumed

--- What is logged becomes text here: a __tostring is a script's code, which must not run inside of
--- the host's.
local function log_of(level)
  local write = core.log[level]
  return function(...)
    if select("#", ...) == 0 then core.misuse(("bus.log.%s: a text is missing"):format(level)) end
    local text, fields = ...
    return write(tostring(text), fields)
  end
end

local M = {
  log = {
    debug = log_of("debug"), info = log_of("info"), warn = log_of("warn"), error = log_of("error"),
  },
  now = core.now,
  settings = core.settings,
  version = core.version,
  json = {
    encode = core.json_encode,
    decode = core.json_decode,
    array = core.json_array,
    null = core.json_null,
  },
  spawn = task.spawn,
  gather = task.gather,
  offload = offload,
}

-- Only while a script loads -----------------------------------------------------------------------

function M.subscribe(subject, opts, fn)
  local spec
  spec, fn = options.subscribe(subject, opts, fn)
  core.register("subscribe", spec, fn)
end

function M.on(event, fn)
  event, fn = options.on(event, fn)
  core.register(event, {}, fn)
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

-- What instances share ---------------------------------------------------------------------------

function M.shared(name, opts)
  if opts == nil then return core.shared(name) end
  return core.shared(name, options.shared(opts).size)
end

local store = core.shared_methods
local set, add, incr = store.set, store.add, store.incr

function store.set(self, key, value, opts)
  if opts == nil then return set(self, key, value) end
  return set(self, key, value, options.shared_put("shared:set", opts).ttl)
end

function store.add(self, key, value, opts)
  if opts == nil then return add(self, key, value) end
  return add(self, key, value, options.shared_put("shared:add", opts).ttl)
end

function store.incr(self, key, by, opts)
  if opts == nil then return incr(self, key, by) end
  opts = options.shared_incr(opts)
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

return M
