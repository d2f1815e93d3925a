-- What an output says now, compared with what it said: headers, and data by value where it is JSON.
local cjson = require "cjson"
local messages = require "moonbus.test.messages"
local shown = require "moonbus.replay.shown"

local M = {}

local FIELDS_MOST = 10 -- of one message

-- They tell of the run, not of what it found out; so do expectations, whose sequences were those of then.
local OF_THE_RUN = { ["nats-msg-id"] = true, traceparent = true, tracestate = true }

-- One part of a path: a name, then places in lists.
local function is_part(part)
  local rest = part:match "^[^%[%]]+(.*)$" or part:match "^(%[.*)$"
  while rest and rest ~= "" do rest = rest:match "^%[%d+%](.*)$" or rest:match "^%[%*%](.*)$" end
  return rest == ""
end

-- names: "items[1].at", "items[*].at", "header:X-When". Or nil, and what is wrong with one.
function M.ignoring(names)
  local set = {}
  for _, name in ipairs(names) do
    local header = name:lower():match "^header:(.*)$"
    if header then
      if not header:find "^[!-9;-~]+$" then return nil, ('"%s": a header is header:NAME'):format(name) end
      set["header:" .. header] = true
    else
      for part in (name .. "."):gmatch "(.-)%." do
        if not is_part(part) then
          return nil, ('"%s": expected a path of the data, as items[1].at or items[*].at, or header:NAME'):format(name)
        end
      end
      set[name] = true
    end
  end
  return set
end

-- What of the names was met in any message.
M.met = {}

local function is_ignored(path, ignored)
  for _, name in ipairs { path, (path:gsub("%[%d+%]", "[*]")) } do
    if ignored[name] then
      M.met[name] = true
      return true
    end
  end
  return false
end

-- Those that were in no message that was compared: a slip of the pen, perhaps.
function M.unmet(ignored)
  local list = {}
  for name in pairs(ignored) do
    if not M.met[name] then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

-- --- values ---

local function text_of(value)
  if value == nil then return "absent" end
  if value == cjson.null then return "null" end
  if type(value) == "string" then return '"' .. shown.data(value) .. '"' end
  if type(value) == "table" then return shown.data((cjson.encode(value):gsub("\\/", "/"))) end
  return tostring(value)
end

local function add(found, path, was, now)
  if #found < FIELDS_MOST then
    found[#found + 1] = ("%s: was %s, now %s"):format(path == "" and "data" or shown.line(path), was, now)
  else
    found.more = (found.more or 0) + 1
  end
end

local function keys_of(was, now)
  local keys, seen = {}, {}
  for _, value in ipairs { was, now } do
    for key in pairs(value) do
      if not seen[key] then keys[#keys + 1] = key end
      seen[key] = true
    end
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

local function join(path, key)
  if type(key) == "number" then return ("%s[%d]"):format(path, key) end
  return path == "" and key or path .. "." .. key
end

local function walk(was, now, path, ignored, found)
  if path ~= "" and is_ignored(path, ignored) then return end
  if type(was) == "table" and type(now) == "table" then
    for _, key in ipairs(keys_of(was, now)) do walk(was[key], now[key], join(path, key), ignored, found) end
  elseif was ~= now then
    add(found, path, text_of(was), text_of(now))
  end
end

local function decode(text)
  local ok, value = pcall(cjson.decode, text)
  return ok and type(value) == "table" and value or nil
end

-- Numbers of so many digits are not told apart as values.
local function long_numbers(text)
  local list = {}
  for digits in text:gmatch "%d+" do
    if #digits > 15 then list[#list + 1] = digits end
  end
  table.sort(list)
  return table.concat(list, ",")
end

local function first_difference(was, now)
  local place = 1
  while place <= #was and was:byte(place) == now:byte(place) do place = place + 1 end
  return place
end

-- What is there and equal has been met, too.
local function note_names(text, ignored)
  local value = next(ignored) and decode(text)
  if value then walk(value, value, "", ignored, {}) end
end

local function compare_data(was, now, ignored, found)
  if is_ignored("data", ignored) then return end
  if was == now then return note_names(was, ignored) end
  local before, after = decode(was), decode(now)
  if not before or not after then
    return add(found, "", ("%s (%d bytes)"):format(shown.data(was), #was), ("%s (%d bytes; from byte %d on)"):format(
      shown.data(now), #now, first_difference(was, now)))
  end
  local count = #found
  walk(before, after, "", ignored, found)
  if #found == count and not next(ignored) and long_numbers(was) ~= long_numbers(now) then
    add(found, "", shown.data(was), shown.data(now))
  end
end

-- --- headers ---

-- Of each name, in small letters, all values.
local function collect(block)
  local all = {}
  for _, pair in ipairs(block and messages.block_pairs(block) or {}) do
    local name = pair[1]:lower()
    if not OF_THE_RUN[name] and not name:find "^nats%-expected%-" then
      all[name] = (all[name] and all[name] .. ", " or "") .. pair[2]
    end
  end
  return all
end

local function compare_headers(was, now, ignored, found)
  local before, after = collect(was), collect(now)
  for _, name in ipairs(keys_of(before, after)) do
    if not is_ignored("header:" .. name, ignored) and before[name] ~= after[name] then
      add(found, "header " .. name, text_of(before[name]), text_of(after[name]))
    end
  end
  return after
end

-- was: a stored message; now: one that would be published, with block and raw. A list of sentences.
function M.messages(was, now, ignored)
  local found = {}
  local headers = compare_headers(was.block, now.block, ignored, found)
  if not headers["nats-incr"] then compare_data(was.data, now.raw, ignored, found) end -- a counter's data are its sum
  if found.more then found[#found + 1] = ("and %d more"):format(found.more) end
  return found
end

return M
