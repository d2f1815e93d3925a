--- `tostring` as scripts have it: an integral number keeps all its digits (LuaJIT's own writes an id
--- of 15 digits as 1.2345678901234e+14, which is another id). Beyond 10^21 they would tell nothing.
local format, tostring, type = string.format, tostring, type

local PLAIN = 1e14 -- below, LuaJIT writes the digits

return function(...)
  local value = ...
  if type(value) == "number" and (value >= PLAIN or value <= -PLAIN) and value % 1 == 0
    and value < 1e21 and value > -1e21 then
    return format("%.0f", value)
  end
  return tostring(...)
end
