-- How long each spec took, for `spec/run --times`: with what ends it (after_each) and begins the next one, or the
-- file. The CPU is that of the runner and of all that it has started, also of what still runs.
local ffi = require "ffi"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

local times = {}

if not pcall(ffi.typeof, "struct moonbus_spec_rusage") then
  ffi.cdef [[
    struct moonbus_spec_rusage { long user_s, user_us, system_s, system_us, others[14]; };
    int getrusage(int who, struct moonbus_spec_rusage *usage);
  ]]
end

local SELF, CHILDREN = 0, -1
local usage = ffi.new "struct moonbus_spec_rusage"

local function used_by(who)
  ffi.C.getrusage(who, usage)
  return tonumber(usage.user_s + usage.system_s) + tonumber(usage.user_us + usage.system_us) / 1e6
end

-- Of the children that have not ended, with those of theirs that have.
local function used_by_living()
  local sum = 0
  for pid in (temp.read "/proc/thread-self/children" or ""):gmatch "%d+" do
    local stat = (temp.read("/proc/" .. pid .. "/stat") or ""):match "%) (.*)"
    local field = 0
    for text in (stat or ""):gmatch "%S+" do
      field = field + 1
      if field >= 12 and field <= 15 then sum = sum + tonumber(text) / 100 end
    end
  end
  return sum
end

local function cpu() return used_by(SELF) + used_by(CHILDREN) + used_by_living() end

-- Writes a line for each spec to a file: its seconds, those of the CPU, its name.
function times.watch(path)
  local file, name, began, cpu_before = assert(io.open(path, "w")), "what comes before the first", wait.now(), cpu()

  local function tell()
    file:write(("%.2f %.2f %s\n"):format(wait.now() - began, cpu() - cpu_before, (name:gsub("\n", " "))))
    began, cpu_before = wait.now(), cpu()
  end

  return {
    begin = function(next_name)
      tell()
      name = next_name
    end,
    close = function()
      tell()
      file:close()
    end,
  }
end

return times
