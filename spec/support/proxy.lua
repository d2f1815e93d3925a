-- A TCP proxy in front of a server, for what a network does: it delays, swallows and cuts. It runs
-- in a process of its own, so that the time that it adds does not depend on what the spec does.
local ffi = require "ffi"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local C = posix.C
local proxy = {}
proxy.__index = proxy

-- server: of spec.support.server. The proxy has a `url`, so a host can be started at it.
function proxy.start(server)
  local self = setmetatable({ login = server.login }, proxy)
  self.port, self.control_port = posix.free_port(), posix.free_port()
  self.url = ("nats://127.0.0.1:%d"):format(self.port)
  self.process = process.start { command = { "luajit", "spec/support/proxy_process.lua",
    tostring(self.port), tostring(self.control_port), tostring(server.port) } }
  wait.eventually(function() return self:tell "pass" end, 5, function()
    return "the proxy\n" .. self.process:stderr()
  end)
  return self
end

-- Does a command; when this returns, it is in force.
function proxy:tell(command)
  local fd = C.socket(2, 1, 0)
  local line, answer = command .. "\n", ffi.new "char[8]"
  local ok = C.connect(fd, posix.loopback(self.control_port), 16) == 0
    and C.write(fd, line, #line) == #line and C.read(fd, answer, 8) == 3
  C.close(fd)
  return ok or error("the proxy does not obey: " .. command .. "\n" .. self.process:stderr())
end

-- Everything takes so many milliseconds more, each way.
function proxy:delay(ms) self:tell("delay " .. ms) end
-- Connections stay, and new ones are accepted, but no byte arrives any more.
function proxy:swallow() self:tell "swallow" end
-- Takes 64 KB of what each client says, 25 times a second: so little that it is not given up.
function proxy:trickle() self:tell "trickle" end
-- Cuts every connection; new ones are accepted, and get what the server says first, its INFO, but
-- nothing more passes either way.
function proxy:greet() self:tell "greet" end
-- As if it were not there; connections whose bytes were swallowed are cut.
function proxy:pass() self:tell "pass" end
-- Cuts every connection, and takes no new ones.
function proxy:down() self:tell "down" end
-- Cuts every connection by an RST, in the middle of whatever is on its way; new ones are as before.
function proxy:reset() self:tell "reset" end
-- Cuts a connection, once, when the server says something that contains `text`, which is lost.
function proxy:cut_at(text) self:tell("cut_at " .. text) end

-- Says something to every client, in the server's name; \\r and \\n are written out.
function proxy:say(text) self:tell("say " .. text) end

-- From now on: has a client said something that contains `text`?
function proxy:look_for(text) self:tell("look_for " .. text) end
function proxy:seen() return (pcall(self.tell, self, "seen")) end

function proxy:close() self.process:close() end

return proxy
