-- Refuses each allocation of the trial in refused.lua, one trial after the other:
-- moonbus_sim spec/sim/refuse.lua FROM TO STEP IN_A_ROW; TO "-": to the last one
-- moonbus_sim spec/sim/refuse.lua NTH trace [IN_A_ROW]: that one, with all that happened.
package.path = "./?.lua;" .. package.path
local refused = require "spec.sim.refused"

if arg[2] == "trace" then
  local one = refused.run(tonumber(arg[1]), tonumber(arg[3] or 1))
  for _, note in ipairs(one.notes) do
    print(("%11.3f  %-4s  %s"):format(note.ms, note.kind, note.text))
  end
  print(one.complaint or "all promises are kept")
  os.exit(one.complaint and 1 or 0)
end

local from, to = tonumber(arg[1] or 1), tonumber(arg[2]) or refused.count()
local step, in_a_row = tonumber(arg[3] or 1), tonumber(arg[4] or 1)
local trials, broken = 0, 0
for nth = from, to, step do
  local one = refused.run(nth, in_a_row)
  trials = trials + 1
  if one.complaint then
    broken = broken + 1
    print(("allocation %d: %s"):format(nth, one.complaint))
    io.stdout:flush()
  end
end
print(("%d trials, %d broken"):format(trials, broken))
os.exit(broken > 0 and 1 or 0)
