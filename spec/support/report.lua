-- busted's output: one line for each promise, the failures in full at the end, and the counts to
-- the file that spec/run reads; and to another one, if it wants it, how long each spec took. Under a failure
-- stands what the hosts of its spec had said until then, as the machine that it failed on may not be at hand.
local busted = require "busted"
local ffi = require "ffi"
local pretty = require "pl.pretty"
local world = require "spec.support.world"

-- A sanitizer that spec/run preloads is for this process: a shell that inherits it crashes.
ffi.cdef "int unsetenv(const char *name);"
ffi.C.unsetenv "LD_PRELOAD"

local function message_of(failure)
  local message = failure.message
  if message == nil then
    return "nil was raised"
  end
  return type(message) == "string" and message or pretty.write(message)
end

-- What hosts said, by the name of the spec that failed.
local said = {}

local function print_failure(failure)
  local trace = failure.element.trace or {}
  print(("\nFAILED  %s\n%s:%s"):format(failure.name, trace.short_src or "?", trace.currentline or "?"))
  print(message_of(failure))
  for _, line in ipairs(said[failure.name] or {}) do print("the host: " .. line) end
  if failure.trace and failure.trace.traceback then
    print((failure.trace.traceback:gsub("^\n", "")))
  end
end

return function()
  local handler = require "busted.outputHandlers.base"()
  local labels = { success = "ok     ", pending = "skipped", failure = "FAILED ", error = "FAILED " }

  local times = os.getenv "MOONBUS_TIMES" or ""
  local watch = times ~= "" and require "spec.support.times".watch(times)

  local function test_start(test)
    if watch then watch.begin(handler.getFullName(test)) end
    return nil, true
  end

  local function file_start(file)
    print(file.name)
    if watch then watch.begin("before the first of " .. file.name) end
    return nil, true
  end

  local function test_end(test, _, status)
    local ms = (test.duration or 0) * 1000
    local took = ms >= 100 and (" (%d ms)"):format(ms) or ""
    print(("  %s  %s%s"):format(labels[status] or status, handler.getFullName(test), took))
    io.flush()
    return nil, true
  end

  local function test_failed(element)
    said[handler.getFullName(element)] = world.said()
    return nil, true
  end

  local function suite_end()
    if watch then watch.close() end
    for _, failure in ipairs(handler.failures) do
      print_failure(failure)
    end
    for _, failure in ipairs(handler.errors) do
      print_failure(failure)
    end
    local failed = handler.failuresCount + handler.errorsCount
    local path = os.getenv "MOONBUS_RESULT"
    if path then
      local file = assert(io.open(path, "w"))
      file:write(handler.successesCount, " ", failed, "\n")
      file:close()
    else
      print(("\n%d passed, %d failed"):format(handler.successesCount, failed))
    end
    io.flush()
    return nil, true
  end

  busted.subscribe({ "file", "start" }, file_start)
  busted.subscribe({ "test", "start" }, test_start)
  busted.subscribe({ "test", "end" }, test_end)
  busted.subscribe({ "failure", "it" }, test_failed)
  busted.subscribe({ "error", "it" }, test_failed)
  busted.subscribe({ "suite", "end" }, suite_end)
  return handler
end
