-- Messages as tests see them: data as tables where it is JSON, headers by name in any case.
local cjson = require "cjson"
local core = require "moonbus.core"

local M = {}

local by_any_case = {}
by_any_case.__index = function(headers, name)
  if type(name) ~= "string" then return nil end
  for key, value in pairs(headers) do
    if key:lower() == name:lower() then return value end
  end
end

-- null is nil, as in handlers.
local function without_null(value)
  if value == cjson.null then return nil end
  if type(value) ~= "table" then return value end
  for key, item in pairs(value) do value[key] = without_null(item) end
  return value
end

-- Of JSON its value; of anything else the text.
function M.decode(text)
  if not text:find "^%s*[%[{]" then return text end
  local ok, value = pcall(cjson.decode, text)
  if not ok then return text end
  return without_null(value)
end

-- What is sent for a value: text and its content type, or nil and what is wrong. Tables as handlers
-- would send them.
function M.encode(value)
  if value == nil then return "" end
  if type(value) == "string" then return value end
  if type(value) ~= "table" then return nil, "data is a string or a table, not a " .. type(value) end
  local ok, text = pcall(core.json_encode, value)
  if not ok then return nil, (tostring(text):gsub("^.-bus%.json%.encode: ", "this table is no JSON: ")) end
  return text, "application/json"
end

-- The string keys of a table, in order.
function M.sorted(names)
  local list = {}
  for name in pairs(names) do
    if type(name) == "string" then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

-- A header block; nil for no headers. status: "503".
function M.block(headers, status)
  local lines = { "NATS/1.0" .. (status and " " .. status or "") }
  for name, value in pairs(headers or {}) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      lines[#lines + 1] = name .. ": " .. tostring(one)
    end
  end
  if #lines == 1 and not status then return nil end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

local function add(headers, name, value)
  if rawget(headers, name) == nil then headers[name] = value end
end

-- The fields of a block as it comes over the wire, { name, value } each, and its first line.
function M.block_pairs(text)
  local list = {}
  local first, rest = text:match "^(NATS/1.0[^\r\n]*)\r\n(.*)$"
  for name, value in (rest or ""):gmatch "([^:\r\n]+):[ \t]*([^\r\n]*)" do list[#list + 1] = { name, value } end
  return list, first
end

-- Of such a block; the second value is its status.
function M.read_block(text)
  local headers = setmetatable({}, by_any_case)
  local list, first = M.block_pairs(text)
  for _, pair in ipairs(list) do add(headers, pair[1], pair[2]) end
  return headers, first and first:match "^NATS/1.0 (%d+)"
end

-- Of an HTTP call: "name NUL value NUL".
function M.read_pairs(text)
  local headers = setmetatable({}, by_any_case)
  for name, value in text:gmatch "([^%z]*)%z([^%z]*)%z" do add(headers, name, value) end
  return headers
end

-- One that came or was sent, as tests get it.
function M.message(subject, text, headers)
  return { subject = subject, data = M.decode(text), raw = text, headers = headers, id = headers["nats-msg-id"] }
end

-- Is it a dead letter that the host itself publishes? A handler may send on the headers of one.
function M.is_letter(message)
  return message.headers["Moonbus-Stream"] ~= nil and message.headers["Moonbus-Code"] ~= nil
    and (message.id or ""):sub(-5) == ":dead"
end

-- Does a pattern with * and > take the subject?
function M.matches(pattern, subject)
  local rest = subject .. "."
  for token in pattern:gmatch "[^.]+" do
    if token == ">" then return rest ~= "" end
    local got, after = rest:match "^([^.]+)%.(.*)$"
    if not got or (token ~= "*" and token ~= got) then return false end
    rest = after
  end
  return rest == ""
end

return M
