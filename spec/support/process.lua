-- Processes: started with their output in files (a child never blocks on a full pipe), signalled,
-- waited for with a deadline. Each leads its own group, and the kernel kills it when the runner
-- dies, so nothing is left behind.
local ffi = require "ffi"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

local C = posix.C
local process = {}
process.__index = process

local O_RDONLY, O_WRONLY, O_CREAT, O_APPEND, O_CLOEXEC = 0, 1, 0x40, 0x400, 0x80000
local WNOHANG = 1
local PIPE_CAPACITY = 60000

-- Where moonbus was built: set by who is not run by spec/run.
process.build = "build"

local spawner

-- spec/support/spawn.c
local function spawn(...)
  if not spawner then
    local units = os.getenv "MOONBUS_UNITS" or process.build .. "/libmoonbus_units.so"
    spawner = posix.load((units:gsub("units.so$", "spawn.so")))
  end
  return spawner.spawn(...)
end

-- The runner's environment without what would steer moonbus, and with what a spec adds; a value of
-- false takes a variable away.
local function environment(extra)
  local variables = {}
  local index = 0
  while C.environ[index] ~= nil do
    local name, value = ffi.string(C.environ[index]):match "^([^=]+)=(.*)$"
    if name and not name:match "^MOONBUS" and not name:match "^NATS_" then
      variables[name] = value
    end
    index = index + 1
  end
  variables.XDG_CONFIG_HOME = "/nonexistent" -- somebody's own context of the nats command line
  variables.MOONBUS_GC = os.getenv "SPEC_GC"
  for name, value in pairs(extra or {}) do variables[name] = value or nil end
  local list = {}
  for name, value in pairs(variables) do list[#list + 1] = name .. "=" .. value end
  return list
end

local function string_array(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for index, text in ipairs(list) do array[index - 1] = text end
  return array
end

-- What the child reads: nothing, or the given bytes through a pipe (a file when they are many).
local function open_stdin(data, folder)
  if not data then return C.open("/dev/null", O_RDONLY + O_CLOEXEC) end
  if #data > PIPE_CAPACITY then
    return C.open(temp.write(folder, "stdin", data), O_RDONLY + O_CLOEXEC)
  end
  local ends = ffi.new "int[2]"
  if C.pipe2(ends, O_CLOEXEC) ~= 0 then posix.error "pipe" end
  C.write(ends[1], data, #data)
  C.close(ends[1])
  return ends[0]
end

local function open_output(path)
  local mode = ffi.new("int", 384) -- 0600
  local fd = C.open(path, O_WRONLY + O_CREAT + O_APPEND + O_CLOEXEC, mode)
  if fd < 0 then posix.error(path) end
  return fd
end

-- options: command (a list), env, folder (where it runs), stdin (bytes).
function process.start(options)
  local self = setmetatable({ command = options.command, outputs = temp.folder() }, process)
  self.stdout_path = self.outputs .. "/stdout"
  self.stderr_path = self.outputs .. "/stderr"
  local variables = environment(options.env)
  local argv, env = string_array(options.command), string_array(variables)
  local streams = ffi.new("int[3]", open_stdin(options.stdin, self.outputs), open_output(self.stdout_path),
    open_output(self.stderr_path))
  self.pid = spawn(options.folder, streams, argv, env)
  if self.pid < 0 then posix.error "vfork" end
  for i = 0, 2 do C.close(streams[i]) end
  return self
end

-- What it has written to standard error behind so many bytes.
function process:stderr_behind(offset) return temp.read(self.stderr_path, offset) or "" end

function process:stdout() return temp.read(self.stdout_path) or "" end
function process:stderr() return temp.read(self.stderr_path) or "" end

function process:signal(name)
  if self:running() then C.kill(self.pid, posix.signals[name]) end
end

-- Reaps it if it has ended: then self.status is its exit status, or self.killed_by its signal.
function process:running()
  if self.ended then return false end
  local status = ffi.new "int[1]"
  if C.waitpid(self.pid, status, WNOHANG) ~= self.pid then return true end
  self.ended = true
  local low = bit.band(status[0], 0x7f)
  if low == 0 then
    self.status = bit.band(bit.rshift(status[0], 8), 0xff)
  else
    self.killed_by = low
  end
  return false
end

local function sanitizer_report(text)
  for _, mark in ipairs { "ERROR: AddressSanitizer", "ERROR: LeakSanitizer",
    "WARNING: ThreadSanitizer", "%.[ch]:%d+:%d+: runtime error:" } do
    if text:find(mark) then return text end
  end
end

-- Waits for its end, at most `deadline` seconds, then kills it and raises. Gives the exit status,
-- or nil and the signal. A report of a sanitizer is an error of the spec that sees it.
function process:wait(deadline)
  local function ended() return not self:running() end
  local ok, reason = pcall(wait.eventually, ended, deadline or 10)
  if not ok then
    self:kill()
    error(("%s did not end, %s\n%s"):format(table.concat(self.command, " "), reason,
      self:stderr()), 2)
  end
  local report = sanitizer_report(self:stderr())
  if report then error(report, 2) end
  return self.status, self.killed_by
end

-- Ends it and its whole group, whatever it is doing.
function process:kill()
  if self:running() then
    C.kill(-self.pid, posix.signals.KILL)
    pcall(wait.eventually, function() return not self:running() end, 5)
  end
end

-- Kills what still runs, and forgets its output.
function process:close()
  self:kill()
  temp.remove(self.outputs)
end

-- Runs a command to its end: { status, killed_by, stdout, stderr, seconds }.
function process.run(options)
  local began = wait.now()
  local self = process.start(options)
  local ok, reason = pcall(self.wait, self, options.deadline)
  local result = {
    status = self.status, killed_by = self.killed_by, seconds = wait.now() - began,
    stdout = self:stdout(), stderr = self:stderr(),
  }
  self:close()
  if not ok then error(reason, 2) end
  return result
end

return process
