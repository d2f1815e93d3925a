-- `.ci/run` tells once more what failed, and in which part, shortly before its last line. Shown with parts that only
-- say what they would say.
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"

local GOOD = "echo a spec; echo; echo 3 passed, 0 failed"

local BAD = [[cat <<'END'
spec/a_spec.lua
  FAILED   a thing works (20004 ms)

FAILED  a thing works
spec/a_spec.lua:7
spec/a_spec.lua:9: not within 20s: it stayed nil
stack traceback:
	spec/a_spec.lua:9: in function <spec/a_spec.lua:7>

What failed, once more:
FAILED  a thing works
spec/a_spec.lua:7
spec/a_spec.lua:9: not within 20s: it stayed nil
stack traceback:
	spec/a_spec.lua:9: in function <spec/a_spec.lua:7>

The runner of spec_b_spec.lua itself ended with status 139.

The address sanitizer reports (process 12):
==12==ERROR: AddressSanitizer: heap-use-after-free

2 passed, 3 failed
END
exit 1]]

local BROKEN = "echo one.c:1:1: error: it is no C; exit 2"

describe(".ci/run", function()
  local folder
  before_each(function() folder = temp.folder() end)
  after_each(function() temp.remove(folder) end)

  -- parts: what `make test` and the others do, as text for the shell.
  local function run(parts)
    for _, name in ipairs { ".ci/run", ".ci/failures" } do temp.write(folder, name, assert(temp.read(name), name)) end
    temp.write(folder, ".ci/deps", "#!/bin/sh\n")
    temp.write(folder, "spec/run", "#!/bin/sh\n" .. parts.faults .. "\n")
    temp.write(folder, "bin/make", ("#!/bin/sh\ncase $1 in\ntest) %s\n;;\nlint) %s\n;;\nasan) %s\n;;\nesac\n")
      :format(parts.test, parts.lint, parts.asan))
    for _, name in ipairs { ".ci/run", ".ci/failures", ".ci/deps", "spec/run", "bin/make" } do
      posix.C.chmod(folder .. "/" .. name, 493) -- 0755
    end
    return process.run { command = { ".ci/run" }, folder = folder, deadline = 60,
      env = { PATH = folder .. "/bin:" .. os.getenv "PATH" } }
  end

  it("adds up what passed, and tells of no failure", function()
    local done = run { test = GOOD, faults = GOOD, lint = "echo fine", asan = GOOD }
    assert.equal(0, done.status, done.stdout .. done.stderr)
    assert.is_nil(done.stdout:find("What failed", 1, true))
    assert.equal("10 passed, 0 failed", done.stdout:match "([^\n]*)\n$")
  end)

  it("tells what failed, in which part, just before its last line", function()
    local done = run { test = GOOD, faults = BAD, lint = "echo it is too long; exit 2", asan = BROKEN }
    assert.equal(1, done.status, done.stderr)
    assert.equal([[

  FAILED  a thing works
    spec/a_spec.lua:7
    spec/a_spec.lua:9: not within 20s: it stayed nil
  The runner of spec_b_spec.lua itself ended with status 139.
  The address sanitizer reports (process 12):
    ==12==ERROR: AddressSanitizer: heap-use-after-free
== make lint
    it is too long
== make asan
    one.c:1:1: error: it is no C

5 passed, 5 failed
]], done.stdout:match "\nWhat failed, in short:\n== env SPEC_WIRE=nats.c spec/run build spec/[^\n]*(\n.*)$")
  end)

  it("tells the beginning of each failure, when there are many", function()
    local many = {}
    for number = 1, 30 do
      many[number] = ("FAILED  number %d\nspec/a_spec.lua:%d\nwhat was wrong\nin many words"):format(number, number)
    end
    local done = run { test = ("cat <<'END'\nWhat failed, once more:\n%s\n\n0 passed, 30 failed\nEND\nexit 1")
      :format(table.concat(many, "\n")), faults = GOOD, lint = "true", asan = GOOD }
    local told = done.stdout:match "\nWhat failed, in short:\n(.*)$"
    for number = 1, 30 do
      local record = "\n  FAILED  number %d\n    spec/a_spec.lua:%d\n    what was wrong\n    ...\n"
      assert.is_truthy(told:find(record:format(number, number), 1, true), told)
    end
    assert.is_nil(told:find("in many words", 1, true))
    assert.equal("7 passed, 30 failed", told:match "([^\n]*)\n$")
  end)
end)
