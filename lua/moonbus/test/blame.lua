-- Errors of whoever misuses the kit: raised with the place in the test, however deep in here they
-- were found.
local function is_ours(source)
  return source:find "^=moonbus%.test" or source:find "moonbus/test/%w+%.lua$" or source:sub(1, 2) == "=["
end

return function(format, ...)
  local level = 2
  while true do
    local info = debug.getinfo(level, "S")
    if not info then level = 1 break end
    if not is_ours(info.source) then break end
    level = level + 1
  end
  error(format:format(...), level)
end
