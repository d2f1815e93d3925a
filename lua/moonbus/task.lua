--- Coroutines of a handler: what is spawned, what waits for what, and the scripts' own coroutines.
---
---     spawn ─▶ child task: body ─▶ xpcall(fn) ─▶ future ◀── wait (parks)
---
--- A child never raises out of its body but for one case: its function failed, and nobody has
--- waited for it. Then it stays until somebody does, or until its handler ends: that error fails
--- the handler.
local core = require("moonbus.core")
local check_stack = require("moonbus.stack").check
local methods_of = require("moonbus.methods")

local CANCELLED, SUSPEND = core.CANCELLED, core.SUSPEND
local misuse = core.misuse

local M = {}

-- Waiting -----------------------------------------------------------------------------------------

--- What a binding that waited returns, or the error of a handler that has been cancelled.
local function resumed(first, ...)
  if first == CANCELLED then error(core.error("cancelled", (...)), 0) end
  return first, ...
end
M.resumed = resumed

local function park(parking)
  local first, text = core.park(parking)
  core.unpark(parking)
  return resumed(first, text)
end

--- Waits until somebody calls core.wake with what `leave` was given.
function M.wait_for(leave)
  local parking = core.parking()
  leave(parking)
  return park(parking)
end

-- Errors ------------------------------------------------------------------------------------------

--- The error that was last raised in another coroutine than its own: what it was (value), where
--- (file, line), and its traceback there, with what ran that coroutine at its end. The engine reads
--- it, too. So an error that passes from a function of bus.gather to its handler keeps the lines of
--- that function.
local raised = setmetatable({}, { __mode = "v" })
core.keep_raised(raised)

--- Long enough for any people; and for an error that passes through thousands of coroutine.wrap.
local TRACEBACK_MOST, WRAPPED_MOST = 16384, 4096

--- A traceback without the host's own lines.
local function clean(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do
    if not line:find("^%s*moonbus[.%w_]*:") and not line:find("^%s*%[C%]: in function 'xpcall'") then
      lines[#lines + 1] = line
    end
  end
  return table.concat(lines, "\n")
end

--- The traceback of an error that has come to this place: if it has been raised elsewhere before,
--- that one first. And where that was.
local function trace(value, text, file, line)
  text = clean(text)
  local before = raised.traceback
  local same = value ~= nil and rawequal(value, raised.value)
  if not before or not same or (file == raised.file and line == raised.line) then return text, file, line end
  local rest = text:gsub("^stack traceback:", ""):gsub("^\n%s*%[C%]: in function 'error'", "")
  return #before < TRACEBACK_MOST and before .. rest or before, raised.file, raised.line
end

--- What ran a child: "run by bus.spawn at orders.lua:14". child: a future or a timer.
local function run_by(child)
  return rawget(child, "file") and ("run by %s at %s:%d"):format(child.binding, child.file, child.line)
    or "run by " .. child.binding
end

--- Raises an error of another coroutine here. failure: as keep made it; by: what ran that one.
local function raise_again(failure, by)
  if failure.traceback then
    raised.value, raised.file, raised.line = failure.value, failure.file, failure.line
    raised.traceback = failure.traceback .. "\n\t(" .. by .. ")"
  end
  error(failure.value, 0)
end

local function field(value, name)
  return type(value) == "table" and rawget(value, name) or nil
end

--- The error of a task that was told to end, which is nobody's mistake.
local function is_cancellation(value)
  return field(value, "code") == "cancelled" and core.cancelled()
end

--- What xpcall gave with `keep` as its handler. The handler itself may have failed, for want of memory;
--- then it is a bare error value.
local KEPT = {}

local function kept_of(caught)
  if type(caught) == "table" and rawget(caught, "kept") == KEPT then return caught end
  return { value = caught }
end

--- Handler for xpcall: the error value, and where it was raised. Thousands may be cancelled at once.
local function keep(value)
  if is_cancellation(value) then return { kept = KEPT, value = value } end
  local text, file, line = trace(value, core.frames() or debug.traceback("", 2), core.where())
  return { kept = KEPT, value = value, file = file, line = line, traceback = text }
end

--- A __tostring is a script's code, and may fail.
local function text_of(value)
  local kind = type(value)
  if kind == "string" or kind == "number" then return tostring(value) end
  if kind == "nil" then return "an error without a value (nil)" end
  if kind == "boolean" then return ("error(%s)"):format(tostring(value)) end
  local meta = debug.getmetatable(value)
  if type(meta) == "table" and rawget(meta, "__tostring") ~= nil then
    local ok, text = pcall(tostring, value)
    if ok then return text end
    return ("an error of type %s, whose __tostring fails"):format(kind)
  end
  return ("an error of type %s%s"):format(kind, kind == "table" and ": " .. core.show(value) or "")
end

--- The error as the engine reads it, with its first place and traceback. child: whose it is; nil: what
--- ran it is not told.
local function report(failure, child)
  local value = failure.value
  local text = field(value, "message")
  if type(text) ~= "string" then text = field(value, "code") end
  if type(text) ~= "string" then text = text_of(value) end
  local file, line = failure.file, failure.line
  if type(value) == "string" then
    -- The text has its place already, perhaps that of the caller that was meant.
    local at_file, at_line, rest = value:match("^([^:\n]+):(%d+): (.*)$")
    if at_file then file, line, text = at_file, tonumber(at_line), rest end
  end
  local where = failure.traceback
  if where and child then where = where .. "\n\t(" .. run_by(child) .. ")" end
  return {
    code = field(value, "code"), message = text, file = file, line = line, traceback = where,
    status = field(value, "status"),
  }
end

-- Futures -----------------------------------------------------------------------------------------

local Future = {}
local future_meta = {
  __index = methods_of(Future, "future", { result = "wait", await = "wait", get = "wait", join = "wait",
    value = "wait", is_done = "done", finished = "done", abort = "cancel", stop = "cancel", kill = "cancel" },
    { done = true }),
  __metatable = "future",
  __tostring = function(future) return future.done and "future (done)" or "future (running)" end,
}

local is_future = setmetatable({}, { __mode = "k" })

--- Nobody waits for a failure: stay until somebody does. Raises it when the handler ends first.
local function hold(future, failure)
  if core.cancelled() then
    local told = report(failure)
    core.failed_late(told.message, told.file, told.line)
    return
  end
  local parking = core.parking()
  future.holding = parking
  core.park(parking)
  core.unpark(parking)
  future.holding = nil
  if not rawget(future, "observed") then error(report(failure, future), 0) end
end

local function complete(future, ok, ...)
  future.done, future.ok = true, ok
  future.count = select("#", ...)
  for i = 1, future.count do future[i] = (select(i, ...)) end
  if not ok then future[1] = kept_of(future[1]) end
  core.release(future.handle)
  for _, parking in ipairs(future.waiting) do core.wake(parking) end
  if ok or rawget(future, "observed") then return end
  local failure = future[1]
  if is_cancellation(failure.value) then return end
  hold(future, failure)
end

local function body(future, fn, ...)
  complete(future, xpcall(fn, keep, ...))
end

local function spawn(kept, binding, fn, ...)
  local file, line = core.where()
  local future = setmetatable({ done = false, waiting = {}, binding = binding, file = file, line = line },
    future_meta)
  is_future[future] = true
  future.handle = core.spawn(kept, body, future, fn, ...)
  return future
end

--- Waits until it has ended. Its results, or its error raised.
function Future:wait()
  if not is_future[self] then
    misuse("future:wait: call it with a colon, on what bus.spawn returned")
  end
  core.check("future:wait")
  if not self.done then
    local parking = core.parking()
    self.waiting[#self.waiting + 1] = parking
    self.observed = true
    park(parking)
  end
  self.observed = true
  local holding = rawget(self, "holding")
  if holding then core.wake(holding) end
  if self.ok then return unpack(self, 1, self.count) end
  raise_again(self[1], run_by(self))
end

--- Its pending binding, or its next one, raises. A function that has ended is left alone.
function Future:cancel()
  if not is_future[self] then
    misuse("future:cancel: call it with a colon, on what bus.spawn returned")
  end
  core.check("future:cancel")
  if not self.done then core.cancel(self.handle) end
end

function M.spawn(fn, ...)
  if type(fn) ~= "function" then
    misuse(("bus.spawn: what to run must be a function, got %s"):format(type(fn)))
  end
  return spawn(false, "bus.spawn", fn, ...)
end

--- A child that its handler's end waits for.
function M.spawn_kept(fn, ...)
  return spawn(true, "js.publish_async", fn, ...)
end

-- Gather ------------------------------------------------------------------------------------------

local function member_ended(group, place, ok, first)
  if ok then
    group.results[place] = first
  elseif not group.failure then
    group.failure = kept_of(first)
    for other, handle in ipairs(group.handles) do
      if other ~= place then core.cancel(handle) end
    end
  end
  core.release(group.handles[place])
  group.left = group.left - 1
  if group.left == 0 then core.wake(group.parking) end
end

local function member(group, place, fn)
  member_ended(group, place, xpcall(fn, keep))
end

local GATHER_MOST = 7000 -- results that Lua returns at once: its stack has 8,000 places, some of them taken

local function check_functions(functions)
  if type(functions) ~= "table" then
    misuse(("bus.gather: expected a list of functions, got %s"):format(type(functions)))
  end
  local count = 0
  for place, fn in pairs(functions) do
    if type(place) ~= "number" then
      misuse(("bus.gather: a list of functions has no key %q"):format(tostring(place)))
    elseif type(fn) ~= "function" then
      misuse(("bus.gather: item %s must be a function, got %s"):format(place, type(fn)))
    end
    count = count + 1
  end
  for place = 1, count do
    if functions[place] == nil then
      misuse(("bus.gather: item %d must be a function, got nil"):format(place))
    end
  end
  if count > GATHER_MOST then
    misuse(("bus.gather: %d functions: at most %d, as it returns so many results; gather them in parts"):format(count,
      GATHER_MOST))
  end
  return count
end

--- Runs all; the first result of each, in order. Raises the first error after the rest have ended.
function M.gather(functions)
  local count = check_functions(functions)
  core.check("bus.gather")
  if count == 0 then return end
  local group = { left = count, results = {}, handles = {}, parking = core.parking("bus.gather") }
  for place = 1, count do
    group.handles[place] = core.spawn(false, member, group, place, functions[place])
  end
  park(group.parking)
  if group.failure then raise_again(group.failure, "run by bus.gather") end
  return unpack(group.results, 1, count)
end

M.raise_again = raise_again

--- True and the first two results of fn, or false and its error, for raise_again.
function M.attempt(fn, ...)
  local ok, first, second = xpcall(fn, keep, ...)
  if not ok then first = kept_of(first) end
  return ok, first, second
end

local function pass_on(ok, ...)
  if ok then return ... end
  local failure = kept_of((...))
  if failure.traceback then
    raised.value, raised.file, raised.line = failure.value, failure.file, failure.line
    raised.traceback = failure.traceback
  end
  error(failure.value, 0)
end

local function keep_frames(value)
  local text, file, line = trace(value, core.frames() or debug.traceback("", 2), core.where())
  return { kept = KEPT, value = value, file = file, line = line, traceback = text }
end

--- A handler whose errors are looked at where they are raised: LuaJIT has lost the locals of the
--- innermost function when it has ended the coroutine.
function M.traced(fn)
  return function(...) return pass_on(xpcall(fn, keep_frames, ...)) end
end

-- What is given back ------------------------------------------------------------------------------

local function give_back(binding, back, ok, ...)
  back()
  if ok then return ... end
  raise_again(kept_of((...)), "run by " .. binding)
end

--- Runs fn, then back, however fn ends. fn's results, or its error.
function M.run_within(binding, back, fn)
  return give_back(binding, back, xpcall(fn, keep))
end

-- Timers inside a handler -------------------------------------------------------------------------

local Timer = {}
local timer_meta = {
  __index = methods_of(Timer, "timer", { stop = "cancel", clear = "cancel", close = "cancel", kill = "cancel" }),
  __metatable = "timer",
}

local is_timer = setmetatable({}, { __mode = "k" })

--- No further run. One that is under way goes on.
function Timer:cancel()
  if not is_timer[self] then
    misuse("timer:cancel: call it with a colon, on what bus.after or bus.every returned")
  end
  if rawget(self, "cancelled") then return end
  self.cancelled = true
  local stop = rawget(self, "stop_run")
  if stop then
    stop()
  elseif rawget(self, "sleeping") then
    core.cancel(self.handle)
  end
end

--- A timer object. stop: what cancels it, for one that was made at load.
local function new_timer(stop)
  local timer = setmetatable({ stop_run = stop }, timer_meta)
  is_timer[timer] = true
  return timer
end
M.new_timer = new_timer

--- True when the time has come, false when there is nothing more to do.
local function sleep(timer, seconds, binding)
  timer.sleeping = true
  local first = core.sleep(seconds, binding)
  timer.sleeping = false
  return first ~= CANCELLED and not rawget(timer, "cancelled")
end

--- Nobody can wait for a timer, so its error fails the handler at once.
local function run(timer, fn)
  local ok, failure = xpcall(fn, keep)
  if not ok and not core.cancelled() then error(report(kept_of(failure), timer), 0) end
  return ok
end

local function after_body(timer, seconds, fn)
  if not core.cancelled() and sleep(timer, seconds, "bus.after") then run(timer, fn) end
  core.release(timer.handle)
end

local function every_body(timer, seconds, fn)
  local due = core.clock() + seconds
  while not core.cancelled() and sleep(timer, math.max(0, due - core.clock()), "bus.every") do
    if not run(timer, fn) or rawget(timer, "cancelled") then break end
    -- What was missed is not made up for.
    due = math.max(due + seconds, core.clock())
  end
  core.release(timer.handle)
end

local function start_timer(binding, timer_body, seconds, fn)
  local timer = new_timer()
  timer.binding, timer.file, timer.line = binding, core.where()
  timer.handle = core.spawn(false, timer_body, timer, seconds, fn)
  return timer
end

function M.after(seconds, fn) return start_timer("bus.after", after_body, seconds, fn) end
function M.every(seconds, fn) return start_timer("bus.every", every_body, seconds, fn) end

-- Scripts' coroutines -----------------------------------------------------------------------------

--- A binding inside a script's own coroutine must suspend the task, not only that coroutine: the
--- yield of a binding is passed on outward, and what it is resumed with inward again.

local co_resume, co_yield, co_create = coroutine.resume, coroutine.yield, coroutine.create
local co_status = coroutine.status

--- Coroutines in which a binding waits: to everybody but their task they are running.
local waiting = setmetatable({}, { __mode = "k" })

local function pass(co, ok, first, ...)
  if ok and first == SUSPEND then
    waiting[co] = true
    return pass(co, M.pass_inward(co, co_yield(SUSPEND)))
  end
  return ok, first, ...
end

function M.pass_inward(co, ...)
  waiting[co] = nil
  return co_resume(co, ...)
end

local function resume(co, ...)
  if waiting[co] then return false, "cannot resume a coroutine in which a binding waits" end
  check_stack()
  return pass(co, co_resume(co, ...))
end

local function unwrap(co, ok, ...)
  if ok then return ... end
  local value = ...
  -- Each traceback would be refused memory again.
  local long = raised.traceback and #raised.traceback >= WRAPPED_MOST and rawequal(value, raised.value)
  if value == "not enough memory" or long or is_cancellation(value) then error(value, 0) end
  local text, file, line = trace(value, debug.traceback(co), core.where(co))
  raise_again({ value = value, traceback = text, file = file, line = line }, "run by coroutine.wrap")
end

local function wrap(fn)
  local co = co_create(fn)
  return function(...) return unwrap(co, resume(co, ...)) end
end

local function status(co)
  return waiting[co] and "normal" or co_status(co)
end

M.coroutine = {}
for name, value in pairs(coroutine) do M.coroutine[name] = value end
M.coroutine.resume, M.coroutine.wrap, M.coroutine.status = resume, wrap, status

return M
