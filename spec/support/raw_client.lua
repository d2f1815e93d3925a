-- A NATS client that speaks the protocol itself, so that what a server says is seen to the byte
-- (spec.support.broker is the same on the broker inside the process):
--
--   peer:subscribe(subject, queue)   a number for next
--   peer:publish(subject, data, { reply = , headers = { "Name: value", ... } })
--   peer:next(sid, seconds)          { subject, reply, headers, data }, headers as raw text; nil
--   peer:pass(seconds)               lets time pass
local ffi = require "ffi"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"

local C = posix.C
local raw_client = {}
raw_client.__index = raw_client

function raw_client.connect(port)
  local fd = posix.dial(port, 'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n')
    or error("nobody listens at port " .. port)
  posix.hasten(fd)
  return setmetatable({ fd = fd, text = "", sid = 0, came = {}, pongs = 0 }, raw_client)
end

function raw_client:close() C.close(self.fd) end

local function send(self, text)
  if C.write(self.fd, text, #text) ~= #text then error "the server has closed the connection" end
end

-- Reads what comes within `seconds`; false when nothing does.
local function read(self, seconds)
  local waiting = ffi.new("struct moonbus_spec_pollfd[1]", { { fd = self.fd, events = 1 } })
  if C.poll(waiting, 1, math.ceil(seconds * 1000)) ~= 1 then return false end
  local buffer = ffi.new "char[65536]"
  local count = tonumber(C.read(self.fd, buffer, 65536))
  if count <= 0 then error("the server ends the connection: " .. self.text) end
  self.text = self.text .. ffi.string(buffer, count)
  return true
end

local function take_message(self, line, rest)
  local words = {}
  for word in line:gmatch "%S+" do words[#words + 1] = word end
  local with_headers = words[1] == "HMSG"
  local total = tonumber(words[#words])
  if #self.text < rest + total + 1 then return false end
  local body = self.text:sub(rest, rest + total - 1)
  local head = with_headers and tonumber(words[#words - 1]) or 0
  local has_reply = #words == (with_headers and 6 or 5)
  local sid = tonumber(words[3])
  table.insert(self.came[sid] or {}, {
    subject = words[2], reply = has_reply and words[4] or nil,
    headers = with_headers and body:sub(1, head) or nil, data = body:sub(head + 1),
  })
  self.text = self.text:sub(rest + total + 2)
  return true
end

-- Takes one line, and what belongs to it, off what was read. False: there is no whole one.
local function parse(self)
  local line, rest = self.text:match "^(.-)\r\n()"
  if not line then return false end
  if line:find "^H?MSG " then return take_message(self, line, rest) end
  self.text = self.text:sub(rest)
  if line == "PING" then send(self, "PONG\r\n") end
  if line == "PONG" then self.pongs = self.pongs + 1 end
  if line:find "^%-ERR" then error(line) end
  return true
end

-- Reads until condition() is true; false after `seconds`.
local function until_true(self, condition, seconds)
  local limit = wait.now() + seconds
  repeat
    while parse(self) do end -- luacheck: ignore 542
    local result = condition()
    if result then return result end
  until not read(self, math.max(0, limit - wait.now())) and wait.now() >= limit
  return false
end

-- The server has seen all that was sent.
local function flush(self)
  local pongs = self.pongs
  send(self, "PING\r\n")
  if not until_true(self, function() return self.pongs > pongs end, 5) then error "no PONG" end
end

function raw_client:subscribe(subject, queue)
  self.sid = self.sid + 1
  self.came[self.sid] = {}
  send(self, ("SUB %s %s %d\r\n"):format(subject, queue or "", self.sid))
  flush(self)
  return self.sid
end

function raw_client:unsubscribe(sid)
  send(self, ("UNSUB %d\r\n"):format(sid))
  flush(self)
end

function raw_client:publish(subject, data, options)
  local reply = options and options.reply or ""
  local block = options and options.headers
    and "NATS/1.0\r\n" .. table.concat(options.headers, "\r\n") .. "\r\n\r\n"
  if block then
    send(self, ("HPUB %s %s %d %d\r\n%s%s\r\n")
      :format(subject, reply, #block, #block + #data, block, data))
  else
    send(self, ("PUB %s %s %d\r\n%s\r\n"):format(subject, reply, #data, data))
  end
  flush(self)
end

function raw_client:next(sid, seconds)
  return until_true(self, function() return table.remove(self.came[sid], 1) end, seconds or 2)
    or nil
end

function raw_client:pass(seconds)
  until_true(self, function() return false end, seconds)
end

return raw_client
