-- What is printed: a table for people, or all runs as JSON.
local cjson = require "cjson"
local cpu = require "bench.harness.cpu"
local others = require "bench.harness.others"
local programs = require "bench.harness.programs"
local stats = require "bench.harness.stats"
local temp = require "spec.support.temp"

local report = {}

local function output_of(command)
  local pipe = io.popen(command .. " 2>/dev/null")
  local text = pipe:read "*a"
  pipe:close()
  return (text:gsub("%s+$", ""))
end

-- The machine, and the versions of all that take part.
function report.machine(options)
  local cpu_name = (temp.read "/proc/cpuinfo" or ""):match "model name%s*:%s*([^\n]+)" or "?"
  local versions = {}
  for name, other in pairs(programs.others) do versions[name] = other.version end
  return {
    date = os.date "!%Y-%m-%d %H:%M UTC",
    cpu = cpu_name, cpus = tonumber(output_of "nproc"),
    kernel = output_of "uname -sr",
    load = (temp.read "/proc/loadavg" or ""):match "^%S+",
    moonbus = output_of(options.build .. "/moonbus version"):match "^[^\n]*",
    commit = output_of "git describe --always --dirty",
    nats_server = output_of((os.getenv "NATS_SERVER" or "nats-server") .. " -v"),
    nats_c = output_of "pkg-config --modversion libnats",
    others = versions, -- by name, with their clients'
    left_out = options.left_out, -- sentences
  }
end

local NAMES = {
  c = "bare C", c_header = "C with a header", c_plain = "plain C", c_fetch = "C Fetch loop", quiet = "without a reload",
}
for name, shown in pairs(others.NAMES) do NAMES[name] = shown end
-- What stands in the column of bare C, when it is something else.
local ASIDE = { one = "of one:", quiet = "without:", node = "Node:" }

-- One row of the table: the medians of one metric.
local function make_row(result, metric)
  local values = result.values
  local function list(name) return (values[name] or {})[metric.key] or {} end
  local row = { metric = metric, median = {}, spread = {}, ratio = {}, others_met = {} }
  for name in pairs(values) do
    row.median[name] = stats.median(list(name))
    row.spread[name] = stats.spread(list(name))
    row.ratio[name] = stats.ratio(list "moonbus", list(name))
  end
  local compared = metric.ideal and row.median.moonbus and row.median.moonbus / metric.ideal
    or row.ratio[metric.against or "c"]
  row.compared = compared
  if metric.target and compared then
    row.met = metric.lower and compared <= metric.target or not metric.lower and compared >= metric.target
  end
  for name, target in pairs(metric.others or {}) do
    if row.ratio[name] then row.others_met[name] = row.ratio[name] >= target end
  end
  return row
end

-- Processor time for a message by thread: the medians of a contender, as a text; nil without any. Behind it what the
-- server took meanwhile.
local function threads_text(result, name)
  local parts = {}
  local function median(role) return stats.median((result.threads[name] or {})[role] or {}) end
  for _, role in ipairs(cpu.ROLES) do
    local used = median(role)
    if used and used >= 1 then parts[#parts + 1] = ("%s %.0f"):format(role, used) end
  end
  local text, server = table.concat(parts, " · "), median "server"
  if server then text = ("%s (nats-server: %.0f)"):format(text, server) end
  return #parts > 0 and text or nil
end

local function cell(row, name)
  if not row.median[name] then return "" end
  return ("%s ±%.0f%%"):format(stats.text(row.median[name]), row.spread[name] * 100)
end

local function pad(text, width, right)
  local shown = select(2, text:gsub("[^\128-\191]", "")) -- characters, not bytes
  local space = (" "):rep(math.max(0, width - shown))
  return right and space .. text or text .. space
end

local COLUMNS = { 26, 9, 18, 18, 7, 15 }

local function line(cells)
  local parts = {}
  for index, text in ipairs(cells) do
    parts[index] = COLUMNS[index] and pad(text, COLUMNS[index], index >= 3 and index <= 5) or text
  end
  return (table.concat(parts, "  "):gsub("%s+$", ""))
end

local function target_text(metric, row)
  if not metric.target then return "" end
  local sign = metric.lower and "≤" or "≥"
  local verdict = row.met == nil and "?" or row.met and "met" or "MISSED"
  return ("%s %g  %s"):format(sign, metric.target, verdict)
end

local function others_text(result, row)
  local parts = {}
  for _, name in ipairs(result.case.contenders or {}) do
    local against = row.metric.against or "c"
    if name ~= against and row.median[name] then
      local ratio = row.ratio[name] and ("%.2f"):format(row.ratio[name]) or "?"
      local text = ("%s %s (%s"):format(NAMES[name] or name, cell(row, name), ratio)
      local target = (row.metric.others or {})[name]
      if target then text = text .. (", ≥ %g %s"):format(target, row.others_met[name] and "met" or "MISSED") end
      parts[#parts + 1] = text .. ")"
    end
  end
  return table.concat(parts, ", ")
end

local function print_machine(machine, options)
  local parts = { ("%s (%s)"):format(machine.moonbus, machine.commit), "bare C on nats.c " .. machine.nats_c }
  for _, name in ipairs(others.ORDER) do
    if machine.others[name] then parts[#parts + 1] = ("%s on %s"):format(others.NAMES[name], machine.others[name]) end
  end
  parts[#parts + 1] = machine.nats_server
  print(table.concat(parts, " · "))
  for _, note in ipairs(machine.left_out) do print(note) end
  print(("%s · %d CPUs, %s · %s · load %s before"):format(machine.date, machine.cpus, machine.cpu,
    machine.kernel, machine.load))
  print(("the load generator alone, through the server: %s msg/s of 128 B, with %.0f%% of a CPU")
    :format(stats.text(machine.load_rate), machine.load_cpu * 100))
  print(("%d runs of each, alternating: median ± half the range; ratio: median of the rounds' moonbus / bare C")
    :format(options.runs))
  print()
end

function report.print(results, machine, options)
  print_machine(machine, options)
  print(line { "", "", "moonbus", "bare C", "ratio", "target", "others (moonbus / theirs)" })
  local number
  for _, result in ipairs(results) do
    if result.case.number ~= number then
      number = result.case.number
      print(("%d. %s"):format(number, result.case.title))
    end
    for _, metric in ipairs(result.case.metrics) do
      local row = make_row(result, metric)
      local against = metric.ideal and "ideal " .. stats.text(metric.ideal) or cell(row, metric.against or "c")
      if ASIDE[metric.against] then against = ASIDE[metric.against] .. " " .. against end
      print(line { "   " .. result.variant.title, metric.unit, cell(row, "moonbus"), against,
        row.compared and ("%.2f"):format(row.compared) or "", target_text(metric, row),
        others_text(result, row) })
      if metric.key == "cpu_ns" then
        for _, name in ipairs { "moonbus", metric.against or "c" } do
          local text = threads_text(result, name)
          if text then print(("     %s by thread: %s"):format(NAMES[name] or name, text)) end
        end
      end
    end
    for _, failure in ipairs(result.failures) do print("   FAILED  " .. failure) end
  end
end

-- The medians of processor time by contender and thread.
local function threads_of(result)
  local medians = {}
  for name, threads in pairs(result.threads) do
    medians[name] = {}
    for role, list in pairs(threads) do medians[name][role] = stats.median(list) end
  end
  return medians
end

function report.json(results, machine, options)
  local list = {}
  for _, result in ipairs(results) do
    for _, metric in ipairs(result.case.metrics) do
      local row = make_row(result, metric)
      local runs = {}
      for name, values in pairs(result.values) do runs[name] = values[metric.key] end
      list[#list + 1] = {
        case = result.case.number, title = result.case.title, variant = result.variant.title,
        metric = metric.key, unit = metric.unit, lower_is_better = metric.lower or false, runs = runs,
        median = row.median, spread = row.spread, ratios = row.ratio, ratio = row.compared,
        target = metric.target, met = row.met, ideal = metric.ideal, against = metric.against or "c",
        others_targets = metric.others, others_met = row.others_met,
        threads = metric.key == "cpu_ns" and threads_of(result) or nil,
        failures = #result.failures > 0 and result.failures or nil,
      }
    end
  end
  print(cjson.encode { machine = machine, runs = options.runs, results = list })
end

return report
