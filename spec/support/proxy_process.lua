-- The process behind spec.support.proxy:  luajit proxy_process.lua LISTEN_PORT CONTROL_PORT
-- SERVER_PORT. It forwards TCP between the first and the last, and does as it is told, line by
-- line, by who connects to the second; each line is answered by "ok".
local ffi = require "ffi"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"

ffi.cdef [[
  int listen(int fd, int backlog);
  int accept4(int fd, void *address, void *size, int flags);
  int setsockopt(int fd, int level, int option, const void *value, unsigned int size);
  long send(int fd, const void *data, unsigned long size, int flags);
]]

local C = ffi.C
local AF_INET, SOCK_STREAM, NONBLOCK = 2, 1, 0x800
local POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16
local EAGAIN, EINPROGRESS, MSG_NOSIGNAL = 11, 115, 0x4000
local CHUNK = 65536
local TRICKLE = 0.04 -- seconds; whoever sends is told of room when there is a third of it

local listen_port, control_port, server_port = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
local buffer = ffi.new("char[?]", CHUNK)
local one = ffi.new("int[1]", 1)
-- { fd, peer, out = { { due, data }, ... }, poisoned }: the two ends of a connection are peers.
local ends = {}
local mode = { delay = 0, swallow = false, cut_at = nil }

local function listen_on(port)
  local fd = C.socket(AF_INET, SOCK_STREAM + NONBLOCK, 0)
  C.setsockopt(fd, 1, 2, one, 4) -- SO_REUSEADDR
  if C.bind(fd, posix.loopback(port), 16) ~= 0 or C.listen(fd, 64) ~= 0 then posix.error "listen" end
  return fd
end

local function set_up(fd)
  C.setsockopt(fd, 6, 1, one, 4) -- TCP_NODELAY
  return { fd = fd, out = {} }
end

local function drop(side)
  for _, each in ipairs { side, side.peer } do
    if ends[each.fd] == each then
      ends[each.fd] = nil
      C.close(each.fd)
    end
  end
end

local function drop_if(condition)
  local list = {}
  for _, side in pairs(ends) do list[#list + 1] = side end
  for _, side in ipairs(list) do
    if ends[side.fd] == side and condition(side) then drop(side) end
  end
end

local function accept(listener)
  local fd = C.accept4(listener, nil, nil, NONBLOCK)
  if fd < 0 then return end
  if mode.down then
    C.close(fd)
    return
  end
  local client = set_up(fd)
  local server = set_up(C.socket(AF_INET, SOCK_STREAM + NONBLOCK, 0))
  client.peer, server.peer, server.from_server = server, client, true
  ends[client.fd], ends[server.fd] = client, server
  if C.connect(server.fd, posix.loopback(server_port), 16) ~= 0 and ffi.errno() ~= EINPROGRESS then
    drop(client)
  end
end

-- Bytes that came from `side`, on their way to its peer.
local function take(side, data)
  if mode.swallow or mode.greet and (side.greeted or not side.from_server) then
    side.poisoned = true -- with a hole in its bytes it can never be used again
    return
  end
  side.greeted = true
  if mode.wanted and not side.from_server and data:find(mode.wanted, 1, true) then mode.seen = true end
  if side.from_server and mode.cut_at and data:find(mode.cut_at, 1, true) then
    mode.cut_at = nil
    drop(side)
    return
  end
  table.insert(side.peer.out, { due = wait.now() + mode.delay, data = data })
end

-- When the next bytes of `side` may be read.
local function rests_until(side) return mode.trickle and not side.from_server and side.rests_until or 0 end

local function read(side)
  side.rests_until = wait.now() + TRICKLE
  local count = tonumber(C.read(side.fd, buffer, CHUNK))
  if count > 0 then
    take(side, ffi.string(buffer, count))
  elseif count == 0 or ffi.errno() ~= EAGAIN then
    drop(side)
  end
end

-- Sends what is due to `side`.
local function write(side)
  while side.out[1] and side.out[1].due <= wait.now() do
    local first = side.out[1]
    local sent = tonumber(C.send(side.fd, first.data, #first.data, MSG_NOSIGNAL))
    if sent < 0 then
      if ffi.errno() ~= EAGAIN then drop(side) end
      return
    end
    first.data = first.data:sub(sent + 1)
    if first.data ~= "" then return end
    table.remove(side.out, 1)
  end
end

local commands = {
  delay = function(ms) mode.delay = tonumber(ms) / 1000 end,
  swallow = function() mode.swallow = true end,
  trickle = function() mode.trickle = true end,
  greet = function()
    mode = { delay = 0, greet = true }
    drop_if(function() return true end)
  end,
  pass = function()
    mode = { delay = 0, swallow = false }
    drop_if(function(side) return side.poisoned or side.peer.poisoned end)
  end,
  down = function()
    mode.down = true
    drop_if(function() return true end)
  end,
  reset = function()
    local abort = ffi.new("int[2]", 1, 0) -- struct linger: what was not sent is thrown away, by an RST
    for fd in pairs(ends) do C.setsockopt(fd, 1, 13, abort, 8) end
    drop_if(function() return true end)
  end,
  cut_at = function(text) mode.cut_at = text end,
  say = function(text)
    for _, side in pairs(ends) do
      if not side.from_server then
        table.insert(side.out, { due = wait.now(), data = (text:gsub("\\r", "\r"):gsub("\\n", "\n")) })
      end
    end
  end,
  look_for = function(text) mode.wanted, mode.seen = text, false end,
  seen = function() return mode.seen or false end,
}

local function obey(control)
  local fd = C.accept4(control, nil, nil, 0)
  if fd < 0 then return end
  local count = tonumber(C.read(fd, buffer, CHUNK))
  local name, text = ffi.string(buffer, math.max(count, 0)):match "^(%S+) ?([^\n]*)\n$"
  if commands[name] and commands[name](text) ~= false then C.write(fd, "ok\n", 3) end
  C.close(fd)
end

-- How many milliseconds to wait for what is not due yet; what is, waits for POLLOUT.
local function patience()
  local now, due = wait.now(), nil
  for _, side in pairs(ends) do
    local first = side.out[1]
    for _, at in ipairs { first and first.due or 0, rests_until(side) } do
      if at > now and (not due or at < due) then due = at end
    end
  end
  return due and math.ceil((due - now) * 1000) or -1
end

local function interest(side)
  local first, now = side.out[1], wait.now()
  return (rests_until(side) <= now and POLLIN or 0) + (first and first.due <= now and POLLOUT or 0)
end

local listener, control = listen_on(listen_port), listen_on(control_port)
while true do
  local watched = { { fd = listener, events = POLLIN }, { fd = control, events = POLLIN } }
  local sides = {}
  for _, side in pairs(ends) do
    watched[#watched + 1] = { fd = side.fd, events = interest(side) }
    sides[#watched] = side
  end
  local fds = ffi.new("struct moonbus_spec_pollfd[?]", #watched, watched)
  C.poll(fds, #watched, patience())
  for index, side in pairs(sides) do
    local seen = fds[index - 1].revents
    if ends[side.fd] == side and bit.band(seen, POLLIN + POLLERR + POLLHUP) ~= 0 then read(side) end
    if ends[side.fd] == side then write(side) end
  end
  if fds[0].revents ~= 0 then accept(listener) end
  if fds[1].revents ~= 0 then obey(control) end
end
