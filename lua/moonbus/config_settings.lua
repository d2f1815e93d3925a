-- `settings`: what handlers read as bus.settings. It goes to them as JSON text, so it can hold what
-- JSON can; anything else is named by its path.
local settings = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function encode_text(text)
  return '"' .. text:gsub('[%c"\\\127]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

-- The shortest text that reads back as the same number.
local function encode_number(number, path)
  if number ~= number or number == math.huge or number == -math.huge then
    error({ path = path, what = "is not a finite number" }, 0)
  end
  for digits = 14, 17 do
    local text = ("%." .. digits .. "g"):format(number)
    if tonumber(text) == number then return text end
  end
end

local encode

local function encode_list(list, path, above)
  local parts = {}
  for index = 1, #list do
    parts[index] = encode(list[index], ("%s[%d]"):format(path, index), above)
  end
  return "[" .. table.concat(parts, ",") .. "]"
end

local function encode_map(map, path, above)
  local names, parts = {}, {}
  for key in pairs(map) do
    if type(key) ~= "string" then
      error({ path = path, what = ("has the key %s beside others; keys are texts, or all of 1, 2, 3...")
        :format(tostring(key)) }, 0)
    end
    names[#names + 1] = key
  end
  table.sort(names)
  for index, key in ipairs(names) do
    parts[index] = encode_text(key) .. ":" .. encode(map[key], path .. "." .. key, above)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode(value, path, above)
  local kind = type(value)
  if kind == "string" then return encode_text(value) end
  if kind == "number" then return encode_number(value, path) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" then
    error({ path = path, what = ("is a %s; settings hold texts, numbers, booleans and tables")
      :format(kind) }, 0)
  end
  if above[value] then error({ path = path, what = "holds itself" }, 0) end
  above[value] = true
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  local is_list = count > 0 and count == #value
  local text = (is_list and encode_list or encode_map)(value, path, above)
  above[value] = nil
  return text
end

-- A kind of setting (see config_kinds): gives the JSON text.
function settings.kind(value, context)
  if context.text then
    local ok, decoded = pcall(require "cjson".decode, value)
    if not ok or type(decoded) ~= "table" or value:match "^%s*%[" then
      return nil, "must be a JSON object"
    end
    return value
  end
  if type(value) ~= "table" then
    return nil, ("must be a table, not %s"):format(context.show(value))
  end
  local ok, text = pcall(encode, value, "settings", {})
  if ok then return text end
  if type(text) ~= "table" then return nil, tostring(text) end
  return nil, ("%s %s"):format(text.path, text.what)
end

return settings
