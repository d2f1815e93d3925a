-- How a value looks in a message. What secret() gave never does, nor a password in a URL.
local function shower(secrets)
  local function hide(text)
    for secret in pairs(secrets) do
      local from, to = text:find(secret, 1, true)
      while from and secret ~= "" do
        text = text:sub(1, from - 1) .. "(secret)" .. text:sub(to + 1)
        from, to = text:find(secret, from + #"(secret)", true)
      end
    end
    return (text:gsub("://[^/@%s]+@", "://...@"))
  end
  local function show(value)
    if type(value) == "string" then return '"' .. hide(value) .. '"' end
    if type(value) == "table" then return "a table" end
    if type(value) == "function" then return "a function" end
    return tostring(value)
  end
  return show, hide
end

-- What secret() gave, as a list.
local function list(secrets)
  local values = {}
  for secret in pairs(secrets) do values[#values + 1] = secret end
  return values
end

return { of = shower, list = list }
