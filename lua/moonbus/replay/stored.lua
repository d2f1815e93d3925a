-- What the old code has stored for inputs: an index of the streams that outputs go to, by message id.
-- An output's id begins with its input's: STREAM:TIME:DURABLE:SEQUENCE.
local source = require "moonbus.replay.source"

local stored = {}
stored.__index = stored

local M = {}

local IDS_MOST = 500000 -- some 100 MB

-- input: the stream of the inputs; since: the time of the first one, in seconds since 1970.
function M.new(server, input, durable, since)
  return setmetatable({ server = server, prefix = input .. ":", durable = durable, since = since, places = {},
    of_input = {}, streams = {}, names = {}, infos = {}, count = 0 }, stored)
end

-- The first sequence of what was stored then or later, by halves.
function M.find_time(server, stream, info, seconds)
  local low, high = math.max(info.first, 1), info.last + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    local message, code, why = server.read(stream, middle, ">")
    if not message and code ~= "not_found" then return nil, ("%s: %s"):format(code, why) end
    if message and message.seconds < seconds then low = message.sequence + 1 else high = middle end
  end
  return low
end

-- The id of the input that this output's id begins with; nil: it is none of ours.
local function input_of(self, id)
  if id:sub(1, #self.prefix) ~= self.prefix then return nil end
  local stamp, rest = id:sub(#self.prefix + 1):match "^(%d+):(.*)$"
  if not rest or rest:sub(1, #self.durable + 1) ~= self.durable .. ":" then return nil end
  local sequence = rest:sub(#self.durable + 2):match "^%d+"
  return sequence and ("%s%s:%s:%s"):format(self.prefix, stamp, self.durable, sequence)
end

local function note(self, stream, message)
  local id = message.block and message.block:match "\n[Nn]ats%-[Mm]sg%-[Ii]d:[ \t]*([^\r\n]*)"
  if not id or id == "" then return end
  self.count = self.count + 1
  if self.count > IDS_MOST then
    error(("more than %d messages with an id lie in %s since then: a shorter --since takes fewer"):format(IDS_MOST,
      table.concat(self.names, ", ")), 0)
  end
  self.places[id] = { stream = stream, sequence = message.sequence }
  local input = input_of(self, id)
  if input then
    local list = self.of_input[input] or {}
    list[#list + 1] = id
    self.of_input[input] = list
  end
end

-- Reads a stream to its present end; once. Raises a sentence.
function stored:add(stream)
  if self.streams[stream] then return end
  self.streams[stream] = true
  self.names[#self.names + 1] = stream
  local info, why = source.info(self.server, stream)
  if not info then error(why, 0) end
  self.infos[stream] = info
  local sequence
  sequence, why = M.find_time(self.server, stream, info, self.since)
  if not sequence then error(why, 0) end
  while sequence <= info.last do
    local message, code, reason = self.server.read(stream, sequence, ">")
    if not message and code == "not_found" then return end
    if not message then error(("%s: %s"):format(code, reason), 0) end
    if message.sequence <= info.last then note(self, stream, message) end
    sequence = message.sequence + 1
  end
end

-- Has the stream perhaps had a message that it keeps no longer? Of that subject, stored after `seconds`.
function stored:may_have_lost(stream, subject, seconds)
  local info = self.infos[stream]
  if info.retention ~= "limits" then return true end
  if info.messages == 0 then return info.last > 0 end
  if info.per_subject > 0 and self.server.last(stream, subject) then return true end
  if not info.oldest then
    local oldest = self.server.read(stream, info.first, ">")
    info.oldest = oldest and oldest.seconds or math.huge
  end
  return info.first > 1 and info.oldest > seconds
end

-- The message that has this id; nil: none has.
function stored:get(id)
  local place = self.places[id]
  if not place then return nil end
  local message, code, why = self.server.read(place.stream, place.sequence)
  if message then return message end
  if code == "not_found" then return nil end -- it has gone meanwhile
  error(("%s: %s"):format(code, why), 0)
end

return M
