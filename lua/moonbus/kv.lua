--- "moonbus.kv": buckets of keys and values, as ADR-8 lays them out in a stream, so that every client
--- of NATS reads what is written here, and the other way round.
---
---     stream KV_<bucket>, subjects $KV.<bucket>.<key>: the last message of a subject is its value
---
--- What is read decides something, so the stream's leader is asked (no direct gets). A write is a
--- js.publish: under an id that comes from the input, tried again until it is stored.
local core = require("moonbus.core")
require("moonbus.middleware") -- first: it sees what is registered
local caches = require("moonbus.kv_cache")
local entries = require("moonbus.kv_entry")
local ids = require("moonbus.kv_ids")
local js_api = require("moonbus.js_api")
local keys_of = require("moonbus.kv_keys")
local opened = require("moonbus.opened")
local options = require("moonbus.options_kv")
local publish = require("moonbus.publish")
local subjects_of = require("moonbus.kv_subjects")
local watch = require("moonbus.kv_watch")
local methods_of = require("moonbus.methods")
require("moonbus") -- finishes the methods of messages

local Bucket = {}
Bucket.__index = methods_of(Bucket, "bucket",
  { set = "put", add = "create", remove = "delete", list = "keys", compare_and_set = "update", subscribe = "watch" })
Bucket.__metatable = "bucket"

--- bucket -> { name, stream, known = what the server has told of it }
local states = setmetatable({}, { __mode = "k" })

local function state_of(bucket, binding)
  local state = states[bucket]
  if not state then core.misuse(binding .. ": call it with a colon, on what kv.bucket returned") end
  return state
end

local function fail(code, text, ...)
  return core.error(code, text:format(...))
end

-- What the server has -----------------------------------------------------------------------------

local function gone(state)
  return fail("no_stream", "there is no bucket %q (stream %s)", state.name, state.stream)
end

--- Asked once by each instance: { read, write: prefixes of subjects, ttl: its messages may have one, of
--- at least so many seconds; history }.
local function know(state, binding, timeout)
  if state.known then return state.known end
  local info, err = js_api.call(binding, "STREAM.INFO." .. state.stream, nil, timeout)
  if not info then
    return nil, err.api_code == js_api.STREAM_GONE and gone(state) or err
  end
  local read, write = subjects_of(state.name, info.config)
  state.known = {
    read = read, write = write, history = info.config.max_msgs_per_subject,
    ttl = info.config.allow_msg_ttl == true and (info.config.subject_delete_marker_ttl or 0) / 1e9,
  }
  return state.known
end

--- What lies in its stream: a message object, or nil and an error.
local function read(state, binding, request, timeout)
  local message, err = js_api.get(binding, state.stream, request, timeout)
  if message == nil and err.api_code == js_api.STREAM_GONE then
    state.known = nil -- it may come again with other settings
    return nil, gone(state)
  end
  return message, err
end

-- Reading -----------------------------------------------------------------------------------------

local function no_key(state, key)
  return nil, fail("not_found", "bucket %q has no key %q", state.name, key)
end

--- What the cache says: an entry, or nil and an error; nothing: the server must be asked.
local function cached(state, key)
  local value, revision, created, stale = core.mirror_get(state.cache, ("$KV.%s.%s"):format(state.origin, key))
  if value then return entries.cached(state.name, key, value, revision, created, stale) end
  if value == nil then return nil end
  local _, err = no_key(state, key)
  err.stale = revision
  return nil, err
end

--- An entry, or nil and an error. A key that was deleted is none.
function Bucket:get(key, opts)
  local binding = "kv:get"
  local state = state_of(self, binding)
  key, opts = options.kv_key(binding, key), options.kv_call("get", opts)
  core.check(binding)
  if state.cache and not opts.revision then
    local entry, err = cached(state, key)
    if entry or err then return entry, err end
  end
  local known, why = know(state, binding, opts.timeout)
  if not known then return nil, why end
  local subject = known.read .. key
  local request = opts.revision and { seq = opts.revision } or { last_by_subj = subject }
  local message, err = read(state, binding, request, opts.timeout)
  if not message then
    if err.code == "not_found" and not opts.revision then return no_key(state, key) end
    if err.code == "not_found" then
      err = fail("not_found", "bucket %q has no revision %d", state.name, opts.revision)
    end
    return nil, err
  end
  if message.subject ~= subject then
    return nil, fail("not_found", "bucket %q: revision %d is not of the key %q", state.name, opts.revision, key)
  end
  local entry = entries.of(state.name, key, message)
  if entry.operation ~= "PUT" then return no_key(state, key) end
  return entry
end

--- All that is known of a key, oldest first: a list of entries, also of its deletions.
function Bucket:history(key, opts)
  local binding = "kv:history"
  local state = state_of(self, binding)
  key, opts = options.kv_key(binding, key), options.kv_call("history", opts)
  core.check(binding)
  local known, why = know(state, binding, opts.timeout)
  if not known then return nil, why end
  local subject = known.read .. key
  local last, err = read(state, binding, { last_by_subj = subject }, opts.timeout)
  local list = {}
  local from = known.history == 1 and last and last.sequence or 1
  while last and from <= last.sequence do
    local message = from == last.sequence and last
    if not message then message, err = read(state, binding, { seq = from, next_by_subj = subject }, opts.timeout) end
    if not message then break end
    list[#list + 1] = entries.of(state.name, key, message)
    from = message.sequence + 1
  end
  if err and err.code ~= "not_found" then return nil, err end
  return list
end

--- The keys that have a value, in order.
function Bucket:keys(filter, opts)
  local binding = "kv:keys"
  local state = state_of(self, binding)
  filter, opts = options.kv_filter(binding, filter), options.kv_call("keys", opts)
  core.check(binding)
  local known, why = know(state, binding, opts.timeout)
  if not known then return nil, why end
  local keys, err = keys_of(state.stream, known.read, filter, opts.timeout)
  if not keys and err.code == "no_stream" then
    state.known = nil
    err = gone(state)
  end
  return keys, err
end

-- Writing -----------------------------------------------------------------------------------------

--- A write that could not be tried: its input must not count as done.
local function untried(err)
  core.js_failed(err.code, err.message)
  return nil, err
end

--- What a write needs, taken down before it waits: ids are counted in the order of the calls. revision: that
--- is expected; nil: any.
local function prepare(state, method, key, value, opts, revision)
  local subject, binding = ("$KV.%s.%s"):format(state.name, key), "kv:" .. method
  local text, kind, id, derived = core.js_prepare(subject, value, { id = opts.id, from = opts.from }, binding, true)
  local made = { subject = subject, method = method, revision = revision, ttl = opts.ttl, text = text }
  return {
    state = state, binding = binding, key = key, text = text, kind = kind, derived = derived, headers = {},
    ids = derived and ids.derived(id, made) or { id = id }, timeout = opts.timeout, attempts = opts.attempts,
  }
end

--- Until when a message lives by itself. false and an error: this bucket's cannot.
local function with_ttl(write, known, seconds)
  if not seconds then return true end
  if known.ttl and seconds < known.ttl then -- the server would make it longer, and not say so
    return false, fail("mismatch", "bucket %q: no key lives for less than its limit_markers, %gs: a ttl of %ds is less",
      write.state.name, known.ttl, seconds)
  end
  if not known.ttl then
    local may, err = core.js_require(1, write.binding .. ": ttl")
    if not may and err.code == "unsupported" then return false, err end
    return false, fail("mismatch", 'bucket %q: its keys have no ttl of their own: state limit_markers = "1h" in ' ..
      "kv.bucket (nats-server 2.11 and newer)", write.state.name)
  end
  write.headers["Nats-TTL"] = ("%ds"):format(seconds)
  return true
end

--- What the cache must know of the key, if there is one. text: nil: it has no value.
local function note(write, text, revision)
  local cache = write.state.cache
  if cache then core.mirror_note(cache, ("$KV.%s.%s"):format(write.state.origin, write.key), text, revision) end
end

--- Publishes it: its revision, nil, and whether it was there already; or nil and an error. expect: the revision
--- that the key has; nil: any.
local function publish_it(write, known, id, expect)
  local opts = {
    id = id, derived = id and write.derived, wary = true, timeout = write.timeout, attempts = write.attempts,
    headers = next(write.headers) and write.headers or nil,
    expect = expect and { last_subject_sequence = expect } or nil,
  }
  local receipt, err = publish.send(known.write .. write.key, write.text, opts, write.kind, write.binding)
  if receipt then
    -- Under an id that was there already, the stream has what was written then.
    if not receipt.duplicate then
      note(write, not write.headers["KV-Operation"] and write.text or nil, receipt.seq)
    end
    return receipt.seq, nil, receipt.duplicate
  end
  if err.code == "no_stream" then
    write.state.known = nil
    err = gone(write.state)
  end
  return nil, err
end

--- The last message of its key, and its operation; or nil and an error.
local function last_of(write, known)
  local message, err = read(write.state, write.binding, { last_by_subj = known.read .. write.key }, write.timeout)
  if not message then return nil, err end
  local operation = entries.operation_of(message)
  note(write, operation == "PUT" and message.data or nil, message.sequence)
  return message, operation
end

local function id_of(message)
  return message:header("Nats-Msg-Id")
end

--- Was that written by this very call, when its input was handled before? An id is remembered by
--- the stream for its duplicate_window only; the message has it for good.
local function is_own(write, message)
  return ids.is_own(write.ids, id_of(message))
end

local function wrong_revision(write, expect, last)
  local err = fail("wrong_sequence", "bucket %q: the key %q is at revision %d, not %d", write.state.name, write.key,
    last.sequence, expect)
  err.revision = last.sequence
  return nil, err
end

--- The stream's word for it, while it remembers the id: a message of that id is a duplicate, and any
--- other is refused, as no message has such an id. (Servers from 2.12 on look for what is expected of a
--- subject before they look for ids.)
local function remembered(write, known)
  if not write.ids.id then return nil end
  local opts = {
    id = write.ids.id, timeout = write.timeout, expect = { last_id = "moonbus: is it a duplicate?" },
  }
  local receipt = publish.send(known.write .. write.key, "", opts, nil, write.binding)
  return receipt and receipt.duplicate and receipt.seq
end

--- The revision that this very call has written, when its input was handled before; nil: it has not, as
--- far as the stream knows. last: the key's last message; expect: what came before its own.
local function written(write, known, last, expect)
  if not write.ids.id then return nil end
  if last and is_own(write, last) then return last.sequence end
  if known.history ~= 1 then
    local request = { seq = expect + 1, next_by_subj = known.read .. write.key }
    local first = read(write.state, write.binding, request, write.timeout)
    if first and is_own(write, first) then return first.sequence end
  end
  return remembered(write, known)
end

--- The write, at any revision. What the stream has under its id may be out of date, where its input was handled
--- more often than once and did not do the same each time.
local function publish_any(write, known)
  local revision, err, duplicate = publish_it(write, known, write.ids.id)
  if not duplicate then return revision, err end
  local last, why = last_of(write, known)
  if not last and why.code ~= "not_found" then return untried(why) end
  if not last or last.sequence <= revision then return revision end
  if is_own(write, last) then return last.sequence end
  if not ids.is_overtaken(write.ids, id_of(last), revision) then return revision end
  local now, failure = publish_it(write, known, ids.at(write.ids, last.sequence))
  return now, failure
end

--- The write where the key is at that revision, or has been when its input was handled before.
local function publish_expected(write, known, expect)
  local revision, err, duplicate = publish_it(write, known, write.ids.id, expect)
  if not revision and err.code ~= "wrong_sequence" then return nil, err end
  if revision and not duplicate then return revision end
  local last = last_of(write, known)
  if last and not is_own(write, last) and ids.is_call(write.ids, id_of(last)) then
    -- Another run has written another value, and nobody has since.
    local again = publish_it(write, known, ids.at(write.ids, last.sequence), last.sequence)
    if again then return again end
    last = last_of(write, known)
  end
  revision = revision or written(write, known, last, expect)
  if revision then return revision end
  if not last then return nil, err end
  return wrong_revision(write, expect, last)
end

local function write_of(bucket, method, key, value, opts, revision)
  local binding = "kv:" .. method
  local state = state_of(bucket, binding)
  key = options.kv_key(binding, key)
  opts = options.kv_call(method, opts)
  local write = prepare(state, method, key, value, opts, revision or opts.revision)
  local known, err = know(state, binding, opts.timeout)
  if not known then return nil, err end
  local may, why = with_ttl(write, known, opts.ttl)
  if not may then return nil, why end
  return write, known, opts
end

--- The key's new revision, or nil and an error.
function Bucket:put(key, value, opts)
  local write, known = write_of(self, "put", key, value, opts)
  if not write then return untried(known) end
  return publish_any(write, known)
end

--- Others delete and create it at the same time: so often it is tried.
local CREATE_MOST = 5

--- Its first revision, if the key has no value. Else nil and an error; nil, nil and the revision of its value.
--- holds: what was stored when the input was handled before counts only while the key has that value, or what the
--- same input has written over it.
local function publish_first(write, known, holds)
  local expect, id, at = 0, write.ids.id, nil
  for _ = 1, CREATE_MOST do
    local revision, err, duplicate = publish_it(write, known, id, expect)
    if revision and not duplicate then return revision end
    if not revision and err.code ~= "wrong_sequence" then return nil, err end
    local last, operation = last_of(write, known)
    if not last and operation.code ~= "not_found" then return untried(operation) end
    local there = last and operation == "PUT" and id_of(last)
    if ids.is_own(write.ids, there) then return last.sequence end
    -- Another run has written another value, and nobody has since: this one takes its place.
    local replace = ids.is_call(write.ids, there)
    if not replace and (not holds or ids.is_later(write.ids, there)) then
      local own = revision or written(write, known, last, expect)
      if own then return own end
    end
    at = last and last.sequence
    if last and operation == "PUT" and not replace then return nil, nil, at end
    -- What was deleted has a marker, which this replaces; under an id of its own, as it is another message.
    expect = at or 0
    id = (at or revision) and ids.at(write.ids, at or revision) or write.ids.id
  end
  local lost = fail("wrong_sequence", "bucket %q: others delete the key %q all the time", write.state.name, write.key)
  lost.revision = at
  return nil, lost
end

--- The same, if the key is at that revision (0: it has no value, as after a deletion); else wrong_sequence.
function Bucket:update(key, value, revision, opts)
  revision = options.kv_revision("kv:update", revision)
  local write, known = write_of(self, "update", key, value, opts, revision)
  if not write then return untried(known) end
  if revision > 0 then return publish_expected(write, known, revision) end
  local first, err, at = publish_first(write, known)
  if first or err then return first, err end
  return wrong_revision(write, 0, { sequence = at or 0 })
end

local function remove(bucket, method, operation, key, opts)
  local write, known, checked = write_of(bucket, method, key, nil, opts)
  if not write then return untried(known) end
  write.headers["KV-Operation"] = operation
  if operation == "PURGE" then write.headers["Nats-Rollup"] = "sub" end
  if not checked.revision then return publish_any(write, known) end
  return publish_expected(write, known, checked.revision)
end

--- The key has no value from now on; its history stays.
function Bucket:delete(key, opts)
  return remove(self, "delete", "DEL", key, opts)
end

--- The same, and its history goes.
function Bucket:purge(key, opts)
  return remove(self, "purge", "PURGE", key, opts)
end

--- Its first revision, if the key has no value; else exists.
function Bucket:create(key, value, opts)
  local write, known = write_of(self, "create", key, value, opts)
  if not write then return untried(known) end
  local first, err, at = publish_first(write, known, true)
  if first or err then return first, err end
  local exists = fail("exists", "bucket %q has the key %q already", write.state.name, write.key)
  exists.revision = at
  return nil, exists
end

-- Watching ----------------------------------------------------------------------------------------

--- Calls fn with each change, in order; and with nil, once, when what was there has been seen.
function Bucket:watch(filter, opts, fn)
  local state = state_of(self, "kv:watch")
  watch(state.name, state.origin, filter, opts, fn)
end

-- The module --------------------------------------------------------------------------------------

local M = {}

--- Makes sure of a bucket, and gives what reads and writes it.
function M.bucket(settings)
  local spec, stated = options.kv_bucket(settings)
  if not opened("kv.bucket", settings) then core.register("stream", spec) end
  local bucket, stream = setmetatable({ name = stated.name }, Bucket), "KV_" .. stated.name
  states[bucket] = {
    name = stated.name, stream = stream, origin = stated.mirror and stated.mirror.name:match "^KV_(.+)$" or stated.name,
    cache = stated.cache and caches.open(stream, stated.cache),
  }
  return bucket
end

return require("moonbus.members")(M, "kv")
