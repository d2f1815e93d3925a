-- The benchmark in short: that every case works, and that what was sent has arrived. No figure of it
-- is asserted.
local cases = require "bench.cases"
local cjson = require "cjson"
local host = require "spec.support.host"
local posix = require "spec.support.posix"
local process = require "spec.support.process"

describe("make bench-smoke", function()
  local run, report

  setup(function()
    run = process.run {
      command = {
        "luajit", "bench/run.lua", "--build", host.binary():match "^(.*)/", "--smoke", "--json",
        "--without", "node",
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

  it("ends with status 0", function() assert.equal(0, run.status) end)
end)
