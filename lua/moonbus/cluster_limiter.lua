--- A rate limit of a cluster: a key of a bucket that says how many tokens there were when it was written
--- before, and how many were drawn since. By the server's own times of its revisions, and no other clock.
---
---     revision 7 at t7: { tokens = 3, at = t5, drawn = 1 }     what is left at t7: 3 + rate * (t7 - t5) - 1
---     revision 8 at t8: { tokens = that, at = t7, drawn = 2 }  written at revision 7, or not at all
---
--- Who takes may owe: what it has drawn comes in time, and it waits for so long. Who only tries may not:
--- where there may be enough by now, it writes a drawing of none, which tells the time.
local core = require("moonbus.core")
local buckets = require("moonbus.cluster_bucket")
local task = require("moonbus.task")

local resumed = task.resumed

local PLACE = 2 -- enum permit_kind
local TRIES = 50 -- others write all the time
local COUNT_MOST = 1e12 -- of tokens that may be owed, and of seconds
local SPARE_FOR = 1 -- seconds that what was drawn beforehand is kept
local SPARE_SECONDS, SPARE_OF_BURST = 0.05, 0.1

local M = {}

local spare = {} -- key of a bucket -> { tokens, till }: drawn beforehand, of this state
local spare_before, spare_since = {}, 0 -- what was drawn before that: names may have no end

-- Tokens ------------------------------------------------------------------------------------------

local function is_count(value) return type(value) == "number" and value >= -COUNT_MOST and value <= COUNT_MOST end

--- Whoever may write to the bucket may write anything there. What is none of ours says nothing.
local function left_of(limit, value, at)
  local tokens, since, drawn = value.tokens, value.at, value.drawn
  if not (is_count(tokens) and is_count(since) and is_count(drawn) and drawn >= 0) then return limit.burst end
  local passed = math.max(0, at - since) -- another server's clock may be behind
  return math.min(limit.burst, tokens + limit.rate * passed) - drawn
end

--- { revision, tokens, at }: as it was last written; or nil and an error.
local function look(draw)
  local entry, err = draw.bucket:read(draw.binding, draw.key)
  if not entry then return nil, err end
  if not entry.value then return { revision = entry.revision, tokens = draw.limit.burst, at = entry.timestamp or 0 } end
  return { revision = entry.revision, tokens = left_of(draw.limit, entry.value, entry.timestamp), at = entry.timestamp }
end

--- Draws so many from what was seen. What is left then, which may be less than nothing, as `look` gives it;
--- false: another one was faster; or nil and an error.
local function write(draw, from, tokens)
  local value = { tokens = from.tokens, at = from.at, drawn = tokens }
  local revision, err = draw.bucket:write(draw.key, value, from.revision)
  if not revision then
    if err.code == "wrong_sequence" then return false end
    return nil, err
  end
  local entry, why = draw.bucket:read(draw.binding, draw.key, revision)
  if not entry then return nil, why end
  if not entry.value then return false end -- so many have written since: what was drawn is lost
  return { revision = revision, tokens = left_of(draw.limit, value, entry.timestamp), at = entry.timestamp }
end

-- What is drawn beforehand ------------------------------------------------------------------------

local function spare_of(limit)
  return math.floor(math.min(limit.burst * SPARE_OF_BURST, limit.rate * SPARE_SECONDS))
end

local function from_spare(at, tokens)
  local kept = spare[at] or spare_before[at]
  if not kept or core.clock() >= kept.till or kept.tokens < tokens then return false end
  kept.tokens = kept.tokens - tokens
  return true
end

local function put_spare(at, tokens)
  if tokens <= 0 then return end
  local now = core.clock()
  if now - spare_since >= SPARE_FOR then spare_before, spare, spare_since = spare, {}, now end
  spare[at] = { tokens = tokens, till = now + SPARE_FOR }
end

-- Drawing -----------------------------------------------------------------------------------------

--- Seconds until they are there; false: there are not so many; or nil and an error.
local function draw_tokens(draw, tokens, may_owe)
  local limit, fresh = draw.limit, false
  local from, err = look(draw)
  for _ = 1, TRIES do
    if not from then return nil, err end
    local short = from.tokens < tokens
    if short and fresh and not may_owe then return false end
    local more = not short and math.min(spare_of(limit), math.floor(from.tokens - tokens)) or 0
    local drawn = short and not may_owe and 0 or tokens + more
    local after
    after, err = write(draw, from, drawn)
    if after and drawn > 0 then
      put_spare(draw.at, more)
      return math.max(0, -after.tokens) / limit.rate
    end
    if after then
      from, fresh = after, true
    elseif after == nil then
      return nil, err
    else
      from, err = look(draw)
      fresh = false
    end
  end
  return nil, core.error("timeout", ("the limiter %q: others draw from it all the time"):format(limit.name))
end

--- One handler of this process at a time asks the server: who came first is first.
local function in_turn(draw, ...)
  local handle = core.permit(draw.binding, PLACE, ("%s of %s"):format(draw.key, draw.bucket.name), 1)
  local ok, err = resumed(core.permit_take(draw.binding, handle))
  if not ok then
    core.permit_release(draw.binding, handle)
    return nil, err
  end
  local got, why
  if from_spare(draw.at, (...)) then
    got = 0
  else
    got, why = draw_tokens(draw, ...)
  end
  core.permit_release(draw.binding, handle)
  return got, why
end

local function of(binding, limit)
  core.check(binding)
  local bucket, err = buckets.open(binding, limit.cluster)
  if not bucket then return nil, err end
  local key = "limiter." .. buckets.key_of(limit.name)
  return { binding = binding, limit = limit, bucket = bucket, key = key, at = bucket.name .. " " .. key }
end

--- True, when they are there; or nil and an error.
function M.take(limit, tokens)
  local draw, err = of("limiter:take", limit)
  if not draw then return nil, err end
  local wait, why = in_turn(draw, tokens, true)
  if not wait then return nil, why end
  if wait > 0 then resumed(core.sleep(wait, draw.binding)) end
  return true
end

--- True; false: there are not so many; or nil and an error.
function M.try(limit, tokens)
  local draw, err = of("limiter:try", limit)
  if not draw then return nil, err end
  local wait, why = in_turn(draw, tokens, false)
  if wait == nil then return nil, why end
  return wait ~= false
end

return M
