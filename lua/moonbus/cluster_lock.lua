--- Locks and places of semaphores of a cluster: a key of a bucket, whose last revision is the holder's.
---
---     free ─ written at its revision ─▶ held ─ renewed: written again, each third of its ttl ─▶ held
---      ▲                                 │
---      └── deleted by its holder, or not renewed for a ttl: then it is written over by another one
---
--- No two clocks are compared. Who waits measures by its own clock for how long the revision has not
--- changed; who holds, how long ago it sent what was stored last. So the second is over first. What is
--- written is written at the revision that was read: of two hosts the server takes one.
---
--- Of one process a lock of its own (core.permit) is taken before: so its handlers wait in order, and
--- what another handler of this process has left behind is over. A host that gives it back and wants it
--- again lets another one come first that has said that it waits (a key beside it).
local core = require("moonbus.core")
local buckets = require("moonbus.cluster_bucket")
local task = require("moonbus.task")

local CANCELLED = core.CANCELLED
local resumed = task.resumed

local PLACE, TURN = 2, 3 -- enum permit_kind
local POLL_FIRST, POLL_MOST = 0.05, 0.5 -- seconds between two looks at who holds it
local CALL_LEAST = 1
local MARGIN = 1.02 -- clocks do not run alike
local TTL_MOST = 3600
local WAITS_EACH, WAITS_FOR = 1, 10 -- seconds: who waits says so
local YIELD = 0.75 -- seconds, more than between two looks

local M = {}

-- What this state knows of keys --------------------------------------------------------------------

local KNOWN_MOST = 4000 -- keys; more than wait at a time

--- Names of locks may have no end. What was known of a key is forgotten when so many others were looked at since: then
--- one that nobody renews is waited for once more.
local function new_known() return { latest = {}, before = {}, count = 0 } end

local function forget(known, at)
  if known.latest[at] ~= nil then known.count = known.count - 1 end
  known.latest[at], known.before[at] = nil, nil
end

local function note(known, at, value)
  forget(known, at)
  if known.count == KNOWN_MOST then known.before, known.latest, known.count = known.latest, {}, 0 end
  known.latest[at], known.count = value, known.count + 1
end

local function look_up(known, at)
  local value = known.latest[at]
  if value ~= nil then return value end
  value = known.before[at]
  if value ~= nil then note(known, at, value) end
  return value
end

local yielded = new_known() -- key of a bucket -> the revision of who waited when this state has let it come first
local seen = new_known() -- key of a bucket -> { revision, since }: for how long it has not changed

-- What is there -----------------------------------------------------------------------------------

--- May the key be taken at that revision? Else how long it takes at most until it may, as far as is known.
local function is_free(claim, entry)
  local value = entry.value
  if not value then return true end
  if value.process == claim.process then return true end -- its handler has ended: its own lock is ours
  local ttl = type(value.ttl) == "number" and value.ttl > 0 and math.min(value.ttl, TTL_MOST) or TTL_MOST
  local at, now = claim.bucket.name .. " " .. claim.key, core.clock()
  local known = look_up(seen, at)
  if not known or known.revision ~= entry.revision then
    note(seen, at, { revision = entry.revision, since = now })
    return false, ttl
  end
  local left = ttl * MARGIN - (now - known.since)
  if left > 0 then return false, left end
  forget(seen, at)
  return true
end

--- Is it written, though no answer came? The entry, false; or nil and an error: nobody knows.
local function own_entry(claim, binding)
  local entry, err = claim.bucket:read(binding, claim.key, nil, claim.timeout)
  if not entry then return nil, err end
  return entry.value and entry.value.id == claim.id and entry or false
end

local function text_of(claim)
  return { process = claim.process, id = claim.id, ttl = claim.ttl, name = claim.name }
end

--- Has another host said that it waits, since this one has let one come first?
local function must_yield(claim, entry, binding)
  local last = entry.value and entry.value.process or entry.by
  if not claim.waits or last ~= claim.process then return false end
  local waiting = claim.bucket:read(binding, claim.waits, nil, claim.timeout)
  if not waiting or not waiting.value or waiting.value.process == claim.process then return false end
  local at = claim.bucket.name .. " " .. claim.waits
  if waiting.revision <= (look_up(yielded, at) or 0) then return false end
  note(yielded, at, waiting.revision)
  return true
end

--- Takes the key: true; false and for how long it may be held; or nil and an error.
local function try(claim, binding)
  local entry, err = claim.bucket:read(binding, claim.key, nil, claim.timeout)
  if not entry then return nil, err end
  local free, left = is_free(claim, entry)
  if not free then return false, left end
  if must_yield(claim, entry, binding) then return false, "yield" end
  local sent = core.clock()
  local revision, why = claim.bucket:write(claim.key, text_of(claim), entry.revision, claim.ttl, claim.timeout)
  if not revision and why.code == "wrong_sequence" then return false, claim.ttl end
  if not revision then
    local own = why.code ~= "api_error" and own_entry(claim, binding)
    if not own then return nil, why end
    revision = own.revision
  else
    sent = why
  end
  claim.revision, claim.token, claim.valid = revision, revision, sent + claim.ttl
  return true
end

-- Holding -----------------------------------------------------------------------------------------

local function is_held(claim)
  return not claim.lost and not claim.over and core.permit_held(claim.place) and core.clock() < claim.valid
end

local function leave_behind(claim)
  core.parting_set(claim.parting, claim.bucket:deletion(claim.key, claim.revision, claim.process))
end

--- Somebody else has it: nothing of ours is left there.
local function lose(claim)
  claim.lost = true
  core.parting_set(claim.parting)
  core.log.warn(("the %s %q of the cluster was lost: it was not renewed for its ttl, %gs, and somebody else has " ..
    "taken it"):format(claim.what, claim.name, claim.ttl))
  core.permit_release(claim.binding, claim.place)
  if claim.turn then core.permit_release(claim.binding, claim.turn) end
end

--- Once: true: it is ours for another ttl; false: it is lost; nil: nobody knows as yet.
local function renew(claim)
  claim.sent = claim.sent or core.clock() -- of what may have been stored: the first one counts
  local revision, err = claim.bucket:write(claim.key, text_of(claim), claim.revision, claim.ttl, claim.ttl / 3)
  if not revision then
    if err.code == "api_error" then return nil end
    local own = own_entry(claim, claim.binding)
    if own == nil then return nil end
    if not own then return false end
    if own.revision == claim.revision then return nil end -- not stored, or not yet
    revision = own.revision
  end
  claim.revision, claim.valid, claim.sent = revision, claim.sent + claim.ttl, nil
  return true
end

--- Until it is given back, or lost.
local function keep(claim)
  local pause = claim.ttl / 3
  while core.sleep(pause, claim.binding) ~= CANCELLED and not claim.over and core.permit_held(claim.place) do
    claim.renewing = true
    local renewed = renew(claim)
    claim.renewing = false
    if renewed == false then
      if not claim.over then lose(claim) end
      return
    end
    leave_behind(claim)
    if claim.over then return core.parting_send(claim.parting) end -- it was given back meanwhile
    pause = renewed and claim.ttl / 3 or math.min(claim.ttl / 10, 1)
  end
end

local function start_keeping(claim)
  claim.keeper = core.spawn(false, function()
    task.attempt(keep, claim) -- one that is cancelled ends here
    core.release(claim.keeper)
  end)
end

-- Taking ------------------------------------------------------------------------------------------

--- A place in this process: a handle; or nil, and an error if it is not that it is taken.
local function take_own(binding, kind, name, places, wait)
  local handle = core.permit(binding, kind, name, places)
  local ok, err = resumed(core.permit_take(binding, handle, wait))
  if ok then return handle end
  core.permit_release(binding, handle)
  return nil, err.code ~= "timeout" and err or nil
end

--- So long one call may take, for one that does not wait for ever.
local function patience(wish)
  local left = wish.deadline - core.clock()
  return left < math.huge and math.min(math.max(left, CALL_LEAST), core.request_timeout()) or nil
end

--- Tries one key of it. As `try`.
local function try_key(wish, index)
  local key = wish.keys[index]
  local own = ("%s of %s"):format(key, wish.bucket.name)
  local place, err = wish.place, nil
  if not place then place, err = take_own(wish.binding, PLACE, own, 1, 0) end
  if not place then return err and nil, err end
  local claim = {
    bucket = wish.bucket, key = key, name = wish.name, what = wish.what, binding = wish.binding, ttl = wish.ttl,
    process = core.process(), id = core.later_id(), place = place, turn = wish.turn,
    parting = core.parting(wish.binding), timeout = patience(wish),
    waits = wish.deadline > core.clock() and wish.waits or nil,
  }
  local taken, why = try(claim, wish.binding)
  if taken then return claim end
  core.parting_send(claim.parting)
  if not wish.place then core.permit_release(wish.binding, place) end
  return taken, why
end

local function too_late(wish)
  return core.error("timeout", ("%q has not come free in time"):format(wish.name))
end

--- Each key once: a claim; nil and an error; false and for how long to wait at most.
local function look(wish)
  local soonest = POLL_MOST
  for index = 1, #wish.keys do
    local claim, err = try_key(wish, index)
    if claim then return claim end
    if claim == nil and err then return nil, err end
    if err == "yield" then return false, YIELD, true end
    if err then soonest = math.min(soonest, err) end
  end
  return false, soonest
end

--- Now and then, until it has its turn. Whether that is written is no matter of life and death.
local function say_that_it_waits(wish)
  if wish.said and core.clock() - wish.said < WAITS_EACH then return end
  wish.said = core.clock()
  wish.bucket:write(wish.waits, { process = core.process() }, nil, WAITS_FOR, patience(wish))
end

--- The first place that comes free: a claim, or nil and an error.
local function wait_for_place(wish)
  local pause = POLL_FIRST
  while true do
    local claim, soonest, yields = look(wish)
    if claim then return claim end
    if claim == nil then return nil, soonest end
    if wish.deadline <= core.clock() then return nil, too_late(wish) end
    if not yields then say_that_it_waits(wish) end
    pause = math.min(pause * 1.5, POLL_MOST)
    local nap = yields and YIELD or math.min(soonest + 0.001, pause * (0.75 + math.random() / 2))
    resumed(core.sleep(math.max(0.001, math.min(nap, wish.deadline - core.clock())), wish.binding))
  end
end

local function keys_of(wish)
  local name = buckets.key_of(wish.name)
  if wish.what == "lock" then return { "lock." .. name } end
  local keys, first = {}, math.random(wish.places)
  for i = 1, wish.places do keys[i] = ("semaphore.%s.%d"):format(name, (first + i - 2) % wish.places + 1) end
  return keys
end

--- This process's own: the lock of the key, or one of the places of the semaphore.
local function take_turn(wish)
  local wait = wish.deadline < math.huge and math.max(0, wish.deadline - core.clock()) or nil
  local own = ("%s of %s"):format(wish.keys[1], wish.bucket.name)
  local handle, err
  if wish.what == "lock" then
    handle, err = take_own(wish.binding, PLACE, own, 1, wait)
    wish.place = handle
  else
    handle, err = take_own(wish.binding, TURN, own:gsub("%d+ of ", "of "), wish.places, wait)
    wish.turn = handle
  end
  if not handle then return nil, err or too_late(wish) end
  return handle
end

local function give_back(claim)
  core.permit_release(claim.binding, claim.place)
  if claim.turn then core.permit_release(claim.binding, claim.turn) end
end

--- what: "lock" or "place". A claim that is held, or nil and an error.
---@param spec { cluster: string, ttl: number, wait: number? }
function M.take(what, binding, name, places, spec)
  local began = core.clock()
  core.check(binding)
  local bucket, err = buckets.open(binding, spec.cluster)
  if not bucket then return nil, err end
  if spec.ttl * 2 > bucket.age then
    return nil, core.error("mismatch", ("%s: ttl: the bucket %q forgets what is older than %gs: a ttl of %gs is " ..
      "more than half of that"):format(binding, bucket.name, bucket.age, spec.ttl))
  end
  local wish = {
    what = what, binding = binding, name = name, places = places, bucket = bucket, ttl = spec.ttl,
    deadline = spec.wait and began + spec.wait or math.huge,
  }
  wish.keys, wish.waits = keys_of(wish), ("waiting.%s.%s"):format(what, buckets.key_of(name))
  local turn, why = take_turn(wish)
  if not turn then return nil, why end
  local claim
  claim, why = wait_for_place(wish)
  if not claim then
    core.permit_release(binding, turn)
    return nil, why
  end
  leave_behind(claim)
  start_keeping(claim)
  return claim
end

M.is_held = is_held

--- True: it was held until now.
function M.release(claim)
  local held = is_held(claim)
  give_back(claim) -- raises where another handler has it
  if claim.over or claim.lost then return false end
  claim.over = true
  if not claim.renewing then -- else who renews it does this
    core.parting_send(claim.parting)
    core.cancel(claim.keeper)
  end
  return held
end

return M
