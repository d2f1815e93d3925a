--- bus.lock, bus.semaphore and bus.limiter: the objects. Who holds what, and who waits, is the
--- host's (host/engine/permits.h, limiters.h), with `cluster` a bucket's (moonbus.cluster_lock,
--- cluster_limiter); what is held ends with the function that took it.
local core = require("moonbus.core")
local late = require("moonbus.late")
local methods_of = require("moonbus.methods")
local cluster_limiter = late("moonbus.cluster_limiter")
local cluster_lock = late("moonbus.cluster_lock")
local options = require("moonbus.options_shared")
local task = require("moonbus.task")
local misuse, resumed = core.misuse, task.resumed

local M = {}

-- Locks and semaphores ----------------------------------------------------------------------------

--- number: of enum permit_kind.
local PER_KIND = {
  lock = { class = {}, number = 0, objects = setmetatable({}, { __mode = "k" }) },
  permit = { class = {}, number = 1, objects = setmetatable({}, { __mode = "k" }) },
}

--- What an object has is a handle of this process's, or a claim of the cluster's.
local function is_held(handle)
  if type(handle) == "table" then return cluster_lock.is_held(handle) end
  return core.permit_held(handle)
end

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
  per.class.__index = methods_of(per.class, kind, { unlock = "release", free = "release", is_held = "held" },
    { token = true })
  per.class.__metatable = kind
  per.class.__tostring = function(object)
    local handle = per.objects[object]
    return kind .. (handle and is_held(handle) and " (held)" or " (given back)")
  end

  --- Gives it back: true; false: it was not held any more.
  function per.class:release()
    local handle, name = handle_of(kind, self, "release")
    if type(handle) == "table" then return cluster_lock.release(handle) end
    return core.permit_release(name, handle)
  end

  --- Does its handler hold it still? Not when its ttl is over.
  function per.class:held()
    return is_held((handle_of(kind, self, "held")))
  end
end

local function object_of(kind, handle)
  local per = PER_KIND[kind]
  local object = setmetatable({}, per.class)
  per.objects[object] = handle
  return object
end

local function take_of_cluster(kind, binding, name, places, spec)
  local claim, err = cluster_lock.take(kind == "lock" and "lock" or "place", binding, name, places, spec)
  if not claim then return nil, err end
  local object = object_of(kind, claim)
  object.token = claim.token
  return object
end

--- An object that holds, or nil and an error.
local function take(kind, binding, name, places, spec)
  if spec.cluster then return take_of_cluster(kind, binding, name, places, spec) end
  local handle = core.permit(binding, PER_KIND[kind].number, name, places, spec.ttl)
  local ok, err = resumed(core.permit_take(binding, handle, spec.wait))
  if not ok then
    core.permit_release(binding, handle)
    return nil, err
  end
  return object_of(kind, handle)
end
--- For what waits by a lock of its own.
function M.take(binding, name, spec) return take("lock", binding, name, 1, spec) end

local function unless_lost(name, kept, ...)
  if kept() then return ... end
  return nil, core.error("lease_lost",
    ("%q was lost before what ran under it had ended: it was not renewed for its ttl"):format(name))
end

--- Takes, runs fn with the object, gives back; fn's results, or its error. What ran under a lock that was lost may
--- have met another holder: that is no success.
local function run(kind, binding, name, places, spec, fn)
  local object, err = take(kind, binding, name, places, spec)
  if not object then return nil, err end
  local held = false
  local function back()
    local claim = spec.cluster and PER_KIND[kind].objects[object]
    held = not claim or claim.over or cluster_lock.is_held(claim)
    object:release()
  end
  return unless_lost(name, function() return held end,
    task.run_within(binding, back, function() return fn(object) end))
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
Limiter.__index = methods_of(Limiter, "limiter",
  { acquire = "take", wait = "take", incoming = "try", allow = "try", try_take = "try" })
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
  if limit.cluster then return cluster_limiter.take(limit, tokens) end
  return resumed(core.limiter_take("limiter:take", limit.name, limit.rate, limit.burst, tokens))
end

--- Takes them if they are there: true, or false.
function Limiter:try(tokens)
  local limit
  limit, tokens = limit_of(self, "try", tokens)
  if limit.cluster then return cluster_limiter.try(limit, tokens) end
  return core.limiter_try("limiter:try", limit.name, limit.rate, limit.burst, tokens)
end

function M.limiter(name, opts)
  local limit = options.limiter(name, opts)
  local object = setmetatable({}, Limiter)
  limits[object] = limit
  return object
end

return M
