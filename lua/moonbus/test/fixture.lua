-- A message as a file: a line of JSON, as `moonbus sub --json` prints a stored message. What
-- `moonbus replay --save` writes, and it and tests read.
local base64 = require "moonbus.test.base64"
local cjson = require "cjson"
local files = require "moonbus.test.files"
local messages = require "moonbus.test.messages"

local M = {}

-- --- bytes ---

-- How long the character is that begins with this byte, and what its second byte may be.
local function shape(first)
  if first < 0x80 then return 1 end
  if first >= 0xC2 and first <= 0xDF then return 2, 0x80, 0xBF end
  if first == 0xE0 then return 3, 0xA0, 0xBF end
  if first == 0xED then return 3, 0x80, 0x9F end
  if first >= 0xE1 and first <= 0xEF then return 3, 0x80, 0xBF end
  if first == 0xF0 then return 4, 0x90, 0xBF end
  if first >= 0xF1 and first <= 0xF3 then return 4, 0x80, 0xBF end
  if first == 0xF4 then return 4, 0x80, 0x8F end
end

function M.is_utf8(text)
  local place = text:find "[\128-\255]"
  while place and place <= #text do
    local length, least, most = shape(text:byte(place))
    if not length then return false end
    for other = 1, length - 1 do
      local byte = text:byte(place + other)
      if not byte or byte < (other == 1 and least or 0x80) or byte > (other == 1 and most or 0xBF) then
        return false
      end
    end
    place = place + length
  end
  return true
end

-- --- writing ---

local function quote(text) return (cjson.encode(text):gsub("\\/", "/")) end

local function add_headers(parts, block)
  local names, values = {}, {}
  for _, pair in ipairs(messages.block_pairs(block)) do
    if not values[pair[1]] then
      values[pair[1]] = {}
      names[#names + 1] = pair[1]
    end
    table.insert(values[pair[1]], quote(pair[2]))
  end
  if #names == 0 then return end
  for index, name in ipairs(names) do names[index] = quote(name) .. ":[" .. table.concat(values[name], ",") .. "]" end
  parts[#parts + 1] = '"headers":{' .. table.concat(names, ",") .. "}"
end

-- message: stream, subject, sequence, time, block, data, consumer, attempt.
function M.text(message)
  local parts = { '"subject":' .. quote(message.subject) }
  if message.stream then parts[#parts + 1] = '"stream":' .. quote(message.stream) end
  if message.sequence then parts[#parts + 1] = ('"sequence":%.0f'):format(message.sequence) end
  if message.time then parts[#parts + 1] = '"time":' .. quote(message.time) end
  if message.consumer then parts[#parts + 1] = '"consumer":' .. quote(message.consumer) end
  if message.attempt then parts[#parts + 1] = ('"attempt":%.0f'):format(message.attempt) end
  if M.is_utf8(message.data) then
    parts[#parts + 1] = '"data":' .. quote(message.data)
  else
    parts[#parts + 1] = '"data_base64":"' .. base64.encode(message.data) .. '"'
  end
  if message.block and M.is_utf8(message.block) then
    add_headers(parts, message.block)
  elseif message.block then
    parts[#parts + 1] = '"headers_base64":"' .. base64.encode(message.block) .. '"'
  end
  return "{" .. table.concat(parts, ",") .. "}\n"
end

-- True, or nil and why not.
function M.write(path, message)
  local file, why = io.open(path, "wb")
  if not file then return nil, why end
  local ok, failed = file:write(M.text(message))
  local closed, late = file:close()
  if not ok or not closed then return nil, path .. ": " .. tostring(failed or late) end
  return true
end

-- --- reading ---

local KINDS = { subject = "string", stream = "string", sequence = "number", time = "string", consumer = "string",
  attempt = "number", data = "string", data_base64 = "string", headers = "table", headers_base64 = "string" }

local function whole(number) return not number or (number >= 1 and number % 1 == 0 and number <= 2 ^ 53) end

local function check(value)
  for key, kind in pairs(KINDS) do
    if value[key] ~= nil and type(value[key]) ~= kind then return ('"%s" is not a %s'):format(key, kind) end
  end
  if not value.subject or value.subject == "" then return 'it has no "subject"' end
  local dotted = "." .. value.subject .. "."
  if dotted:find "[%s%z*>]" or dotted:find("..", 1, true) then
    return ('"subject": %s is none to publish to'):format(value.subject)
  end
  if not whole(value.sequence) or not whole(value.attempt) then
    return '"sequence" and "attempt" are whole numbers from 1 on'
  end
  if value.time and not value.time:find "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d" then
    return ('"time": %s is none, as 2026-01-31T12:00:00Z'):format(value.time)
  end
  if value.data and value.data_base64 then return 'it has both "data" and "data_base64"' end
  if value.dead_letter then
    return "it is a dead letter itself, as `moonbus sub --json` prints it: `moonbus replay --dead STREAM SEQ " ..
      "--save FILE` writes what the letter is of"
  end
end

local function block_of(headers)
  local lines = { "NATS/1.0\r\n" }
  for name, values in pairs(headers) do
    if type(name) ~= "string" or name:find "[:%c%s]" or name == "" then return nil, '"headers": a bad name' end
    for _, value in ipairs(type(values) == "table" and values or { values }) do
      value = type(value) == "number" and ("%.14g"):format(value) or value
      if type(value) ~= "string" or value:find "[\r\n%z]" then
        return nil, ('"headers": %s: a value is a text without line breaks'):format(name)
      end
      lines[#lines + 1] = name .. ": " .. value .. "\r\n"
    end
  end
  return #lines > 1 and table.concat(lines) .. "\r\n" or nil
end

-- A message of a text; nil and why it is none.
function M.parse(text)
  local ok, value = pcall(cjson.decode, text)
  if not ok or type(value) ~= "table" then
    return nil, "it is no message: one JSON object, as `moonbus replay --save` writes it"
  end
  local wrong = check(value)
  if wrong then return nil, wrong end
  local message = { subject = value.subject, stream = value.stream, sequence = value.sequence, time = value.time,
    consumer = value.consumer, attempt = value.attempt, data = value.data or "" }
  if value.data_base64 then
    message.data = base64.decode(value.data_base64)
    if not message.data then return nil, '"data_base64" is no base64' end
  end
  if value.headers_base64 then
    message.block = base64.decode(value.headers_base64)
    if not message.block or not message.block:find "^NATS/1%.0[^\r\n]*\r\n.*\r\n\r\n$" then
      return nil, '"headers_base64" is no block of headers'
    end
  elseif value.headers then
    message.block, wrong = block_of(value.headers)
    if wrong then return nil, wrong end
  end
  return message
end

function M.read(path)
  local text, why = files.read(path)
  if not text then return nil, path .. ": " .. why end
  local message, wrong = M.parse(text)
  if not message then return nil, path .. ": " .. wrong end
  return message
end

return M
