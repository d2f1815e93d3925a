--- An entry of a bucket: what a message of its stream says of a key (ADR-8, ADR-48).
---
---     local entry = kv_entry.of("config", "users.7", message)
---     entry.operation   -- "PUT", "DEL" or "PURGE"
local core = require("moonbus.core")

local Entry = {}
Entry.__index = Entry
Entry.__metatable = "entry"

local is_entry = setmetatable({}, { __mode = "k" })

--- The value, read as JSON; raises bad_payload as msg:json() does, or gives nil and the error with
--- { strict = false }.
function Entry:json(opts)
  if not is_entry[self] then core.misuse("entry:json: call it with a colon, on an entry of a bucket") end
  local value, err = core.json_decode(self.value, opts)
  local strict = type(opts) ~= "table" or opts.strict ~= false
  if value == nil then
    if strict then error(err, 0) end
    return nil, err
  end
  if strict and value == core.json_null then return nil end
  return value
end

local REASONS = { MaxAge = "PURGE", Purge = "PURGE", Remove = "DEL" }

--- "PUT", or what has become of the key. A server that removes the last value of one by itself says
--- why.
local function operation_of(message)
  local operation = message:header("KV-Operation")
  if operation == "DEL" or operation == "PURGE" then return operation end
  return REASONS[message:header("Nats-Marker-Reason")] or "PUT"
end

local M = { operation_of = operation_of }

--- message: what is stored, a message object. delta: how many are behind it, for a watch.
function M.of(bucket, key, message, delta)
  local entry = setmetatable({
    bucket = bucket, key = key, value = message.data, revision = message.sequence, created = message.timestamp,
    operation = operation_of(message), delta = delta,
  }, Entry)
  is_entry[entry] = true
  return entry
end

--- What a cache has of a key. stale: the server has not been heard, and may know better.
function M.cached(bucket, key, value, revision, created, stale)
  local entry = setmetatable({
    bucket = bucket, key = key, value = value, revision = revision, created = created, operation = "PUT",
    stale = stale or nil,
  }, Entry)
  is_entry[entry] = true
  return entry
end

return M
