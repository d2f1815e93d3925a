--- The options of buckets, and of what is done with them, checked: kv.bucket and objects.bucket give
--- the settings of a stream, as ADR-8 and ADR-20 lay them out.
---
---     local spec = options.bucket(settings)
---     core.register("stream", spec)   -- spec.settings: what is stated; spec.defaults: what is not
local core = require("moonbus.core")
local common = require("moonbus.options_kinds")
local kinds, check, misuse, refuse = common.kinds, common.check, common.misuse, common.refuse
local nanoseconds, copy_plain = common.nanoseconds, common.copy_plain

local M = {}

-- Kinds -------------------------------------------------------------------------------------------

local NAMED = { kv = "KV_", objects = "OBJ_" }

--- kind: "kv" or "objects".
local function check_bucket(binding, field, value)
  if type(value) ~= "string" then refuse(binding, field, "a name", value) end
  if not value:find("^[%w_-]+$") then
    misuse(("%s: %s: a bucket's name has letters, digits, _ and -, got %s"):format(binding, field, common.show(value)))
  end
  local why = core.check_name("bucket", "KV_" .. value)
  if why then misuse(("%s: %s"):format(binding, why)) end
  return value
end

local function check_plain(binding, field, value)
  return copy_plain(binding, field, kinds.table(binding, field, value))
end

--- Lifetimes of single messages: the server counts whole seconds.
local function check_ttl(binding, field, value)
  return math.ceil(kinds.duration(binding, field, value, { min = 1 }))
end

--- The server has none below.
local function check_age(binding, field, value)
  local age = nanoseconds(binding, field, value)
  if age > 0 and age < 1e8 then refuse(binding, field, "a duration from 100ms on", value) end
  return age
end

local ORIGIN = {
  fields = { name = { check = check_bucket, required = true }, domain = "name", api_prefix = "subject" },
  hints = { bucket = "name", api = "api_prefix" },
}

--- The name of a bucket, or { name, domain or api_prefix }, as NATS has it.
local function check_origin(binding, field, value)
  if type(value) == "string" then value = { name = value } end
  kinds.table(binding, field, value)
  local origin = check(binding .. ": " .. field, value, ORIGIN)
  if origin.domain and origin.api_prefix then
    misuse(("%s: %s: domain and api_prefix exclude each other"):format(binding, field))
  end
  local api = origin.domain and ("$JS.%s.API"):format(origin.domain) or origin.api_prefix
  return { name = "KV_" .. origin.name, external = api and { api = api, deliver = "" } or nil }
end

local function check_origins(binding, field, value)
  if type(value) == "string" or type(value) == "table" and value.name ~= nil then value = { value } end
  kinds.table(binding, field, value)
  local list = {}
  for i = 1, #value do list[i] = check_origin(binding, ("%s[%d]"):format(field, i), value[i]) end
  if #list == 0 then refuse(binding, field, "the name of a bucket, or a list of them", value) end
  return list
end

-- The bucket --------------------------------------------------------------------------------------

local MINUTE2 = 120 * 1e9

--- What both kinds of bucket have, by NATS' names for it.
local function common_fields()
  return {
    name = { check = check_bucket, required = true },
    description = "string",
    storage = { "string", values = { file = true, memory = true } },
    replicas = { "integer", max = 5 },
    ttl = { check = check_age },
    max_bytes = { "size", unlimited = true },
    compression = "boolean",
    placement = { check = check_plain },
    metadata = { check = check_plain },
    update = "boolean",
  }
end

local STREAMS = {
  description = "description", storage = "storage", replicas = "num_replicas", ttl = "max_age", max_bytes = "max_bytes",
  placement = "placement", metadata = "metadata", history = "max_msgs_per_subject", max_value_size = "max_msg_size",
  republish = "republish", mirror = "mirror", sources = "sources",
}

local HINTS = {
  bucket = "name", num_replicas = "replicas", max_age = "ttl", max_bucket_size = "max_bytes", compress = "compression",
}

local function with(base, more)
  for key, value in pairs(more) do base[key] = value end
  return base
end

local CACHE = {
  fields = {
    max_bytes = { "size", min = 1024, default = 64 * 1024 * 1024 },
    max_age = { "duration", max = 86400, default = 30 },
  },
  hints = { size = "max_bytes", bytes = "max_bytes", memory = "max_bytes", ttl = "max_age", age = "max_age" },
}

--- nil for none, else { max_bytes, max_age in seconds }.
local function check_cache(binding, field, value)
  if value == false then return nil end
  if value == true then value = {} end
  if type(value) ~= "table" then
    refuse(binding, field, 'true, or { max_bytes = "64MB", max_age = "30s" }', value)
  end
  return check(binding, value, CACHE, field)
end

local KV = {
  fields = with(common_fields(), {
    history = { "integer", max = 64 },
    max_value_size = { "size", unlimited = true },
    limit_markers = { check = check_ttl },
    cache = { check = check_cache },
    republish = { check = check_plain },
    mirror = { check = check_origin },
    sources = { check = check_origins },
  }),
  hints = with({
    max_msgs_per_subject = "history", max_msg_size = "max_value_size", marker_ttl = "limit_markers",
    limit_marker_ttl = "limit_markers", subject_delete_marker_ttl = "limit_markers", allow_msg_ttl = "limit_markers",
    source = "sources",
  }, HINTS),
}

--- What is stated, under NATS' names.
local function stated(prefix, options)
  local settings = { name = prefix .. options.name }
  for ours, theirs in pairs(STREAMS) do settings[theirs] = options[ours] end
  if options.compression ~= nil then settings.compression = options.compression and "s2" or "none" end
  return settings
end

--- An id is remembered for as long as its message can be there.
local function window_of(ttl)
  return ttl and ttl > 0 and math.min(ttl, MINUTE2) or MINUTE2
end

local function source_of(origin, name)
  local bucket = origin.name:sub(4)
  if not origin.external or bucket ~= name then
    origin.subject_transforms = { { src = ("$KV.%s.>"):format(bucket), dest = ("$KV.%s.>"):format(name) } }
  end
  return origin
end

function M.kv_bucket(given)
  local binding = "kv.bucket"
  if type(given) ~= "table" then refuse(binding, "settings", "a table", given) end
  local options = check(binding, given, KV)
  if options.mirror and options.sources then misuse("kv.bucket: mirror and sources exclude each other") end
  for _, origin in ipairs(options.sources or {}) do source_of(origin, options.name) end
  local settings = stated(NAMED.kv, options)
  if options.limit_markers then
    settings.allow_msg_ttl, settings.subject_delete_marker_ttl = true, options.limit_markers * 1e9
  end
  if not options.mirror then settings.subjects = { ("$KV.%s.>"):format(options.name) } end
  local defaults = {
    max_msgs_per_subject = 1, discard = "new", deny_delete = true, allow_rollup_hdrs = true, allow_direct = true,
    mirror_direct = options.mirror ~= nil, storage = "file", retention = "limits", max_consumers = -1, max_msgs = -1,
    max_bytes = -1, max_msg_size = -1, num_replicas = 1, duplicate_window = window_of(options.ttl),
  }
  local needs = options.limit_markers and { level = 1, what = "kv.bucket: limit_markers" } or nil
  return { settings = settings, defaults = defaults, update = options.update, bucket = binding, needs = needs }, options
end

local OBJECTS = { fields = common_fields(), hints = with({ max_value_size = "objects have any size" }, HINTS) }

function M.objects_bucket(given)
  local binding = "objects.bucket"
  if type(given) ~= "table" then refuse(binding, "settings", "a table", given) end
  local options = check(binding, given, OBJECTS)
  local settings = stated(NAMED.objects, options)
  local prefix = ("$O.%s."):format(options.name)
  settings.subjects = { prefix .. "C.>", prefix .. "M.>" }
  local defaults = {
    discard = "new", allow_rollup_hdrs = true, allow_direct = true, storage = "file", retention = "limits",
    max_consumers = -1, max_msgs = -1, max_msgs_per_subject = -1, max_bytes = -1, max_msg_size = -1,
    num_replicas = 1, duplicate_window = window_of(options.ttl),
  }
  return { settings = settings, defaults = defaults, update = options.update, bucket = binding }, options
end

-- What is done with it ----------------------------------------------------------------------------

local SEQUENCE = { "integer", max = 2 ^ 53 }

local function writing(more)
  return {
    fields = with({
      id = "token", from = "batched", timeout = "duration", attempts = { "integer", max = 1000 },
    }, more or {}),
    hints = { rev = "revision", sequence = "revision", last = "revision", msg_id = "id", message_id = "id" },
  }
end

local FORMS = {
  get = { fields = { revision = SEQUENCE, timeout = "duration" }, hints = { rev = "revision", sequence = "revision" } },
  put = writing(),
  create = writing { ttl = { check = check_ttl } },
  update = writing(),
  delete = writing { revision = SEQUENCE },
  purge = writing { revision = SEQUENCE, ttl = { check = check_ttl } },
  keys = { fields = { timeout = "duration" }, hints = {} },
  history = { fields = { timeout = "duration" }, hints = {} },
}
FORMS.put.hints.ttl = "create and purge take one; of the whole bucket it is the ttl of kv.bucket"
FORMS.update.hints.ttl = FORMS.put.hints.ttl
FORMS.delete.hints.ttl = FORMS.put.hints.ttl
FORMS.update.hints.revision = "it is the third argument: update(key, value, revision)"

--- The options of a method: "put" of "kv:put".
function M.kv_call(method, opts)
  if opts == nil then return {} end
  return check("kv:" .. method, opts, FORMS[method])
end

local KEY_HINT = "letters, digits, - _ = / and . between them"

--- A key, as every client writes it.
function M.kv_key(binding, key)
  if type(key) ~= "string" then refuse(binding, "key", "a string", key) end
  if not key:find("^[-/_=.%w]+$") then
    misuse(("%s: key: expected %s, got %s"):format(binding, KEY_HINT, common.show(key)))
  end
  if key:find("^%.") or key:find("%.$") or key:find("..", 1, true) then
    misuse(("%s: key: no dot at its beginning or end, nor two in a row, in %s"):format(binding, common.show(key)))
  end
  local why = core.check_subject("$KV.b." .. key, false)
  if why then misuse(("%s: key: %s"):format(binding, why)) end
  return key
end

--- A pattern of keys: ">" for all, "a.*".
function M.kv_filter(binding, filter)
  if filter == nil then return ">" end
  if type(filter) ~= "string" then refuse(binding, "filter", 'a key, or a pattern like "users.*"', filter) end
  if not filter:find("^[-/_=.%w*>]+$") then
    misuse(("%s: filter: expected a key, or a pattern like \"users.*\", got %s"):format(binding, common.show(filter)))
  end
  local why = core.check_subject("$KV.b." .. filter, true)
  if why then misuse(("%s: filter: %s"):format(binding, why)) end
  return filter
end

--- A revision that is expected; 0: there is no such key.
function M.kv_revision(binding, revision)
  return kinds.integer(binding, "revision", revision, { min = 0, max = 2 ^ 53 })
end

return M
