--- bus.use: functions around all handlers of a script. A script without one calls its handlers as
--- if this were not here: only the first bus.use puts something in their place.
---
---     message ─▶ first middleware ─ next ─▶ second ─ next ─▶ handler
---                        ◀──────────── results, errors ─────────┘
---
--- Required before what registers handlers: it takes the place of core.register.
local core = require("moonbus.core")

local misuse, register, run_number = core.misuse, core.register, core.run_number
core.register_bare = register -- for what is no handler of the script's

local registered = {} -- index of the registration -> its handler
local chain = {} -- the functions of bus.use, in their order

--- What a handler was given, with the first of it replaced by what `next` was called with. So
--- `next(msg)` leaves what stands behind the message as it is.
local function merge(given, given_count, count, ...)
  if count >= given_count then return ... end
  local merged = { ... }
  for place = count + 1, given_count do merged[place] = given[place] end
  return unpack(merged, 1, given_count)
end

local run

--- The call of one middleware, with its own `next`.
local function step(place, fn, count, ...)
  local given = count > 1 and { ... } or nil
  local first = ...
  local called, number = false, run_number()
  local function next(...)
    if run_number() ~= number then
      misuse("next: it belongs to a run that has ended: each run of a middleware of bus.use gets its own")
    end
    if called then
      misuse("next: called a second time: a middleware of bus.use runs the handler once")
    end
    called = true
    local passed = select("#", ...)
    if passed == 0 and count == 1 then return run(place + 1, fn, first) end
    return run(place + 1, fn, merge(given, count, passed, ...))
  end
  if count <= 1 then return chain[place](first, next) end
  return chain[place](first, next, select(2, ...))
end

function run(place, fn, ...)
  if not chain[place] then return fn(...) end
  return step(place, fn, select("#", ...), ...)
end

local function around(fn)
  return function(...) return run(1, fn, ...) end
end

--- called: what is called in the place of fn, which the script wrote (a schema before it); or nil.
function core.register(kind, spec, fn, called)
  local index = register(kind, spec, fn)
  if fn and core.frames() then called = require("moonbus.task").traced(called or fn) end
  if called then
    core.replace_handler(kind, index, called)
    fn = called
  end
  if fn then
    registered[index] = fn
    if chain[1] then core.replace_handler("bus.use", index, around(fn)) end
  end
  return index
end

--- For all handlers of the script, also those that it has registered before.
return function(fn)
  if type(fn) ~= "function" then
    misuse(("bus.use: expected a function as the middleware, got %s"):format(
      fn == nil and "nothing" or "a " .. type(fn)))
  end
  core.check_loading("bus.use")
  if not chain[1] then
    for index, handler in pairs(registered) do core.replace_handler("bus.use", index, around(handler)) end
  end
  chain[#chain + 1] = fn
end
