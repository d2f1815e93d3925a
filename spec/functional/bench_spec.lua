-- The benchmark in short: that every case works, and that what was sent has arrived. No figure of it
-- is asserted.
local cases = require "bench.cases"
local cjson = require "cjson"
local host = require "spec.support.host"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"

describe("make bench-smoke", function()
  local run, report

  setup(function()
    run = process.run {
      command = {
        "luajit", "bench/run.lua", "--build", host.binary():match "^(.*)/", "--smoke", "--seconds", "0.1", "--json",
        "--without", "go,node,python",
      },
      folder = posix.absolute ".", deadline = 120, env = { NATS_SERVER = os.getenv "NATS_SERVER" },
    }
    local ok, decoded = pcall(cjson.decode, run.stdout)
    assert(ok, run.stderr .. run.stdout)
    report = decoded
  end)

  it("says on which machine, and with which versions", function()
    for _, name in ipairs { "cpu", "cpus", "kernel", "moonbus", "nats_c", "nats_server", "date" } do
      assert.is_truthy(report.machine[name], name)
    end
  end)

  for _, case in ipairs(cases) do
    it(("runs case %d: %s"):format(case.number, case.title), function()
      local found = 0
      for _, result in ipairs(report.results) do
        if result.case == case.number then
          found = found + 1
          assert.is_nil(result.failures and table.concat(result.failures, "\n"))
          assert.is_number(result.runs.moonbus[1], result.variant)
        end
      end
      assert.is_true(found >= #case.variants)
    end)
  end

  it("tells the processor time of a message, and each thread's share of it", function()
    local found = 0
    for _, result in ipairs(report.results) do
      if result.metric == "cpu_ns" then
        local names = { "moonbus", result.against ~= "node" and result.against or nil }
        for _, name in ipairs(names) do
          local sum = 0
          for role, used in pairs(result.threads[name]) do sum = sum + (role == "server" and 0 or used) end
          assert.is_true(math.abs(sum - result.runs[name][1]) < 1, result.title .. ", " .. name)
          assert.is_number(result.threads[name].reader) -- 0 where all was read before the count began
        end
        assert.is_number(result.threads.moonbus.workers)
        if result.case == 4 then assert.is_true(result.threads.moonbus.server > 0) end
        found = found + 1
      end
    end
    assert.is_true(found > 20)
  end)

  it("is drawn by make bench-plots", function()
    local folder = temp.folder()
    local drawn = process.run {
      command = { "luajit", "bench/plots/run.lua", temp.write(folder, "runs.json", run.stdout), folder },
      folder = posix.absolute ".", deadline = 20,
    }
    assert.equal(0, drawn.status, drawn.stderr)
    for _, name in ipairs { "rates", "cpu", "latency" } do
      local text = temp.read(("%s/performance-%s.svg"):format(folder, name))
      assert.matches("^<svg .*</svg>\n$", text)
      assert.matches("moonbus", text)
      assert.is_nil(text:find '="%-?nan' or text:find '="%-?inf')
    end
  end)

  it("ends with status 0", function() assert.equal(0, run.status) end)
end)

describe("the recorder of latencies", function()
  local function recorded(list)
    local lines = {}
    for index, ns in ipairs(list) do lines[index] = ("%.0f"):format(ns) end
    local path = temp.write(temp.folder(), "times", table.concat(lines, "\n") .. "\n")
    local build = host.binary():match "^(.*)/"
    local run = process.run {
      command = { "sh", "-c", 'exec "$1" percentiles <"$2"', "sh", build .. "/moonbus_load", path }, deadline = 20,
    }
    return cjson.decode(run.stdout)
  end

  it("tells a percentile that is at most 3 % above what it was, and the longest time as it was", function()
    math.randomseed(42)
    for _, power in ipairs { 4, 7, 9, 11 } do -- up to 100 s
      local list = {}
      for i = 1, 20000 do list[i] = math.floor(math.random() ^ 4 * 10 ^ power + 0.5) end
      local got = recorded(list)
      table.sort(list)
      for name, share in pairs { p50 = 0.5, p99 = 0.99, p999 = 0.999 } do
        local exact = list[math.ceil(share * #list)]
        assert.is_true(got[name] >= exact and got[name] <= exact * 1.032 + 1,
          ("%s: %d of %d"):format(name, got[name], exact))
      end
      assert.equal(list[#list], got.max)
      assert.equal(#list, got.count)
    end
  end)

  it("takes a few KB, and what is below 0 for 0", function()
    local got = recorded { -5, 0, 7 }
    assert.same({ 0, 7, 7, 3 }, { got.p50, got.p99, got.max, got.count })
    assert.is_true(got.bytes < 8192)
  end)
end)
