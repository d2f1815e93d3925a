-- How what came out is printed: bounded, on one line each, and never a secret of the config.
local base64 = require "moonbus.test.base64"
local cjson = require "cjson"
local fixture = require "moonbus.test.fixture"

local M = {}

local DATA_MOST, TEXT_MOST, PART_LEAST = 300, 2000, 4

-- --- secrets ---

local secrets = {}

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function as_hex(byte) return ("\\x%02x"):format(byte:byte()) end

-- In which forms it may appear: as it is; as JSON writes it, which may leave slashes as they are; and as values of
-- locals are shown, with escapes for control characters alone.
local function forms_of(secret)
  local quoted = cjson.encode(secret):sub(2, -2)
  local escaped = secret:gsub("[%z\1-\8\10-\31\127]", function(byte) return ESCAPES[byte] or as_hex(byte) end)
  if not fixture.is_utf8(secret) then escaped = escaped:gsub("[\128-\255]", as_hex) end
  return { secret, quoted, (quoted:gsub("\\/", "/")), escaped }
end

-- What secret() gave, which is shown nowhere.
function M.hide_all(list)
  secrets = {}
  local seen = { [""] = true }
  for _, secret in ipairs(list) do
    for _, form in ipairs(forms_of(secret)) do
      if not seen[form] then secrets[#secrets + 1] = form end
      seen[form] = true
    end
  end
  table.sort(secrets, function(a, b) return #a > #b end)
end

local function replace(text, secret)
  local parts, from = {}, 1
  repeat
    local first, last = text:find(secret, from, true)
    parts[#parts + 1] = text:sub(from, (first or 0) - 1)
    if first then parts[#parts + 1] = "(secret)" end
    from = (last or 0) + 1
  until not first
  return table.concat(parts)
end

-- The beginning of one may stand where a text was cut.
local function hide_cut(text, secret)
  local place = text:find("...", 1, true)
  while place do
    for length = math.min(#secret, place - 1), PART_LEAST, -1 do
      if text:sub(place - length, place - 1) == secret:sub(1, length) then
        text = text:sub(1, place - length - 1) .. "(secret)" .. text:sub(place)
        place = place - length + #"(secret)"
        break
      end
    end
    place = text:find("...", place + 3, true)
  end
  return text
end

function M.hide(text)
  for _, secret in ipairs(secrets) do
    if text:find(secret, 1, true) then text = replace(text, secret) end
    text = hide_cut(text, secret)
  end
  return text
end

-- --- texts ---

-- On one line, steering no terminal.
function M.line(text)
  text = M.hide(text):gsub("[%z\1-\31\127]", function(byte)
    return ESCAPES[byte] or as_hex(byte)
  end)
  if fixture.is_utf8(text) then return text end
  return (text:gsub("[\128-\255]", as_hex))
end

local function cut(text, most)
  if #text <= most then return text end
  while most > 0 and text:byte(most + 1) >= 0x80 and text:byte(most + 1) < 0xC0 do most = most - 1 end
  return text:sub(1, most) .. "..."
end

-- Hidden first: a cut must not leave a piece of a secret.
function M.data(text)
  if text == "" then return "(empty)" end
  return M.line(cut(M.hide(text), DATA_MOST))
end

function M.text(text) return M.line(cut(M.hide(text), TEXT_MOST)) end

function M.seconds(seconds)
  if seconds >= 60 then
    local hours, minutes = math.floor(seconds / 3600), math.floor(seconds / 60) % 60
    local rest = math.floor(seconds % 60 * 10) / 10
    return (hours > 0 and hours .. "h" or "") .. (minutes > 0 and minutes .. "m" or "")
      .. (rest > 0 and ("%gs"):format(rest) or "")
  end
  if seconds >= 1 then return ("%gs"):format(math.floor(seconds * 100 + 0.5) / 100) end
  return ("%gms"):format(math.floor(seconds * 100000 + 0.5) / 100)
end

function M.count(number)
  local text = ("%.0f"):format(number)
  repeat
    local count
    text, count = text:gsub("^(%d+)(%d%d%d)", "%1,%2")
  until count == 0
  return text
end

-- --- JSON ---

-- A copy in which strings are fit for JSON.
function M.clean(value)
  if type(value) == "string" then
    value = M.hide(value)
    return fixture.is_utf8(value) and value or M.line(value)
  end
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in pairs(value) do
    if type(item) ~= "function" then copy[type(key) == "string" and M.clean(key) or key] = M.clean(item) end
  end
  return copy
end

-- A message's data as a field of an object.
function M.put_data(object, data)
  data = M.hide(data)
  if fixture.is_utf8(data) then
    object.data = data
  else
    object.data_base64 = base64.encode(data)
  end
  return object
end

local EMPTY = "\0[]" -- stands for an empty list, which no table can be

function M.list(items) return #items > 0 and items or EMPTY end

function M.encode(value) return (cjson.encode(value):gsub("\\/", "/"):gsub('"\\u0000%[%]"', "[]")) end

return M
