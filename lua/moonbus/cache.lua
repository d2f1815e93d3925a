--- bus.cache: values that are loaded when somebody wants them, for the whole process.
---
---     get ─┬─ there, and fresh ─▶ the value
---          ├─ there, but stale ─▶ the first one loads it anew; the others get what is there
---          └─ not there ─▶ a lock for each key: the first one loads, the others wait for it
---
--- It stands on a store (what is loaded, and how the last load failed) and on locks (who loads). In
--- the store: "v" .. key: the value; "e" .. key: how its load failed; "l" .. key: the load under way.
local core = require("moonbus.core")
local options = require("moonbus.options_shared")
local permits = require("moonbus.permits")
local task = require("moonbus.task")
local methods_of = require("moonbus.methods")
local misuse = core.misuse

--- How long those that wait for a load can learn that it failed, in seconds.
local FAILURE_KEPT = 60
--- A load that takes longer is not kept, in seconds.
local LOAD_MOST = 86400

local Cache = { __metatable = "cache" }
Cache.__index = methods_of(Cache, "cache",
  { fetch = "get", load = "get", put = "set", remove = "delete", invalidate = "delete", clear = "flush" })
local caches = setmetatable({}, { __mode = "k" })

function Cache:__tostring()
  local cache = caches[self]
  return cache and ("cache %q"):format(cache.name) or "cache"
end

local function cache_of(object, method)
  local cache = caches[object]
  if not cache then misuse(("cache:%s: call it with a colon, on what bus.cache returned"):format(method)) end
  core.check("cache:" .. method)
  return cache
end

-- Loads -------------------------------------------------------------------------------------------

--- How a load failed, as plain values: for those that waited for it. raised: or was it returned?
local function note_failure(cache, key, err, raised)
  local now = core.clock()
  local failure = { at = now, raised = raised, none = err == nil and not raised }
  if cache.error_ttl then failure.till = now + cache.error_ttl end
  local is_table = type(err) == "table"
  local code, message = is_table and rawget(err, "code"), is_table and rawget(err, "message")
  if type(code) == "string" and type(message) == "string" then
    failure.code, failure.message = code, message
  elseif err ~= nil or raised then
    failure.text = type(err) == "string" and err or "the load failed with a " .. type(err)
  end
  cache.store:set("e" .. key, failure, { ttl = math.max(FAILURE_KEPT, cache.error_ttl or 0) })
end

--- The same failure once more, here.
local function fail_again(failure)
  if failure.none then return nil end
  local err = failure.text or core.error(failure.code, failure.message)
  if failure.raised then error(err, 0) end
  return nil, err
end

--- what: who put it there, in the error of what cannot be stored.
local function store_value(cache, what, key, entry, opts)
  local ok, err = pcall(cache.store.set, cache.store, key, entry, opts)
  if ok then return end
  error(type(err) == "string" and err:gsub("shared:set: value", function() return what end, 1) or err, 0)
end

local function keep_value(cache, what, key, value)
  local ttl = cache.ttl
  local till = ttl and core.clock() + ttl or nil
  -- What does not fit is not kept, and given all the same.
  store_value(cache, what, "v" .. key, { value = value, till = till },
    { ttl = ttl and ttl + (cache.stale or 0) or nil })
end

--- The load of a key failed; old: what is there yet, or nil.
local function failed(cache, key, ok, first, err, old)
  local value = err
  if not ok then value = first.value end
  if not core.cancelled() then
    note_failure(cache, key, value, not ok)
    if old then
      core.log.warn(("cache %q: a load failed, the old value is served: %s"):format(cache.name,
        type(value) == "table" and tostring(rawget(value, "message")) or tostring(value)))
      return old.value
    end
  end
  if not ok then task.raise_again(first, "run by cache:get") end
  return nil, err
end

local function load_value(cache, key, old)
  local store, marker = cache.store, "l" .. key
  local token = store:incr("n")
  store:set(marker, token or 0, { ttl = LOAD_MOST })
  local ok, value, err = task.attempt(cache.load, key)
  -- Not when it was deleted, set or flushed meanwhile: what was loaded may be older than that.
  local is_last = not core.cancelled() and store:get(marker) == token
  if is_last then store:delete(marker) end
  if not ok or value == nil or (value == false and err ~= nil) then
    return failed(cache, key, ok, value, err, old)
  end
  if is_last then keep_value(cache, ("cache:get: what load gave for %q"):format(key), key, value) end
  store:delete("e" .. key)
  return value
end

-- What is called ----------------------------------------------------------------------------------

local function is_fresh(entry, now)
  return entry and (not entry.till or now < entry.till)
end

--- Nobody else loads it now: look again, then load. began: since when it was wanted.
local function get_alone(cache, key, began)
  local now = core.clock()
  local entry = cache.store:get("v" .. key)
  if is_fresh(entry, now) then return entry.value end
  local failure = cache.store:get("e" .. key)
  if failure and failure.at > began then
    if entry then return entry.value end
    return fail_again(failure)
  end
  return load_value(cache, key, entry)
end

--- The value of the key, loaded if need be; or what the load gave: nil, or nil and an error.
function Cache:get(key)
  local cache = cache_of(self, "get")
  options.cache_key("cache:get", key)
  local began = core.clock()
  local entry = cache.store:get("v" .. key)
  if is_fresh(entry, began) then return entry.value end
  local failure = cache.error_ttl and cache.store:get("e" .. key)
  if failure and failure.till and began < failure.till then
    if entry then return entry.value end
    return fail_again(failure)
  end
  local lock, err = permits.take("cache:get", ("cache %s: %s"):format(cache.name, key),
    { wait = entry and 0 or nil })
  if not lock and entry then return entry.value end
  if not lock then return nil, err end
  return task.run_within("cache:get", function() lock:release() end,
    function() return get_alone(cache, key, began) end)
end

--- Puts a value there; a load that is under way does not replace it.
function Cache:set(key, value)
  local cache = cache_of(self, "set")
  options.cache_key("cache:set", key)
  if value == nil then misuse("cache:set: the value is missing (nil); cache:delete removes a key") end
  cache.store:delete("l" .. key)
  keep_value(cache, "cache:set: value", key, value)
end

--- Forgets the key. True: it was there.
function Cache:delete(key)
  local cache = cache_of(self, "delete")
  options.cache_key("cache:delete", key)
  cache.store:delete("l" .. key)
  cache.store:delete("e" .. key)
  return cache.store:delete("v" .. key)
end

--- Forgets all keys.
function Cache:flush()
  cache_of(self, "flush").store:flush()
end

return function(name, opts)
  local cache = options.cache(name, opts)
  cache.store = core.shared("cache:" .. name, cache.size, "lru")
  local object = setmetatable({}, Cache)
  caches[object] = cache
  return object
end
