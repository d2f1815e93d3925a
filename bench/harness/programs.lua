-- The programs that take part: moonbus, the bare C program, those in other languages, and the load
-- generator. All but the last are started anew for each run, and serve when start() returns.
local cjson = require "cjson"
local host = require "spec.support.host"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

local programs = {}

-- Where the programs are: set by bench/run.lua.
programs.build = "build"
programs.others = {} -- commands by name ("node"), of those that can run: harness/others.lua

local function append(list, options)
  local names = {}
  for name in pairs(options or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    list[#list + 1] = "--" .. name:gsub("_", "-")
    list[#list + 1] = tostring(options[name])
  end
  return list
end

-- Resident memory, in bytes.
function programs.memory_bytes(pid)
  return tonumber(temp.read("/proc/" .. pid .. "/status"):match "VmRSS:%s*(%d+)") * 1024
end

-- A started program of ours, which says "ready" -----------------------------------------------

local program = {}
program.__index = program

function program:stop()
  if not self.process:running() then
    local reason = self.process:stderr()
    self.process:close()
    error("the program has ended: " .. reason, 2)
  end
  self.process:signal "TERM"
  pcall(self.process.wait, self.process, 5)
  self.process:close()
end

local function start_program(command)
  local self = setmetatable({ began = wait.now() }, program)
  self.process = process.start { command = command }
  self.pid = self.process.pid
  wait.eventually(function()
    return self.process:stdout():find("ready", 1, true) or not self.process:running()
  end, 10, function() return table.concat(command, " ") .. "\n" .. self.process:stderr() end)
  self.ready_ms = (wait.now() - self.began) * 1000
  return self
end

-- The bare C program. options: as bench/baseline/ has them.
function programs.start_c(mode, options)
  return start_program(append({ programs.build .. "/moonbus_baseline", mode }, options))
end

-- A program in another language; the same modes and options.
function programs.start_other(name, mode, options)
  local command = {}
  for index, word in ipairs(programs.others[name].command) do command[index] = word end
  command[#command + 1] = mode
  return start_program(append(command, options))
end

-- moonbus -------------------------------------------------------------------------------------

local moon = {}
moon.__index = moon

-- What /status says of the first handler of a host (spec.support.host): counts by how runs ended.
function programs.counts(started)
  local body = posix.http_get(tonumber(started.admin:match ":(%d+)$"), "/status")
  return cjson.decode(body).scripts[1].handlers[1]
end

function moon:counts() return programs.counts(self.host) end

-- How many handlers are running, of all.
function moon:running()
  local body = posix.http_get(tonumber(self.host.admin:match ":(%d+)$"), "/status")
  local count = 0
  for _, script in ipairs(cjson.decode(body).scripts) do
    for _, handler in ipairs(script.handlers) do count = count + handler.running end
  end
  return count
end

-- Saves a script as another text.
function moon:rewrite(name, text)
  temp.write(self.host.folder, "handlers/" .. name .. ".lua", text)
end

function moon:stop() self.host:close() end

local function literal(value)
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function config_text(config)
  local lines = {}
  for name, value in pairs(config.settings or {}) do
    lines[#lines + 1] = ("    %s = %s,"):format(name, literal(value))
  end
  return ("return {\n%s\n  settings = {\n%s\n  },\n}\n"):format(config.text or "",
    table.concat(lines, "\n"))
end

-- The text of a file in bench/handlers/.
function programs.handler(name)
  return assert(temp.read("bench/handlers/" .. name .. ".lua"), name)
end

-- options:
--   handler   the name of a file in bench/handlers/, or a list of names and of { name, text }
--   settings  what it reads as bus.settings;  config: further lines of moonbus.lua
--   workers, server;  watch: whether it looks for changed files
function programs.start_moonbus(options)
  local handlers, args = {}, {}
  for _, each in ipairs(type(options.handler) == "table" and options.handler or { options.handler }) do
    if type(each) == "string" then each = { name = each, text = programs.handler(each) } end
    handlers[each.name .. ".lua"] = each.text
  end
  if options.workers then append(args, { workers = options.workers }) end
  if options.watch then args[#args + 1] = "--watch" end
  local started = host.run {
    handlers = handlers, server = options.server, level = "info", admin = true, args = args,
    config = config_text { settings = options.settings, text = options.config },
  }
  return setmetatable({ host = started, pid = started.pid, ready_ms = started.ready_ms }, moon)
end

-- The load generator --------------------------------------------------------------------------

local function finish(running, deadline)
  local status = running:wait(deadline)
  local out, err = running:stdout(), running:stderr()
  running:close()
  if status ~= 0 then error("load: " .. err, 3) end
  return cjson.decode(out:match "[^\n]+\n$")
end

-- Starts it; the function that it gives waits for the end and gives what was measured.
function programs.begin_load(mode, options)
  local command = append({ programs.build .. "/moonbus_load", mode }, options)
  local running = process.start { command = command }
  return function() return finish(running, 120) end, running
end

function programs.load(mode, options)
  return (programs.begin_load(mode, options))()
end

return programs
