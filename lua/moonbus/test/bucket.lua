-- A bucket of keys and values beside the script under test: what others would write, and what the script
-- has written.
local blame = require "moonbus.test.blame"
local handle = require "moonbus.test.handle"
local messages = require "moonbus.test.messages"
local stubs = require "moonbus.test.stubs"
local told = require "moonbus.test.told"

local bucket = {}
bucket.__index = bucket
local as_handle = handle.kind("bucket", bucket, { "put", "delete", "purge", "get", "keys" })

local function is_deleted(stored)
  return stored.headers["KV-Operation"] ~= nil or stored.headers["Nats-Marker-Reason"] ~= nil
end

local function check_key(self, method, key)
  if type(key) ~= "string" or not key:find "^[-/_=.%w]+$" or key:find "^%." or key:find "%.$" then
    blame("kv: %s: a key of %s has letters, digits, - _ = / and . between them, got %s", method, self.name,
      tostring(key))
  end
end

-- store(subject, data, { headers }): a message of the test's own, stored; its sequence.
function bucket.new(script, name, store)
  if type(name) ~= "string" then blame("kv: the name of the bucket is a string") end
  local self = setmetatable({ script = script, name = name, stream = "KV_" .. name, store = store }, bucket)
  local info = script:ask("STREAM.INFO." .. self.stream)
  if type(info) ~= "table" or info.error then
    blame('%s: there is no bucket "%s": the script states it with kv.bucket, or load(path, { streams = { { ' ..
      'name = "KV_%s", subjects = { "$KV.%s.>" }, max_msgs_per_subject = 1, allow_rollup_hdrs = true } } })',
      script.name, name, name, name)
  end
  return as_handle(self)
end

local function write(self, method, key, value, headers)
  check_key(self, method, key)
  return self.store(("$KV.%s.%s"):format(self.name, key), value, { headers = headers })
end

-- The revision.
function bucket:put(key, value) return write(self, "put", key, value) end
function bucket:delete(key) return write(self, "delete", key, nil, { ["KV-Operation"] = "DEL" }) end
function bucket:purge(key)
  return write(self, "purge", key, nil, { ["KV-Operation"] = "PURGE", ["Nats-Rollup"] = "sub" })
end

-- { key, data (JSON as a table), raw, revision }, or nil.
function bucket:get(key)
  check_key(self, "get", key)
  local got = self.script:ask("STREAM.MSG.GET." .. self.stream, { last_by_subj = ("$KV.%s.%s"):format(self.name, key) })
  local stored = got and got.message and stubs.stored(got.message)
  if not stored or is_deleted(stored) then return nil end
  return told.one("an entry", { key = key, data = messages.decode(stored.raw), raw = stored.raw,
    revision = stored.sequence })
end

-- Those that have a value, in order.
function bucket:keys()
  local info = self.script:ask("STREAM.INFO." .. self.stream, { subjects_filter = ">" })
  local list, prefix = {}, ("$KV.%s."):format(self.name)
  for subject in pairs(info and info.state.subjects or {}) do
    local key = subject:sub(#prefix + 1)
    if self:get(key) then list[#list + 1] = key end
  end
  table.sort(list)
  return list
end

return bucket
