-- Waiting, the only ways in which a spec may: for a condition, with a deadline. SPEC_SLOW stretches
-- every deadline (a sanitizer's build, a busy machine); it never stretches what is asserted.
local ffi = require "ffi"
local posix = require "spec.support.posix"

local wait = { slow = tonumber(os.getenv "SPEC_SLOW") or 1 }

local spec = ffi.new "struct moonbus_spec_timespec"

-- Seconds of the monotonic clock.
function wait.now()
  posix.C.clock_gettime(1, spec)
  return tonumber(spec.tv_sec) + tonumber(spec.tv_nsec) / 1e9
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
-- met yet. At the deadline (seconds, 5 by default) it raises, with the last reason and `what`.
function wait.eventually(condition, deadline, what)
  local seconds = (deadline or 5) * wait.slow
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
