-- Instructions for a message: `make bench-instructions`, or from the root of the tree
--
--   luajit bench/instructions/run.lua [--build build] [--cases echo,relay] [--functions 20] [--simulated] [--update]
--
-- First of the real process and of bare C, by thread; then in virtual time, by floor, beside what is committed.
-- --simulated: only the second, which takes seconds. --functions N: that, and the N functions that take
-- most. --update: that, and it is what will be committed.
package.path = "./?.lua;" .. package.path

local arguments = require "bench.harness.arguments"
local baseline = require "bench.instructions.baseline"
local callgrind = require "bench.instructions.callgrind"
local cases = require "bench.instructions.cases"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local programs = require "bench.harness.programs"
local real = require "bench.instructions.real"
local simulation = require "bench.instructions.simulation"

local function fail(text)
  io.stderr:write("bench-instructions: ", text, "\n")
  os.exit(2)
end

local given, why = arguments.read(arg, { "build", "cases", "functions", "simulated", "update" },
  { simulated = true, update = true })
if not given then fail(why) end

local function chosen()
  local list = {}
  for name in (given.cases or ""):gmatch "[^,%s]+" do
    list[#list + 1] = cases.by_name[name] or fail(("there is no case \"%s\""):format(name))
  end
  return #list > 0 and list or cases
end

local function number(value) return value and ("%.0f"):format(value) or "" end

local function print_real_case(case)
  local totals = {}
  for _, contender in ipairs { "moonbus", "c" } do
    local counts, columns = real.count(case, contender), {}
    for i, role in ipairs(real.ROLES) do columns[i] = ("%9s"):format(number(counts.roles[role] or 0)) end
    totals[contender] = counts.total
    print(("%-34s %-8s %6s   %s%s"):format(contender == "moonbus" and case.title or "",
      contender == "c" and "bare C" or contender, number(counts.total), table.concat(columns, " "),
      totals.c and ("  ratio %.2f"):format(totals.moonbus / totals.c) or ""))
  end
end

local function print_real(list)
  print(("%-34s %-8s %6s  "):format("the real process, one worker", "", "total")
    .. (" %9s"):rep(#real.ROLES):format(unpack(real.ROLES)))
  for _, case in ipairs(list) do
    if not case.alone then print_real_case(case) end
  end
  print()
end

local function print_functions(counts, most)
  local list = {}
  for name, count in pairs(counts.functions) do list[#list + 1] = { name = name, count = count } end
  table.sort(list, function(a, b) return a.count > b.count end)
  for i = 1, math.min(most, #list) do print(("    %7.1f  %s"):format(list[i].count, list[i].name)) end
end

local function print_simulated(list, counts, committed)
  print(("%-34s %8s"):format("in virtual time, the host alone", "total")
    .. (" %9s"):rep(#simulation.FLOORS):format(unpack(simulation.FLOORS)) .. "  committed")
  for _, case in ipairs(list) do
    local count, columns = counts[case.name], {}
    for i, floor in ipairs(simulation.FLOORS) do columns[i] = ("%9s"):format(number(count.floors[floor] or 0)) end
    local against = committed and committed[case.name]
      and ("%9d  %+.1f %%"):format(committed[case.name].total, baseline.growth(committed, counts, case.name) * 100)
    print(("%-34s %8s %s  %s"):format(case.title, number(count.total), table.concat(columns, " "), against or ""))
    if given.functions then print_functions(count, tonumber(given.functions)) end
  end
end

if not callgrind.found() then fail "valgrind is not installed: .ci/deps valgrind" end
local build = given.build or "build"
programs.build = posix.absolute(build) or fail("there is no folder " .. build)
process.build = programs.build
local list = chosen()
if not (given.simulated or given.functions or given.update) then print_real(list) end

local names = {}
for i, case in ipairs(list) do names[i] = case.name end
local counts = simulation.count(programs.build, names)
local committed = posix.absolute(baseline.PATH) and baseline.read()
local differs = committed and baseline.differs(committed, programs.build)
print_simulated(list, counts, not differs and committed)
if differs then print("the counts that are committed " .. differs) end
if given.update then
  if #list < #cases then fail "all cases are committed together" end
  baseline.write(counts, programs.build)
  print("written: " .. baseline.PATH)
end
os.exit(0) -- without closing the Lua state: libnats' threads are still there
