--- The options of what instances share, as moonbus.options has those of the rest: stores, locks,
--- semaphores, rate limits.
local common = require("moonbus.options_kinds")
local keys = require("moonbus.cluster_key")
local kinds, check, misuse, refuse = common.kinds, common.check, common.misuse, common.refuse
local show, need_function = common.show, common.need_function

local M = {}

-- Stores ------------------------------------------------------------------------------------------

local SHARED = {
  fields = {
    size = { "size", min = 4096 },
    evict = { "string", values = { lru = true, none = true } },
  },
  hints = { bytes = "size", max_bytes = "size", memory = "size", limit = "size", eviction = "evict", policy = "evict",
    ttl = "it belongs to shared:set, shared:add and shared:incr" },
}

function M.shared(opts)
  return check("bus.shared", opts, SHARED)
end

local KEYS_DEFAULT, KEYS_MOST = 1000, 100000

function M.keys(most)
  if most == nil then return KEYS_DEFAULT end
  return kinds.integer("shared:keys", "max (how many keys at most)", most, { max = KEYS_MOST })
end

--- Seconds; nil: for ever.
function M.expire(ttl)
  if ttl == false then return nil end
  if ttl == nil then refuse("shared:expire", "ttl", 'a duration ("10s"), or false: for ever', ttl) end
  return kinds.duration("shared:expire", "ttl", ttl, {})
end

local TTL_HINTS = { exptime = "ttl", expires = "ttl", expire = "ttl", timeout = "ttl", ex = "ttl",
  init_ttl = "ttl", initial = "init", default = "init", start = "init" }
local BELONGS_TO_INCR = "it belongs to shared:incr; shared:add sets only what is absent"
local SHARED_PUT = {
  fields = { ttl = "duration" },
  hints = setmetatable({ init = BELONGS_TO_INCR, initial = BELONGS_TO_INCR, default = BELONGS_TO_INCR,
    start = BELONGS_TO_INCR }, { __index = TTL_HINTS }),
}
local SHARED_INCR = {
  fields = {
    ttl = "duration",
    init = { check = function(binding, field, value)
      if type(value) ~= "number" then refuse(binding, field, "a number", value) end
      return value
    end },
  },
  hints = TTL_HINTS,
}

--- Other stores take numbers at this place.
local function need_table(binding, opts, example)
  if type(opts) == "number" or type(opts) == "string" then
    misuse(("%s: expected a table of options, got a %s: write %s"):format(binding, type(opts), example))
  end
end

--- binding: "shared:set", "shared:add" or "shared:replace".
function M.shared_put(binding, opts)
  need_table(binding, opts, ('{ ttl = %s }'):format(show(opts)))
  return check(binding, opts, SHARED_PUT)
end

function M.shared_incr(opts)
  need_table("shared:incr", opts, ('{ init = %s }, with ttl = "10s" beside it if it is to end')
    :format(show(opts)))
  return check("shared:incr", opts, SHARED_INCR)
end

-- Caches ------------------------------------------------------------------------------------------

local CACHE_NAME_MOST, CACHE_KEY_MOST = 200, 512

local CACHE = {
  fields = {
    size = { "size", min = 4096 },
    ttl = "duration", stale = "duration", error_ttl = "duration",
    load = { required = true, check = function(binding, field, value)
      if type(value) ~= "function" then refuse(binding, field, "a function of the key", value) end
      return value
    end },
  },
  hints = { loader = "load", fn = "load", negative_ttl = "error_ttl", max = "size", expires = "ttl" },
}

function M.cache(name, opts)
  local binding = "bus.cache"
  if type(name) ~= "string" or name == "" or #name > CACHE_NAME_MOST or name:find("%z") then
    refuse(binding, "name", ("a string of 1 to %d bytes, and no NUL among them"):format(CACHE_NAME_MOST),
      type(name) == "string" and #name > 100 and name:sub(1, 100) .. "..." or name)
  end
  local spec = check(binding, opts, CACHE)
  if spec.stale and not spec.ttl then
    misuse("bus.cache: stale: without a ttl no value becomes stale: state both")
  end
  spec.name = name
  return spec
end

function M.cache_key(binding, key)
  if type(key) == "string" and #key <= CACHE_KEY_MOST then return end
  refuse(binding, "key", ("a string of at most %d bytes"):format(CACHE_KEY_MOST),
    type(key) == "string" and key:sub(1, 100) .. "..." or key)
end

-- Locks, semaphores, rate limits ------------------------------------------------------------------

local PERMIT_NAME_MOST, PLACES_MOST, TOKENS_MOST = 1024, 1000000, 1e9

local function check_name(binding, name)
  if type(name) ~= "string" or name == "" or #name > PERMIT_NAME_MOST then
    refuse(binding, "name", ("a string of 1 to %d bytes"):format(PERMIT_NAME_MOST),
      type(name) == "string" and #name > 100 and name:sub(1, 100) .. "..." or name)
  end
  return name
end

--- The bucket that hosts share; true: moonbus' own. false, nil: this process alone.
local function check_cluster(binding, field, value)
  if not value then return nil end
  if value == true then return keys.BUCKET end
  if type(value) ~= "string" or not value:find("^[-_%w]+$") then
    refuse(binding, field, 'true, or the name of a bucket ("locks")', value)
  end
  return value
end

local PERMIT = {
  fields = { ttl = "duration", wait = { "duration", min = 0 }, cluster = { check = check_cluster } },
  hints = { timeout = "wait", max_wait = "wait", expires = "ttl", exptime = "ttl", bucket = "cluster",
    global = "cluster", distributed = "cluster", fleet = "cluster" },
}

local CLUSTER_TTL, CLUSTER_TTL_LEAST, CLUSTER_TTL_MOST = 30, 1, 3600
local CLUSTER_NAME_MOST, CLUSTER_PLACES_MOST = 255, 100

local function check_cluster_name(binding, name)
  if #name <= CLUSTER_NAME_MOST then return end
  refuse(binding, "name", ("at most %d bytes, with cluster"):format(CLUSTER_NAME_MOST), name:sub(1, 100) .. "...")
end

--- The function may stand in the place of the options, or be left out.
local function permit(binding, name, opts, fn)
  if fn == nil and type(opts) == "function" then opts, fn = nil, opts end
  if fn ~= nil then need_function(binding, nil, fn, "what to run") end
  local spec = check(binding, opts, PERMIT)
  if not spec.cluster then return spec, fn end
  check_cluster_name(binding, name)
  spec.ttl = spec.ttl or CLUSTER_TTL
  if spec.ttl < CLUSTER_TTL_LEAST or spec.ttl > CLUSTER_TTL_MOST then
    refuse(binding, "ttl", "from 1s to 1h, with cluster: it is renewed each third of that", opts.ttl)
  end
  return spec, fn
end

function M.lock(name, opts, fn)
  return check_name("bus.lock", name), permit("bus.lock", name, opts, fn)
end

function M.semaphore(name, places, opts, fn)
  check_name("bus.semaphore", name)
  kinds.integer("bus.semaphore", "n (how many at a time)", places, { max = PLACES_MOST })
  local spec
  spec, fn = permit("bus.semaphore", name, opts, fn)
  if spec.cluster and places > CLUSTER_PLACES_MOST then
    refuse("bus.semaphore", "n",
      ("at most %d, with cluster: each place is a key of its own"):format(CLUSTER_PLACES_MOST), places)
  end
  return name, places, spec, fn
end

local PER = { s = 1, m = 60, h = 3600, d = 86400 }

--- Tokens a second.
local function check_rate(binding, field, value)
  local rate = value
  if type(value) == "string" then
    local number, unit = value:match("^([%d.]+)%s*/%s*([smhd])$")
    rate = tonumber(number) and tonumber(number) / PER[unit]
  end
  if type(rate) ~= "number" or not (rate >= 1e-6 and rate <= TOKENS_MOST) then
    refuse(binding, field, 'how many a second (10), or "10/s", "600/m", "5/h", "1/d"', value)
  end
  return rate
end

local function is_tokens(value, most)
  return type(value) == "number" and value > 0 and value <= most
end

local LIMITER = {
  fields = {
    rate = { check = check_rate, required = true },
    burst = { check = function(binding, field, value)
      if not is_tokens(value, TOKENS_MOST) or value < 1 then
        refuse(binding, field, ("a number from 1 to %.0f"):format(TOKENS_MOST), value)
      end
      return value
    end },
    cluster = { check = check_cluster },
  },
  hints = { limit = "rate", per_second = "rate", capacity = "burst", max = "burst", bucket = "cluster",
    global = "cluster", distributed = "cluster", fleet = "cluster" },
}

--- Its bucket forgets what nobody has drawn from for a day.
local CLUSTER_FULL_MOST = 12 * 3600

--- Its burst is what comes in a second, unless it is stated.
function M.limiter(name, opts)
  check_name("bus.limiter", name)
  local spec = check("bus.limiter", opts, LIMITER)
  local burst = spec.burst or math.max(1, math.ceil(spec.rate))
  if spec.cluster then
    check_cluster_name("bus.limiter", name)
    if burst / spec.rate > CLUSTER_FULL_MOST then
      refuse("bus.limiter", "burst", "what comes within 12 hours at most, with cluster", burst)
    end
  end
  return { name = name, rate = spec.rate, burst = burst, cluster = spec.cluster }
end

function M.limiter_tokens(binding, tokens, burst)
  if is_tokens(tokens, burst) then return end
  refuse(binding, "n", ("a number above 0, at most the burst (%g)"):format(burst), tokens)
end

return M
