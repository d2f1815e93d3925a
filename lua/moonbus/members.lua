--- What a module of bindings has. Whoever asks for something else hears which name was meant, where Lua would
--- say "attempt to call a nil value". rawget(bus, name) looks without an error.
local core = require("moonbus.core")
local nearest = require("moonbus.nearest")
local whole = require("moonbus.whole")

--- How scripts call the modules.
local MODULES = { bus = "moonbus", js = "moonbus.jetstream", kv = "moonbus.kv", objects = "moonbus.objects" }

--- What it is called elsewhere.
local ELSEWHERE = {
  bus = {
    logger = "bus.log", interval = "bus.every", timer = "bus.every", respond = "msg:respond", reply = "msg:respond",
    wait = "bus.sleep", go = "bus.spawn", async = "bus.spawn", all = "bus.gather", time = "bus.now",
    config = "bus.settings", env = "bus.settings", encode = "bus.json.encode", decode = "bus.json.decode",
    on_start = 'bus.on("start", ...)', on_stop = 'bus.on("stop", ...)',
    connect = "the host that connects, by the config's servers", kv = 'require "moonbus.kv"',
    jetstream = 'require "moonbus.jetstream"', objects = 'require "moonbus.objects"', test = 'require "moonbus.test"',
  },
  js = {
    add_stream = "js.stream", create_stream = "js.stream", pull_subscribe = "js.consume", pull = "js.consume",
    subscribe = "js.consume (bus.subscribe: without a stream)", add_consumer = "js.consume",
    bucket = 'kv.bucket (kv = require "moonbus.kv")', key_value = 'kv.bucket (kv = require "moonbus.kv")',
    get_msg = "js.get",
  },
  ["bus.json"] = { parse = "bus.json.decode", stringify = "bus.json.encode", loads = "bus.json.decode",
    dumps = "bus.json.encode" },
  ["bus.log"] = { warning = "bus.log.warn", err = "bus.log.error", fatal = "bus.log.error", trace = "bus.log.debug" },
  ["bus.http"] = { fetch = "bus.http.get", del = "bus.http.delete" },
}

local function names_of(module)
  local names = {}
  for name in pairs(module) do
    if type(name) == "string" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- As a script has to write it that calls the modules so.
local function place(called, name)
  return ("%s.%s (%s = require %q)"):format(called, name, called, MODULES[called])
end

--- Has another module that name, or one (is_meant) that is near? nil: none.
local function beside(own, has)
  for _, called in ipairs { "bus", "js", "kv", "objects" } do
    if called ~= own then
      local name = has(whole(MODULES[called]))
      if name then return place(called, name) end
    end
  end
  return nil
end

local function meant(module, called, name)
  local known = (ELSEWHERE[called] or {})[name]
  local other = known or beside(called, function(its) return rawget(its, name) and name end)
  if other then return "it is " .. other end
  local near = nearest(name, names_of(module))
  near = near and called .. "." .. near or beside(called, function(its) return nearest(name, names_of(its)) end)
  return near and ("did you mean %s?"):format(near) or "there are " .. table.concat(names_of(module), ", ")
end

--- Gives the module that answer. called: as a script would write it, "bus".
---@param module table
---@param called string
---@return table module
return function(module, called)
  return setmetatable(module, {
    __index = function(_, name)
      if type(name) ~= "string" then return nil end
      return core.misuse(("%s.%s: there is no such function: %s"):format(called, name, meant(module, called, name)))
    end,
  })
end
