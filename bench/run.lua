-- The benchmark: `make bench`, or from the root of the tree
--
--   luajit bench/run.lua [--build build] [--cases 1,4] [--runs 7] [--seconds 2] [--scale 1]
--                        [--without node] [--json] [--smoke]
--
-- --scale multiplies how many messages a stream is filled with. --smoke: each case once and short,
-- only to see that it works. Exit status 1 when a run failed, whatever the figures are.
package.path = "./?.lua;" .. package.path

local bench = require "bench.harness.bench"
local cases = require "bench.cases"
local programs = require "bench.harness.programs"
local report = require "bench.harness.report"
local host = require "spec.support.host"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"

local function fail(text)
  io.stderr:write("bench: ", text, "\n")
  os.exit(2)
end

local FLAGS = { json = true, smoke = true }
local VALUES = { build = true, cases = true, runs = true, seconds = true, scale = true, without = true }

local function read_arguments(list)
  local given = {}
  local index = 1
  while index <= #list do
    local name = list[index]:match "^%-%-(%l+)$"
    if name and FLAGS[name] then
      given[name] = true
    elseif name and VALUES[name] and list[index + 1] then
      index = index + 1
      given[name] = list[index]
    else
      fail(("unknown option \"%s\"; there are: --build --cases --runs --seconds --scale --without --json --smoke")
        :format(list[index]))
    end
    index = index + 1
  end
  return given
end

local function number_of(given, name, otherwise)
  if not given[name] or given[name] == "" then return otherwise end
  local value = tonumber(given[name])
  if not value or value <= 0 then fail(("--%s is \"%s\": a number is wanted"):format(name, given[name])) end
  return value
end

local function chosen(text)
  if not text or text == "" then return cases end
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

local function output_of(command)
  local pipe = io.popen(command .. " 2>&1")
  local text = pipe:read "*a"
  pipe:close()
  return text
end

-- Whether the Node program can run: true and its client's version, or false and why not.
local function find_node(given)
  if given.without == "node" then return false, "without Node" end
  local package = temp.read "bench/node/node_modules/@nats-io/transport-node/package.json"
  if not package then
    return false, "Node left out: it or its packages are not installed (make bench installs these)"
  end
  local text = output_of "node bench/node/main.mjs check"
  if text ~= "ready\n" then
    return false, "Node left out: its program does not run here: " .. (text:match "[^\n]*Error[^\n]*" or text)
  end
  return true, package:match '"version":%s*"([^"]+)"'
end

local given = read_arguments(arg)
local options = {
  build = given.build or "build",
  runs = number_of(given, "runs", given.smoke and 1 or 7),
  ms = math.floor(number_of(given, "seconds", given.smoke and 0.2 or 2) * 1000),
  warm_ms = given.smoke and 50 or 500,
  scale = number_of(given, "scale", given.smoke and 0.005 or 1),
  smoke = given.smoke,
}
options.node, options.node_client = find_node(given)
programs.build = posix.absolute(options.build) or fail("there is no folder " .. options.build)
programs.node = posix.absolute "bench/node"
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
