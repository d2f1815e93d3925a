--- The bucket of moonbus' own that locks, semaphores and limits of a cluster are in; and their keys, in any bucket.
--- HEADER: of all that is written there. It is the host's own, and no output of a handler: a test does not tell of
--- it, and a replay takes no lock of the real cluster (moonbus.replay.outside).
local M = { BUCKET = "moonbus_locks", HEADER = "Moonbus-Lock" }

local DAY = 86400
local HISTORY = 16 -- a limit reads back what it has written, though others write behind it

--- What its stream is made with. ttl: may its messages have one?
---@param replicas integer
---@param ttl boolean?
function M.stream(replicas, ttl)
  return {
    name = "KV_" .. M.BUCKET, subjects = { ("$KV.%s.>"):format(M.BUCKET) }, description = "locks of moonbus",
    max_msgs_per_subject = HISTORY, max_age = DAY * 1e9, storage = "file", retention = "limits", discard = "new",
    deny_delete = true, allow_rollup_hdrs = true, allow_direct = true, max_consumers = -1, max_msgs = -1,
    max_bytes = -1, max_msg_size = -1, num_replicas = replicas, duplicate_window = 120e9, allow_msg_ttl = ttl,
  }
end

local function escaped(byte) return ("=%02X"):format(byte:byte()) end

--- A name as a part of a key: what a key may not have is escaped.
function M.of(name)
  local key = name:gsub("[^-/_.%w]", escaped)
  key = key:gsub("^%.", "=2E"):gsub("%.$", "=2E")
  while key:find("..", 1, true) do key = key:gsub("%.%.", ".=2E") end
  return key
end

return M
