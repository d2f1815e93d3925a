-- What was raised, of any type, as a failure: message, traceback.
local show = require "moonbus.show"

local M = {}

local kept = setmetatable({}, { __mode = "k" }) -- what again() made -> its failure

local function text_of(value)
  if type(value) == "string" then return value end
  if value == nil or type(value) == "boolean" then return "raised " .. tostring(value) end
  if type(value) ~= "table" then return "raised a " .. type(value) end
  local message = rawget(value, "message")
  if type(message) == "string" then return message end
  local named = getmetatable(value)
  if type(named) == "table" and rawget(named, "__tostring") then
    local ok, text = pcall(tostring, value)
    if ok and type(text) == "string" then return text end
  end
  return "raised a table: " .. show(value)
end

-- The innermost place outside of the kit and of C.
local function place_of(level)
  while true do
    level = level + 1
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.source:sub(1, 1) == "@" and info.currentline > 0 then
      return ("%s:%d: "):format(info.source:sub(2), info.currentline)
    end
  end
end

-- Without the kit's own lines.
local function traceback_of(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do
    if not line:find "^%s*moonbus%." and not line:find "^%s*%[C%]: at 0x" then lines[#lines + 1] = line end
  end
  while #lines > 1 and lines[#lines]:find "^%s*%[C%]" do lines[#lines] = nil end
  return table.concat(lines, "\n")
end

local OVERFLOW = "stack overflow"
local HAS_PLACE = "^[^\n]-:%d+: "

-- A handler of xpcall. What has no place gets the one of who raised it.
function M.failure(value)
  if kept[value] then return kept[value] end
  local text = text_of(value)
  local bare = type(value) ~= "string" or value == OVERFLOW -- LuaJIT says no place then
  if bare and not text:find(HAS_PLACE) then text = (place_of(2) or "") .. text end
  return { message = text, traceback = traceback_of(debug.traceback("", 2)) }
end

-- What raises a failure again: with other words, and the traceback of the first time.
function M.again(message, traceback)
  local value = {}
  kept[value] = { message = message, traceback = traceback }
  return value
end

return M
