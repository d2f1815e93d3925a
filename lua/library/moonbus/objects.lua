---@meta moonbus.objects

--- Objects of any size, as every client of NATS has them.
---@class moonbus.objects
local objects = {}

---@class moonbus.ObjectBucketSettings
---@field name string
---@field ttl? moonbus.Duration how long an object is there; default: for good
---@field max_bytes? moonbus.Size of the bucket
---@field storage? "file"|"memory" default "file"
---@field replicas? integer default 1
---@field compression? boolean needs 2.10
---@field description? string
---@field metadata? table<string, string>
---@field placement? { cluster: string?, tags: string[]? }
---@field update? boolean a bucket with other settings is changed; default: in `dev` only

--- Makes sure of a bucket. Only while the script loads.
---@param settings moonbus.ObjectBucketSettings
---@return moonbus.ObjectBucket
function objects.bucket(settings) end

--- What is known of an object.
---@class moonbus.ObjectInfo
---@field name string
---@field bucket string
---@field size integer bytes
---@field chunks integer
---@field digest? string "SHA-256=..."
---@field modified number seconds since 1970
---@field description? string
---@field headers? table<string, string|string[]>
---@field metadata? table<string, string>
---@field link? { bucket: string, name: string? } of a link; without a name: to a bucket
---@field deleted? true of a watch: it is gone
---@field nuid? string what its chunks are called

---@class moonbus.ObjectPutOptions
---@field description? string
---@field headers? moonbus.Headers
---@field metadata? table<string, string>
---@field chunk_size? moonbus.Size default 128KB
---@field timeout? moonbus.Duration of one try of a message
---@field attempts? integer tries of a message

---@class moonbus.ObjectReadOptions
---@field timeout? moonbus.Duration

---@class moonbus.ObjectGetOptions: moonbus.ObjectReadOptions
---@field max? moonbus.Size default 16MB

--- Gives an object piece by piece: a function for loops, which raises what keeps it from being read to
--- its end.
---@class moonbus.Object
---@field info moonbus.ObjectInfo
---@overload fun(): string?
local Object = {}

--- Nothing more is wanted.
function Object:close() end

---@class moonbus.ObjectBucket
---@field name string
local ObjectBucket = {}

--- Stores it, in place of what is there under that name.
---@param name string
---@param data string|(fun(): string?)|moonbus.Object a function gives pieces, and nil at the end
---@param opts? moonbus.ObjectPutOptions
---@return moonbus.ObjectInfo? info
---@return moonbus.Error? err
function ObjectBucket:put(name, data, opts) end

--- The whole of it.
---@param name string
---@param opts? moonbus.ObjectGetOptions
---@return string? data
---@return moonbus.ObjectInfo|moonbus.Error info or the error: `not_found`, `too_large`, `corrupt`
function ObjectBucket:get(name, opts) end

--- To be read piece by piece.
---@param name string
---@param opts? moonbus.ObjectReadOptions
---@return moonbus.Object? reader
---@return moonbus.Error? err
function ObjectBucket:open(name, opts) end

---@param name string
---@param opts? moonbus.ObjectReadOptions
---@return moonbus.ObjectInfo? info
---@return moonbus.Error? err
function ObjectBucket:info(name, opts) end

--- All that are there, by name.
---@param opts? moonbus.ObjectReadOptions
---@return moonbus.ObjectInfo[]? infos
---@return moonbus.Error? err
function ObjectBucket:list(opts) end

---@param name string
---@param opts? moonbus.ObjectReadOptions
---@return true? ok
---@return moonbus.Error? err
function ObjectBucket:delete(name, opts) end

---@class moonbus.ObjectWatchOptions
---@field updates_only? boolean begins with the next change, and never calls fn(nil)
---@field deletes? boolean false: deletions are left out
---@field each_version? boolean a new version of the script begins anew
---@field timeout? moonbus.Duration of each call; default 5m

--- Calls fn with what is told of each object that is there; then with nil, once; then with each change,
--- in order. Of one that was deleted, `deleted` is true. Only while the script loads.
---@param opts? moonbus.ObjectWatchOptions
---@param fn fun(info: moonbus.ObjectInfo?): any, any
---@overload fun(self: moonbus.ObjectBucket, fn: fun(info: moonbus.ObjectInfo?): any, any)
function ObjectBucket:watch(opts, fn) end

return objects
