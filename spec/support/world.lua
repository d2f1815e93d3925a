-- What a functional spec stands on: one real server for the file, a client beside it, and hosts
-- that end with their test.
--
--   local w = world.new()
--   setup(function() w:open() end)
--   after_each(function() w:clear() end)
--   teardown(function() w:close() end)
local client = require "spec.support.client"
local host = require "spec.support.host"
local process = require "spec.support.process"
local server = require "spec.support.server"
local temp = require "spec.support.temp"

local world = {}
world.__index = world

local worlds = setmetatable({}, { __mode = "k" })

function world.new(server_options)
  local self = setmetatable({ server_options = server_options, hosts = {}, folders = {} }, world)
  worlds[self] = true
  return self
end

-- What the last three hosts of each world have said, in short: their last warnings and errors, and their last words.
function world.said()
  local lines = {}
  for self in pairs(worlds) do
    for index = math.max(1, #self.hosts - 2), #self.hosts do
      for _, line in ipairs(self.hosts[index]:in_short()) do lines[#lines + 1] = line end
    end
  end
  return lines
end

function world:open()
  self.server = server.start(self.server_options)
  self.client = client.connect(self.server.url, self.server.login)
end

-- Ends the hosts of a test and deletes its streams; all hosts are ended, then the first complaint
-- is raised.
function world:clear()
  local complaint
  for _, each in ipairs(self.hosts) do
    local ok, reason = pcall(each.close, each)
    if not ok then complaint = complaint or reason end
  end
  for _, folder in ipairs(self.folders) do temp.remove(folder) end
  self.hosts, self.folders = {}, {}
  for _, sub in ipairs(self.client and self.client.subscriptions or {}) do sub:close() end
  if self.client then
    self.client.subscriptions = {}
    if self.server.jetstream then self.client:wipe() end
  end
  if complaint then error(complaint, 0) end
end

function world:close()
  if self.client then self.client:close() end
  if self.server then self.server:close() end
end

local function as_options(self, options)
  if type(options) == "string" then options = { handlers = { ["handler.lua"] = options } } end
  if options.server == nil and options.command ~= "dev" then options.server = self.server end
  return options
end

-- A host that serves: of options as of host.start, or of the text of one handler, which is then
-- handlers/handler.lua.
function world:run(options)
  local started = self:start(options)
  return started:wait_ready()
end

-- The same, without waiting until it is ready.
function world:start(options)
  local started = host.start(as_options(self, options))
  table.insert(self.hosts, started)
  return started
end

-- A host that is expected to end by itself: { status, output, stderr, stdout }.
function world:fail(options)
  local started = self:start(options)
  local status = started:wait(10)
  return {
    status = status, stdout = started:stdout(), stderr = started:stderr(),
    output = started:output(), events = started:events(),
  }
end

-- A folder that ends with the test.
function world:folder()
  local folder = temp.folder()
  table.insert(self.folders, folder)
  return folder
end

-- Runs a command line to its end, without a server's URL: as of process.run, the command being
-- the arguments after `moonbus`.
function world:moonbus(arguments, options)
  local command = { host.binary() }
  for _, argument in ipairs(arguments) do command[#command + 1] = argument end
  local run = {}
  for key, value in pairs(options or {}) do run[key] = value end
  run.command, run.folder = command, run.folder or self:folder()
  return process.run(run)
end

-- The same for a command of a client, at this world's server.
function world:cli(arguments, options)
  local list = {}
  for _, argument in ipairs(arguments) do list[#list + 1] = argument end
  list[#list + 1] = "-s"
  list[#list + 1] = self.server.url
  return self:moonbus(list, options)
end

return world
