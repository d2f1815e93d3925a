---@meta moonbus.shared

---@class moonbus.SharedOptions
---@field size? moonbus.Size bound of keys and values; default 16MB, or as it was stated before
---@field evict? "none"|"lru" when it is full: refuse, or forget what was used longest ago; default "none"

---@class moonbus.SharedPutOptions
---@field ttl? moonbus.Duration forgotten after that; default: never

---@class moonbus.SharedIncrOptions
---@field init? number what a key that is not there begins with; default 0
---@field ttl? moonbus.Duration of a key that is not there; default: never

--- What is kept in a store: copied in and out.
---@alias moonbus.Plain nil|boolean|number|string|table

--- A store of the process. Not while the script loads.
---@class moonbus.Shared
local Shared = {}

---@param key string
---@return moonbus.Plain value nil: it is not there
function Shared:get(key) end

--- Replaces what was there, its ttl included.
---@param key string
---@param value moonbus.Plain
---@param opts? moonbus.SharedPutOptions
---@return true? ok
---@return moonbus.Error? err code `full` or `too_large`
function Shared:set(key, value, opts) end

--- Only if the key is not there: else it gives false.
---@param key string
---@param value moonbus.Plain
---@param opts? moonbus.SharedPutOptions
---@return boolean? added
---@return moonbus.Error? err
function Shared:add(key, value, opts) end

--- Only if the key is there: else it gives false.
---@param key string
---@param value moonbus.Plain
---@param opts? moonbus.SharedPutOptions
---@return boolean? replaced
---@return moonbus.Error? err
function Shared:replace(key, value, opts) end

--- Adds to a number, atomically. Raises when the value is none.
---@param key string
---@param by? number default 1
---@param opts? moonbus.SharedIncrOptions
---@return number? sum
---@return moonbus.Error? err
function Shared:incr(key, by, opts) end

---@param key string
---@return boolean was_there
function Shared:delete(key) end

--- How long it stays yet.
---@param key string
---@return number|false|nil seconds false: for ever; nil: it is not there
function Shared:ttl(key) end

---@param key string
---@param ttl moonbus.Duration|false from now on; false: for ever
---@return boolean? was_there
---@return moonbus.Error? err
function Shared:expire(key, ttl) end

--- Keys, in no order.
---@param max? integer how many at most; default 1000
---@return string[]
function Shared:keys(max) end

---@class moonbus.SharedStats
---@field entries integer
---@field bytes integer
---@field size integer
---@field hits integer of get
---@field misses integer of get
---@field evicted integer

---@return moonbus.SharedStats
function Shared:stats() end

--- Forgets all of it.
---@return integer count how many keys there were
function Shared:flush() end

---@class moonbus.CacheOptions
---@field load fun(key: string): moonbus.Plain, any gives the value of a key; or nil, or nil and an error
---@field ttl? moonbus.Duration how long a value is fresh; default: until it is evicted
---@field stale? moonbus.Duration how long after that it is served while one loads it anew
---@field error_ttl? moonbus.Duration how long a failed load is kept; default: not at all
---@field size? moonbus.Size default 16MB; what was used longest ago is forgotten

---@class moonbus.Cache
local Cache = {}

--- The value, loaded if need be. Waits. What its load returned or raised, if that failed.
---@param key string
---@return moonbus.Plain value
---@return any err
function Cache:get(key) end

---@param key string
---@param value moonbus.Plain
function Cache:set(key, value) end

---@param key string
---@return boolean was_there
function Cache:delete(key) end

--- Forgets all of it.
function Cache:flush() end

---@class moonbus.LockOptions
---@field wait? moonbus.Duration how long to wait for it; 0: not at all; default: as long as the handler may run
---@field ttl? moonbus.Duration it is the next one's after that, whatever its holder does; default: never. With `cluster`: so long after it was renewed last; default 30s
---@field cluster? boolean|string all hosts have the same one: true, or the name of the bucket that it is kept in

--- A lock that is held.
---@class moonbus.Lock
---@field token? integer of one with `cluster`: grows from each holder to the next
local Lock = {}

--- Gives it back before its function ends.
---@return boolean was_held false: its ttl is over, or it was given back before
function Lock:release() end

--- False when its ttl is over, or it was given back.
---@return boolean
function Lock:held() end

--- A place of a semaphore that is held.
---@class moonbus.Permit
---@field token? integer as that of a lock
local Permit = {}

--- Gives it back before its function ends.
---@return boolean was_held false: its ttl is over, or it was given back before
function Permit:release() end

--- False when its ttl is over, or it was given back.
---@return boolean
function Permit:held() end

---@class moonbus.LimiterOptions
---@field rate number|string so many in a second, or "600/m"
---@field burst? number how many at once, when none were taken for a while; default: the rate of a second, at least 1
---@field cluster? boolean|string all hosts draw from the same one: true, or the name of the bucket that it is kept in

--- A rate limit of the process.
---@class moonbus.Limiter
local Limiter = {}

--- Waits until there are n, and takes them.
---@param n? number default 1, at most the burst
---@return true? ok
---@return moonbus.Error? err code `full`
function Limiter:take(n) end

--- Takes n if they are there now.
---@param n? number default 1, at most the burst
---@return boolean? taken
---@return moonbus.Error? err code `full`
function Limiter:try(n) end
