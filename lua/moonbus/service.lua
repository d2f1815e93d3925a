--- bus.service: services that are found and measured by others (ADR-32). An endpoint is a registration; that
--- the service is found, and what is answered, is the host's.
---
---     service ── group("v1") ── group("orders") ── endpoint("create")      v1.orders.create
local core = require("moonbus.core")
local logged = require("moonbus.logged")
local nearest = require("moonbus.nearest")
local options = require("moonbus.options_service")
local schema = require("moonbus.schema")
local misuse = core.misuse

local DEFAULT_QUEUE = "q"

--- object -> { service =, prefix =, queue = }
local states = setmetatable({}, { __mode = "k" })

local methods = {}

local Class = {
  __index = function(_, name)
    if methods[name] then return methods[name] end
    local shown = type(name) == "string" and "." .. name or ("[%s]"):format(logged(name))
    local meant = type(name) == "string" and nearest(name, { "endpoint", "group" })
    return misuse(("service%s: there is no such method: %s"):format(shown,
      meant and ("did you mean %q?"):format(meant) or "there are endpoint, group"))
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

function methods.endpoint(object, name, opts, fn)
  local spec
  spec, fn = options.endpoint(state_of(object, "endpoint"), name, opts, fn)
  core.register("endpoint", spec, fn, spec.schema and schema.around(spec.schema, false, fn))
end

function methods.group(object, prefix, opts)
  local state = state_of(object, "group")
  opts = options.group(prefix, opts)
  return object_of {
    service = state.service, prefix = state.prefix .. prefix .. ".", queue = nearest_queue(opts.queue, state.queue),
  }
end

return function(opts)
  core.check_loading("bus.service")
  local spec = options.service(opts)
  core.register("service", spec)
  return object_of { service = spec.name, prefix = "", queue = nearest_queue(spec.queue, DEFAULT_QUEUE) }
end
