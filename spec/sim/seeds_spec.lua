-- The simulation, 500 seeds of it: each fault that docs/internals/simulation.md tells of shows in the first 200.
-- `make sim` runs more.
local trial = require "spec.sim.trial"

-- A sanitized build takes ten times as long.
local SEEDS = (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS") and 50 or 500
local TWICE = 20

describe("The simulation", function()
  local traces = {}

  it("keeps all promises, with 500 seeds", function()
    for seed = 1, SEEDS do
      local one = trial.run(seed)
      assert.is_nil(one.complaint, ("seed %d (make sim SEED=%d replays it): %s"):format(seed, seed,
        tostring(one.complaint)))
      if seed <= TWICE then traces[seed] = one.trace end
    end
  end)

  it("runs a seed the same way again", function()
    for seed = 1, TWICE do
      assert.equal(traces[seed] or trial.run(seed).trace, trial.run(seed, "").trace)
    end
  end)
end)
