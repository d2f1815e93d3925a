-- The real binary, with handlers in a folder of its own. Its log is JSON here, and read line by
-- line; MOONBUS names another binary.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

local host = {}
host.__index = host

function host.binary()
  local path = os.getenv "MOONBUS" or "build/moonbus"
  return posix.absolute(path) or error("no binary at " .. path .. ": build it first", 0)
end

local function append(list, more)
  for _, value in ipairs(more or {}) do list[#list + 1] = value end
end

local function lay_out(self, options)
  self.owns_folder = options.folder == nil
  self.folder = options.folder or temp.folder()
  for name, text in pairs(options.handlers or {}) do
    temp.write(self.folder, "handlers/" .. name, text)
  end
  for name, text in pairs(options.files or {}) do temp.write(self.folder, name, text) end
  if options.config then temp.write(self.folder, "moonbus.lua", options.config) end
end

local function has(list, value)
  for _, each in ipairs(list or {}) do
    if each == value then return true end
  end
  return false
end

-- SPEC_WIRE: which way the messages of every host go, "auto" or "nats.c".
local function with_wire(env)
  local all = { MOONBUS_WIRE = os.getenv "SPEC_WIRE" }
  for name, value in pairs(env or {}) do all[name] = value end
  return all
end

local OPTIONS = {}
for name in ("handlers files config server command args env level format folder admin stdin"):gmatch "%S+" do
  OPTIONS[name] = true
end

-- Starts it without waiting. options:
--   handlers  { ["orders.lua"] = text }, written to handlers/
--   files     { ["lib/x.lua"] = text }, written beside handlers/
--   config    the text of moonbus.lua
--   server    of spec.support.server or cluster: its URLs are given with -s
--   command   "run" (default) or "dev";  args: further arguments;  env: further environment
--   level     --log-level (default debug); false: none
--   folder    an existing folder to run in, which stays
--             `dev` gets a --nats-port that is free, as hosts run side by side here
--   admin     true: an admin endpoint at a free port, as self.admin; false: what moonbus does by
--             itself; default: none, as hosts run side by side here
function host.start(options)
  for name in pairs(options) do
    if not OPTIONS[name] then
      error(("a host has no option %q: a key of moonbus.lua stands in config"):format(name), 2)
    end
  end
  local self = setmetatable({ offset = 0, list = {} }, host)
  local command = { host.binary(), options.command or "run" }
  lay_out(self, options)
  local server = options.server
  for _, url in ipairs(server and (server.urls or { server.url }) or {}) do
    append(command, { "-s", url })
  end
  if options.level ~= false then append(command, { "--log-level", options.level or "debug" }) end
  if options.format ~= false then append(command, { "--log-format", "json" }) end
  if options.admin then self.admin = "127.0.0.1:" .. posix.free_port() end
  local serves = command[2] == "run" or command[2] == "dev"
  if serves and options.admin ~= false then append(command, { "--admin", self.admin or "off" }) end
  append(command, options.args)
  if command[2] == "dev" and not has(options.args, "--nats-port") then
    append(command, { "--nats-port", tostring(posix.free_port()) })
  end
  self.began = wait.now()
  self.process = process.start {
    command = command, folder = self.folder, env = with_wire(options.env), stdin = options.stdin,
  }
  self.pid = self.process.pid
  return self
end

function host:stdout() return self.process:stdout() end
function host:stderr() return self.process:stderr() end
function host:output() return self:stdout() .. self:stderr() end

-- The events logged so far; a line that is not JSON is { raw = line }.
function host:events()
  local fresh = self.process:stderr_behind(self.offset)
  for line, stop in fresh:gmatch "([^\n]*)\n()" do
    local ok, event = pcall(cjson.decode, line)
    if not ok or type(event) ~= "table" then event = { raw = line } end
    self.list[#self.list + 1] = event
    self.consumed = stop
  end
  if self.consumed then
    self.offset = self.offset + self.consumed - 1
    self.consumed = nil
  end
  return self.list
end

-- pattern: a Lua pattern for `msg`, or a table of keys with the values wanted (`msg` again as a
-- pattern).
local function matches(event, pattern)
  if type(pattern) == "string" then
    return (event.msg or event.raw or ""):find(pattern) ~= nil
  end
  for key, wanted in pairs(pattern) do
    local value = event[key]
    if key == "msg" then
      if not (value or event.raw or ""):find(wanted) then return false end
    elseif value ~= wanted then
      return false
    end
  end
  return true
end

-- All events logged so far that match.
function host:logged(pattern)
  local list = {}
  for _, event in ipairs(self:events()) do
    if matches(event, pattern) then list[#list + 1] = event end
  end
  return list
end

function host:explain()
  return table.concat(self.process.command, " ") .. "\n" .. self:output()
end

-- Its last four warnings and errors, and its last two lines, each as one line; in front of them that it has ended.
function host:in_short()
  local events, kept = self:events(), {}
  for index = #events, 1, -1 do
    local event = events[index]
    local grave = event.level == "warn" or event.level == "error" or event.raw
    if #events - index < 2 or (grave and #kept < 6) then table.insert(kept, 1, cjson.encode(event):sub(1, 250)) end
  end
  if not self.process:running() then table.insert(kept, 1, "it has ended") end
  return kept
end

-- The `count`-th (first) event that matches; raises after `deadline` seconds (5), or when the
-- process has ended without it.
function host:wait_log(pattern, deadline, count)
  local seen, left = 0, count or 1
  local function found()
    local events = self:events()
    while seen < #events do
      seen = seen + 1
      if matches(events[seen], pattern) then left = left - 1 end
      if left == 0 then return events[seen] end
    end
  end
  local event = wait.eventually(function()
    return found() or (not self.process:running() and (found() or "ended"))
  end, deadline, function()
    return "log " .. (type(pattern) == "string" and pattern or cjson.encode(pattern)) .. " in\n"
      .. self:explain()
  end)
  if event == "ended" then
    error("ended before it logged what was waited for\n" .. self:explain(), 2)
  end
  return event
end

-- Until it serves: it says so in its log, and `dev` on its standard output.
function host:wait_ready(deadline)
  wait.eventually(function()
    return self:output():find "ready in %d+ ms" or not self.process:running()
  end, deadline or 10, function() return "ready\n" .. self:explain() end)
  if not self:output():find "ready in %d+ ms" then
    error("ended before it was ready\n" .. self:explain(), 2)
  end
  self.ready_ms = (wait.now() - self.began) * 1000
  return self
end

-- Starts it and waits until it serves.
function host.run(options)
  local self = host.start(options)
  local ok, reason = pcall(self.wait_ready, self)
  if not ok then
    self:close()
    error(reason, 2)
  end
  return self
end

function host:signal(name) self.process:signal(name) end
function host:running() return self.process:running() end

-- Waits for its end: exit status, or nil and the signal that killed it.
function host:wait(deadline) return self.process:wait(deadline) end

-- SIGTERM, and its exit status.
function host:stop(deadline)
  self:signal "TERM"
  return self:wait(deadline or 10)
end

-- Ends it, in order if it can, and removes its files. Raises what a sanitizer had to say. What runs
-- in it may go on for long: a second signal is for that, and the third is KILL.
function host:close()
  self.process:signal "CONT"
  local function ended() return not self.process:running() end
  local ok, reason = true, nil
  if not ended() then
    self.process:signal "TERM"
    if not wait.comes(ended, 1) then self.process:signal "TERM" end
    if wait.comes(ended, 5) then ok, reason = pcall(self.process.wait, self.process) end
  end
  self.process:close()
  if self.owns_folder then temp.remove(self.folder) end
  if not ok and tostring(reason):find "Sanitizer" then error(reason, 0) end
end

-- Resident memory, in MB.
function host:memory_mb()
  local status = temp.read("/proc/" .. self.pid .. "/status")
  return tonumber(status:match "VmRSS:%s*(%d+)") / 1024
end

-- How many seconds of CPU it has used.
function host:cpu_seconds()
  local stat = temp.read("/proc/" .. self.pid .. "/stat"):match "%) (.*)"
  local fields = {}
  for field in stat:gmatch "%S+" do fields[#fields + 1] = tonumber(field) or field end
  return (fields[12] + fields[13]) / 100
end

-- How often its threads went to sleep, so far.
function host:switches()
  local sum = 0
  local pipe = assert(io.popen(("grep -h ^voluntary /proc/%d/task/*/status"):format(self.pid)))
  for count in pipe:read "*a":gmatch "%d+" do sum = sum + tonumber(count) end
  pipe:close()
  return sum
end

return host
