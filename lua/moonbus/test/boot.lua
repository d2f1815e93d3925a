-- The beginning of a test file's own Lua state: the kit gets copies of the libraries, so that nothing
-- a test changes in them reaches it; tests get require "moonbus.test", luassert and files. Returns
-- the function that host/cli/test/session.c calls: path, options (JSON).
local searcher = package.loaders[2] -- of the host's own modules, as texts

local OWN = "^moonbus"

local function copy_of(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, inner in pairs(value) do copy[key] = inner end
  return copy
end

local env, loaded, preloads = {}, {}, copy_of(package.preload)
for name, value in pairs(_G) do env[name] = copy_of(value) end
env._G = env
env.package.loaded = loaded

function env.require(name)
  if loaded[name] == nil then
    local chunk = preloads[name] or searcher(name)
    if type(chunk) ~= "function" then error(chunk, 0) end
    loaded[name] = (preloads[name] or setfenv(chunk, env))(name) or true
  end
  return loaded[name]
end

local HANDLERS_OWN = {
  ["moonbus"] = true, ["moonbus.jetstream"] = true, ["moonbus.kv"] = true,
  ["moonbus.objects"] = true, ["moonbus.schema"] = true,
}

-- What tests may require of the host: the kit.
local function search(name)
  if HANDLERS_OWN[name] then
    env.error(('"%s" is for handlers: a test has require "moonbus.test", and loads the script that it tests with ' ..
      'load "handlers/name.lua"'):format(name), 3)
  end
  if name ~= "moonbus.test" then return "\n\tmoonbus test has no module \"" .. name .. '"' end
  return function() return env.require(name).public end
end

-- A test that ends the process would end it as if all were well.
local function refuse_exit()
  env.error("os.exit: a test does not end the process: use error, or pending", 2)
end

local function open_to_tests()
  local files = rawget(package, "file_loaders")
  package.loaders = { package.loaders[1], search, files[2], files[3], files[4] }
  rawset(package, "file_loaders", nil)
  for _, list in ipairs { package.loaded, package.preload } do
    for name in pairs(list) do
      if name:find(OWN) then list[name] = nil end
    end
  end
  rawset(os, "exit", refuse_exit)
end

return function(path, options)
  local run = env.require "moonbus.test.file"
  open_to_tests()
  env.require("moonbus.test.session").own_string { __index = env.string }
  run(path, env.require("cjson").decode(options), _G)
end
