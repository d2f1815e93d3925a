--- An entry of a bucket: what a message of its stream says of a key (ADR-8, ADR-48).
---
---     local entry = kv_entry.of("config", "users.7", message)
---     entry.operation   -- "PUT", "DEL" or "PURGE"
local core = require("moonbus.core")
local methods_of = require("moonbus.methods")

local Entry = {}
Entry.__index = methods_of(Entry, "entry",
  { data = "value", raw = "value", seq = "revision", sequence = "revision", op = "operation", timestamp = "created" },
  { bucket = true, key = true, value = true, revision = true, created = true, operation = true, delta = true,
    stale = true })
Entry.__metatable = "entry"

-- No script can give this metatable to a table of its own. A weak table of all entries in its place would be
-- walked and made again by the collector: a third of the time of a watch.
local metatable_of = debug.getmetatable

local function is_entry(value) return metatable_of(value) == Entry end

--- The value, read as JSON; raises as the json() of an answer does, or gives nil and the error with
--- { strict = false }. Not bad_payload: what somebody has put says nothing of the message.
function Entry:json(opts)
  if not is_entry(self) then core.misuse("entry:json: call it with a colon, on an entry of a bucket") end
  local value, err = core.json_read(self.value, opts)
  local strict = type(opts) ~= "table" or opts.strict ~= false
  if value == nil then
    err = core.error("protocol", ("the value of the key %q: %s"):format(self.key, err.message))
    if strict then error(err, 0) end
    return nil, err
  end
  if strict and value == core.json_null then return nil end
  return value
end

local REASONS = { MaxAge = "PURGE", Purge = "PURGE", Remove = "DEL" }

--- "PUT", or what has become of the key. A server that removes the last value of one by itself says
--- why.
local function operation_by(operation, reason)
  if operation == "DEL" or operation == "PURGE" then return operation end
  return REASONS[reason] or "PUT"
end

local M = {}

--- The same of a message.
function M.operation_of(message)
  return operation_by(message:header("KV-Operation"), message:header("Nats-Marker-Reason"))
end

--- message: what is stored, a message object.
function M.of(bucket, key, message)
  local sequence, _, data, timestamp, _, operation, reason = core.stored(message, "kv")
  return setmetatable({
    bucket = bucket, key = key, value = data, revision = sequence, created = timestamp,
    operation = operation_by(operation, reason),
  }, Entry)
end

--- The same of what a watch sees, with how many are behind it. key_of(subject): its key. nil: it is the mark that
--- comes once, which is of no stream.
function M.watched(bucket, key_of, message)
  local sequence, subject, data, timestamp, pending, operation, reason = core.stored(message, "kv:watch")
  if not sequence then return nil end
  return setmetatable({
    bucket = bucket, key = key_of(subject), value = data, revision = sequence, created = timestamp,
    operation = operation_by(operation, reason), delta = pending,
  }, Entry)
end

--- What a cache has of a key. stale: the server has not been heard, and may know better.
function M.cached(bucket, key, value, revision, created, stale)
  return setmetatable({
    bucket = bucket, key = key, value = value, revision = revision, created = created, operation = "PUT",
    stale = stale or nil,
  }, Entry)
end

return M
