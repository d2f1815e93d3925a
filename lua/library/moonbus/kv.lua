---@meta moonbus.kv

--- Buckets of keys and values, as every client of NATS has them.
---@class moonbus.kv
local kv = {}

---@class moonbus.BucketOrigin
---@field name string a bucket
---@field domain? string JetStream domain that it is in
---@field api_prefix? string of the API that leads there

---@class moonbus.BucketSettings
---@field name string
---@field history? integer values that are kept of a key; default 1
---@field ttl? moonbus.Duration how long a value is there; default: for good
---@field limit_markers? moonbus.Duration keys may have a ttl of their own, and leave a marker for so long; 2.11
---@field max_bytes? moonbus.Size of the bucket
---@field max_value_size? moonbus.Size
---@field storage? "file"|"memory" default "file"
---@field replicas? integer default 1
---@field compression? boolean needs 2.10
---@field description? string
---@field metadata? table<string, string>
---@field placement? { cluster: string?, tags: string[]? }
---@field republish? { src: string?, dest: string, headers_only: boolean? }
---@field mirror? string|moonbus.BucketOrigin a copy of that bucket, which writes go to
---@field sources? string|moonbus.BucketOrigin|(string|moonbus.BucketOrigin)[] it holds what those hold, too; 2.10
---@field update? boolean a bucket with other settings is changed; default: in `dev` only
---@field cache? boolean|{ max_bytes: moonbus.Size?, max_age: moonbus.Duration? } gets are answered from this process

--- Makes sure of a bucket. Only while the script loads.
---@param settings moonbus.BucketSettings
---@return moonbus.Bucket
function kv.bucket(settings) end

--- What a bucket says of a key.
---@class moonbus.Entry
---@field bucket string
---@field key string
---@field value string
---@field revision integer of the bucket
---@field created number seconds since 1970
---@field operation "PUT"|"DEL"|"PURGE"
---@field delta? integer of a watch: how many are behind it
---@field stale? boolean of a cache, while the server is not heard
local Entry = {}

--- The value as JSON. Raises `protocol`, or gives nil and the error with `strict = false`.
---@param opts? { strict: boolean?, big: "error"|"string"|"number"|nil }
---@return any value
---@return moonbus.Error? err
function Entry:json(opts) end

---@class moonbus.BucketReadOptions
---@field timeout? moonbus.Duration

---@class moonbus.BucketGetOptions: moonbus.BucketReadOptions
---@field revision? integer the value that the key had then

---@class moonbus.BucketWriteOptions
---@field id? string the message id; default: from the handler's input, or random
---@field from? moonbus.Message the message of the handler's batch that this comes from
---@field timeout? moonbus.Duration of one try
---@field attempts? integer tries

---@class moonbus.BucketCreateOptions: moonbus.BucketWriteOptions
---@field ttl? moonbus.Duration it ends by itself; from 1 s; 2.11

---@class moonbus.BucketDeleteOptions: moonbus.BucketWriteOptions
---@field revision? integer only if the key is at it

---@class moonbus.BucketPurgeOptions: moonbus.BucketDeleteOptions
---@field ttl? moonbus.Duration of the marker that is left; from 1 s; 2.11

---@class moonbus.Bucket
---@field name string
local Bucket = {}

---@param key string
---@param opts? moonbus.BucketGetOptions
---@return moonbus.Entry? entry
---@return moonbus.Error? err `not_found`, also of what was deleted
function Bucket:get(key, opts) end

---@param key string
---@param value? moonbus.Data
---@param opts? moonbus.BucketWriteOptions
---@return integer? revision
---@return moonbus.Error? err
function Bucket:put(key, value, opts) end

--- Only if the key has no value.
---@param key string
---@param value? moonbus.Data
---@param opts? moonbus.BucketCreateOptions
---@return integer? revision
---@return moonbus.Error? err `exists`
function Bucket:create(key, value, opts) end

--- Only if the key is at that revision; 0: it has none.
---@param key string
---@param value? moonbus.Data
---@param revision integer
---@param opts? moonbus.BucketWriteOptions
---@return integer? revision
---@return moonbus.Error? err `wrong_sequence`
function Bucket:update(key, value, revision, opts) end

--- The key has no value then; its history stays.
---@param key string
---@param opts? moonbus.BucketDeleteOptions
---@return integer? revision
---@return moonbus.Error? err
function Bucket:delete(key, opts) end

--- The same, and its history goes.
---@param key string
---@param opts? moonbus.BucketPurgeOptions
---@return integer? revision
---@return moonbus.Error? err
function Bucket:purge(key, opts) end

--- The keys that have a value, sorted.
---@param filter? string a key, or a pattern: "users.*"; default: all
---@param opts? moonbus.BucketReadOptions
---@return string[]? keys
---@return moonbus.Error? err
function Bucket:keys(filter, opts) end

--- What is kept of a key, oldest first.
---@param key string
---@param opts? moonbus.BucketReadOptions
---@return moonbus.Entry[]? entries
---@return moonbus.Error? err
function Bucket:history(key, opts) end

---@class moonbus.BucketWatchOptions
---@field history? boolean begins with all that is kept of each key
---@field updates_only? boolean begins with the next change
---@field deletes? boolean false: deletions are left out
---@field meta_only? boolean entries come without their values
---@field each_version? boolean a new version of the script begins anew
---@field timeout? moonbus.Duration of each call; default 5m

--- Calls fn with each change, in order; and with nil, once, when what was there has been seen. Only
--- while the script loads.
---@param filter string|string[]
---@param opts moonbus.BucketWatchOptions
---@param fn fun(entry: moonbus.Entry?)
---@overload fun(self: moonbus.Bucket, filter: string|string[], fn: fun(entry: moonbus.Entry?))
function Bucket:watch(filter, opts, fn) end

return kv
