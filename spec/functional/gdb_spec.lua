-- The commands for gdb that the debugging guide shows know the structs of the host as they are. Where
-- there is no gdb, or none may attach, there is nothing to show; nor in a sanitized build, whose
-- threads gdb would hold up for too long.
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local sanitized = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"
local check = os.execute "gdb --version >/dev/null 2>&1" == 0 and not sanitized and it or pending

describe("In gdb", function()
  local w = world.new()
  setup(function() w:open() end)
  teardown(function()
    w:clear()
    w:close()
  end)

  check("moonbus-tasks shows what waits, with its traceback, and moonbus-threads where threads are", function()
    local host = w:run [[
local bus = require "moonbus"
local function rest() bus.sleep("60s") end
bus.subscribe("rest", function() rest() end)
]]
    w.client:publish("rest", "")
    local run
    wait.eventually(function()
      run = process.run { deadline = 60, command = { "gdb", "-q", "-p", tostring(host.pid), "-batch",
        "-ex", "source docs/internals/moonbus-gdb.py", "-ex", "moonbus-threads", "-ex", "moonbus-tasks" } }
      return run.stderr:find "ptrace" or run.stdout:find "TASK_WAITING"
    end, 30, function() return run.stdout .. run.stderr end)
    if run.stderr:find "ptrace" then return end -- this user may not attach
    assert.matches("handler%.lua generation 1\n", run.stdout)
    assert.matches("\n +%d+ +worker 1 +%w+", run.stdout)
    assert.matches("\n    rest task 0 TASK_WAITING  handler%.lua:3\n", run.stdout)
    if run.stderr:find "Couldn't write" then return end -- the kernel here lets gdb call no function
    assert.matches("handler%.lua:2: in function 'rest'", run.stdout)
  end)
end)
