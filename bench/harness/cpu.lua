-- Processor time of a process by its threads, in nanoseconds, as /proc has it.
local ffi = require "ffi"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"

local C = posix.C
local cpu = {}

-- The roles that are told apart, in the order in which a message passes them.
cpu.ROLES = { "reader", "delivery", "workers", "writer", "flusher", "collector", "rest" }

local LINK = { "writer", "reader", "flusher", "delivery" }

-- What the threads of one name are, in the order of their start. The host names its own. A thread of
-- nats.c has the name of the one that started it: who opens nats.c starts its timers, its callbacks and
-- its collector; the writer of a link, where that is nats.c's, a reader and a flusher, and the first one
-- also the delivery thread of all.
local ORDER = {
  moonbus = { "rest", "rest", "rest", "collector" },
  ["mb-read"] = { "reader", "reader" },
  ["mb-consume"] = LINK, ["mb-publish"] = LINK,
  moonbus_baselin = { "rest", "rest", "rest", "collector", "reader", "flusher" }, -- and one for each subscription
}

local function role_of(name, index)
  if name:find "^worker" then return "workers" end
  return (ORDER[name] or {})[index] or name == "moonbus_baselin" and "delivery" or "rest"
end

-- The numbers of its threads.
local function tids_of(pid)
  local list, folder = {}, C.opendir(("/proc/%d/task"):format(pid))
  if folder == nil then return list end
  while true do
    local entry = C.readdir(folder)
    if entry == nil then break end
    list[#list + 1] = tonumber(ffi.string(entry.name))
  end
  C.closedir(folder)
  return list
end

-- What each thread has used: by its number, { name, ns }.
function cpu.look(pid)
  local threads = {}
  for _, tid in ipairs(tids_of(pid)) do
    local folder = ("/proc/%d/task/%d/"):format(pid, tid)
    local name, used = temp.read(folder .. "comm"), temp.read(folder .. "schedstat")
    if name and used then -- else it has ended
      threads[tid] = { name = name:match "^[^\n]*", ns = tonumber(used:match "^%d+") }
    end
  end
  return threads
end

-- What was used between two looks: all of it, and by role.
function cpu.between(before, after)
  local tids, counted, total, roles = {}, {}, 0, {}
  for tid in pairs(after) do tids[#tids + 1] = tid end
  table.sort(tids)
  for _, tid in ipairs(tids) do
    local thread = after[tid]
    counted[thread.name] = (counted[thread.name] or 0) + 1
    local role = role_of(thread.name, counted[thread.name])
    local used = thread.ns - (before[tid] and before[tid].ns or 0)
    roles[role] = (roles[role] or 0) + used
    total = total + used
  end
  return total, roles
end

-- The same for each of so many messages: what is added to the result of a run, as cpu_ns and threads.
function cpu.per_message(result, before, after, messages)
  local total, roles = cpu.between(before, after)
  result.cpu_ns = (result.cpu_ns or 0) + total / messages
  result.threads = result.threads or {}
  for role, used in pairs(roles) do result.threads[role] = (result.threads[role] or 0) + used / messages end
  return result
end

return cpu
