--- What runs in the Lua state of an offload thread (host/engine/offload/offload_state.c): finds the module of
--- a call, loads it anew when its file has changed, and calls its function.
---
---     run ─▶ core.target ─▶ module (loaded once; checked at each call) ─▶ function ─▶ core.keep
---
--- No function of the host is on the stack while the module's runs, so that it can be stopped. Each
--- module has globals of its own, and one `require` for itself and what it requires; the library
--- behind them is the state's, all of it.
local core = require("moonbus.offload_core")
local loader = require("moonbus.loader")
local check_stack = require("moonbus.stack").check
local misuse = require("moonbus.options_kinds").misuse
local logged = require("moonbus.logged")
local tostring = require("moonbus.tostring")

-- The library -------------------------------------------------------------------------------------

loader.search_installed()

--- Replaces functions of the library, for all that runs in this state.
local function replace(library, functions)
  for name, fn in pairs(functions) do rawset(library, name, fn) end
end

-- What would act on the whole process.
replace(os, {
  exit = function() misuse("os.exit would end the host: return nil and an error, or raise one") end,
  setlocale = function() misuse("os.setlocale would change the whole process") end,
})

-- What only the C stack would end, and with it the process.
local gsub, create, resume = string.gsub, coroutine.create, coroutine.resume

local function unwrap(ok, ...)
  if ok then return ... end
  error((...), 0)
end

replace(string, {
  gsub = function(text, pattern, replacement, ...)
    if type(replacement) ~= "string" then check_stack() end
    return gsub(text, pattern, replacement, ...)
  end,
})

replace(coroutine, {
  resume = function(...)
    check_stack()
    return resume(...)
  end,
  wrap = function(fn)
    local co = create(fn)
    return function(...)
      check_stack()
      return unwrap(resume(co, ...))
    end
  end,
})

require("moonbus.finalizers")(function(text) core.log("error", text) end)

replace(_G, {
  tostring = tostring,
  print = function(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = logged((select(i, ...))) end
    core.log("info", table.concat(parts, "\t"))
  end,
})

-- Files that change -------------------------------------------------------------------------------

--- files: what was read, { path, hash }. The stamp of a file is believed once its last change is some
--- time ago; until then its content is compared.
local function changed(files)
  for _, file in ipairs(files) do
    local stamp, settled = core.stamp(file.path)
    if not stamp then return true end
    if stamp ~= file.stamp then
      local text = core.read(file.path)
      if not text or core.hash(text) ~= file.hash then return true end
      file.stamp = settled and stamp or nil
    end
  end
  return false
end

-- Modules -----------------------------------------------------------------------------------------

--- By script folder, lib and name, and by the script if it has that name itself: { value, files, id,
--- and of a newer version that does not load: failed (its files) }.
local modules = {}

--- Gives read(path, loading) of a version that is made of what is on disk; files lists what was read,
--- and in files.absent what was looked for and not there.
local function from_disk(files)
  return function(path, loading)
    local text, why = core.read(path)
    if text then
      files[#files + 1] = { path = path, hash = core.hash(text), text = loading and text or nil }
    else
      files.absent = files.absent or {}
      table.insert(files.absent, path)
    end
    return text, why
  end
end

--- The same of a version that has loaded on another thread. What was not there then is not there; what
--- it requires later comes from disk.
local function from_version(version, files)
  local texts, disk = {}, from_disk(files)
  for _, file in ipairs(version) do texts[file.path] = file.text end
  return function(path, loading)
    local text = texts[path]
    if not text and not loading then return disk(path) end
    if not text then return nil, "No such file or directory" end
    files[#files + 1] = { path = path, hash = core.hash(text) }
    return text
  end
end

local function load_module(target, read)
  local env = setmetatable({}, { __index = _G })
  local loading = true
  env._G = env
  env.require = loader.make_require(env, {
    path = target.path, name = target.script, lib = target.lib, trust = true, offload = true,
    files = {},
    read = function(path) return read(path, loading) end,
    missing = function(name, text)
      if name == target.module then error({ code = "not_found", message = text }, 0) end
    end,
  })
  local value = env.require(target.module)
  loading = false
  if type(value) ~= "table" then
    error(("module %q gives a %s; an offloaded module returns a table of functions")
      :format(target.module, type(value)), 0)
  end
  return value
end

--- The version of these files has loaded.
local function accept(entry, value, files)
  local parts = {}
  for i, file in ipairs(files) do parts[i] = file.path .. "\0" .. file.hash end
  entry.value, entry.files, entry.id = value, files, core.hash(table.concat(parts, "\0"))
end

--- It came from disk: other threads may go on with it.
local function share(key, entry)
  if not core.is_version(key) or not changed(entry.files) then
    local list = {}
    for i, file in ipairs(entry.files) do list[i] = { path = file.path, text = file.text } end
    core.keep_version(key, entry.id, list)
  end
  for _, file in ipairs(entry.files) do file.text = nil end
end

--- The traceback without the host's own lines; nil when nothing is left.
local function own_traceback(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do
    local name = line:match("^%s+([^:]+):")
    if name and name ~= "[C]" and not name:find("^%[builtin") and
      (not name:find("^moonbus%.") or name:find("%.lua$")) then
      lines[#lines + 1] = line
    end
  end
  return lines[1] and "stack traceback:\n" .. table.concat(lines, "\n") or nil
end

local function keep(value)
  local is_table = type(value) == "table"
  return {
    gone = is_table and rawget(value, "code") == "not_found",
    text = tostring(is_table and rawget(value, "message") or value),
    traceback = own_traceback(debug.traceback("", 2)),
  }
end

--- Where it was looked for is of interest to who has never had it.
local function tell(key, target, failure)
  local text = "its file is gone, the last version goes on: put it back"
  if not failure.gone then
    text = "refused, the version before it goes on: " .. failure.text:gsub("; looked for .*", "")
  end
  if core.is_news(key, text) then
    core.log("error", ("offloaded module %q: %s"):format(target.module, text), failure.traceback)
  end
end

--- What is on disk does not load: the last version that did, on whichever thread, goes on.
local function restore(entry, key, target)
  if entry.id and core.is_version(key, entry.id) then return end
  local version, files = core.version(key), {}
  if not version then return end
  local ok, value = pcall(load_module, target, from_version(version, files))
  if ok then accept(entry, value, files) end
end

--- A version that does not load never replaces one that works; it is told of once.
local function reload(entry, key, target)
  local files = {}
  local ok, value = xpcall(function() return load_module(target, from_disk(files)) end, keep)
  if ok then
    accept(entry, value, files)
    entry.failed = nil
    share(key, entry)
  else
    entry.failed = files
    restore(entry, key, target)
    if entry.value then tell(key, target, value) end
  end
end

local function needs_reload(entry)
  if not entry.failed then return changed(entry.files) end
  for _, path in ipairs(entry.failed.absent or {}) do
    if core.stamp(path) then return true end -- what was missing has come
  end
  return #entry.failed == 0 or changed(entry.failed)
end

local function find_module(target)
  local folder = target.path:match("^(.*/)") or ""
  local key = table.concat({ folder, target.module, unpack(target.lib) }, "\0")
  if loader.shadows(target, target.module) then key = key .. "\0" .. target.path end
  local entry = modules[key]
  if not entry then
    entry = {}
    if core.is_version(key) then reload(entry, key, target) end
    if not entry.value then -- what it raises is the call's
      local files = {}
      accept(entry, load_module(target, from_disk(files)), files)
      share(key, entry)
    end
    modules[key] = entry
  elseif needs_reload(entry) then
    reload(entry, key, target)
  end
  return entry.value
end

local function find_function(module, target)
  local found = module[target.name]
  if type(found) == "function" then return found end
  local names = {}
  for name, value in pairs(module) do
    if type(name) == "string" and type(value) == "function" then names[#names + 1] = name end
  end
  table.sort(names)
  error({
    code = "not_found",
    message = ("module %q has no function %q; it has %s"):format(target.module, target.name,
      #names > 0 and table.concat(names, ", ") or "none"),
  }, 0)
end

return function()
  local target = core.target()
  local found = find_function(find_module(target), target)
  return core.keep(found(core.arguments()))
end
