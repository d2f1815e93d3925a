-- The types of settings. A kind is a function (value, context) that gives the value that C wants,
-- or nil and what is wrong with it. context: text (true: the value is text of the environment or of
-- a flag), folder (what relative paths are relative to), show (how a value looks in a message), host.
local nearest = require "moonbus.nearest"

local kinds = {}

local function wanted(what, value, context)
  return nil, ("must be %s, not %s"):format(what, context.show(value))
end

-- ' (did you mean "workers"?)', or "" when nothing is near.
---@param name string
---@param candidates string[]
---@return string
function kinds.suggest(name, candidates)
  local near = nearest(name, candidates)
  return near and (" (did you mean %q?)"):format(near) or ""
end

function kinds.text(value, context)
  if type(value) ~= "string" or value == "" then return wanted("a text", value, context) end
  if value:find "[%z\r\n]" then return nil, "must be one line of text" end
  return value
end

-- As text, with all its digits: 1e15 is no way to write a size.
local function plain(number)
  return number % 1 == 0 and ("%.0f"):format(number) or tostring(number)
end

function kinds.path(value, context)
  if type(value) ~= "string" or value == "" then return wanted("a path", value, context) end
  if value:find("%z") then return nil, "must be a path" end
  if context.folder and value:sub(1, 1) ~= "/" then return context.folder .. value end
  return value
end

function kinds.jwt(value, context)
  if type(value) == "string" and value:find "^eyJ[%w%-_.]+$" then return value end
  return wanted("a JWT (eyJ...), not a file: for that there is creds", value, context)
end

function kinds.seed(value, context)
  if type(value) == "string" and value:find "^SU[A-Z2-7]+$" then return value end
  return wanted("a user's seed (SU...), not a file: for that there is nkey", value, context)
end

function kinds.boolean(value, context)
  if type(value) == "boolean" then return value end
  if context.text then
    local word = value:lower()
    if word == "true" or word == "1" or word == "yes" or word == "on" then return true end
    if word == "false" or word == "0" or word == "no" or word == "off" then return false end
  end
  return wanted("true or false", value, context)
end

function kinds.integer(least, most)
  local what = ("an integer from %d to %d"):format(least, most)
  return function(value, context)
    local number = value
    if context.text then number = value:match "^%d+$" and tonumber(value) end
    if type(number) ~= "number" or number % 1 ~= 0 or number < least or number > most then
      return wanted(what, value, context)
    end
    return number
  end
end

function kinds.duration(least)
  return function(value, context)
    if type(value) ~= "string" and type(value) ~= "number" then
      return wanted('a duration such as "5s" or "250ms", or a number of seconds', value, context)
    end
    local ns, complaint = context.host.duration(value)
    if not ns then return nil, complaint end
    if ns < context.host.duration(least) then return wanted("at least " .. least, value, context) end
    return ns
  end
end

function kinds.size(least)
  return function(value, context)
    if type(value) ~= "string" and type(value) ~= "number" then
      return wanted('a size such as "64MB", or a number of bytes', value, context)
    end
    local bytes, complaint = context.host.size(type(value) == "number" and plain(value) or value)
    if not bytes then return nil, complaint end
    if bytes < context.host.size(least) then return wanted("at least " .. least, value, context) end
    return bytes
  end
end

function kinds.choice(list)
  local what = "one of " .. table.concat(list, ", ")
  return function(value, context)
    for _, each in ipairs(list) do
      if value == each then return value end
    end
    local none, complaint = wanted(what, value, context)
    return none, complaint .. (type(value) == "string" and kinds.suggest(value, list) or "")
  end
end

function kinds.subject(value, context)
  if type(value) ~= "string" then return wanted("a subject", value, context) end
  local ok, complaint = context.host.subject(value)
  if not ok then return nil, complaint end
  return value
end

-- What other names are put behind: with a stream's and a durable's, of 255 bytes each, it must stay a
-- subject that the buffers for it hold.
local PREFIX_BYTES_MOST = 255

function kinds.prefix(value, context)
  local subject, complaint = kinds.subject(value, context)
  if subject and #subject > PREFIX_BYTES_MOST then
    return nil, ("must be at most %d bytes, not %d: names are added to it"):format(PREFIX_BYTES_MOST, #subject)
  end
  return subject, complaint
end

function kinds.name(what)
  return function(value, context)
    if type(value) ~= "string" then return wanted("a " .. what, value, context) end
    local ok, complaint = context.host.name(what, value)
    if not ok then return nil, complaint end
    return value
  end
end

local function port_of(text)
  local port = tonumber(text)
  return port and port >= 1 and port <= 65535
end

-- ADDR:PORT, or "off".
function kinds.address(value, context)
  if value == "off" then return value end
  local port = type(value) == "string" and value:match "^[^%s%c:]*:(%d+)$"
    or type(value) == "string" and value:match "^%[[%x:.]+%]:(%d+)$"
  if not port or not port_of(port) then
    return wanted('"ADDR:PORT" or "off"', value, context)
  end
  return value
end

-- What of a URL may be shown, however malformed it is. Nothing before the last "@", as a password may
-- hold "@", "/" or "://"; nor what stands where a port should, as the "@" may have been forgotten.
function kinds.shown_url(text)
  local scheme = text:match "^%a[%w+.-]*://" or ""
  local at = text:match "^.*()@"
  if at and #scheme > at then scheme = "" end
  local rest = at and "...@" .. text:sub(at + 1) or text:sub(#scheme + 1)
  local host, tail = rest:match "^(%[[^%]]*%])(.*)$"
  if not host then host, tail = rest:match "^([^:/]*)(.*)$" end
  if not (tail:match "^:%d+/?$" and #tail <= 7) and tail:match "^/?(.*)$" ~= "" then
    tail = tail:sub(1, 1) .. "..."
  end
  return scheme .. host .. tail
end

-- [nats://|tls://][user[:password]@]host[:port]
function kinds.url(value, context)
  local what = 'a URL such as "nats://127.0.0.1:4222" or "tls://host:4222"'
  if type(value) ~= "string" then return wanted(what, value, context) end
  local shown = kinds.shown_url(value)
  if value:find "[%z%c]" then return wanted(what, shown, context) end
  local scheme, rest = value:match "^(%a[%w+.-]*)://(.*)$"
  rest = (rest or value):gsub("/$", "")
  local host = rest:match "^.*@(.*)$" or rest
  local name, port = host:match "^(%[[%x:.]+%])(.*)$"
  if not name then name, port = host:match "^([%w._-]+)(.*)$" end
  local bad = not name or (scheme and scheme ~= "nats" and scheme ~= "tls")
    or (port ~= "" and not (port:match "^:%d+$" and port_of(port:sub(2))))
  if bad then return wanted(what, shown, context) end
  return (scheme or "nats") .. "://" .. rest
end

local function split(text)
  local list = {}
  for item in text:gmatch "[^,]+" do
    item = item:match "^%s*(.-)%s*$"
    if item ~= "" then list[#list + 1] = item end
  end
  return list
end

-- A list of another kind; as text, separated by commas.
function kinds.list(kind)
  return function(value, context)
    if context.text then value = split(value) end
    if type(value) ~= "table" then
      return wanted("a list, such as { ... }", value, context)
    end
    local list, last = {}, 0
    for key in pairs(value) do
      if type(key) ~= "number" or key % 1 ~= 0 or key < 1 then
        return nil, ("must be a list, but has the key %s"):format(context.show(key))
      end
      last = math.max(last, key)
    end
    for index = 1, last do
      local item = rawget(value, index)
      if item == nil then return nil, ("must be a list, but [%d] is nil"):format(index) end
      local converted, complaint = kind(item, context)
      if converted == nil then
        if context.text then return nil, complaint end
        return nil, ("[%d] %s"):format(index, complaint)
      end
      list[index] = converted
    end
    if #list == 0 then return nil, "must not be empty" end
    return list
  end
end

return kinds
