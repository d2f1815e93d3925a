--- bus.lock, bus.semaphore and bus.limiter: the objects. Who holds what, and who waits, is the
--- host's (host/engine/permits.h, limiters.h); what is held ends with the function that took it.
local core = require("moonbus.core")
local options = require("moonbus.options_shared")
local task = require("moonbus.task")
local misuse, resumed = core.misuse, task.resumed

local M = {}

-- Locks and semaphores ----------------------------------------------------------------------------

local PER_KIND = {
  lock = { class = {}, objects = setmetatable({}, { __mode = "k" }) },
  permit = { class = {}, objects = setmetatable({}, { __mode = "k" }) },
}

--- The handle of the object, and what its method is called.
local function handle_of(kind, object, method)
  local handle = PER_KIND[kind].objects[object]
  local name = kind .. ":" .. method
  if not handle then
    misuse(("%s: call it with a colon, on what %s returned"):format(name,
      kind == "lock" and "bus.lock" or "bus.semaphore"))
  end
  return handle, name
end

for kind, per in pairs(PER_KIND) do
  per.class.__index, per.class.__metatable = per.class, kind
  per.class.__tostring = function(object)
    local handle = per.objects[object]
    return kind .. (handle and core.permit_held(handle) and " (held)" or " (given back)")
  end

  --- Gives it back: true; false: it was not held any more.
  function per.class:release()
    local handle, name = handle_of(kind, self, "release")
    return core.permit_release(name, handle)
  end

  --- Does its handler hold it still? Not when its ttl is over.
  function per.class:held()
    return core.permit_held((handle_of(kind, self, "held")))
  end
end

--- An object that holds, or nil and an error.
local function take(kind, binding, name, places, spec)
  local handle = core.permit(binding, kind == "permit", name, places, spec.ttl)
  local ok, err = resumed(core.permit_take(binding, handle, spec.wait))
  if not ok then
    core.permit_release(binding, handle)
    return nil, err
  end
  local per = PER_KIND[kind]
  local object = setmetatable({}, per.class)
  per.objects[object] = handle
  return object
end
--- For what waits by a lock of its own.
function M.take(binding, name, spec) return take("lock", binding, name, 1, spec) end

--- Takes, runs fn, gives back; fn's results, or its error.
local function run(kind, binding, name, places, spec, fn)
  local object, err = take(kind, binding, name, places, spec)
  if not object then return nil, err end
  return task.run_within(binding, function() object:release() end, fn)
end

function M.lock(name, opts, fn)
  local spec
  name, spec, fn = options.lock(name, opts, fn)
  if fn then return run("lock", "bus.lock", name, 1, spec, fn) end
  return take("lock", "bus.lock", name, 1, spec)
end

function M.semaphore(name, places, opts, fn)
  local spec
  name, places, spec, fn = options.semaphore(name, places, opts, fn)
  if fn then return run("permit", "bus.semaphore", name, places, spec, fn) end
  return take("permit", "bus.semaphore", name, places, spec)
end

-- Limiters ----------------------------------------------------------------------------------------

local Limiter = { __metatable = "limiter" }
Limiter.__index = Limiter
local limits = setmetatable({}, { __mode = "k" })

function Limiter:__tostring()
  local limit = limits[self]
  return limit and ("limiter %q"):format(limit.name) or "limiter"
end

local function limit_of(object, method, tokens)
  local limit = limits[object]
  if not limit then
    misuse(("limiter:%s: call it with a colon, on what bus.limiter returned"):format(method))
  end
  if tokens == nil then tokens = 1 end
  options.limiter_tokens("limiter:" .. method, tokens, limit.burst)
  return limit, tokens
end

--- Waits until there are so many tokens, and takes them: true; or nil and an error (`full`).
function Limiter:take(tokens)
  local limit
  limit, tokens = limit_of(self, "take", tokens)
  return resumed(core.limiter_take("limiter:take", limit.name, limit.rate, limit.burst, tokens))
end

--- Takes them if they are there: true, or false.
function Limiter:try(tokens)
  local limit
  limit, tokens = limit_of(self, "try", tokens)
  return core.limiter_try("limiter:try", limit.name, limit.rate, limit.burst, tokens)
end

function M.limiter(name, opts)
  local limit = options.limiter(name, opts)
  local object = setmetatable({}, Limiter)
  limits[object] = limit
  return object
end

return M
