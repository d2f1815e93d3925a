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

-- So many cores can be used: of the machine's those that its control group may have.
local function cores()
  local file = io.open "/sys/fs/cgroup/cpu.max"
  local quota, period = (file and file:read "*l" or ""):match "^(%d+) (%d+)$"
  if file then file:close() end
  local all = math.max(1, tonumber(posix.C.sysconf(84))) -- _SC_NPROCESSORS_ONLN
  return quota and math.max(0.1, math.min(all, quota / period)) or all
end

-- How many times as long as on an idle machine a thing may take: as many as there are processes
-- that want each of the cores. The average of a minute is late to tell of them, so those of this moment count, too.
local function crowd()
  local file = io.open "/proc/loadavg"
  local average, running = (file and file:read "*l" or ""):match "^([%d.]+) %S+ %S+ (%d+)/"
  if file then file:close() end
  return math.max(1, math.max(tonumber(average) or 1, tonumber(running) or 1) / cores())
end

-- The longest for which this process was kept from going on, when its time had come.
local kept = 0

-- How long one may wait for what is to come, on a machine that is as busy as this one is now; at most four
-- times as long as on an idle one.
function wait.allowed(seconds)
  return math.max(seconds or 0, wait.least) * wait.slow * math.min(4, crowd())
end

-- For what must not take long: the limit, in seconds, of what takes less than `seconds` on an idle
-- machine. `spare` (2) is for moments in which nobody else than the machine is late; less of it,
-- where what is wrong would take hardly longer.
function wait.within(seconds, spare)
  return (seconds + (spare or 2) + kept) * wait.slow * crowd()
end

-- After the `count`th look. What takes longer is looked at more seldom: specs run side by side, and many a
-- look asks a server.
local function pause(count)
  local ms = count < 50 and 4 or count < 200 and 10 or 20
  local began = wait.now()
  posix.C.poll(nil, 0, ms)
  kept = math.max(kept, wait.now() - began - ms / 1000)
end

local function attempt(condition)
  local ok, result = pcall(condition)
  if ok then return result, "it stayed " .. tostring(result) end
  return nil, type(result) == "table" and (result.message or "an assertion failed")
    or tostring(result)
end

-- Asks until condition() gives something true, and gives that back. A condition that raises is not
-- met yet. At the deadline (of wait.allowed) it raises, with the last reason and `what`.
function wait.eventually(condition, deadline, what)
  local began, looks = wait.now(), 0
  while true do
    local result, reason = attempt(condition)
    if result then return result end
    looks = looks + 1
    local took = wait.now() - began
    if took >= wait.least and took >= wait.allowed(deadline) then
      local explain = type(what) == "function" and what() or what
      error(("not within %.1fs: %s%s"):format(took, explain and explain .. ": " or "",
        tostring(reason)), 2)
    end
    pause(looks)
  end
end

-- Whether condition() gives something true within `seconds`, however few: for what may well not.
function wait.comes(condition, seconds)
  local limit, looks = wait.now() + seconds * wait.slow, 0
  while not attempt(condition) do
    if wait.now() >= limit then return false end
    looks = looks + 1
    pause(looks)
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
    pause(0)
  until wait.now() >= limit
  return true
end

return wait
