--- A value as the log has it: tables by what is in them, unless they have a __tostring. That one is a
--- script's code, which must not run inside of the host's: so it runs here.
local show = require("moonbus.show")
local tostring = require("moonbus.tostring")

return function(value)
  if type(value) == "table" then
    local meta = debug.getmetatable(value)
    if not meta or rawget(meta, "__tostring") == nil then return show(value) end
  end
  local text = tostring(value)
  return text:find("%z") and (text:gsub("%z", "\\0")) or text -- it would end the text in C
end
