-- Waiting, the only ways in which a spec may: for a condition, with a deadline. SPEC_SLOW stretches
-- every deadline (a sanitizer's build, a slow machine).
local ffi = require "ffi"
local posix = require "spec.support.posix"

local wait = { slow = tonumber(os.getenv "SPEC_SLOW") or 1 }

local spec = ffi.new "struct moonbus_spec_timespec"

-- Seconds of the monotonic clock.
function wait.now()
  posix.C.clock_gettime(1, spec)
  return tonumber(spec.tv_sec) + tonumber(spec.tv_nsec) / 1e9
end

-- No deadline is shorter, whatever a spec says: a machine that is busy with others may need as long
-- for what takes a moment, and a spec that passes does not wait for its deadline.
wait.least = 20

-- How many times as long as on an idle machine a thing may take: as many as there are processes
-- that want each of the cores.
local function crowd()
  local file = io.open "/proc/loadavg"
  local load = file and tonumber(file:read "*l":match "^[%d.]+") or 1
  if file then file:close() end
  local cores = tonumber(posix.C.sysconf(84)) -- _SC_NPROCESSORS_ONLN
  return math.max(1, load / math.max(1, cores))
end

-- For what must not take long: the limit, in seconds, of what takes less than `seconds` on an idle
-- machine. `spare` (2) is for moments in which nobody else than the machine is late; less of it,
-- where what is wrong would take hardly longer.
function wait.within(seconds, spare)
  return (seconds + (spare or 2)) * wait.slow * crowd()
end

local function pause()
  posix.C.poll(nil, 0, 4)
end

local function attempt(condition)
  local ok, result = pcall(condition)
  if ok then return result, "it stayed " .. tostring(result) end
  return nil, type(result) == "table" and (result.message or "an assertion failed")
    or tostring(result)
end

-- Asks until condition() gives something true, and gives that back. A condition that raises is not
-- met yet. At the deadline (seconds, wait.least or more) it raises, with the last reason and `what`.
function wait.eventually(condition, deadline, what)
  local seconds = math.max(deadline or 0, wait.least) * wait.slow
  local limit = wait.now() + seconds
  while true do
    local result, reason = attempt(condition)
    if result then return result end
    if wait.now() >= limit then
      local explain = type(what) == "function" and what() or what
      error(("not within %gs: %s%s"):format(seconds, explain and explain .. ": " or "",
        tostring(reason)), 2)
    end
    pause()
  end
end

-- Whether condition() gives something true within `seconds`, however few: for what may well not.
function wait.comes(condition, seconds)
  local limit = wait.now() + seconds * wait.slow
  while not attempt(condition) do
    if wait.now() >= limit then return false end
    pause()
  end
  return true
end

-- Asks for `duration` seconds whether condition() stays true: for what must not happen.
function wait.holds(condition, duration, what)
  local limit = wait.now() + duration
  repeat
    local result, reason = attempt(condition)
    if not result then
      error(("did not hold for %gs: %s%s"):format(duration, what and what .. ": " or "",
        tostring(reason)), 2)
    end
    pause()
  until wait.now() >= limit
  return true
end

return wait
