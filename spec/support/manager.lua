-- A service manager of the spec's own: the socket at which systemd would listen, and what the host
-- says there.
local cjson = require "cjson"
local ffi = require "ffi"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"

local C = posix.C
local manager = {}
manager.__index = manager

if not pcall(ffi.typeof, "struct moonbus_spec_unix") then
  ffi.cdef "struct moonbus_spec_unix { unsigned short family; char path[108]; };"
end

local AF_UNIX, DGRAM_CLOEXEC_NONBLOCK = 1, 0x80802

-- name: "/path", or "@name" for an abstract socket.
function manager.listen(name)
  local self = setmetatable({ name = name, list = {} }, manager)
  local address = ffi.new("struct moonbus_spec_unix", { family = AF_UNIX })
  ffi.copy(address.path, name)
  if name:sub(1, 1) == "@" then address.path[0] = 0 end
  self.fd = C.socket(AF_UNIX, DGRAM_CLOEXEC_NONBLOCK, 0)
  if C.bind(self.fd, ffi.cast("const struct moonbus_spec_sockaddr *", address), 2 + #name) ~= 0 then
    posix.error(name)
  end
  return self
end

-- What a host of it is started with. watchdog: seconds.
function manager:env(watchdog)
  return { NOTIFY_SOCKET = self.name, WATCHDOG_USEC = watchdog and ("%d"):format(watchdog * 1e6) }
end

-- All that was said so far, a table of NAME = value for each datagram, in their order.
function manager:heard()
  local buffer = ffi.new "char[4096]"
  while true do
    local size = tonumber(C.read(self.fd, buffer, 4096))
    if size < 0 then return self.list end
    local message = { at = wait.now(), place = #self.list + 1 }
    for name, value in ffi.string(buffer, size):gmatch "([%w_]+)=([^\n]*)" do message[name] = value end
    self.list[#self.list + 1] = message
  end
end

-- The first message (behind another one) that has `name`, with a value that fits the pattern (any);
-- nil: there is none.
function manager:find(name, pattern, behind)
  for place = behind and behind.place + 1 or 1, #self:heard() do
    local message = self.list[place]
    if message[name] and message[name]:find(pattern or "") then return message end
  end
end

-- The same, as soon as it is there.
function manager:wait(name, pattern, behind, deadline)
  return wait.eventually(function() return self:find(name, pattern, behind) end, deadline, function()
    local said = {}
    for _, message in ipairs(self.list) do
      if not message.WATCHDOG then said[#said + 1] = cjson.encode(message) end
    end
    return ("%s=%s in\n%s"):format(name, pattern or "", table.concat(said, "\n"))
  end)
end

function manager:close()
  C.close(self.fd)
  if self.name:sub(1, 1) == "/" then C.unlink(self.name) end
end

return manager
