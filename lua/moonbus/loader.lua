--- The environment of a script: its own globals, its own copies of the library's tables, its own
--- `require`. What could harm the process is walled off (moonbus.walls).
---
---     run ─▶ environment ─▶ load_file ─▶ the script's top level
---                              └─ require ─▶ the script's folder, then lib ─▶ load_file ...
local misuse = require("moonbus.options_kinds").misuse
local check_stack = require("moonbus.stack").check
local logged = require("moonbus.logged")
local rocks = require("moonbus.rocks")
local tostring = require("moonbus.tostring")
local walls = require("moonbus.walls")
local whole = require("moonbus.whole")
require("moonbus.views") -- pairs and next

local wall, walled_function, walled_table = walls.wall, walls.walled_function, walls.walled_table

--- The library's own searchers of the file system, for trusted scripts.
local file_loaders = rawget(package, "file_loaders")

local real = {
  getfenv = getfenv, setfenv = setfenv, load = load, require = require,
  collectgarbage = collectgarbage, getinfo = debug.getinfo,
}

local PUBLIC = {
  ["moonbus"] = true, ["moonbus.jetstream"] = true, ["moonbus.kv"] = true, ["moonbus.objects"] = true,
}
local LIBRARIES = {
  "string", "table", "math", "bit", "coroutine", "os", "debug", "io", "jit", "package",
}
local PLAIN = {
  "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget",
  "rawset", "select", "setmetatable", "tonumber", "tostring", "type", "unpack", "xpcall",
  "_VERSION",
}
local OS_ALLOWED = { "time", "date", "clock", "difftime", "getenv" }
local COLLECT_ALLOWED = { collect = true, count = true, step = true }

local function copy(from, names)
  local to = {}
  if names then
    for _, name in ipairs(names) do to[name] = from[name] end
  else
    for name, value in pairs(from) do to[name] = value end
  end
  return to
end

--- With a callback it can be called inside itself, which only the C stack would end.
local real_gsub = string.gsub
local function gsub(text, pattern, replacement, ...)
  if type(replacement) ~= "string" then check_stack() end
  return real_gsub(text, pattern, replacement, ...)
end

--- Strings' methods come from a table that no script can reach, so that nothing a script does to
--- `string` changes how the host's own Lua works; methods that it adds are found all the same.
local function share_string_methods(library)
  local methods = copy(string)
  methods.dump, methods.gsub = nil, gsub
  local meta = debug.getmetatable("")
  meta.__index = setmetatable(methods, { __index = library })
  meta.__metatable = false
end

--- load, loadstring, getfenv, setfenv: text only, and only the script's own environments.
local function add_evaluation(env)
  local own = setmetatable({ [env] = true }, { __mode = "k" })

  local function evaluate(text, name, target)
    return real.load(text, name or text, "t", target)
  end

  local function pieces(reader)
    local list = {}
    while true do
      local piece = reader()
      if piece == nil or piece == "" then return table.concat(list) end
      if type(piece) ~= "string" then misuse("load: its reader function must return strings") end
      list[#list + 1] = piece
    end
  end

  function env.load(chunk, name, mode, ...)
    if type(chunk) == "function" then
      chunk, name = pieces(chunk), name or "@(load)"
    elseif type(chunk) ~= "string" then
      misuse("load: expected a string or a function, got " .. type(chunk))
    end
    if mode ~= nil and mode ~= "t" and mode ~= "bt" then
      return nil, ('load: mode %q: handlers load text only'):format(tostring(mode))
    end
    local target = env
    if select("#", ...) > 0 then
      target = (...)
      if type(target) ~= "table" then
        misuse("load: expected a table as environment, got " .. type(target))
      end
      own[target] = true
    end
    return evaluate(chunk, name, target)
  end

  function env.loadstring(text, name)
    if type(text) ~= "string" then
      misuse("loadstring: expected a string, got " .. type(text))
    end
    return evaluate(text, name, env)
  end

  local function target_of(f, binding)
    if type(f) == "function" then return f end
    if f ~= nil and type(f) ~= "number" then
      misuse(binding .. ": expected a function or a level, got " .. type(f))
    end
    if f == 0 then return nil end
    -- Two levels of the host lie above the script's.
    local info = real.getinfo((f or 1) + 2, "f")
    if not info then misuse(binding .. ": there is no level " .. tostring(f)) end
    return info.func
  end

  function env.getfenv(f)
    f = target_of(f, "getfenv")
    local found = f and real.getfenv(f)
    return own[found] and found or env
  end

  function env.setfenv(f, target)
    local func = target_of(f, "setfenv")
    if type(target) ~= "table" then
      misuse("setfenv: expected a table, got " .. type(target))
    end
    if not func or not own[real.getfenv(func)] then
      misuse("setfenv: the function is not one of this script")
    end
    own[target] = true
    return real.setfenv(func, target)
  end
end

local function guarded_collectgarbage(option, ...)
  option = option or "collect"
  if not COLLECT_ALLOWED[option] then wall(('collectgarbage(%q)'):format(tostring(option))) end
  return real.collectgarbage(option, ...)
end

local function print_to_log(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = logged((select(i, ...))) end
  return real.require("moonbus").log.info(table.concat(parts, "\t"))
end

local function task_coroutine()
  if package.loaded["moonbus.core"] then return copy(real.require("moonbus.task").coroutine) end
  return copy(coroutine)
end

--- Everything but `require`, for a script that is not trusted.
local function add_libraries(env)
  for _, name in ipairs(PLAIN) do env[name] = _G[name] end
  env.string = copy(string)
  env.string.dump = walled_function("string.dump")
  env.table, env.math, env.bit = copy(table), copy(math), copy(require("bit"))
  env.os = walled_table("os", copy(os, OS_ALLOWED), os)
  env.debug, env.jit, env.io = walls.debug(), walls.jit(), walled_table("io", { type = io.type }, io)
  env.dofile, env.loadfile = walled_function("dofile"), walled_function("loadfile")
  env.collectgarbage = guarded_collectgarbage
  add_evaluation(env)
end

--- What the library's own `require` finds, for modules that are installed and require each other:
--- the host's first, so that a file that is called like one of these changes nothing.
local function search_installed()
  if #package.loaders > 2 then return end
  for i = 2, #file_loaders do table.insert(package.loaders, file_loaders[i]) end
end

--- With trust, all that LuaJIT has, in copies; but `package`, whose path is what is searched.
local function add_all(env)
  for name, value in pairs(_G) do
    env[name] = type(value) == "table" and copy(value) or value
  end
  env.ffi, env.package = nil, package
  search_installed()
  rawset(_G, "print", print_to_log) -- what is installed sees these globals
  require("moonbus.finalizers")(function(text) real.require("moonbus").log.error(text) end)
  env.load = function(chunk, name, mode, ...)
    if select("#", ...) > 0 then return real.load(chunk, name, mode, ...) end
    return real.load(chunk, name, mode, env)
  end
  env.loadstring = function(text, name) return real.load(text, name or text, nil, env) end
end

local GLOBALS_TOLD = 100 -- names; beyond, they are only counted
local NAME_SHOWN = 64 -- bytes

--- The metatable of the globals: a first write to a name is told, with its place. Names are made up by
--- loops as well, and come from payloads: so few of them are kept, and little of each.
local function watch_globals(env, warn)
  local seen, count = {}, 0

  local function is_new(name)
    if seen[name] then return false end
    if count >= GLOBALS_TOLD then return true end
    seen[name] = true
    count = count + 1
    return true
  end

  return setmetatable(env, {
    __newindex = function(globals, name, value)
      rawset(globals, name, value)
      if type(name) ~= "string" then return end
      local shown = #name > NAME_SHOWN and name:sub(1, NAME_SHOWN):gsub("[\192-\255][\128-\191]*$", "") or name
      if not is_new(shown) then return end
      local info = real.getinfo(2, "Sl")
      warn(shown, info and info.source:gsub("^[@=]", "") or "?", info and info.currentline or 0, #name - #shown)
    end,
    __metatable = false,
  })
end

local function environment(options)
  local env = {}
  if options.trust then add_all(env) else add_libraries(env) end
  env._G = env
  env.tostring = tostring
  env.string.gsub = gsub
  env.coroutine = task_coroutine()
  env.print = print_to_log
  share_string_methods(env.string)
  math.randomseed(options.seed)
  return env
end

--- The text of a file as it is now, or nil and why not: what trusted scripts load by themselves.
local function read_file(path)
  local file, why = io.open(path, "rb")
  if not file then return nil, (why:gsub("^.*: ", "")) end
  local text
  text, why = file:read("*a")
  file:close()
  return text, why
end

--- A chunk that runs in the environment. A byte order mark and a "#!" line are passed over.
local function compile(env, text, name, trust)
  text = text:gsub("^\239\187\191", ""):gsub("^#", "--#")
  local chunk, why = real.load(text, "@" .. name, trust and "bt" or "t", env)
  if chunk then return chunk end
  if text:byte() == 27 then why = name .. ":1: bytecode: handlers load text only" end
  if not name:find("%.lua$") then why = why .. " (handlers are written in Lua: its name does not end in .lua)" end
  error(why, 0)
end

local function folder_of(path)
  return path:match("^(.*/)[^/]*$") or ""
end

local function with_slash(folder)
  return folder:match("/$") and folder or folder .. "/"
end

--- A script is no module: `require "mail"` in mail.lua means another file.
local function is_script(options, path)
  return path:gsub("^%./+", "") == options.path:gsub("^%./+", "")
end

--- Where a module may be: { path, what messages call it }.
local function places(options, name)
  local file = name:gsub("%.", "/")
  local list = {}
  local function add(folder, shown)
    for _, suffix in ipairs({ ".lua", "/init.lua" }) do
      list[#list + 1] = { path = folder .. file .. suffix, name = shown .. file .. suffix }
    end
  end
  add(folder_of(options.path), folder_of(options.name))
  for _, lib in ipairs(options.lib) do
    lib = with_slash(lib)
    add(lib, lib:match("([^/]+/)$") or "")
  end
  return list
end

--- package.path: the same, for any name.
local function search_path(options)
  local list = {}
  for index, place in ipairs(places(options, "?")) do list[index] = place.path end
  return table.concat(list, ";")
end

--- Does the script lie where a module of that name may be? Then it finds another one than its neighbours.
local function shadows(options, name)
  for _, place in ipairs(places(options, name)) do
    if is_script(options, place.path) then return true end
  end
  return false
end

local function check_module_name(name)
  if type(name) ~= "string" then misuse("require: expected a module's name, got " .. type(name)) end
  local path = name:gsub("%.", "/")
  if path == "" or path:find("//", 1, true) or path:find("^/") or path:find("/$")
    or path:find("[%c\\]") then
    misuse(("require: %q is not a module's name; write \"util\" or \"billing.tax\""):format(name))
  end
end

--- With trust: what package.path and package.cpath lead to.
local function find_installed(name, tried)
  for i = 2, #file_loaders do
    local found = file_loaders[i](name)
    if type(found) == "function" then return found end
    if type(found) == "string" then
      tried[#tried + 1] = found:gsub("^%s+", ""):gsub("\n%s*", ", ")
    end
  end
end

--- The modules that are no files: the host's public ones, and the library's.
local function host_module(env, options, name)
  if PUBLIC[name] and options.offload then
    misuse(('require %q: what is offloaded runs beside NATS: pass values in, and return results'):format(name))
  elseif PUBLIC[name] then
    return whole(name)
  elseif name == "cjson" or name == "cjson.safe" then
    -- A private one: its settings are the script's own.
    return real.require(name).new()
  elseif name == "_G" then
    return env
  elseif name:find("^moonbus%.") then
    misuse(("require: %q is %s"):format(name, name == "moonbus.test" and "for tests, which `moonbus test` runs"
      or 'internal; scripts have "moonbus", "moonbus.jetstream", "moonbus.kv" and "moonbus.objects"'))
  end
  for _, library in ipairs(LIBRARIES) do
    if name == library then return env[library] end
  end
  if options.trust then
    if name == "ffi" then return copy(real.require("ffi")) end
    if package.loaded[name] then return env[name] or package.loaded[name] end
    if package.preload[name] then return real.require(name) end -- "table.new", "jit.util"
    return nil
  elseif name == "ffi" or name:find("^jit%.") then
    wall(('require %q'):format(name), name)
  elseif name == "table.new" or name == "table.clear" then
    return real.require(name)
  end
end

--- `require` of one script: modules share its environment and live as long as it.
local function make_require(env, options)
  if options.trust then rocks.search_c(options.lib) end
  local loaded = {}
  local running = setmetatable({}, { __mode = "k" }) -- function that runs a module -> its name

  local function find(name)
    local tried = {}
    for _, place in ipairs(places(options, name)) do
      local text, why
      if is_script(options, place.path) then
        why = "the script itself"
      else
        text, why = options.read(place.path)
      end
      if text then
        return compile(env, text, place.name, options.trust), place.path
      end
      tried[#tried + 1] = place.path .. (why == "No such file or directory" and "" or ": " .. why)
    end
    local installed = options.trust and find_installed(name, tried)
    if installed then return installed end
    local text = ("module %q not found; looked for %s"):format(name, table.concat(tried, ", "))
    if options.missing then options.missing(name, text) end
    misuse(text)
  end

  --- The stack is what tells a circle: a module that failed, or waits in another task, is none.
  local function check_circle(name)
    local chain = { name }
    local level = 2
    local info = real.getinfo(level, "f")
    while info do
      local module = running[info.func]
      if module then
        table.insert(chain, 1, module)
        if module == name then misuse("circular require: " .. table.concat(chain, " -> ")) end
      end
      level = level + 1
      info = real.getinfo(level, "f")
    end
  end

  local function load_module(name)
    check_circle(name)
    local chunk, path = find(name)
    local function run()
      local value = chunk(name, path)
      return value -- no tail call: the frame of `run` marks the module as running
    end
    running[run] = name
    return (run())
  end

  --- What package.loaded has of a script.
  local function find_loaded(name)
    if loaded[name] ~= nil or name == "_G" then return loaded[name] or env end
    for _, library in ipairs(LIBRARIES) do
      if name == library then return env[name] end
    end
  end

  if not options.trust then env.package = walls.package(search_path(options), find_loaded) end

  return function(name)
    check_module_name(name)
    local value = loaded[name]
    if value ~= nil then return value end
    value = host_module(env, options, name)
    if value == nil then value = load_module(name) end
    if value == nil then value = true end
    loaded[name] = value
    return value
  end
end

--- What does not come from a file.
local function is_builtin(name)
  for _, library in ipairs(LIBRARIES) do
    if name == library then return true end
  end
  return package.loaded[name] ~= nil or package.preload[name] ~= nil or name:find("^cjson") ~= nil
end

--- Is there a module of that name for an offload thread, and can it be compiled? It is not run: what it
--- needs may be there on its thread alone. It is read as the script's own files are, so the watch sees it.
local function check_offloaded(options, name)
  check_module_name(name)
  local tried = {}
  if is_builtin(name) then return end
  for _, place in ipairs(places(options, name)) do
    local text = not is_script(options, place.path) and options.read(place.path)
    if text then
      compile({}, text, place.name, true)
      return
    end
    tried[#tried + 1] = place.path
  end
  if find_installed(name, tried) then return end
  misuse(("bus.offload: module %q not found; looked for %s"):format(name, table.concat(tried, ", ")))
end

--- The text of a file that is no module, and its path: beside the script, or where `lib` leads. The
--- watch sees it, as a module. Or nil, and why not.
local function read_beside(options, name)
  if name:find("[%c\\]") then return nil, "not a path" end
  local folders, tried = { folder_of(options.path) }, {}
  for _, lib in ipairs(options.lib) do folders[#folders + 1] = with_slash(lib) end
  if name:sub(1, 1) == "/" then folders = { "" } end
  for _, folder in ipairs(folders) do
    local path = folder .. name
    local text, why = options.read(path)
    if text then return text, path end
    tried[#tried + 1] = path .. ": " .. why
  end
  return nil, table.concat(tried, "; ")
end

local M = {}

--- For other environments than a script's: moonbus.offload_thread. make_require's options: path, name,
--- lib, trust, read, files as of run; offload: there is no "moonbus"; missing(name, text): may raise in
--- place of require.
M.make_require = make_require
M.shadows = shadows
M.search_installed = search_installed

--- Loads a script and runs its top level. options: path, name, lib (list of folders), trust, seed,
--- read(path) -> text, or nil and why not; warn(global, file, line).
function M.run(options)
  local env = environment(options)
  M.read_beside = function(name) return read_beside(options, name) end
  M.check_offloaded = function(name) check_offloaded(options, name) end
  env.require = make_require(env, options)
  if options.trust then
    env.loadfile = function(path) return compile(env, assert(read_file(path)), path, true) end
    env.dofile = function(path) return env.loadfile(path)() end
  end
  local text, why = options.read(options.path)
  if not text then
    error({ code = "not_found", message = ("cannot read %s: %s"):format(options.path, why) }, 0)
  end
  local chunk = compile(env, text, options.name, options.trust)
  watch_globals(env, options.warn)
  chunk(options.name)
end

return M
