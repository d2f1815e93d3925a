--- The options of bus.service, its groups and its endpoints (ADR-32), checked: as moonbus.options.
local core = require("moonbus.core")
local common = require("moonbus.options_kinds")
local core_options = require("moonbus.options_core")
local schemas = require("moonbus.schema")
local kinds, check, misuse, refuse = common.kinds, common.check, common.misuse, common.refuse

local M = {}

-- Values ------------------------------------------------------------------------------------------

local NAME_MOST = 100

--- A token of subjects such as $SRV.PING.<name>.
local function check_name(binding, field, value)
  if type(value) ~= "string" or #value > NAME_MOST or not value:find "^[%w_%-]+$" then
    refuse(binding, field, ("a name of at most %d letters, digits, dashes and underscores"):format(NAME_MOST), value)
  end
  return value
end

--- Identifiers with dots between them; numbers: those of digits alone begin with no 0.
local function are_identifiers(text, numbers)
  for part in (text .. "."):gmatch "([^.]*)%." do
    if not part:find "^[%w%-]+$" or numbers and part:find "^0%d+$" then return false end
  end
  return true
end

--- Semantic Versioning 2.0.0: 1.2.3-rc.1+build.5
local function is_semver(text)
  local rest, build = text:match "^([^+]*)%+(.*)$"
  rest = rest or text
  if build and not are_identifiers(build, false) then return false end
  local release, pre = rest:match "^([^-]*)%-(.*)$"
  release = release or rest
  if pre and not are_identifiers(pre, true) then return false end
  local major, minor, patch = release:match "^(%d+)%.(%d+)%.(%d+)$"
  for _, number in ipairs { major or "", minor or "", patch or "" } do
    if number == "" or number:find "^0%d" then return false end
  end
  return true
end

local function check_version(binding, field, value)
  if type(value) ~= "string" or #value > NAME_MOST or not is_semver(value) then
    refuse(binding, field, 'a semantic version, as "1.0.0" or "1.2.3-rc.1"', value)
  end
  return value
end

--- false: no queue group, so each process answers.
local function check_queue(binding, field, value)
  if value == false then return value end
  if type(value) ~= "string" then refuse(binding, field, "a name, or false for no queue group", value) end
  return kinds.name(binding, field, value, {})
end

local function check_stats(binding, field, value)
  if type(value) ~= "function" then
    refuse(binding, field, "a function: what it returns is the data of the endpoint's STATS", value)
  end
  return value
end

-- Tables of options -------------------------------------------------------------------------------

local SERVICE = {
  fields = {
    name = { check = check_name, required = true },
    version = { check = check_version, required = true },
    description = "string",
    metadata = "metadata",
    queue = { check = check_queue },
    stats = { check = check_stats },
  },
  hints = {
    statsHandler = "stats", stats_handler = "stats",
    queue_group = "queue", queueGroup = "queue", desc = "description", meta = "metadata", id = "the host makes it",
    endpoint = "call service:endpoint(name, fn)", endpoints = "call service:endpoint(name, fn) for each",
  },
}

function M.service(opts)
  local binding = "bus.service"
  if type(opts) ~= "table" then
    refuse(binding, "settings", 'a table, as { name = "calc", version = "1.0.0" }', opts)
  end
  return check(binding, opts, SERVICE)
end

local GROUP = {
  fields = { queue = { check = check_queue } },
  hints = { queue_group = "queue", queueGroup = "queue" },
}

--- prefix of the group's endpoints' subjects: may have *, but no >, behind which nothing could stand.
function M.group(prefix, opts)
  local binding = "service:group"
  kinds.pattern(binding, "prefix", prefix)
  if prefix:find(">", 1, true) then refuse(binding, "prefix", "no > in it, since subjects follow it", prefix) end
  return check(binding, opts, GROUP)
end

local ENDPOINT = {
  fields = {
    subject = "pattern",
    queue = { check = check_queue },
    metadata = "metadata",
    stats = { check = check_stats },
  },
  hints = {
    statsHandler = "stats", stats_handler = "stats",
    queueGroup = "queue", queue_group = "queue", meta = "metadata", name = "it is the first argument",
    reply = "an endpoint always replies; write bus.subscribe for what only looks on",
  },
}
for name, field in pairs(core_options.SUBSCRIBE.fields) do
  if name ~= "reply" and not ENDPOINT.fields[name] then ENDPOINT.fields[name] = field end
end
for name, hint in pairs(core_options.SUBSCRIBE.hints) do
  if hint ~= "reply" and not ENDPOINT.hints[name] and not ENDPOINT.fields[name] then ENDPOINT.hints[name] = hint end
end

--- above: { service =, prefix =, queue = } of what it is an endpoint of.
function M.endpoint(above, name, opts, fn)
  local binding = "service:endpoint"
  check_name(binding, "name", name)
  opts, fn = common.need_function(binding, opts, fn, "the handler")
  local spec = check(binding, opts, ENDPOINT)
  spec.timeout_stated = opts ~= nil and opts.timeout ~= nil
  spec.service, spec.endpoint = above.service, name
  spec.subject = above.prefix .. (spec.subject or name)
  local why = core.check_subject(spec.subject, true)
  if why then misuse(("%s: subject: %s"):format(binding, why)) end
  if spec.queue == nil then spec.queue = above.queue end
  spec.queue = spec.queue or nil
  spec.reply = true
  spec.schema_json = spec.schema and schemas.json(spec.schema)
  return spec, fn
end

return M
