-- The file of --stub: a chunk that gets the script, as tests have it, and answers for others. What of it
-- computes, or blocks, for too long ends the command.
local server = require "moonbus.replay.server"
local stubs = require "moonbus.test.stubs"

local M = {}

local LIMIT, EACH = 5, 10000 -- seconds of the CPU; instructions between two looks
local BLOCKS = 60 -- seconds: for so long it may also wait, as by io.read

local bounded = false -- is one running?

-- What no pcall in it could swallow: the end of the command.
local function give_up(what)
  local info = debug.getinfo(3, "Sl")
  local place = info and info.currentline > 0 and (" (%s:%d)"):format(info.short_src, info.currentline) or ""
  io.stdout:flush()
  server.say(("--stub: %s: it computed for more than %ds%s"):format(what, LIMIT, place))
  os.exit(1)
end

local function finish(ok, ...)
  debug.sethook()
  server.alarm(0)
  bounded = false
  if not ok then error((...), 0) end
  return ...
end

local function call_bounded(what, fn, ...)
  if bounded then return fn(...) end
  local due = os.clock() + LIMIT
  bounded = true
  server.alarm(BLOCKS, ("--stub: %s: it blocks, as by io.read or os.execute, for more than %ds"):format(what, BLOCKS))
  debug.sethook(function()
    if os.clock() >= due then give_up(what) end
  end, "", EACH)
  return finish(pcall(fn, ...))
end

-- All answers that are functions are called by this.
local function bound_answers()
  local call = stubs.call
  function stubs.call(script, what, answer, ...)
    return call(script, what, function(...) return call_bounded(what, answer, ...) end, ...)
  end
end

-- A function (script) for run.open; nil without a file. The second value: what is wrong.
function M.load(path)
  if not path then return nil end
  local chunk, why = loadfile(path)
  if not chunk then return nil, why end
  jit.off() -- compiled code does not look at hooks
  bound_answers()
  return function(script)
    local ok, err = pcall(call_bounded, "the file", chunk, script)
    if not ok then error(("--stub: %s"):format(tostring(err)), 0) end
  end
end

return M
