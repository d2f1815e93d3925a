-- `settings`: what handlers read as bus.settings. It goes to them as JSON text, so it can hold what
-- JSON can; anything else is named by its path.
local settings = {}

local DEPTH_MAX = 128 -- what bus.json reads

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function encode_text(text, path, json)
  local encoded = '"' .. text:gsub('[%c"\\\127]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
  local ok, complaint = json(encoded)
  if not ok then error({ path = path, what = "cannot be JSON: " .. complaint }, 0) end
  return encoded
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

-- above: the tables that it is in, and how many they are; json: C's reader.
local function encode_list(list, path, above, json)
  local parts = {}
  for index = 1, #list do
    parts[index] = encode(list[index], ("%s[%d]"):format(path, index), above, json)
  end
  return "[" .. table.concat(parts, ",") .. "]"
end

local function encode_map(map, path, above, json)
  local names, parts = {}, {}
  for key in pairs(map) do
    if type(key) ~= "string" then
      error({ path = path, what = ("has the key %s beside others; keys are texts, or all of 1, 2, 3...")
        :format(type(key) == "number" and key or "of a " .. type(key)) }, 0)
    end
    names[#names + 1] = key
  end
  table.sort(names)
  for index, key in ipairs(names) do
    local below = path .. "." .. key
    parts[index] = encode_text(key, below, json) .. ":" .. encode(map[key], below, above, json)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode(value, path, above, json)
  local kind = type(value)
  if kind == "string" then return encode_text(value, path, json) end
  if kind == "number" then return encode_number(value, path) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" then
    error({ path = path, what = ("is a %s; settings hold texts, numbers, booleans and tables")
      :format(kind) }, 0)
  end
  if above[value] then error({ path = path, what = "holds itself" }, 0) end
  if above.depth == DEPTH_MAX then
    error({ path = "settings", what = ("are nested more than %d deep"):format(DEPTH_MAX) }, 0)
  end
  above[value], above.depth = true, above.depth + 1
  local count = 0
  for _ in pairs(value) do count = count + 1 end
  local is_list = count > 0 and count == #value
  local text = (is_list and encode_list or encode_map)(value, path, above, json)
  above[value], above.depth = nil, above.depth - 1
  return text
end

-- A kind of setting (see config_kinds): gives the JSON text.
function settings.kind(value, context)
  if context.text then
    local ok, complaint = context.host.json(value)
    if not ok then return nil, "must be a JSON object: " .. complaint end
    if not value:match "^%s*{" then return nil, "must be a JSON object" end
    return value
  end
  if type(value) ~= "table" then
    return nil, ("must be a table, not %s"):format(context.show(value))
  end
  local ok, text = pcall(encode, value, "settings", { depth = 0 }, context.host.json)
  if ok then return text end
  if type(text) ~= "table" then return nil, tostring(text) end
  return nil, ("%s %s"):format(text.path, text.what)
end

return settings
