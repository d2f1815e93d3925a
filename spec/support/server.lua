-- A real nats-server on a free port of the loopback, with JetStream in a store of its own.
-- NATS_SERVER names another binary.
local cjson = require "cjson"
local client = require "spec.support.client"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

local server = {}
server.__index = server

local function configuration(self)
  local lines = {
    ("listen: 127.0.0.1:%d"):format(self.port),
    ("http: 127.0.0.1:%d"):format(self.monitor_port),
    ("server_name: %s"):format(self.name),
  }
  if self.jetstream then
    lines[#lines + 1] = ('jetstream { store_dir: "%s/store" }'):format(self.folder)
  end
  lines[#lines + 1] = self.config
  return table.concat(lines, "\n") .. "\n"
end

local function launch(self)
  local path = temp.write(self.folder, "server.conf", configuration(self))
  self.process = process.start {
    command = { os.getenv "NATS_SERVER" or "nats-server", "-c", path },
    folder = self.folder, env = self.env,
  }
  local ready = pcall(wait.eventually, function()
    if not self.process:running() then return "ended" end
    return self.process:stderr():find("Server is ready", 1, true)
  end, 10)
  return ready and self.process:running()
end

-- options: config (text added to the configuration),
-- name, env (of its process), jetstream (default true), start (default true), login (options for its clients).
function server.start(options)
  options = options or {}
  local self = setmetatable({}, server)
  self.folder = temp.folder()
  self.name = options.name or "spec"
  self.jetstream = options.jetstream ~= false
  self.login = options.login
  self.config, self.env = options.config, options.env
  self:move()
  if options.start == false then return self end -- server:up() does
  for _ = 1, 3 do -- someone else may have taken the port since
    if launch(self) then return self end
    self.process:kill()
    self.log_text = self.process:stderr()
    self.process:close()
    self:move()
  end
  error("nats-server does not start:\n" .. self.log_text)
end

-- Takes other free ports.
function server:move()
  self.port = posix.free_port()
  self.monitor_port = posix.free_port()
  self.url = ("nats://127.0.0.1:%d"):format(self.port)
end

-- Starts it where it was, with the store it had; config: replaces the text added to it.
function server:up(config)
  self.config = config or self.config
  wait.eventually(function()
    if launch(self) then return true end
    self.process:close()
  end, 10, "nats-server does not come back")
end

-- Ends it; the store stays. The signal is INT: a clean stop; USR2: lame duck mode, which takes a while.
function server:down(signal, deadline)
  self.process:signal(signal or "INT")
  self.process:wait(deadline or 10)
  self.process:close()
end

function server:restart()
  self:down()
  self:up()
end

function server:freeze() self.process:signal "STOP" end
function server:thaw() self.process:signal "CONT" end

-- What its monitoring says: server:monitor "connz?subs=1".
function server:monitor(path)
  local body = posix.http_get(self.monitor_port, "/" .. path)
  return body and cjson.decode(body)
end

-- An independent client; options as of client.connect.
function server:connect(options)
  return client.connect(self.url, options or self.login)
end

function server:close()
  if self.process then
    self.process:signal "CONT"
    self.process:close()
  end
  temp.remove(self.folder)
end

return server
