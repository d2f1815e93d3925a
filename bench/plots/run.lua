-- Draws docs/performance-rates.svg, -cpu.svg and -latency.svg from what `make bench JSON=yes` has printed:
--
--   luajit bench/plots/run.lua runs.json [FOLDER]
--
-- A plot whose cases are not in the run is left as it is, with a note.
package.path = "./?.lua;" .. package.path
local cjson = require "cjson"
local cpu = require "bench.harness.cpu"
local svg = require "bench.plots.svg"

local LEFT, WIDTH = 190, 880

local function fail(text)
  io.stderr:write("bench-plots: ", text, "\n")
  os.exit(2)
end

local function read(path)
  local file, why = io.open(path or "")
  if not file then fail("what the benchmark printed with JSON=yes is wanted: " .. tostring(why)) end
  local text = file:read "*a"
  file:close()
  local ok, decoded = pcall(cjson.decode, text:match "\n({.*)$" or text) -- after what make has said
  if not ok or type(decoded.results) ~= "table" then fail(path .. " is no run: make bench JSON=yes prints one") end
  return decoded
end

local run = read(arg[1])
local folder = arg[2] or "docs"

local function result_of(case, variant, metric)
  for _, result in ipairs(run.results) do
    if result.case == case and result.variant == variant and result.metric == metric then return result end
  end
end

local function caption()
  local machine = run.machine
  return ("%s · %s, %d CPUs, load %s before · runs: %d · %s"):format(machine.date, machine.cpu, machine.cpus,
    machine.load, run.runs, machine.commit)
end

local function thousands(value)
  local digits = ("%.0f"):format(value)
  return (digits:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

-- What is drawn of the rates and of the processor time: a case, its variant, and its name.
local ROWS = {
  { 2, "128 B", "core: receive" }, { 1, "128 B", "core: echo" },
  { 4, "128 B, file", "consume + ack" }, { 5, "128 B, file", "consume + publish + ack" },
  { 6, "128 B, file", "the same, with JSON" },
}

-- Those in which moonbus and bare C have run; a rate of 0 is one of a moment.
local function rows_of(metric)
  local list = {}
  for _, row in ipairs(ROWS) do
    local result = result_of(row[1], row[2], metric)
    if result and (result.median.moonbus or 0) > 0 and (result.median[result.against] or 0) > 0 then
      list[#list + 1] = { title = row[3], result = result }
    end
  end
  return list
end

local function legend(drawing, x, y, entries)
  for _, entry in ipairs(entries) do
    drawing:rect(entry.class, x, y - 10, 12, 12, 2)
    drawing:text("text", x + 18, y, entry.name)
    x = x + 40 + #entry.name * 7.2
  end
end

-- --- rates ------------------------------------------------------------------------------------

local CONTENDERS = {
  { key = "moonbus", class = "moonbus", name = "moonbus" }, { key = "c", class = "c", name = "bare C, the same bytes" },
  { key = "go", class = "go", name = "Go" }, { key = "node", class = "node", name = "Node" },
  { key = "python", class = "python", name = "Python" },
}

-- A contender's median; what is bare C there, depends on the bytes that moonbus sends.
local function median_of(result, key) return result.median[key == "c" and result.against or key] end

local function take_part(rows)
  local list = {}
  for _, contender in ipairs(CONTENDERS) do
    local found
    for _, row in ipairs(rows) do found = found or median_of(row.result, contender.key) end
    if found then list[#list + 1] = contender end
  end
  return list
end

local function draw_rates(path)
  local rows = rows_of "rate"
  if #rows == 0 then return false end
  local contenders, most = take_part(rows), 1.2
  for _, row in ipairs(rows) do
    for _, contender in ipairs(contenders) do
      local median = median_of(row.result, contender.key)
      if median then most = math.max(most, median / median_of(row.result, "c")) end
    end
  end
  local bar, step = 15, 15 * #contenders + 22
  local height = 60 + step * #rows + 30
  local drawing = svg.new(WIDTH, height, "Messages a second, against bare C",
    "Bars for each case: moonbus, a bare C program, and programs in other languages; bare C is 1.")
  local scale = (WIDTH - LEFT - 120) / most
  legend(drawing, 24, 34, contenders)
  drawing:rect("rule", LEFT + scale - 0.5, 50, 1, step * #rows)
  for index, row in ipairs(rows) do
    local y, base = 54 + (index - 1) * step, median_of(row.result, "c")
    drawing:text("text", LEFT - 12, y + #contenders * bar / 2 + 5, row.title, "end")
    for place, contender in ipairs(contenders) do
      local median, at = median_of(row.result, contender.key), y + (place - 1) * bar
      if median then
        local length = median / base * scale
        drawing:rect(contender.class, LEFT, at, length, bar - 3)
        local text = ("%.2f · %s/s"):format(median / base, thousands(median))
        local goal = place == 1 and row.result.target or 0
        drawing:text("soft", LEFT + math.max(length, goal * scale) + 6, at + bar - 5, text, nil, 11)
      end
    end
    local target = row.result.target
    if target then drawing:rect("goal", LEFT + target * scale - 1, y - 3, 2, bar + 3) end
  end
  drawing:text("soft", 24, height - 12, "green: the target · " .. caption(), nil, 11)
  drawing:write(path)
  return true
end

-- --- processor time -----------------------------------------------------------------------------

local function draw_cpu(path)
  local rows, most = rows_of "cpu_ns", 0
  if #rows == 0 then return false end
  for _, row in ipairs(rows) do
    for _, key in ipairs { "moonbus", "c" } do most = math.max(most, median_of(row.result, key) or 0) end
  end
  local bar, step = 18, 18 * 2 + 24
  local height = 60 + step * #rows + 30
  local drawing = svg.new(WIDTH, height, "Processor time for a message, by thread",
    "Two stacked bars for each case, in nanoseconds of processor time: moonbus above, a bare C program below.")
  local entries = {}
  for index, role in ipairs(cpu.ROLES) do entries[index] = { class = "part" .. index, name = role } end
  legend(drawing, 24, 34, entries)
  local scale = (WIDTH - LEFT - 150) / most
  for index, row in ipairs(rows) do
    local y = 54 + (index - 1) * step
    drawing:text("text", LEFT - 12, y + bar + 3, row.title, "end")
    for index_of_bar, key in ipairs { "moonbus", "c" } do
      local name = key == "c" and row.result.against or key
      local x, at, total = LEFT, y + (index_of_bar - 1) * bar, median_of(row.result, key)
      for part, role in ipairs(cpu.ROLES) do
        local length = (row.result.threads[name][role] or 0) * scale
        if length >= 0.5 then
          drawing:rect("part" .. part, x, at, length, bar - 3)
          x = x + length
        end
      end
      local text = ("%s · %s ns"):format(key == "c" and "bare C" or key, thousands(total))
      drawing:text("soft", x + 6, at + bar - 6, text, nil, 11)
    end
  end
  drawing:text("soft", 24, height - 12, caption(), nil, 11)
  drawing:write(path)
  return true
end

-- --- latency ------------------------------------------------------------------------------------

local PERCENTILES = {
  { key = "p50_us", name = "p50" }, { key = "p99_us", name = "p99" }, { key = "p999_us", name = "p99.9" },
  { key = "max_us", name = "max" },
}
local RATES = { "128 B, 1,000 msg/s", "128 B, 10,000 msg/s", "128 B, 30,000 msg/s", "128 B, 1,000 beside a burner" }
local DECADES = {
  { 10, "10 µs" }, { 100, "100 µs" }, { 1e3, "1 ms" }, { 1e4, "10 ms" }, { 1e5, "100 ms" }, { 1e6, "1 s" },
}

local function draw_latency(path)
  local rows = {}
  for _, variant in ipairs(RATES) do
    if result_of(8, variant, "p50_us") then rows[#rows + 1] = variant end
  end
  if #rows == 0 then return false end
  local lane, step = 20, 20 * 2 + 26
  local height = 84 + step * #rows + 30
  local drawing = svg.new(WIDTH, height, "From when a message is due to the start of its handler",
    "For each rate four dots on a logarithmic scale: the median, p99, p99.9 and the longest, of moonbus and of bare C.")
  local left = LEFT + 40
  local function place(us)
    return left + (math.log(math.max(us, 10)) / math.log(10) - 1) / 5 * (WIDTH - left - 50)
  end
  legend(drawing, 24, 34, { CONTENDERS[1], { class = "c", name = "bare C" } })
  drawing:text("soft", WIDTH - 30, 34, "from small to large: p50, p99, p99.9, the longest", "end", 12)
  for _, decade in ipairs(DECADES) do
    drawing:rect("rule", place(decade[1]), 66, 1, step * #rows + 4)
    drawing:text("soft", place(decade[1]), 60, decade[2], "middle", 11)
  end
  for index, variant in ipairs(rows) do
    local y = 78 + (index - 1) * step
    drawing:text("text", left - 12, y + lane + 4, variant, "end")
    for at, key in ipairs { "moonbus", "c_plain" } do
      local line, class = y + (at - 1) * lane + 8, key == "moonbus" and "moonbus" or "c"
      local from, to
      for size, percentile in ipairs(PERCENTILES) do
        local result = result_of(8, variant, percentile.key)
        local median = result and result.median[key]
        if median then
          from, to = from or place(median), place(median)
          drawing:dot(class, to, line, 2 + size * 1.2)
        end
      end
      if from then drawing:rect(class, from, line - 0.75, to - from, 1.5) end
    end
  end
  drawing:text("soft", 24, height - 12, caption(), nil, 11)
  drawing:write(path)
  return true
end

for name, draw in pairs { rates = draw_rates, cpu = draw_cpu, latency = draw_latency } do
  local path = ("%s/performance-%s.svg"):format(folder, name)
  if draw(path) then
    print("drawn: " .. path)
  else
    io.stderr:write("bench-plots: this run has none of the cases of ", path, "\n")
  end
end
