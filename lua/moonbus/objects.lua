--- "moonbus.objects": buckets of objects of any size, as ADR-20 lays them out in a stream, so that every
--- client of NATS reads what is written here, and the other way round.
---
---     stream OBJ_<bucket>: $O.<bucket>.C.<nuid>   the chunks of one object
---                          $O.<bucket>.M.<name>   what is told of it: it is there when that is stored
---
--- So nobody sees a part of an object, and what was put over is removed when the new one is there. Unlike
--- those of keys, the subjects are the same in every domain: servers take no prefix off them.
local core = require("moonbus.core")
require("moonbus.middleware") -- first: it sees what is registered
local infos = require("moonbus.objects_info")
local js_api = require("moonbus.js_api")
local last_ones = require("moonbus.last_ones")
local new_reader = require("moonbus.objects_read")
local new_upload = require("moonbus.objects_upload")
local buckets = require("moonbus.options_kv")
local opened = require("moonbus.opened")
local options = require("moonbus.options_objects")
local publish = require("moonbus.publish")
local task = require("moonbus.task")
local watch = require("moonbus.objects_watch")
local methods_of = require("moonbus.methods")
require("moonbus") -- finishes the methods of messages

local Bucket = {}
Bucket.__index = methods_of(Bucket, "object bucket",
  { set = "put", store = "put", remove = "delete", read = "open", keys = "list", status = "info" })
Bucket.__metatable = "object bucket"

local names = setmetatable({}, { __mode = "k" })

local function name_of(bucket, binding)
  local name = names[bucket]
  if not name then core.misuse(binding .. ": call it with a colon, on what objects.bucket returned") end
  return name
end

local function fail(code, text, ...)
  return core.error(code, text:format(...))
end

local function meta_subject(bucket, name)
  return ("$O.%s.M.%s"):format(bucket, core.base64url(name))
end

local function chunk_subject(bucket, nuid)
  return ("$O.%s.C.%s"):format(bucket, nuid)
end

local function gone(bucket)
  return fail("no_stream", "there is no bucket %q (stream OBJ_%s)", bucket, bucket)
end

-- What is told of an object -----------------------------------------------------------------------

--- The client for Node writes the bytes of Latin-1, where a name has no other characters; all others, and
--- we, those of UTF-8. nil: it has none that differ.
local function latin1(name)
  local text = name:gsub("\194([\128-\191])", "%1"):gsub("\195([\128-\191])", function(byte)
    return string.char(byte:byte() + 64)
  end)
  local characters = #name - #text
  local high = select(2, text:gsub("[\128-\255]", ""))
  return characters > 0 and characters == high and text or nil
end

--- The last message for that name: where all clients look, else where the one for Node does.
local function last_of(binding, bucket, name, timeout)
  local stream = "OBJ_" .. bucket
  local message, err = js_api.get(binding, stream, { last_by_subj = meta_subject(bucket, name) }, timeout)
  local other = not message and err.code == "not_found" and latin1(name)
  if not other then return message, err end
  message = js_api.get(binding, stream, { last_by_subj = meta_subject(bucket, other) }, timeout)
  local info = message and infos.of(bucket, message)
  if info and info.name == name then return message end
  return nil, err
end

--- Also of one that was deleted, its sequence, nil and the subject; or nil and an error.
local function told(binding, bucket, name, timeout)
  local message, err = last_of(binding, bucket, name, timeout)
  if message then
    local info, sequence, unread = infos.of(bucket, message)
    return info, sequence, unread, message.subject
  end
  if err.api_code == js_api.STREAM_GONE then err = gone(bucket) end
  if err.code == "not_found" then err = fail("not_found", "bucket %q has no object %q", bucket, name) end
  return nil, err
end

local function info_of(binding, bucket, name, timeout)
  local info, sequence = told(binding, bucket, name, timeout)
  if info and info.deleted then return nil, fail("not_found", "bucket %q has no object %q", bucket, name) end
  return info, sequence
end

--- A link leads to an object, perhaps of another bucket.
local LINKS_MOST = 8

local function resolve(binding, bucket, name, timeout)
  local info, err = info_of(binding, bucket, name, timeout)
  for _ = 1, LINKS_MOST do
    if not info or not info.link then return info, err end
    if not info.link.name then
      return nil, fail("invalid", "bucket %q: %q is a link to the bucket %q, which has no data: open that bucket",
        bucket, name, info.link.bucket)
    end
    info, err = info_of(binding, info.link.bucket, info.link.name, timeout)
  end
  return nil, fail("invalid", "bucket %q: %q is a link that leads to links, more than %d of them", bucket, name,
    LINKS_MOST)
end

--- What is known of an object without its data; nil and not_found.
function Bucket:info(name, opts)
  local binding = "objects:info"
  local bucket = name_of(self, binding)
  name, opts = options.name(binding, name), options.call("info", opts)
  core.check(binding)
  local info, err = info_of(binding, bucket, name, opts.timeout)
  if info then return info end
  return nil, err
end

--- All that are there, by name.
function Bucket:list(opts)
  local binding = "objects:list"
  local bucket = name_of(self, binding)
  opts = options.call("list", opts)
  core.check(binding)
  local list = {}
  local ok, err = last_ones("OBJ_" .. bucket, ("$O.%s.M.>"):format(bucket), false, opts.timeout, function(message)
    local info = infos.of(bucket, message)
    if info and not info.deleted then list[#list + 1] = info end
  end)
  if not ok then return nil, err.code == "no_stream" and gone(bucket) or err end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- Reading -----------------------------------------------------------------------------------------

local function open(binding, bucket, name, timeout)
  local info, err = resolve(binding, bucket, name, timeout)
  if not info then return nil, err end
  return new_reader(binding, info, timeout, function() return (told(binding, info.bucket, info.name, timeout)) end)
end

--- A reader: a function that gives the next piece, for loops. Or nil and an error.
function Bucket:open(name, opts)
  local binding = "objects:open"
  local bucket = name_of(self, binding)
  name, opts = options.name(binding, name), options.call("open", opts)
  core.check(binding)
  return open(binding, bucket, name, opts.timeout)
end

--- The pieces of a reader, or its error.
local function read_all(reader)
  local pieces = {}
  for piece in reader do pieces[#pieces + 1] = piece end
  return pieces
end

--- Its data as a string, and what is told of it; or nil and an error.
function Bucket:get(name, opts)
  local binding = "objects:get"
  local bucket = name_of(self, binding)
  name, opts = options.name(binding, name), options.call("get", opts)
  core.check(binding)
  local reader, err = open(binding, bucket, name, opts.timeout)
  if not reader then return nil, err end
  local info = reader.info
  if info.size > opts.max then
    local text = "bucket %q: the object %q has %d bytes, more than max (%d): read it with objects:open"
    return nil, fail("too_large", text, bucket, name, info.size, opts.max)
  end
  local ok, pieces = task.attempt(read_all, reader)
  if ok then return table.concat(pieces), info end
  local value = pieces.value
  if type(value) ~= "table" or value.code == nil or value.code == "cancelled" then
    task.raise_again(pieces, "run by " .. binding)
  end
  return nil, value
end

-- Writing -----------------------------------------------------------------------------------------

local function purge_of(bucket, nuid)
  return "STREAM.PURGE.OBJ_" .. bucket, { filter = chunk_subject(bucket, nuid) }
end

--- The chunks of what was there go, now; or when the handler ends, if that did not work.
local function remove_chunks(binding, info, timeout)
  if not info or info.deleted or not info.nuid then return end
  local bucket, nuid = info.bucket, info.nuid
  local operation, request = purge_of(bucket, nuid)
  local at_end = core.js_at_end(operation, core.json_encode(request))
  if js_api.call(binding, operation, request, timeout) then core.js_not_at_end(at_end) end
end

--- Stores what is told of an object, in place of what was told at that sequence: true; false and what is
--- there now, which is somebody else's; or nil and an error. subject: of that; nil: nothing was.
local function tell(binding, info, sequence, chunk_size, opts, subject)
  local sent = {
    id = ("%s.meta.%d"):format(core.nuid(), sequence), headers = { ["Nats-Rollup"] = "sub" }, timeout = opts.timeout,
    attempts = opts.attempts, expect = { last_subject_sequence = sequence },
  }
  subject = subject or meta_subject(info.bucket, info.name)
  local receipt, err = publish.send(subject, infos.encode(info, chunk_size), sent, nil, binding)
  if receipt then return true end
  if err.code == "wrong_sequence" then return false end
  return nil, err.code == "no_stream" and gone(info.bucket) or err
end

--- Others may write the same object: so often it is tried.
local TELL_MOST = 5

--- True and what was there before it; or nil and an error, and what was there when that arose.
local function replace(binding, info, chunk_size, opts)
  local before, sequence, unread, subject
  for _ = 1, TELL_MOST do
    before, sequence, unread, subject = told(binding, info.bucket, info.name, opts.timeout)
    if not before and sequence.code ~= "not_found" and not unread then return nil, sequence end
    local stored, err = tell(binding, info, before and sequence or unread or 0, chunk_size, opts, subject)
    if stored then return true, before end
    if stored == nil then return nil, err, before end
  end
  return nil, fail("wrong_sequence", "bucket %q: others write the object %q all the time", info.bucket, info.name)
end

--- Of a write: its input must not count as done.
local function not_done(err)
  core.js_failed(err.code, err.message)
  return nil, err
end

local function feed(upload, data)
  if type(data) == "string" then return upload:add(data) end
  for piece in data do
    if type(piece) ~= "string" then
      core.misuse(("objects:put: the function for data gave a %s, not a string or nil"):format(type(piece)))
    end
    local failure = upload:add(piece)
    if failure then return failure end
  end
end

--- Its chunks: what was stored, { size, chunks, digest }; or nil and an error. What is stored of it goes
--- when that does not end well, however it ends.
local function upload_all(binding, bucket, nuid, data, opts)
  local upload = new_upload {
    stream = "OBJ_" .. bucket, subject = chunk_subject(bucket, nuid), nuid = nuid, chunk_size = opts.chunk_size,
    timeout = opts.timeout, attempts = opts.attempts, binding = binding,
  }
  local ok, failed = task.attempt(feed, upload, data)
  if not ok then
    if not core.cancelled() then upload:give_up() end
    task.raise_again(failed, "run by " .. binding)
  end
  local err = upload:finish() or failed
  if err then return nil, err.code == "no_stream" and gone(bucket) or err end
  return upload
end

--- The object is stored under that name, in place of what is there: what is told of it, or nil and an
--- error.
function Bucket:put(name, data, opts)
  local binding = "objects:put"
  local bucket = name_of(self, binding)
  name, data, opts = options.name(binding, name), options.data(binding, data), options.call("put", opts)
  core.check(binding)
  local nuid = core.nuid()
  local operation, request = purge_of(bucket, nuid)
  local at_end = core.js_at_end(operation, core.json_encode(request))
  local ok, upload, err = task.attempt(upload_all, binding, bucket, nuid, data, opts)
  if not ok or not upload then
    if not core.cancelled() then
      if js_api.call(binding, operation, request, opts.timeout) then core.js_not_at_end(at_end) end
    end
    if not ok then task.raise_again(upload, "run by " .. binding) end
    return not_done(err)
  end
  local info = {
    bucket = bucket, name = name, description = opts.description, headers = opts.headers, metadata = opts.metadata,
    nuid = nuid, size = upload.size, chunks = upload.chunks, digest = upload.digest,
  }
  -- From here on nobody knows whether it is told of, until the server says so.
  core.js_not_at_end(at_end)
  local stored, before, was = replace(binding, info, opts.chunk_size, opts)
  local now, why = told(binding, bucket, name, opts.timeout)
  if stored or now and now.nuid == nuid then
    remove_chunks(binding, stored and before or was, opts.timeout)
    if now then return now end
    return not_done(why)
  end
  if now or why.code == "not_found" then remove_chunks(binding, info, opts.timeout) end
  return not_done(before)
end

--- The object is gone: true, or nil and an error.
function Bucket:delete(name, opts)
  local binding = "objects:delete"
  local bucket = name_of(self, binding)
  name, opts = options.name(binding, name), options.call("delete", opts)
  core.check(binding)
  local info, err = info_of(binding, bucket, name, opts.timeout)
  if not info and err.code == "not_found" then return nil, err end
  if not info then return not_done(err) end
  local deleted = {
    bucket = bucket, name = name, description = info.description, metadata = info.metadata, nuid = info.nuid, size = 0,
    chunks = 0, deleted = true,
  }
  local stored, before = replace(binding, deleted, nil, opts)
  if not stored then return not_done(before) end
  remove_chunks(binding, before, opts.timeout)
  return true
end

-- Watching ----------------------------------------------------------------------------------------

--- Calls fn with what is told of each object, in order; and with nil, once, when what was there has been
--- seen.
function Bucket:watch(opts, fn)
  watch(name_of(self, "objects:watch"), opts, fn)
end

-- The module --------------------------------------------------------------------------------------

local M = {}

--- Makes sure of a bucket, and gives what reads and writes it.
function M.bucket(settings)
  local spec, stated = buckets.objects_bucket(settings)
  if not opened("objects.bucket", settings) then core.register("stream", spec) end
  local bucket = setmetatable({ name = stated.name }, Bucket)
  names[bucket] = stated.name
  return bucket
end

return require("moonbus.members")(M, "objects")
