--- objects:watch: what becomes of the objects of a bucket, in order, for this process. An ordered
--- consumer of the host reads what is told of them (engine/kinds/watch.c); one at a time.
local core = require("moonbus.core")
require("moonbus.middleware") -- first: it sees what is registered
local common = require("moonbus.options_kinds")
local infos = require("moonbus.objects_info")
local check, need_function = common.check, common.need_function

local BINDING = "objects:watch"

local FORM = {
  fields = {
    updates_only = { "boolean", default = false },
    deletes = { "boolean", default = true },
    each_version = { "boolean", default = false },
    timeout = { "duration", default = 300 },
  },
  hints = {
    updates = "updates_only", new = "updates_only", ignore_deletes = "write deletes = false",
    include_deletes = "deletes",
    history = "a bucket of objects has none", include_history = "a bucket of objects has none",
    concurrency = "changes are handled one at a time, in their order",
  },
}

--- What fn says of a failure, as of any handler; other results mean nothing.
local function failure(ok, err)
  if not ok and err ~= nil then return nil, err end
end

--- The messages of the stream as what is told of objects. The marker, which is of no stream, becomes nil.
local function around(bucket, spec, fn)
  return function(msg)
    if not msg.sequence then
      if spec.updates_only then return end
      return failure(fn(nil))
    end
    local info, err = infos.of(bucket, msg)
    if not info then return nil, err end
    if info.deleted and not spec.deletes then return end
    return failure(fn(info))
  end
end

return function(bucket, opts, fn)
  opts, fn = need_function(BINDING, opts, fn, "what is called with each change")
  local spec = check(BINDING, opts, FORM)
  core.check_loading(BINDING)
  spec.timeout_stated = opts ~= nil and opts.timeout ~= nil
  spec.stream = "OBJ_" .. bucket
  spec.headers_only = false
  spec.deliver = spec.updates_only and "new" or "last_per_subject"
  spec.shown = "watch objects"
  spec.filters = { ("$O.%s.M.>"):format(bucket) }
  core.register("watch", spec, fn, around(bucket, spec, fn))
end
