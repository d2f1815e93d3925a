-- Runs trials: moonbus_sim spec/sim/simulate.lua FROM COUNT [STEP]: seeds FROM, FROM + STEP, ...
-- moonbus_sim spec/sim/simulate.lua SEED trace: that one, with all that happened.
package.path = "./?.lua;" .. package.path
local trial = require "spec.sim.trial"

local function replay(seed)
  local one = trial.run(seed, "")
  for _, note in ipairs(one.notes) do
    print(("%11.3f  %-4s  %s"):format(note.ms, note.kind, note.text))
  end
  print(("seed %d: trace %s: %s"):format(seed, one.trace, one.complaint or "all promises are kept"))
  os.exit(one.complaint and 1 or 0, true)
end

local from, count, step = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3] or 1)
if arg[2] == "trace" then replay(from) end

local broken, ms = 0, 0
for i = 0, count - 1 do
  local seed = from + i * step
  local one = trial.run(seed)
  ms = ms + (one.notes[#one.notes] or { ms = 0 }).ms
  if one.complaint then
    broken = broken + 1
    print(("seed %d: %s\n  trace %s; make sim SEED=%d replays it"):format(seed, one.complaint,
      one.trace, seed))
    io.stdout:flush()
  end
end
print(("%d seeds, %d broken; %.1f hours of simulated time"):format(count, broken, ms / 3600000))
os.exit(broken > 0 and 1 or 0, true)
