--- kv:watch: each change of a bucket, in order, for this process. An ordered consumer of the host
--- reads the bucket's stream (engine/kinds/watch.c); one change is handled at a time.
local core = require("moonbus.core")
require("moonbus.middleware") -- first: it sees what is registered
local common = require("moonbus.options_kinds")
local entries = require("moonbus.kv_entry")
local options = require("moonbus.options_kv")
local check, misuse, refuse, need_function = common.check, common.misuse, common.refuse, common.need_function

local BINDING = "kv:watch"

local FORM = {
  fields = {
    history = { "boolean", default = false },
    updates_only = { "boolean", default = false },
    deletes = { "boolean", default = true },
    meta_only = { "boolean", default = false },
    each_version = { "boolean", default = false },
    timeout = { "duration", default = 300 },
  },
  hints = {
    include_history = "history", all = "history", updates = "updates_only", new = "updates_only",
    ignore_deletes = "write deletes = false", include_deletes = "deletes", headers_only = "meta_only",
    keys_only = "meta_only", concurrency = "changes are handled one at a time, in their order",
    durable = 'a change that is to be handled once per fleet is a message: js.consume("KV_name", ...)',
  },
}

--- A list of filters; none of them: the whole bucket.
local function filters_of(filter)
  if type(filter) ~= "table" then filter = { filter } end
  local list = {}
  for place = 1, #filter do list[place] = options.kv_filter(BINDING, filter[place]) end
  for key in pairs(filter) do
    if list[key] == nil then refuse(BINDING, "filter", "a key, a pattern of keys, or a list of them", filter) end
  end
  if #list == 1 and list[1] == ">" then list[1] = nil end
  return list
end

--- What fn says of a failure, as of any handler; other results mean nothing.
local function failure(ok, err)
  if not ok and err ~= nil then return nil, err end
end

--- A function that gives the key of a subject: "$KV.<bucket>.<key>". origin: the bucket in whose name most of
--- them are; others are of one that this bucket has mirrored.
local function reader_of_keys(origin)
  local prefix = ("$KV.%s."):format(origin)
  local prefix_end = #prefix
  return function(subject)
    if subject:sub(1, prefix_end) == prefix then return subject:sub(prefix_end + 1) end
    return subject:match("^%$KV%.[^.]+%.(.+)$") or subject
  end
end

--- The messages of the stream as entries. The marker, which is of no stream, becomes nil.
local function around(bucket, origin, spec, fn)
  local key_of = reader_of_keys(origin)
  return function(msg)
    local entry = entries.watched(bucket, key_of, msg)
    if not entry and spec.updates_only then return end
    if entry and entry.operation ~= "PUT" and not spec.deletes then return end
    return failure(fn(entry))
  end
end

--- bucket: its name; origin: that of its subjects. The rest as the script gave it.
return function(bucket, origin, filter, opts, fn)
  if fn == nil and opts == nil and type(filter) == "function" then filter, fn = ">", filter end
  opts, fn = need_function(BINDING, opts, fn, "what is called with each change")
  local filters = filters_of(filter)
  local spec = check(BINDING, opts, FORM)
  if spec.history and spec.updates_only then
    misuse("kv:watch: history and updates_only exclude each other: there is no history of what comes next")
  end
  core.check_loading(BINDING)
  spec.timeout_stated = opts ~= nil and opts.timeout ~= nil
  spec.stream = "KV_" .. bucket
  spec.headers_only = spec.meta_only
  spec.deliver = spec.updates_only and "new" or spec.history and "all" or "last_per_subject"
  spec.shown = "watch " .. (filters[1] and table.concat(filters, ", ") or ">")
  spec.filters = {}
  for place, each in ipairs(filters) do spec.filters[place] = ("$KV.%s.%s"):format(origin, each) end
  core.register("watch", spec, fn, around(bucket, origin, spec, fn))
end
