-- Judges the process's settings: defaults, the config file, the environment, the flags; the last
-- one wins. Runs in a state of its own, at start and for each reload.
--
-- A leaf is a setting with a dotted name ("limits.memory"). Every leaf has a type, which turns what
-- a file (a Lua value) or the environment (text) says into the value that C wants, or says what is
-- allowed. The result is flat: result["limits.memory"] = 67108864.
--
-- `takes` says when a change takes effect that is read while the host runs: "now"; "scripts": with a
-- new generation of every script; nothing: at the next start; "server": the same, but the private
-- server of `dev` knows none of it.
local context = require "moonbus.config_context"
local kinds = require "moonbus.config_kinds"
local rocks = require "moonbus.rocks"
local settings = require "moonbus.config_settings"
local shower = require "moonbus.config_shown"
local telemetry = require "moonbus.config_telemetry"

local config = {}

local leaves = {
  { "servers", kinds.list(kinds.url), default = { "nats://127.0.0.1:4222" }, takes = "server" },
  { "name", kinds.text, default = "moonbus" },
  { "auth.creds", kinds.path, takes = "server" },
  { "auth.user", kinds.text, takes = "server" },
  { "auth.password", kinds.text, secret = true, takes = "server" },
  { "auth.token", kinds.text, secret = true, takes = "server" },
  { "auth.nkey", kinds.path, takes = "server" },
  { "auth.jwt", kinds.jwt, secret = true, takes = "server" },
  { "auth.seed", kinds.seed, secret = true, takes = "server" },
  { "tls.ca", kinds.path, takes = "server" },
  { "tls.cert", kinds.path, takes = "server" },
  { "tls.key", kinds.path, takes = "server" },
  { "tls.verify", kinds.boolean, default = true, takes = "server" },
  { "tls.first", kinds.boolean, default = false, takes = "server" },
  { "jetstream.domain", kinds.name "JetStream domain", takes = "server" },
  { "jetstream.api_prefix", kinds.prefix, takes = "server" },
  { "inbox_prefix", kinds.prefix },
  { "handlers", kinds.list(kinds.path), default = { "handlers/" }, takes = "now" },
  { "lib", kinds.list(kinds.path), default = { "lib/" }, takes = "scripts" },
  { "workers", kinds.integer(1, 256) },
  { "connect_timeout", kinds.duration "1ms", default = "5s" },
  { "ping_interval", kinds.duration "100ms", default = "5s" },
  { "max_pings_out", kinds.integer(1, 1000), default = 2 },
  { "wire", kinds.choice { "auto", "nats.c" }, default = "auto" },
  { "reconnect.wait", kinds.duration "1ms", default = "250ms" },
  { "reconnect.max_wait", kinds.duration "1ms", default = "5s" },
  { "reconnect.jitter", kinds.duration "0s", default = "100ms" },
  { "json.big", kinds.choice { "error", "string", "number" }, default = "error", takes = "now" },
  { "request_timeout", kinds.duration "1ms", default = "5s", takes = "now" },
  { "publish.timeout", kinds.duration "1ms", default = "5s", takes = "now" },
  { "publish.attempts", kinds.integer(1, 1000000), default = 10, takes = "now" },
  { "publish.backoff.min", kinds.duration "1ms", default = "100ms", takes = "now" },
  { "publish.backoff.max", kinds.duration "1ms", default = "5s", takes = "now" },
  { "http.max_per_host", kinds.integer(1, 10000), default = 256, takes = "now" },
  { "graceful_timeout", kinds.duration "1ms", default = "25s", takes = "now" },
  { "limits.memory", kinds.size "1MB", default = "64MB", takes = "scripts" },
  { "limits.cpu", kinds.duration "10ms", default = "5s", takes = "scripts" },
  { "limits.offload_threads", kinds.integer(1, 256), default = 4, takes = "now" },
  { "limits.max_stuck", kinds.integer(1, 256), default = 3, takes = "now" },
  { "limits.generations", kinds.integer(1, 1000), default = 8, takes = "now" },
  { "watch", kinds.boolean, default = false, takes = "now" },
  { "trust", kinds.boolean, default = false, takes = "scripts" },
  { "admin", kinds.address, default = "127.0.0.1:8223" },
  { "admin_token", kinds.text, secret = true, takes = "now" },
  { "log.level", kinds.choice { "debug", "info", "warn", "error", "off" }, default = "info", takes = "now" },
  { "log.format", kinds.choice { "auto", "text", "json" }, default = "auto", takes = "now" },
  { "settings", settings.kind, takes = "scripts" },
}
for _, leaf in ipairs(telemetry.leaves) do leaves[#leaves + 1] = leaf end

-- What the nats command line reads, as it reads it.
local nats_variables = {
  NATS_URL = "servers", NATS_CREDS = "auth.creds", NATS_USER = "auth.user",
  NATS_PASSWORD = "auth.password", NATS_TOKEN = "auth.token", NATS_NKEY = "auth.nkey",
  NATS_CA = "tls.ca", NATS_CERT = "tls.cert", NATS_KEY = "tls.key", NATS_JWT = "auth.jwt",
  NATS_SEED = "auth.seed", NATS_TIMEOUT = "request_timeout",
}

-- Not settings: where the host's own Lua is read from while developing.
local other_variables = { MOONBUS_LUA_DIR = true, MOONBUS_GC = true }

-- Ways to authenticate; a connection uses one of them.
local methods = {
  ["auth.creds"] = "creds", ["auth.user"] = "user+password", ["auth.password"] = "user+password",
  ["auth.token"] = "token", ["auth.nkey"] = "nkey", ["auth.jwt"] = "jwt+seed",
  ["auth.seed"] = "jwt+seed",
}

local by_key, by_variable, variable_tails, tree = {}, {}, {}, {}
for _, leaf in ipairs(leaves) do
  leaf.key, leaf.kind = leaf[1], leaf[2]
  by_key[leaf.key] = leaf
  local tail = leaf.key:upper():gsub("%.", "_")
  by_variable["MOONBUS_" .. tail] = leaf
  variable_tails[#variable_tails + 1] = tail
  local node, sections, last = tree, leaf.key:match "^(.-)([^.]+)$"
  for section in sections:gmatch "[^.]+" do
    node[section] = node[section] or {}
    node = node[section]
  end
  node[last] = leaf
end

local function fail(format, ...)
  error({ complaint = format:format(...) }, 0)
end

-- A key as it is shown; what a file's own __tostring would say does not matter.
local function label(key)
  local kind = type(key)
  if kind == "string" or kind == "number" or kind == "boolean" then return tostring(key) end
  return "a " .. kind
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return label(a) < label(b) end)
  return keys
end

-- The settings stated so far: stated[key] = { value, source, layer }.
local function state(self, leaf, value, source, how)
  local converted, complaint = leaf.kind(value, {
    text = how.text, folder = how.folder, host = self.host,
    show = function(shown)
      return leaf.secret and "(not shown)" or self.show(shown)
    end,
  })
  if converted == nil then fail("%s: %s", source, complaint) end
  self.stated[leaf.key] = { value = converted, raw = value, source = source, layer = how.layer }
end

-- Walks what the file returned, beside the tree of what may be there.
local function read_table(self, values, node, path, how)
  for _, key in ipairs(sorted_keys(values)) do
    local value, known = values[key], node[key]
    local dotted = path .. label(key)
    if not known then
      fail("%s: unknown key %s%s; allowed %s: %s", how.file, self.show(dotted),
        kinds.suggest(label(key), sorted_keys(node)),
        path == "" and "here" or "in " .. path:sub(1, -2), table.concat(sorted_keys(node), ", "))
    end
    local source = how.file .. ": " .. dotted
    if known.kind then
      state(self, known, value, source, how)
    elseif type(value) == "table" then
      read_table(self, value, known, dotted .. ".", how)
    else
      fail("%s: must be a table with %s, not %s", source, table.concat(sorted_keys(known), ", "),
        self.show(value))
    end
  end
end

-- "moonbus.lua:3: ": the innermost line of the config file that is running.
local function place(file)
  for level = 3, 200 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    if info.source == "@" .. file and info.currentline > 0 then
      return file .. ":" .. info.currentline .. ": "
    end
  end
  return file .. ": "
end

local function read_secret_file(path)
  local handle, reason = io.open(path, "r")
  if not handle then return nil, reason end
  local text
  text, reason = handle:read "*a"
  handle:close()
  return text and text:gsub("[\r\n]+$", ""), reason
end

local function check_name(file, what, name)
  if type(name) ~= "string" or name == "" then
    error(place(file) .. what .. " wants the name of an environment variable", 0)
  end
end

local function file_env(file)
  return function(name, ...)
    check_name(file, "env", name)
    local value = os.getenv(name)
    if value ~= nil then return value end
    if select("#", ...) > 0 then return (...) end
    error(("%senv %q is not set, and has no default"):format(place(file), name), 0)
  end
end

local function file_secret(self, file)
  return function(name)
    check_name(file, "secret", name)
    local value = os.getenv(name)
    local path = os.getenv(name .. "_FILE")
    if value == nil and path then
      local reason
      value, reason = read_secret_file(path)
      if not value then
        error(("%ssecret %q: cannot read the file of $%s_FILE: %s"):format(place(file), name, name,
          reason), 0)
      end
    end
    if value == nil then
      error(("%ssecret %q: neither $%s nor $%s_FILE is set"):format(place(file), name, name, name), 0)
    end
    self.secrets[value] = true
    return value
  end
end

local function copy(from)
  local to = {}
  for name, value in pairs(from) do to[name] = value end
  return to
end

-- The methods of strings come from a table that the file cannot reach: whatever it does to `string`,
-- what judges it works as before. Methods that it adds are found all the same.
local function share_string_methods(library)
  local meta = debug.getmetatable ""
  meta.__index = setmetatable(copy(string), { __index = library })
  meta.__metatable = false
end

-- The plain library without what reaches outside.
local function file_environment(self, file)
  local globals = {}
  for _, name in ipairs { "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall",
    "print", "rawequal", "rawget", "rawset", "select", "setmetatable", "tonumber", "tostring",
    "type", "unpack", "xpcall", "_VERSION", "bit", "coroutine", "math", "string", "table" } do
    local value = name == "bit" and require "bit" or _G[name]
    globals[name] = type(value) == "table" and copy(value) or value
  end
  share_string_methods(globals.string)
  globals.os = { clock = os.clock, date = os.date, difftime = os.difftime, getenv = os.getenv,
    time = os.time }
  globals.env = file_env(file)
  globals.secret = file_secret(self, file)
  globals._G = globals
  return globals
end

-- What the file raised, with its name in it.
local function raised(self, file, value)
  local kind = type(value)
  local text = kind == "string" and self.hide(value) or ("raised %s"):format(
    kind == "nil" and "nil" or (kind == "number" or kind == "boolean") and tostring(value) or "a " .. kind)
  return text:find(file, 1, true) and text or file .. ": " .. text
end

local function read_file(self, file)
  local handle, reason = io.open(file, "r")
  if not handle then fail("cannot read the config file: %s", reason) end
  local text
  text, reason = handle:read "*a"
  handle:close()
  if not text then fail("cannot read the config file %s: %s", file, reason) end
  if text:byte() == 27 then fail("%s: is compiled Lua; a config file is text", file) end
  local chunk, complaint = loadstring(text, "@" .. file)
  if not chunk then fail("%s", complaint) end
  setfenv(chunk, file_environment(self, file))
  local ok, values = pcall(chunk)
  if not ok then fail("%s", raised(self, file, values)) end
  if type(values) ~= "table" then
    fail("%s: must return a table, not %s%s", file, self.show(values),
      values == nil and " (is `return` missing?)" or "")
  end
  self.values = values
  local folder = file:match "^(.*/)[^/]*$" or ""
  read_table(self, values, tree, "", { file = file, folder = folder, layer = "file" })
end

local function read_environment(self, variables)
  for _, name in ipairs(sorted_keys(nats_variables)) do
    local value = variables[name]
    if value and value ~= "" then
      state(self, by_key[nats_variables[name]], value, name, { text = true, layer = "nats" })
    end
  end
  telemetry.read(variables, function(key, value, source)
    local ok, failure = pcall(state, self, by_key[key], value, source, { text = true, layer = "otel" })
    if not ok and not failure.complaint then error(failure, 0) end
    return ok, not ok and failure.complaint or nil
  end, function(text) self.warnings[#self.warnings + 1] = text end)
  for _, name in ipairs(sorted_keys(variables)) do
    local leaf, value = by_variable[name], variables[name]
    if leaf and value ~= "" then
      state(self, leaf, value, name, { text = true, layer = "environment" })
    elseif not leaf and name:find "^MOONBUS_" and not other_variables[name]
      and not name:find "^MOONBUS_PORT" and not name:find "^MOONBUS_SERVICE_" then
      local hint = kinds.suggest(name:sub(#"MOONBUS_" + 1), variable_tails)
      if hint ~= "" then
        self.warnings[#self.warnings + 1] = name .. ": no such setting" .. hint:gsub('"', '"MOONBUS_', 1)
      end
    end
  end
end

local function read_flags(self, flags, layer)
  for _, flag in ipairs(flags) do
    local leaf = by_key[flag.key]
    local before = self.stated[leaf.key]
    state(self, leaf, flag.value, flag.spelling, { text = true, layer = layer })
    local now = self.stated[leaf.key]
    if type(now.value) == "table" and before and before.layer == layer then
      for _, item in ipairs(now.value) do table.insert(before.value, item) end
      self.stated[leaf.key] = before
    end
  end
end

local strength = { default = 0, file = 1, nats = 2, environment = 3, flag = 4 }
for layer, value in pairs(context.strength) do strength[layer] = value end

local function read_context(self, input)
  return context.read(self, input, { fail = fail, strength = strength,
    state = function(key, text, source, layer)
      state(self, by_key[key], text, source, { text = true, layer = layer })
    end })
end

-- Is it in the way of a private server that runs in this folder?
local function is_given(self, key)
  local stated = self.stated[key]
  return stated ~= nil and stated.layer ~= "file" and stated.layer ~= "context_selected"
end

-- One way to authenticate: that of the strongest source. What a weaker one says of another way is
-- left out, so that `--creds` does not quarrel with a file's user and password.
local function choose_auth(self)
  local best
  for _, key in ipairs(sorted_keys(methods)) do
    local stated = self.stated[key]
    if stated and (not best or strength[stated.layer] > strength[self.stated[best].layer]) then
      best = key
    end
  end
  for _, key in ipairs(sorted_keys(methods)) do
    local stated = self.stated[key]
    if stated and methods[key] ~= methods[best] then
      if stated.layer == self.stated[best].layer then
        fail("%s and %s: one way to authenticate at a time: creds, user+password, token, nkey or jwt+seed",
          self.stated[best].source, stated.source)
      end
      self.stated[key] = nil
    end
  end
  local user, password = self.stated["auth.user"], self.stated["auth.password"]
  if password and not user then fail("%s: wants a user beside it", password.source) end
  if user and not password and user.layer == "nats" then -- the nats command line takes it for a token
    self.stated["auth.token"], self.stated["auth.user"] = user, nil
  end
end

local function check_tls(self)
  local cert, key = self.stated["tls.cert"], self.stated["tls.key"]
  if cert and not key then fail("%s: wants its key beside it (tls.key)", cert.source) end
  if key and not cert then fail("%s: wants its certificate beside it (tls.cert)", key.source) end
end

-- A domain is a prefix of its own.
local function check_jetstream(self)
  local domain, prefix = self.stated["jetstream.domain"], self.stated["jetstream.api_prefix"]
  if domain and prefix then
    fail("%s and %s: one of jetstream.domain and jetstream.api_prefix, not both", domain.source,
      prefix.source)
  end
end

-- low must not be above high. A high that nobody stated follows.
local function check_order(self, result, low, high)
  if result[low] <= result[high] then return end
  local stated = self.stated[high]
  if not stated then
    result[high] = result[low]
    return
  end
  fail("%s: must not be below %s, which is %gs", stated.source, low, result[low] / 1e9)
end

local function default_of(self, leaf, folder)
  if leaf.default == nil then return nil end
  return (leaf.kind(leaf.default, { folder = folder, host = self.host, show = tostring }))
end

-- A value as one text: two of them are the same when these are.
local function as_text(value)
  if type(value) == "table" then return table.concat(value, "\n") end
  if type(value) == "number" then return ("%.17g"):format(value) end
  return tostring(value)
end

-- How people wrote it, for "workers: 2 -> 4". Nothing of what is secret.
local function as_shown(self, leaf, raw)
  if leaf.secret or leaf.key == "settings" then return "" end
  if raw == nil then return "none" end
  local function shown(value)
    return self.hide(leaf.key == "servers" and kinds.shown_url(tostring(value)) or tostring(value))
  end
  if type(raw) ~= "table" then return shown(raw) end
  local items = {}
  for index, item in ipairs(raw) do items[index] = shown(item) end
  return table.concat(items, ", ")
end

local function describe(self, result)
  local list = {}
  for index, leaf in ipairs(leaves) do
    local stated, raw = self.stated[leaf.key], leaf.default
    if stated then raw = stated.raw end
    if raw == nil then raw = result[leaf.key] end
    list[index] = { key = leaf.key, takes = leaf.takes or "start", value = as_text(result[leaf.key]),
      shown = as_shown(self, leaf, raw) }
  end
  return list
end

local function judge(self, input)
  read_flags(self, input.defaults, "default")
  if input.file then read_file(self, input.file) end
  read_environment(self, input.environment)
  read_flags(self, input.flags, "flag")
  local note = read_context(self, input)
  choose_auth(self)
  check_tls(self)
  check_jetstream(self)
  local result = {}
  local folder = input.file and input.file:match "^(.*/)[^/]*$" or ""
  for _, leaf in ipairs(leaves) do
    local stated = self.stated[leaf.key]
    if stated then result[leaf.key] = stated.value else
      result[leaf.key] = default_of(self, leaf, folder)
    end
  end
  rocks.add(result.lib, folder)
  result.workers = result.workers or input.workers
  check_order(self, result, "reconnect.wait", "reconnect.max_wait")
  check_order(self, result, "publish.backoff.min", "publish.backoff.max")
  telemetry.judge(result, self.stated, function(source, complaint) fail("%s: %s", source, complaint) end)
  result.servers_stated = self.stated.servers ~= nil
  result.servers_given = is_given(self, "servers")
  result.admin_given = is_given(self, "admin")
  result.admin_stated = self.stated.admin ~= nil
  result.context_note = note
  result.tls = (self.stated["tls.ca"] or self.stated["tls.cert"] or self.stated["tls.verify"]) ~= nil
    or result["tls.first"]
  result.warnings = self.warnings
  result.secrets = shower.list(self.secrets)
  result.leaves = describe(self, result)
  return result
end

-- How the log would be written, as far as anybody says, when there is no config.
local function stated_format(self, input)
  local format
  local function take(value)
    if value == "auto" or value == "text" or value == "json" then format = value end
  end
  local function take_flags(flags)
    for _, flag in ipairs(flags) do
      if flag.key == "log.format" then take(flag.value) end
    end
  end
  take_flags(input.defaults)
  local log = self.values and rawget(self.values, "log")
  if type(log) == "table" then take(rawget(log, "format")) end
  take(input.environment.MOONBUS_LOG_FORMAT)
  take_flags(input.flags)
  return format or "auto"
end

-- input: file (or nil), environment (a map), flags and defaults (lists of key, value, spelling),
-- workers (the default of that), context (a name, or nil), no_selected_context, host (duration, size,
-- subject, name, json: C's own judgement; context: reads one). The result, or nil, what is wrong, and
-- the log's format all the same.
---@param input table
---@return table|nil result
---@return string|nil complaint
---@return string|nil format
function config.load(input)
  local self = { host = input.host, stated = {}, warnings = {}, secrets = {} }
  self.show, self.hide = shower.of(self.secrets)
  local ok, result = pcall(judge, self, input)
  if ok then return result end
  if type(result) == "table" and result.complaint then
    return nil, result.complaint, stated_format(self, input)
  end
  error(result, 0)
end

return config
