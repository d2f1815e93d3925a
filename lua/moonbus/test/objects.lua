-- A bucket of objects beside the script under test, as every client of NATS lays it out (ADR-20): what others would
-- put there, and what the script has.
local blame = require "moonbus.test.blame"
local checks = require "moonbus.test.checks"
local core = require "moonbus.core"
local handle = require "moonbus.test.handle"
local messages = require "moonbus.test.messages"
local stubs = require "moonbus.test.stubs"
local strictly = require("moonbus.test.told").one

local CHUNK_BYTES = 128 * 1024

local objects = {}
objects.__index = objects
local as_handle = handle.kind("bucket of objects", objects, { "put", "get", "delete", "list" })

local function check_name(self, method, name)
  if type(name) ~= "string" or name == "" then
    blame("objects: %s: the name of an object of %s is a string, got %s", method, self.name, tostring(name))
  end
end

-- store(subject, data, { headers }): a message of the test's own, stored; its sequence.
function objects.new(script, name, store)
  if type(name) ~= "string" then blame("objects: the name of the bucket is a string") end
  local self = setmetatable({ script = script, name = name, stream = "OBJ_" .. name, store = store }, objects)
  local info = script:ask("STREAM.INFO." .. self.stream)
  if type(info) ~= "table" or info.error then
    blame('%s: there is no bucket "%s" of objects: the script states it with objects.bucket, or load(path, { ' ..
      'streams = { { name = "OBJ_%s", subjects = { "$O.%s.C.>", "$O.%s.M.>" }, allow_rollup_hdrs = true } } })',
      script.name, name, name, name, name)
  end
  return as_handle(self)
end

local function meta_subject(self, name) return ("$O.%s.M.%s"):format(self.name, core.base64url(name)) end
local function chunk_subject(self, nuid) return ("$O.%s.C.%s"):format(self.name, nuid) end

-- What is told of it, as JSON has it, and where; nil: nothing.
local function told(self, subject)
  local got = self.script:ask("STREAM.MSG.GET." .. self.stream, { last_by_subj = subject })
  local stored = got and got.message and stubs.stored(got.message)
  local meta = stored and messages.decode(stored.raw)
  if type(meta) ~= "table" or meta.deleted == true then return nil end
  return meta
end

local function tell(self, meta)
  meta.bucket, meta.mtime = self.name, "2026-01-01T00:00:00Z"
  self.store(meta_subject(self, meta.name), meta, { headers = { ["Nats-Rollup"] = "sub" } })
end

local PUT = { fields = { description = "string", headers = "headers", metadata = "table" },
  hints = { header = "headers", meta = "metadata" } }

local function lists_of(headers)
  local lists
  for name, value in pairs(headers or {}) do
    lists = lists or {}
    lists[name] = core.json_array(type(value) == "table" and value or { value })
  end
  return lists
end

-- data: a string, or a table, as JSON. options: description, headers, metadata.
function objects:put(name, data, options)
  check_name(self, "put", name)
  options = checks.check("objects: put", options, PUT)
  local text = checks.payload("objects: put", data)
  local nuid, digest, chunks = core.nuid(), core.digest(), 0
  core.digest_add(digest, text)
  for from = 1, #text, CHUNK_BYTES do
    self.store(chunk_subject(self, nuid), text:sub(from, from + CHUNK_BYTES - 1), {})
    chunks = chunks + 1
  end
  tell(self, { name = name, description = options.description, headers = lists_of(options.headers),
    metadata = options.metadata, options = { max_chunk_size = CHUNK_BYTES }, nuid = nuid, size = #text,
    chunks = chunks, digest = core.digest_text(digest) })
end

-- Its bytes, by its chunks in their order.
local function read(self, nuid)
  local parts, from, subject = {}, 1, chunk_subject(self, nuid)
  while true do
    local got = self.script:ask("STREAM.MSG.GET." .. self.stream, { seq = from, next_by_subj = subject })
    if not got or not got.message then break end
    local chunk = stubs.stored(got.message)
    parts[#parts + 1] = chunk.raw
    from = chunk.sequence + 1
  end
  return table.concat(parts)
end

local function first_values(lists)
  local headers
  for name, list in pairs(lists or {}) do
    headers = headers or {}
    headers[name] = type(list) == "table" and list[1] or list
  end
  return headers
end

-- { name, data (JSON as a table), raw, size, digest, description, headers, metadata }, or nil. One whose digest is
-- another one fails the test: no client would read it.
function objects:get(name)
  check_name(self, "get", name)
  local meta = told(self, meta_subject(self, name))
  if not meta then return nil end
  local raw, digest = meta.nuid and read(self, meta.nuid) or "", core.digest()
  core.digest_add(digest, raw)
  local found = core.digest_text(digest)
  if meta.digest and meta.digest:gsub("=+$", "") ~= found:gsub("=+$", "") then
    blame('objects: get: "%s" of %s is not what its digest says: %d bytes, of %s', name, self.name, #raw,
      tostring(meta.size))
  end
  return strictly("an object", { name = name, data = messages.decode(raw), raw = raw, size = meta.size,
    digest = meta.digest, description = meta.description, headers = first_values(meta.headers),
    metadata = meta.metadata })
end

function objects:delete(name)
  check_name(self, "delete", name)
  local meta = told(self, meta_subject(self, name))
  if not meta then blame('objects: delete: %s has no object "%s"', self.name, name) end
  tell(self, { name = name, nuid = meta.nuid, size = 0, chunks = 0, digest = "", deleted = true })
  if meta.nuid then self.script:ask("STREAM.PURGE." .. self.stream, { filter = chunk_subject(self, meta.nuid) }) end
end

-- The names of those that there are, in order.
function objects:list()
  local info = self.script:ask("STREAM.INFO." .. self.stream, { subjects_filter = ("$O.%s.M.>"):format(self.name) })
  local names = {}
  for subject in pairs(info and info.state.subjects or {}) do
    local meta = told(self, subject)
    if meta then names[#names + 1] = meta.name end
  end
  table.sort(names)
  return names
end

return objects
