--- Ids of what is written into buckets. One that comes from the input says which write it is, so that the same
--- write is stored once, and another one is stored:
---
---     <stream>:<time>:<consumer>:<sequence>:<task>.<k>:<subject>#<method><revision>.<hash>[:<at>]
---
--- hash: of the value and its ttl. at: what the key's last revision was, when a write under this id had been there
--- before, and was to be made all the same.
local core = require("moonbus.core")

local LONGEST = 1000 -- with what comes behind it, it fits where the host keeps ids
local LETTERS = 16 -- of the hash, 96 bits

local M = {}

local function hash_of(ttl, text)
  local digest = core.digest()
  core.digest_add(digest, ("%s\n"):format(ttl or ""))
  core.digest_add(digest, text or "")
  return (core.digest_text(digest):match("=(.*)"):sub(1, LETTERS))
end

--- What a derived id begins with, for each write of one input; its task, and which call of it this is.
local function parts_of(base, subject)
  local input, task, k = base:sub(1, -#subject - 2):match "^(.*:)([%d.]+)%.(%d+)$"
  return input, task, tonumber(k)
end

--- id: derived from the input, or nil. write: { subject, method, revision, ttl, text }.
function M.derived(id, write)
  if not id then return {} end
  local ids = {}
  ids.input, ids.task, ids.k = parts_of(id, write.subject)
  if #id > LONGEST then id = core.later_token(id) end
  ids.call = ("%s#%s%s."):format(id, write.method, write.revision and ("%d"):format(write.revision) or "")
  ids.id = ids.call .. hash_of(write.ttl, write.text)
  return ids
end

--- The id of that write once more, where the key was at that revision.
function M.at(ids, revision)
  return ids.id and ("%s:%d"):format(ids.id, revision)
end

local function starts(text, with)
  return text:sub(1, #with) == with
end

--- Is that the id of this very write? there: of a message, or nil.
function M.is_own(ids, there)
  return there and ids.id and (there == ids.id or starts(there, ids.id .. ":")) or false
end

--- The same call of the same input, perhaps with another value: what another run of it has written.
function M.is_call(ids, there)
  return there and ids.call and starts(there, ids.call) or false
end

--- task and k of what the same input has written; nil: it has not.
local function call_of(ids, there)
  if not there or not ids.input or not starts(there, ids.input) then return nil end
  local task, k = there:sub(#ids.input + 1):match "^([%d.]+)%.(%d+):"
  return task, tonumber(k)
end

--- Written by the same input, and not before this call of it.
function M.is_later(ids, there)
  local task, k = call_of(ids, there)
  return task ~= nil and (task ~= ids.task or k > ids.k)
end

--- Is what was stored at `revision` under this id out of date: has a later run of the input written something else
--- since, before it came to this write? there: the id of the key's last message, which is behind that revision.
function M.is_overtaken(ids, there, revision)
  local task, k = call_of(ids, there)
  if not task then return false end
  if task == ids.task then return k <= ids.k end
  local at = tonumber(there:match "#[^#]*:(%d+)$")
  return at ~= nil and at >= revision
end

return M
