--- What runs in the Lua state of an offload thread (host/engine/offload_state.c): finds the module of
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
  print = function(...)
    local parts = {}
    for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
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
      local text = loader.read_file(file.path)
      if not text or core.hash(text) ~= file.hash then return true end
      file.stamp = settled and stamp or nil
    end
  end
  return false
end

-- Modules -----------------------------------------------------------------------------------------

--- By script folder, lib and name: { value, files, and of a new version that does not load: failed
--- (its files), complaint }.
local modules = {}

local function load_module(target, files)
  local env = setmetatable({}, { __index = _G })
  env._G = env
  env.require = loader.make_require(env, {
    path = target.path, name = target.script, lib = target.lib, trust = true, offload = true,
    files = {},
    read = function(path)
      local text, why = loader.read_file(path)
      if text then files[#files + 1] = { path = path, hash = core.hash(text) } end
      return text, why
    end,
    missing = function(name, text)
      if name == target.module then error({ code = "not_found", message = text }, 0) end
    end,
  })
  local value = env.require(target.module)
  if type(value) ~= "table" then
    error(("module %q gives a %s; an offloaded module returns a table of functions")
      :format(target.module, type(value)), 0)
  end
  return value
end

local function keep(value)
  local text = type(value) == "table" and rawget(value, "message") or value
  return { text = tostring(text), traceback = debug.traceback("", 2) }
end

--- A version that does not load never replaces one that works; it is told of once.
local function reload(entry, target)
  local files = {}
  local ok, value = xpcall(function() return load_module(target, files) end, keep)
  if ok then
    entry.value, entry.files, entry.failed, entry.complaint = value, files, nil, nil
    return
  end
  entry.failed = files
  if value.text ~= entry.complaint then
    entry.complaint = value.text
    core.log("error", ("offloaded module %q: refused, the version before it goes on: %s")
      :format(target.module, value.text), value.traceback)
  end
end

local function needs_reload(entry)
  if not entry.failed then return changed(entry.files) end
  return #entry.failed == 0 or changed(entry.failed)
end

local function find_module(target)
  local folder = target.path:match("^(.*/)") or ""
  local key = table.concat({ folder, target.module, unpack(target.lib) }, "\0")
  local entry = modules[key]
  if not entry then
    local files = {}
    entry = { value = load_module(target, files), files = files }
    modules[key] = entry
  elseif needs_reload(entry) then
    reload(entry, target)
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
