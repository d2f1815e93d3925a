-- The benchmark: `make bench`, or from the root of the tree
--
--   luajit bench/run.lua [--build build] [--cases 1,4] [--runs 7] [--seconds 2] [--scale 1]
--                        [--without go,node,python] [--json] [--smoke]
--
-- --scale multiplies how many messages a stream is filled with. --smoke: each case once and short,
-- only to see that it works. Exit status 1 when a run failed, whatever the figures are.
package.path = "./?.lua;" .. package.path

local arguments = require "bench.harness.arguments"
local bench = require "bench.harness.bench"
local cases = require "bench.cases"
local others = require "bench.harness.others"
local programs = require "bench.harness.programs"
local report = require "bench.harness.report"
local host = require "spec.support.host"
local posix = require "spec.support.posix"
local process = require "spec.support.process"

local function fail(text)
  io.stderr:write("bench: ", text, "\n")
  os.exit(2)
end

local function number_of(given, name, otherwise)
  if not given[name] then return otherwise end
  local value = tonumber(given[name])
  if not value or value <= 0 then fail(("--%s is \"%s\": a number is wanted"):format(name, given[name])) end
  return value
end

local function chosen(text)
  if not text then return cases end
  local list = {}
  for number in text:gmatch "[^,%s]+" do
    local found
    for _, case in ipairs(cases) do
      if case.number == tonumber(number) then found = case end
    end
    list[#list + 1] = found or fail(("--cases: there is no case \"%s\""):format(number))
  end
  return list
end

local function set_of(text)
  local set = {}
  for name in (text or ""):gmatch "[^,%s]+" do
    if not others.NAMES[name] then fail(("--without: there is no \"%s\"; there are: go, node, python"):format(name)) end
    set[name] = true
  end
  return set
end

local given, why = arguments.read(arg,
  { "build", "cases", "runs", "seconds", "scale", "without", "json", "smoke" }, { json = true, smoke = true })
if not given then fail(why) end
local options = {
  build = given.build or "build",
  runs = number_of(given, "runs", given.smoke and 1 or 7),
  ms = math.floor(number_of(given, "seconds", given.smoke and 0.2 or 2) * 1000),
  warm_ms = given.smoke and 50 or 500,
  scale = number_of(given, "scale", given.smoke and 0.005 or 1),
  smoke = given.smoke,
}
programs.others, options.left_out = others.find(set_of(given.without))
programs.build = posix.absolute(options.build) or fail("there is no folder " .. options.build)
process.build = programs.build
host.binary = function() return programs.build .. "/moonbus" end

local machine = report.machine(options)
local results, alone = bench.run(chosen(given.cases), options)
machine.load_rate, machine.load_cpu = alone.rate, alone.cpu
if given.json then
  report.json(results, machine, options)
else
  report.print(results, machine, options)
end
local status = 0
for _, result in ipairs(results) do
  if #result.failures > 0 then status = 1 end
end
os.exit(status) -- without closing the Lua state: libnats' threads are still there
