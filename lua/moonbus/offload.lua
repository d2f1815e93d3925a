--- Proxies of modules whose functions run on the host's offload threads (bus.offload).
local core = require("moonbus.core")
local options = require("moonbus.options")
local resumed = require("moonbus.task").resumed
local loader = require("moonbus.loader")
local misuse = core.misuse

--- The first answer may be a ticket: the queue was full, and now there is a place in it.
local function call(module, name, timeout, ...)
  local answer, more = resumed(core.offload(nil, module, name, timeout, ...))
  if more == true then
    answer, more = resumed(core.offload(answer, module, name, timeout, ...))
  end
  if answer == nil then return nil, more end
  return core.offload_results(answer)
end

--- module: its name, as for require.
return function(module, opts)
  local timeout = options.offload(module, opts).timeout
  if not core.in_task() then
    loader.check_offloaded(module)
    core.register("offload", { module = module, timeout = timeout })
  end
  local proxy, functions = {}, setmetatable({}, { __mode = "v" })

  local function get(_, name)
    if type(name) ~= "string" then
      misuse(("bus.offload: the function's name must be a string, got %s"):format(type(name)))
    end
    local found = functions[name]
    if not found then
      found = function(...)
        if rawequal((...), proxy) then
          misuse(("%s.%s: call it with a dot, not with a colon"):format(module, name))
        end
        return call(module, name, timeout, ...)
      end
      functions[name] = found
    end
    return found
  end

  return setmetatable(proxy, {
    __index = get,
    __newindex = function() misuse(("bus.offload: %q has no fields that can be set"):format(module)) end,
    __call = function() misuse(("bus.offload: call a function of %q"):format(module)) end,
    __tostring = function() return ("offload %q"):format(module) end,
    __metatable = "offload",
  })
end
