--- What of the library could harm the process is walled off: it can be read (modules look at
--- `os.tmpname` or `package.config` when they load, and never use it), and raises when it is called,
--- with the way out. Protection is against mistakes, not against hostile code.
local misuse = require("moonbus.options_kinds").misuse

local M = {}

--- Nor has an offloaded module these, or it would be of no use there.
local NOWHERE = { ["os.exit"] = true, ["os.setlocale"] = true }

local function is_offloaded(name)
  return name:find "^io" or name:find "^os%." and not NOWHERE[name] or name:find "file$" or name == "ffi"
end

function M.wall(what, whole)
  whole = whole or what
  return misuse(("%s: handlers have no %s: %sset trust = true in the config to allow it"):format(what, whole,
    is_offloaded(whole) and "have a module of bus.offload do it, or " or ""))
end

function M.walled_function(name)
  return function() M.wall(name) end
end

--- In the place of io.stdout: what its methods are called.
local function walled_file(name, file)
  return M.walled_table(name, {}, debug.getmetatable(file).__index)
end

--- The fields, and in the place of all else that `from` has what raises when it is called; what it has
--- not is nil, as anywhere.
function M.walled_table(name, fields, from)
  return setmetatable(fields, {
    __index = function(self, key)
      local value = from[key]
      if type(value) == "function" then
        value = M.walled_function(name .. "." .. tostring(key))
      elseif type(value) == "table" then
        value = M.walled_table(name .. "." .. tostring(key), {}, value)
      elseif type(value) == "userdata" then
        value = walled_file(name .. "." .. tostring(key), value)
      end
      rawset(self, key, value)
      return value
    end,
    __metatable = false,
  })
end

--- A table that finds what find(key) gives, and cannot be written.
local function read_only(name, find)
  return setmetatable({}, {
    __index = function(_, key) return find(key) end,
    __newindex = function(_, key)
      if name == "package" and (key == "path" or key == "cpath") then
        misuse(("package.%s cannot be set: `lib` in the config says where modules are; with "
          .. "trust = true in the config it can"):format(key))
      end
      misuse(("%s.%s cannot be set: set trust = true in the config to allow it")
        :format(name, tostring(key)))
    end,
    __metatable = false,
  })
end

--- `package` of a script. path: where its `require` looks; find(name): what it has loaded.
function M.package(path, find)
  local known = {
    config = package.config, path = path, cpath = "",
    loaded = read_only("package.loaded", find),
    preload = read_only("package.preload", function() end),
  }
  return read_only("package", function(key)
    local value = known[key]
    if value == nil and type(package[key]) == "function" then
      value = M.walled_function("package." .. key)
      known[key] = value
    end
    return value
  end)
end

--- `jit` of a script: of its own functions it may say that they are not to be compiled.
function M.jit()
  local function switch(name)
    local real = jit[name]
    return function(fn, recursive)
      if type(fn) ~= "function" then
        misuse(("jit.%s: of one function only; bus.script { jit = ... } is for all of a script"):format(name))
      end
      return real(fn, recursive)
    end
  end
  return M.walled_table("jit", {
    os = jit.os, arch = jit.arch, version = jit.version, version_num = jit.version_num,
    status = jit.status, on = switch("on"), off = switch("off"),
  }, jit)
end

--- debug.getinfo of a script: no functions, which may be the host's.
local function getinfo(first, second, third)
  local info
  if type(first) == "thread" then
    local what = type(third) == "string" and third or "Slnu"
    info = debug.getinfo(first, second, (what:gsub("[fL>]", "")))
  else
    if type(first) == "number" then first = first + 1 end
    local what = type(second) == "string" and second or "Slnu"
    info = debug.getinfo(first, (what:gsub("[fL>]", "")))
  end
  return info
end

--- `debug` of a script. getmetatable is the one that a __metatable hides things from.
function M.debug()
  return M.walled_table("debug",
    { traceback = debug.traceback, getinfo = getinfo, getmetatable = getmetatable }, debug)
end

return M
