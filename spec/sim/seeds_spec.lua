-- The simulation, 500 seeds of it; `make sim` runs more. docs/internals/simulation.md
local trial = require "spec.sim.trial"

-- A sanitized build takes ten times as long.
local SEEDS = (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS") and 50 or 500

describe("The simulation", function()
  it("keeps all promises, with 500 seeds", function()
    for seed = 1, SEEDS do
      local one = trial.run(seed)
      assert.is_nil(one.complaint, ("seed %d (make sim SEED=%d replays it): %s"):format(seed, seed,
        tostring(one.complaint)))
    end
  end)

  it("runs a seed the same way again", function()
    for seed = 1, 20 do
      local first, second = trial.run(seed), trial.run(seed, "")
      assert.equal(first.trace, second.trace)
    end
  end)
end)
