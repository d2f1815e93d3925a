--- The bucket that locks, semaphores and limits of a cluster are kept in: read where its leader is,
--- written at the revision that was read. Nothing here is a publish of the handler's: no message id, no
--- part in its verdict.
---
---     local bucket, err = cluster_bucket.open("bus.lock", "moonbus_locks")
---     local entry, err = bucket:read("bus.lock", "lock.report")   -- { revision, value, timestamp }
---     local revision, err = bucket:write("lock.report", { ... }, entry.revision)
local core = require("moonbus.core")
local js_api = require("moonbus.js_api")
local keys = require("moonbus.cluster_key")
local subjects_of = require("moonbus.kv_subjects")
local task = require("moonbus.task")

local resumed = task.resumed

local DEFAULT = keys.BUCKET
local REFUSED = { [10071] = true, [10164] = true } -- somebody else was faster
local LEVEL_WAIT = 2 -- seconds; a bucket that clears nothing away by itself does, too
local AGAIN = 0.1 -- seconds, until what nobody took is written again
local REPLICAS = { 3, 1 } -- as many as the servers take

local M = { key_of = keys.of }

local Bucket = {}
Bucket.__index = Bucket

local opened = {} -- name -> bucket, of this state

-- Its stream --------------------------------------------------------------------------------------

--- With as many replicas as there may be. Hosts that start together make the same one; where they
--- differ, what is there counts.
local function make(binding, timeout)
  local able = js_api.require(binding, { level = 1, what = "a ttl" }, LEVEL_WAIT)
  local info, err
  for _, replicas in ipairs(REPLICAS) do
    local config = keys.stream(replicas, able and true or nil)
    info, err = js_api.call(binding, "STREAM.CREATE.KV_" .. DEFAULT, config, timeout)
    if info or not err.api_code then return info, err end
  end
  local there = js_api.call(binding, "STREAM.INFO.KV_" .. DEFAULT, nil, timeout)
  return there, err
end

local function info_of(name, binding, timeout)
  local info, err = js_api.call(binding, "STREAM.INFO.KV_" .. name, nil, timeout)
  if info or err.api_code ~= js_api.STREAM_GONE then return info, err end
  if name == DEFAULT then return make(binding, timeout) end
  local text = "%s: there is no bucket %q: state it with kv.bucket { name = %q, replicas = 3 }"
  return nil, core.error("no_stream", text:format(binding, name, name))
end

--- What holds less than it should is said once.
local function warn_of(name, config, cluster)
  if config.storage == "memory" then
    core.log.warn(("the bucket %q has locks, and is in memory: when its server starts again they are forgotten, and " ..
      'two may hold one. Right: storage = "file"'):format(name))
  end
  if (config.num_replicas or 1) == 1 and type(cluster) == "table" and cluster.name then
    core.log.warn(("the bucket %q has locks, and one replica in a cluster: while that server is away nobody gets " ..
      "any. Right: replicas = 3"):format(name))
  end
end

--- The bucket, or nil and an error. It must be there, but for the one of moonbus' own.
function M.open(binding, name, timeout)
  if opened[name] then return opened[name] end
  local info, err = info_of(name, binding, timeout)
  if not info then return nil, err end
  local config = info.config
  local read, write = subjects_of(name, config)
  local age = (config.max_age or 0) / 1e9
  if opened[name] then return opened[name] end -- another one of this state was faster
  opened[name] = setmetatable({
    name = name, place = ("the bucket %q"):format(name),
    stream = "KV_" .. name, read_at = read, write_at = write, age = age > 0 and age or math.huge,
    takes_ttl = config.allow_msg_ttl == true, markers = (config.subject_delete_marker_ttl or 0) / 1e9,
  }, Bucket)
  warn_of(name, config, info.cluster)
  return opened[name]
end

--- It may have been deleted, and come again with other settings.
local function forget(bucket)
  opened[bucket.name] = nil
  return core.error("no_stream", ("there is no bucket %q any more (stream %s)"):format(bucket.name, bucket.stream))
end

-- Reading -----------------------------------------------------------------------------------------

local function is_deleted(message)
  return message:header("KV-Operation") ~= nil or message:header("Nats-Marker-Reason") ~= nil
end

local function entry_of(bucket, key, message)
  local entry = { revision = message.sequence, timestamp = message.timestamp }
  local value = core.json_decode(message.data)
  if is_deleted(message) then
    entry.by = type(value) == "table" and value.process or nil
    return entry
  end
  if type(value) ~= "table" then
    return nil, core.error("mismatch", ("the bucket %q: the key %q is not of moonbus"):format(bucket.name, key))
  end
  entry.value = value
  return entry
end

--- The last of a key, or the one of a revision: { revision (0: it has none), timestamp, value (nil: it has
--- none), by: who has deleted it }; or nil and an error.
function Bucket:read(binding, key, revision, timeout)
  local subject = self.read_at .. key
  local request = revision and { seq = revision } or { last_by_subj = subject }
  local message, err = js_api.get(binding, self.stream, request, timeout)
  if message then return entry_of(self, key, message) end
  if err.code == "not_found" then return { revision = 0 } end
  if err.api_code == js_api.STREAM_GONE then err = forget(self) end
  return nil, err
end

-- Writing -----------------------------------------------------------------------------------------

--- keep: for so many seconds; then the server may clear it away, if it can. That is no part of who holds what, as
--- it goes by the servers' clocks, which may differ. What is written so takes the place of all of its key that was
--- written before: that could live longer. nil: it stays.
local function headers_of(revision, bucket, keep)
  local headers = {
    ["Nats-Expected-Last-Subject-Sequence"] = revision and ("%.0f"):format(revision) or nil,
    [keys.HEADER] = "1",
  }
  if not keep then return headers end
  headers["Nats-Rollup"] = "sub"
  if bucket.takes_ttl then
    headers["Nats-TTL"] = ("%.0fs"):format(math.ceil(math.max(2 * keep + 10, bucket.markers)))
  end
  return headers
end

local function read_ack(bucket, reply, sent)
  local ack = core.json_decode(reply.data)
  local refusal = type(ack) == "table" and ack.error
  if type(ack) == "table" and not refusal and type(ack.seq) == "number" then return ack.seq, sent end
  if type(refusal) ~= "table" then
    return nil, core.error("api_error", ("the bucket %q: what answered is no stream"):format(bucket.name))
  end
  local code = REFUSED[refusal.err_code] and "wrong_sequence" or "api_error"
  return nil, core.error(code, ("the bucket %q: %s"):format(bucket.name, tostring(refusal.description)))
end

--- Nobody took the write. nil: the stream has no leader at this moment, or was just made and does not listen yet;
--- else the error.
local function why_refused(bucket, timeout)
  local info, err = js_api.call(bucket.place, "STREAM.INFO." .. bucket.stream, nil, timeout)
  if info then return nil end
  return err.api_code == js_api.STREAM_GONE and forget(bucket) or err
end

--- Writes a key that is at that revision (nil: at any). The new revision, and when it was sent (core.clock); or nil
--- and an error: after any but "wrong_sequence" and "api_error" nobody knows whether it was written. A stream
--- without a leader is waited for.
function Bucket:write(key, value, revision, keep, timeout)
  local data, headers = core.json_encode(value), headers_of(revision, self, keep)
  local deadline = core.clock() + (timeout or core.request_timeout())
  while true do
    local sent = core.clock()
    local reply, err = resumed(core.request(self.write_at .. key, data, math.max(deadline - sent, 0.001), headers))
    if reply then return read_ack(self, reply, sent) end
    if err.code ~= "no_responders" then return nil, err end
    err = why_refused(self, math.max(deadline - core.clock(), 0.001)) or err
    if err.code ~= "no_responders" or deadline - core.clock() < AGAIN then return nil, err end
    resumed(core.sleep(AGAIN, self.place))
  end
end

--- What deletes a key that is at that revision, for core.parting_set: subject, headers, data.
function Bucket:deletion(key, revision, process)
  local headers = headers_of(revision, self, 0)
  headers["KV-Operation"] = "PURGE"
  return self.write_at .. key, headers, core.json_encode { process = process }
end

return M
