-- What the host takes for a message does not grow unseen: instructions, counted in virtual time, beside
-- those that are committed (bench/instructions/). Fewer are always well.
local baseline = require "bench.instructions.baseline"
local callgrind = require "bench.instructions.callgrind"
local cases = require "bench.instructions.cases"
local host = require "spec.support.host"
local simulation = require "bench.instructions.simulation"

local build = host.binary():match "^(.*)/"

describe("the instructions for a message", function()
  if not callgrind.found() then
    pending "are counted by valgrind, which is not here: .ci/deps valgrind installs it"
    return
  end
  local committed = baseline.read()
  local differs = baseline.differs(committed, build)
    or os.getenv "SPEC_GC" and "are counted with the collector as it is; SPEC_GC makes it work all the time"
  if differs then
    pending(differs)
    return
  end

  local counts
  setup(function() counts = simulation.count(build) end)

  for _, case in ipairs(cases) do
    it(("have not grown by more than 5 %%: %s"):format(case.title), function()
      assert.is_nil(baseline.complaint(committed, counts, case.name))
    end)
  end

  it("are those of the host: each floor has some", function()
    for _, case in ipairs(cases) do
      for _, floor in ipairs(simulation.FLOORS) do
        assert.is_true((counts[case.name].floors[floor] or 0) > 50, case.name .. ", " .. floor)
      end
    end
  end)
end)
