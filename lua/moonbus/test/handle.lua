-- What tests hold of an object of the kit: its public methods, to be called with a colon. All else of it is out of
-- their reach, and a name that there is none of is said at once.
local blame = require "moonbus.test.blame"
local messages = require "moonbus.test.messages"
local nearest = require "moonbus.nearest"

local M = {}

local inner = setmetatable({}, { __mode = "k" }) -- handle -> its object

-- The object itself, given back so that calls can follow one another, is the handle outside.
local function outside(handle, object, dress, first, ...)
  if first == object then return handle end
  return dress and dress(first) or first, ...
end

-- There is nothing of that name. Names that libraries look for are nil.
function M.unknown(what, name, names)
  if type(name) ~= "string" or name:find "^_" then return nil end
  local list = messages.sorted(names)
  local near = nearest(name, list)
  blame('%s has no "%s": %s', what, name,
    near and ('did you mean "%s"?'):format(near) or "there are " .. table.concat(list, ", "))
end

-- what: "script". class: its methods; names: the public ones. dress: nil, or what is done to what they return.
-- Returns a function: object -> its handle.
function M.kind(what, class, names, dress)
  local methods, handles = {}, setmetatable({}, { __mode = "k" })
  for _, name in ipairs(names) do
    methods[name] = function(handle, ...)
      if not handles[handle] then blame("%s.%s(...): write %s:%s(...), with a colon", what, name, what, name) end
      local object = inner[handle]
      return outside(handle, object, dress, class[name](object, ...))
    end
  end
  local kind = {
    __index = function(_, name) return methods[name] or M.unknown("a " .. what, name, methods) end,
    __tostring = function(handle) return ("%s %s"):format(what, inner[handle].name) end,
    __metatable = what,
  }
  return function(object)
    local handle = setmetatable({}, kind)
    inner[handle], handles[handle] = object, true
    return handle
  end
end

return M
