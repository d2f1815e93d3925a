--- What an object of a binding has. Whoever calls something else hears which method was meant, where Lua would
--- say "attempt to call method 'fetch' (a nil value)"; modules have moonbus.members.
local core = require("moonbus.core")
local nearest = require("moonbus.nearest")

local function names_of(methods, fields)
  local names = {}
  for name in pairs(methods) do
    if name:sub(1, 1) ~= "_" then names[#names + 1] = name end
  end
  for name in pairs(fields or {}) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- Has the table of its methods, which its objects' metatable has as __index, say so.
---@param methods table<string, function>
---@param what string how its errors call it: "cache"
---@param elsewhere? table<string, string> what a method is called elsewhere -> here
---@param fields? table<string, true> what its objects have besides, or may have
---@param meta? table the metatable that the table has
---@return table methods
return function(methods, what, elsewhere, fields, meta)
  meta = meta or {}
  local kind = meta.__call and "function" or fields and "field" or "method"
  function meta.__index(_, name)
    local is_text = type(name) == "string"
    -- Names that libraries look for are nil.
    if is_text and (name:sub(1, 1) == "_" or fields and fields[name]) then return nil end
    local names = names_of(methods, fields)
    local meant = is_text and (elsewhere and elsewhere[name] or nearest(name, names))
    local shown = is_text and "." .. name or ("[%s]"):format(require("moonbus.logged")(name))
    return core.misuse(("%s%s: there is no such %s: %s"):format(what, shown, kind,
      meant and ("did you mean %q?"):format(meant) or "there are " .. table.concat(names, ", ")))
  end
  return setmetatable(methods, meta)
end
