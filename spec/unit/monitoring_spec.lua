-- The alerts and the dashboard of deploy/ ask for metrics that there are, and lead to somewhere.
local cjson = require "cjson"
local lyaml = require "lyaml"
local process = require "spec.support.process"
local temp = require "spec.support.temp"

local RULES = "deploy/prometheus/rules.yml"

local function text_of(path) return (assert(temp.read(path), path)) end

local function promtool(...)
  local result = process.run { command = { "promtool", ... }, deadline = 60 }
  return result.status, result.stdout .. result.stderr
end

local metrics = {}
for name in text_of("docs/METRICS.md"):gmatch "\n| `([%w_]+)` |" do metrics[name] = true end

-- Those of ours that an expression names and that docs/METRICS.md does not have.
local function unknown_metrics(expression, list)
  for name in expression:gsub('"[^"]*"', ""):gmatch "[%a_][%w_]+" do
    local family = name:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "")
    if (name:match "^moonbus_" or name:match "^process_") and not metrics[name] and not metrics[family] then
      list[#list + 1] = name
    end
  end
  return list
end

describe("the alerts", function()
  local alerts = lyaml.load(text_of(RULES)).groups[1].rules

  it("are rules that Prometheus takes, and that fire when they should, and only then", function()
    for _, arguments in ipairs { { "check", "rules", RULES },
      { "test", "rules", "deploy/prometheus/rules_test.yml" } } do
      local status, output = promtool(unpack(arguments))
      assert.equal(0, status, output)
    end
  end)

  it("ask for metrics of docs/METRICS.md", function()
    local unknown = {}
    for _, alert in ipairs(alerts) do unknown_metrics(alert.expr, unknown) end
    assert.same({}, unknown)
    assert.same({ "moonbus_nothing_total" }, unknown_metrics('rate(moonbus_nothing_total{a="moonbus_b"}[5m])', {}))
  end)

  it("are each tested, and lead each to a line of the troubleshooting page", function()
    local tests, page = text_of "deploy/prometheus/rules_test.yml", text_of "docs/TROUBLESHOOTING.md"
    for _, alert in ipairs(alerts) do
      local anchor = alert.alert:lower()
      assert.is_truthy(tests:find(('alertname="%s"'):format(alert.alert), 1, true), alert.alert)
      assert.equal("docs/TROUBLESHOOTING.md#" .. anchor, alert.annotations.runbook)
      assert.is_truthy(page:find(('<a id="%s"></a>**%s**'):format(anchor, alert.alert), 1, true), alert.alert)
      assert.is_truthy(alert.labels.severity == "page" or alert.labels.severity == "ticket", alert.alert)
    end
  end)
end)

describe("the dashboard", function()
  local dashboard = cjson.decode(text_of "deploy/grafana/moonbus.json")
  local expressions = {}
  for _, panel in ipairs(dashboard.panels) do
    for _, target in ipairs(panel.targets or {}) do expressions[#expressions + 1] = target.expr end
  end
  for _, annotation in ipairs(dashboard.annotations.list) do expressions[#expressions + 1] = annotation.expr end

  it("asks for metrics of docs/METRICS.md", function()
    local unknown = {}
    for _, expression in ipairs(expressions) do unknown_metrics(expression, unknown) end
    for _, variable in ipairs(dashboard.templating.list) do
      if type(variable.query) == "table" then unknown_metrics(variable.query.query, unknown) end
    end
    assert.same({}, unknown)
  end)

  it("asks what Prometheus understands", function()
    local rules = { groups = { { name = "dashboard", rules = {} } } }
    for index, expression in ipairs(expressions) do
      rules.groups[1].rules[index] = { record = ("dashboard:%d"):format(index),
        expr = expression:gsub("%$__rate_interval", "5m"):gsub("%$%w+", ".*") .. "" }
    end
    local folder = temp.folder()
    local path = temp.write(folder, "rules.yml", lyaml.dump { rules })
    local status, output = promtool("check", "rules", path)
    temp.remove(folder)
    assert.equal(0, status, output)
    assert.is_true(#expressions > 30)
  end)

  it("has panels that have a title, a number of their own, and a place that no other has", function()
    local ids, taken = {}, {}
    for _, panel in ipairs(dashboard.panels) do
      assert.is_truthy(panel.title and not ids[panel.id], panel.title)
      ids[panel.id] = true
      local at = panel.gridPos
      for x = at.x, at.x + at.w - 1 do
        assert.is_true(x < 24, panel.title)
        for y = at.y, at.y + at.h - 1 do
          assert.is_nil(taken[x .. "," .. y], panel.title)
          taken[x .. "," .. y] = panel.title
        end
      end
    end
  end)
end)
