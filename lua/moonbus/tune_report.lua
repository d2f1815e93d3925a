-- What `moonbus tune` prints: a line for each round, then the highest rate and the settings, ready to paste; or all
-- of it as a table for JSON. Pure.
local text = require "moonbus.tune_text"

local report = {}

local ROUND = "%-22s %9s %9s  %9s  %8s %8s %8s  %5s  %s"

function report.head()
  return ROUND:format("round", "offered", "handled", "wait p99", "run p50", "p99", "longest", "CPU", "")
end

local function verdict(round)
  if round.only_looks then return "" end
  if round.broke then
    return ("does not hold: %s%s"):format(round.broke, round.slow_player
      and ("; played were %s only: %s"):format(text.rate(round.reached), round.limit) or "")
  end
  if round.slow_player then return "not reached: " .. round.limit end
  return "holds"
end

-- Of several handlers, the one whose messages wait longest.
local function slowest(round)
  local worst = round.handlers[1]
  for _, handler in ipairs(round.handlers) do
    if handler.wait:quantile(0.99) > worst.wait:quantile(0.99) then worst = handler end
  end
  return worst
end

function report.round(round)
  local handler = slowest(round)
  local handled = round.measured > 0 and handler.begun / round.measured or 0
  return ROUND:format(round.title, text.rate(round.rate), text.rate(handled),
    text.duration(handler.wait:quantile(0.99)), text.duration(handler.duration:quantile(0.5)),
    text.duration(handler.duration:quantile(0.99)), text.duration(handler.duration:max()),
    text.percent(round.cores), verdict(round))
end

-- --- values ---

local function shown(row, value)
  if row.duration then return text.setting(value) end
  if row.size then return text.megabytes(value) end
  return tostring(value)
end

local function pasted(row)
  local value = shown(row, row.value)
  return (row.duration or row.size) and ("%q"):format(value) or value
end

local function before(row, stated)
  local value = stated and stated[row.setting]
  if not value or value == 0 then return "" end
  return value == row.value and "as it is" or "now " .. shown(row, value)
end

local function add_rows(lines, rows, stated)
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("  %-24s %-8s %-12s %s%s"):format(row.setting, shown(row, row.value), before(row, stated),
      row.because, row.raised and "; more, as that did not hold" or row.halved and "; half of it held, too" or "")
  end
end

-- --- ready to paste ---

local function handler_lines(input, each)
  local stream, durable = each.handler:match "^([^/]+)/(.+)$"
  local parts = { ("durable = %q"):format(durable) }
  for _, row in ipairs(each.rows) do
    local value = pasted(row)
    if row.setting == "batch" then
      value = ("{ size = %s, wait = %q }"):format(value, text.setting(input.batch_wait or 0.05))
    end
    parts[#parts + 1] = ("%s = %s"):format(row.setting, value)
  end
  return ("js.consume(%q, { %s })"):format(stream, table.concat(parts, ", "))
end

local function config_lines(rows)
  local flat, limits = {}, {}
  for _, row in ipairs(rows) do
    local limit = row.setting:match "^limits%.(.+)$"
    local list = limit and limits or flat
    list[#list + 1] = ("%s = %s"):format(limit or row.setting, pasted(row))
  end
  if #limits > 0 then flat[#flat + 1] = ("limits = { %s }"):format(table.concat(limits, ", ")) end
  return table.concat(flat, ", ")
end

local function add_paste(lines, input, found)
  lines[#lines + 1] = ""
  lines[#lines + 1] = "To paste, into the handlers:"
  for _, each in ipairs(found.handlers) do lines[#lines + 1] = "  " .. handler_lines(input, each) end
  lines[#lines + 1] = "and into moonbus.lua:"
  lines[#lines + 1] = "  " .. config_lines(found.process)
  local need = found.resources
  lines[#lines + 1] = ("The process took %s of memory and %.2g CPUs; a container wants memory: %dMi, cpu: %dm"):format(
    text.bytes(need.rss_bytes), need.cores, need.memory_bytes / 2 ^ 20, need.cpu * 1000)
end

-- --- the end ---

local function add_highest(lines, result)
  local held, broke = result.held, result.broke
  if not held then return end
  lines[#lines + 1] = ("The highest rate that held: %s"):format(text.rate(held.rate))
  if not broke then
    lines[#lines + 1] = "  nothing broke within the time: a higher one may hold, too (--for)"
  elseif broke.broke then
    lines[#lines + 1] = ("  %s did not: %s"):format(text.rate(broke.rate), broke.broke)
    if broke.limit_of_host then lines[#lines + 1] = "  too little was there of: " .. broke.limit_of_host end
  else
    lines[#lines + 1] = ("  %s could not be played: %s"):format(text.rate(broke.rate), broke.limit)
  end
end

local function add_confirmed(lines, result)
  local confirmed = result.confirmed
  if not confirmed then
    lines[#lines + 1] = "  (these have not been played)"
  elseif confirmed.broke then
    lines[#lines + 1] = "  Played, and they did not hold: " .. confirmed.broke
  else
    lines[#lines + 1] = "  Played for a round, and they held; the host stopped in time under load."
  end
  if result.half and result.half.broke then
    lines[#lines + 1] = "  Half of the concurrency did not: " .. result.half.broke
  end
end

local function add_found(lines, input, result)
  local found = result.found
  if not found then return end
  if #lines > 1 then lines[#lines + 1] = "" end
  lines[#lines + 1] = ("Settings for %s%s:"):format(text.rate(result.rate),
    input.rate and "" or (" (%s of that: a rate that leaves no room lasts until the first burst)")
      :format(text.percent(result.rate / result.held.rate)))
  for index, each in ipairs(found.handlers) do
    lines[#lines + 1] = each.handler
    add_rows(lines, each.rows, input.handlers[index])
  end
  lines[#lines + 1] = "the process"
  add_rows(lines, found.process, input.flags)
  add_confirmed(lines, result)
  if result.confirmed and not result.confirmed.broke then add_paste(lines, input, found) end
end

-- What the host logged, which says more than a count.
local function add_log(lines, rounds)
  local seen, any = {}, false
  for _, round in ipairs(rounds) do
    for _, entry in ipairs(round.log) do
      if not seen[entry.text] and not (round.broke and round.rate ~= rounds[1].rate) then
        if not any then lines[#lines + 1] = "The host logged:" end
        lines[#lines + 1] = ("  %d x %s"):format(entry.count, entry.text)
        seen[entry.text], any = true, true
      end
    end
  end
end

-- What helps, by what the log says.
local HINTS = {
  { "there is no network here", "bus.http is refused here: --allow-http lets the calls go where they go" },
  { "no_stream", "js.publish wants a stream that this server does not have: --output SUBJECT makes one" },
  { "no_responders", "bus.request asks somebody who is not here: name the file of the handler that answers, too" },
}

local function add_hints(lines, rounds)
  for _, hint in ipairs(HINTS) do
    local found = false
    for _, round in ipairs(rounds) do
      for _, entry in ipairs(round.log) do found = found or entry.text:find(hint[1], 1, true) ~= nil end
    end
    if found then lines[#lines + 1] = "  " .. hint[2] end
  end
end

-- input: of plan.new; result: of the plan; interrupted: it was ended before its time.
---@return string
function report.text(input, result, interrupted)
  local lines = { "" }
  if interrupted then lines[#lines + 1] = "Interrupted: this is what there is so far." end
  if result.tried then
    local tried = result.tried
    lines[#lines + 1] = tried.broke and "Did not hold: " .. tried.broke
      or tried.slow_player and "Not reached: " .. tried.limit or "Held."
  end
  if result.failing and result.failing > 0 then
    lines[#lines + 1] = ("%s of the runs failed also when nothing was busy"):format(text.percent(result.failing))
  end
  add_log(lines, result.rounds)
  add_hints(lines, result.rounds)
  if result.problem then lines[#lines + 1] = "No recommendation: " .. result.problem end
  add_highest(lines, result)
  add_found(lines, input, result)
  return table.concat(lines, "\n") .. "\n"
end

-- --- as a table ---

local function durations(histogram)
  return { count = histogram:count(), mean = histogram:mean(), p50 = histogram:quantile(0.5),
    p90 = histogram:quantile(0.9), p99 = histogram:quantile(0.99), p999 = histogram:quantile(0.999),
    max = histogram:max() }
end

local function round_table(round)
  if not round then return nil end
  local handlers = {}
  for index, handler in ipairs(round.handlers) do
    handlers[index] = {
      handler = handler.handler, runs = handler.runs, messages = handler.messages, failed = handler.failed,
      timeouts = handler.timeouts, redelivered = handler.redelivered, left_over = math.max(handler.growth, 0),
      cpu_seconds = handler.cpu, state_bytes = handler.state_bytes, run_seconds = durations(handler.duration),
      wait_seconds = durations(handler.wait), concurrency = round.settings.concurrency[handler.handler],
    }
  end
  return {
    title = round.title, rate = round.rate, reached = round.reached, seconds = round.measured,
    holds = not round.broke and not round.slow_player,
    because = round.broke or round.slow_player and round.limit or nil,
    workers = round.settings.workers, cpus = round.cores, rss_bytes = round.rss_bytes, handlers = handlers,
    log = round.log[1] and round.log or nil,
  }
end

local function row_table(row)
  return { setting = row.setting, value = row.duration and text.setting(row.value) or row.size
    and text.megabytes(row.value) or row.value, from = row.from, factor = row.factor, because = row.because,
    why = row.why }
end

local function rows_table(rows)
  local list = {}
  for index, row in ipairs(rows) do list[index] = row_table(row) end
  return list
end

---@return table
function report.table(input, result, interrupted)
  local rounds = {}
  for index, round in ipairs(result.rounds) do rounds[index] = round_table(round) end
  local out = { stream = input.stream, interrupted = interrupted, problem = result.problem, failing = result.failing,
    highest_rate = result.held and result.held.rate or nil, rounds = rounds }
  if result.broke then
    out.limit = result.broke.limit_of_host or result.broke.limit
    out.lowest_rate_that_broke = result.broke.rate
  end
  if result.tried then out.holds, out.because = not verdict(result.tried):find "^[dn]o", result.tried.broke end
  if result.found then
    out.rate, out.handlers = result.rate, {}
    for index, each in ipairs(result.found.handlers) do
      out.handlers[index] = { handler = each.handler, settings = rows_table(each.rows) }
    end
    out.settings, out.resources = rows_table(result.found.process), result.found.resources
    out.confirmed = result.confirmed and not result.confirmed.broke
    out.half_holds = result.half and not result.half.broke
  end
  return out
end

return report
