--- bus.service: services that are found and measured by others (ADR-32). An endpoint is a registration; that
--- the service is found, and what is answered, is the host's.
---
---     service ── group("v1") ── group("orders") ── endpoint("create")      v1.orders.create
local core = require("moonbus.core")
local methods_of = require("moonbus.methods")
local options = require("moonbus.options_service")
local schema = require("moonbus.schema")
local misuse = core.misuse

local DEFAULT_QUEUE = "q"

--- object -> { service =, prefix =, queue =, stats = }
local states = setmetatable({}, { __mode = "k" })

local methods = methods_of({}, "service", { add_endpoint = "endpoint", add_group = "group" })

local Class = {
  __index = function(_, name)
    if name == "stop" then
      misuse("service:stop: a service ends with its script: take it out of the script, or the file away, and reload")
    end
    return methods[name]
  end,
  __newindex = function() misuse("service: its fields cannot be set") end,
  __tostring = function(object)
    local state = states[object]
    if state.prefix == "" then return "service " .. state.service end
    return ("group %s of service %s"):format(state.prefix:sub(1, -2), state.service)
  end,
  __metatable = "service",
}

local function object_of(state)
  local object = setmetatable({}, Class)
  states[object] = state
  return object
end

local function state_of(object, method)
  local state = states[object]
  if not state then misuse(("service:%s: call it with a colon, on what bus.service returned"):format(method)) end
  core.check_loading("service:" .. method)
  return state
end

--- What is stated nearest counts; false, which is none, too.
local function nearest_queue(stated, above)
  if stated == nil then return above end
  return stated
end

-- What scripts say of their endpoints ------------------------------------------------------------

-- Whoever asks for STATS is answered by the host, also while no Lua can run: so this is asked for before.
local STATS_EVERY = 5
local DATA_MOST = 64 * 1024

local measured = {} -- of this state: service -> list of { endpoint, fn }

--- What fn says of it, as JSON. Raises what fn raises.
local function say(service, endpoint, fn)
  local data = fn(endpoint)
  local text = data ~= nil and core.json_encode_for(data, ("stats of %s.%s"):format(service, endpoint.name)) or nil
  if text and #text > DATA_MOST then
    misuse(("stats of %s.%s: %d bytes of JSON, at most %d may be"):format(service, endpoint.name, #text, DATA_MOST))
  end
  core.service_data(service, endpoint.name, text)
end

--- One that fails leaves the others theirs; the first error is the run's.
local function say_all(service)
  local failed
  for _, each in ipairs(measured[service]) do
    local ok, why = pcall(say, service, each.endpoint, each.fn)
    failed = failed or not ok and { why } or nil
  end
  if failed then error(failed[1], 0) end
end

local function measure(spec, fn)
  local service = spec.service
  if not measured[service] then
    measured[service] = {}
    core.register("every", { period = STATS_EVERY, name = "stats of " .. service, at_once = true },
      function() say_all(service) end)
  end
  table.insert(measured[service], { fn = fn,
    endpoint = { name = spec.endpoint, subject = spec.subject, queue = spec.queue, metadata = spec.metadata } })
end

function methods.endpoint(object, name, opts, fn)
  local spec
  local state = state_of(object, "endpoint")
  spec, fn = options.endpoint(state, name, opts, fn)
  local stats = spec.stats or state.stats
  spec.stats = nil
  if stats then measure(spec, stats) end
  core.register("endpoint", spec, fn, spec.schema and schema.around(spec.schema, false, fn))
end

function methods.group(object, prefix, opts)
  local state = state_of(object, "group")
  opts = options.group(prefix, opts)
  return object_of {
    service = state.service, prefix = state.prefix .. prefix .. ".", queue = nearest_queue(opts.queue, state.queue),
    stats = state.stats,
  }
end

return function(opts)
  core.check_loading("bus.service")
  local spec = options.service(opts)
  local stats = spec.stats
  spec.stats = nil
  core.register("service", spec)
  return object_of {
    service = spec.name, prefix = "", queue = nearest_queue(spec.queue, DEFAULT_QUEUE), stats = stats,
  }
end
