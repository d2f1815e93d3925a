--- What bus.http is called with, checked and brought into the one form that the host takes.
---
---     local spec, more = options.request("bus.http.get", "GET", { url = ..., json = ... })
---
--- spec is what core.http_open takes; more is what remains for Lua: sink, idempotency_key.
local core = require("moonbus.core")
local common = require("moonbus.options_kinds")
local tostring = require("moonbus.tostring")
local kinds, check, misuse, refuse, show = common.kinds, common.check, common.misuse, common.refuse, common.show

local M = {}

local TIMEOUT, FOLLOW, MAX = 30, 10, 8 * 1024 * 1024

-- Kinds of values ---------------------------------------------------------------------------------

--- true, false, or how many.
local function check_follow(binding, field, value)
  if value == true then return FOLLOW end
  if value == false then return 0 end
  if type(value) ~= "number" then
    refuse(binding, field, "true, false, or how many redirects at most", value)
  end
  return kinds.integer(binding, field, value, { min = 0, max = 100 })
end

local TLS = {
  fields = { ca = "string", cert = "string", key = "string", verify = { "boolean", default = true } },
  hints = { insecure = "verify", skip_verify = "verify", cacert = "ca", ca_file = "ca", cert_file = "cert",
    key_file = "key" },
}

local function check_tls(binding, field, value)
  local tls = check(binding .. ": " .. field, kinds.table(binding, field, value), TLS)
  if tls.key and not tls.cert then misuse(("%s: %s: a key needs its cert"):format(binding, field)) end
  return tls
end

local function check_key(binding, field, value)
  if value == true or value == false or core.is_message(value) then return value end
  if type(value) ~= "string" then
    refuse(binding, field, "a string, true, or the message of the batch that this is for", value)
  end
  return kinds.token(binding, field, value)
end

local function check_sink(binding, field, value)
  if type(value) ~= "function" then refuse(binding, field, "a function that takes the pieces", value) end
  return value
end

local function check_url(binding, field, value)
  if type(value) ~= "string" then refuse(binding, field, "a URL", value) end
  return value
end

-- Text --------------------------------------------------------------------------------------------

local function text_of(binding, field, value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" or kind == "boolean" then return tostring(value) end
  return refuse(binding, field, "a string, a number or a boolean", value)
end

local function escape(text)
  return (text:gsub("[^%w%-._~]", function(byte) return ("%%%02X"):format(byte:byte()) end))
end

--- Without holes, and with nothing else in it.
local function is_list(value)
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  for i = 1, count do
    if value[i] == nil then return false end
  end
  return true
end

--- Calls add(name, text) for each value, in the order of the names: one text, or each of a list.
local function each_value(binding, field, values, add)
  local names = {}
  for name in pairs(values) do
    if type(name) ~= "string" then
      refuse(binding, field, "a table with names as keys", values)
    end
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local value, place = values[name], field .. "." .. name
    if type(value) == "table" then
      if not is_list(value) then refuse(binding, place, "a text, or a list of texts", value) end
      for i = 1, #value do add(name, text_of(binding, ("%s[%d]"):format(place, i), value[i])) end
    else
      add(name, text_of(binding, place, value))
    end
  end
end

--- "a=1&b=2", of a table of texts, numbers, booleans, or lists of them.
local function encode(binding, field, values)
  local parts = {}
  each_value(binding, field, values, function(name, text)
    parts[#parts + 1] = escape(name) .. "=" .. escape(text)
  end)
  return table.concat(parts, "&")
end

local function with_query(binding, url, query)
  if query == nil then return url end
  local text = encode(binding, "query", query)
  if text == "" then return url end
  local before, fragment = url:match("^([^#]*)(.*)$")
  return before .. (before:find("?", 1, true) and "&" or "?") .. text .. fragment
end

-- Requests ----------------------------------------------------------------------------------------

local HINTS = {
  header = "headers", data = "body", params = "query", qs = "query", redirect = "follow",
  insecure_redirects = "downgrade",
  redirects = "follow", allow_redirects = "follow", max_redirects = "follow", ssl = "tls",
  verify = "write tls = { verify = ... }", ca = "write tls = { ca = ... }", max_bytes = "max", limit = "max",
  on_data = "sink", callback = "sink", stream = "sink", socket = "unix", unix_socket = "unix", verb = "method",
  uri = "url", idempotency = "idempotency_key", auth = "write headers = { authorization = ... }",
  proxy = "the variables http_proxy, https_proxy and no_proxy say it",
  retries = "it belongs to bus.http.client",
}

local FIELDS = {
  url = { check = check_url }, method = "string", headers = "table", query = "table",
  body = "string", json = { check = function(_, _, value) return value end }, form = "table",
  timeout = "duration", follow = { check = check_follow }, downgrade = "boolean",
  tls = { check = check_tls }, max = { "size", min = 1 }, sink = { check = check_sink }, unix = "string",
  idempotency_key = { check = check_key },
}

local REQUEST = { fields = FIELDS, hints = HINTS }

local function body_of(binding, opts)
  local stated
  for _, name in ipairs { "body", "json", "form" } do
    if opts[name] ~= nil then
      if stated then misuse(("%s: %s and %s exclude each other"):format(binding, stated, name)) end
      stated = name
    end
  end
  if opts.json ~= nil then return core.json_encode_for(opts.json, binding .. ": json"), "application/json" end
  if opts.form then return encode(binding, "form", opts.form), "application/x-www-form-urlencoded" end
  return opts.body
end

--- A flat list of names and values: of headers, and of more, another list, what they do not state.
local function header_list(binding, headers, more)
  local list, stated = {}, {}
  if headers then
    each_value(binding, "headers", headers, function(name, text)
      list[#list + 1], list[#list + 2] = name, text
      stated[name:lower()] = true
    end)
  end
  for i = 1, #more, 2 do
    if not stated[more[i]:lower()] then list[#list + 1], list[#list + 2] = more[i], more[i + 1] end
  end
  return list
end

local function with_type(headers, content_type)
  for i = 1, content_type and #headers or 0, 2 do
    if headers[i]:lower() == "content-type" then return headers end
  end
  if content_type then headers[#headers + 1], headers[#headers + 2] = "Content-Type", content_type end
  return headers
end

--- Scheme, host and port, as they are written; "" of what is no whole URL.
local function origin_of(url)
  return ((url:match("^(%a[%w+.-]*://[^/?#]*)") or ""):lower():gsub("//.*@", "//"))
end

--- What a client says of its own server is not for others: a path may come out of a message.
local function elsewhere(base)
  return { timeout = base.timeout, follow = base.follow, downgrade = base.downgrade, max = base.max }
end

--- method: what the binding calls by; nil: as the options say. base: the client's options, checked; or nil.
function M.request(binding, method, opts, base)
  opts = check(binding, opts, REQUEST)
  if method and opts.method then misuse(("%s: the method is %s"):format(binding, method)) end
  base = base or {}
  local url = opts.url or (base.base and "") or misuse(binding .. ": url is required")
  if base.base and origin_of(url) == "" then
    url = base.base:gsub("/+$", "") .. (url ~= "" and not url:find("^[/?]") and "/" or "") .. url
  elseif base.base and origin_of(url) ~= origin_of(base.base) then
    base = elsewhere(base)
  end
  local body, content_type = body_of(binding, opts)
  local headers = header_list(binding, opts.headers, base.headers or {})
  local tls = opts.tls or base.tls or {}
  local max = opts.max or base.max
  return {
    method = (method or opts.method or (body and "POST" or "GET")):upper(),
    url = with_query(binding, url, opts.query),
    headers = with_type(headers, content_type), body = body,
    timeout = opts.timeout or base.timeout or TIMEOUT,
    follow = opts.follow or base.follow or FOLLOW,
    downgrade = opts.downgrade or opts.downgrade == nil and base.downgrade or false,
    max = max or (opts.sink and 0) or MAX, pieces = opts.sink ~= nil,
    unix = opts.unix or base.unix,
    ca = tls.ca, cert = tls.cert, key = tls.key, unverified = tls.verify == false,
  }, { sink = opts.sink, key = opts.idempotency_key }
end

-- Clients -----------------------------------------------------------------------------------------

M.CODES = { timeout = true, dns = true, refused = true, tls = true, closed = true, protocol = true,
  too_large = true }

local function check_on(binding, field, value)
  kinds.table(binding, field, value)
  local on = {}
  for i = 1, #value do
    local each = value[i]
    local is_status = type(each) == "number" and each % 1 == 0 and each >= 100 and each <= 599
    if not is_status and not M.CODES[each] then
      refuse(binding, ("%s[%d]"):format(field, i), 'a status (503), or a code of an error ("timeout")', each)
    end
    on[each] = true
  end
  return on
end

local BACKOFF = {
  fields = { min = { "duration", default = 0.2 }, max = { "duration", default = 5 } },
  hints = { base = "min", initial = "min" },
}

local function check_backoff(binding, field, value)
  if type(value) ~= "table" then
    local seconds = kinds.duration(binding, field, value, {})
    return { min = seconds, max = seconds }
  end
  local backoff = check(binding, value, BACKOFF, field)
  backoff.max = math.max(backoff.min, backoff.max)
  return backoff
end

local RETRIES = {
  fields = {
    attempts = { "integer", max = 100, default = 3 },
    backoff = { check = check_backoff },
    on = { check = check_on },
  },
  hints = { count = "attempts", max = "attempts", times = "attempts", delay = "backoff", statuses = "on",
    codes = "on" },
}

local ON = { timeout = true, dns = true, refused = true, closed = true,
  [429] = true, [502] = true, [503] = true, [504] = true }

local function check_retries(binding, field, value)
  if type(value) ~= "table" then refuse(binding, field, "{ attempts = 3 }", value) end
  local retries = check(binding .. ": " .. field, value, RETRIES)
  retries.backoff = retries.backoff or { min = 0.2, max = 5 }
  retries.on = retries.on or ON
  return retries
end

local function check_base(binding, field, value)
  if type(value) ~= "string" or not value:find("^https?://[^/?#%s]") or value:find("[?#]") then
    refuse(binding, field, 'where all its URLs begin, like "https://api.example.com/v1"', value)
  end
  return value
end

local function check_headers(binding, field, value)
  return header_list(binding, kinds.table(binding, field, value), {})
end

local CLIENT = {
  fields = {
    base = { check = check_base }, headers = { check = check_headers }, timeout = "duration",
    retries = { check = check_retries }, follow = { check = check_follow }, downgrade = "boolean",
    tls = { check = check_tls }, max = { "size", min = 1 }, unix = "string", idempotency_key = "boolean",
  },
  hints = { url = "base", base_url = "base", host = "base", retry = "retries", header = "headers",
    attempts = "write retries = { attempts = ... }", backoff = "write retries = { backoff = ... }",
    socket = "unix", idempotency = "idempotency_key", pool = "http.max_per_host of the config bounds it",
    max_per_host = "it is http.max_per_host of the config" },
}

function M.client(opts)
  if opts ~= nil and type(opts) ~= "table" then
    misuse(("bus.http.client: expected a table of options, got %s: write { base = ... }"):format(show(opts)))
  end
  return check("bus.http.client", opts, CLIENT)
end

return M
