-- What a round of `moonbus tune` has measured: two looks at the host's meters (host/app/report_trial.c),
-- one of them after the start has settled, and what lies between them. Pure.
local measure = {}

local NS = 1e9

-- A histogram is a list of pairs { longest duration in ns, how many }, in order.
local histogram = {}
histogram.__index = histogram

local function by_bound(a, b) return a[1] < b[1] end

---@param now table pairs of a look
---@param before table? pairs of an earlier look at the same
function measure.histogram(now, before)
  local earlier, pairs_of = {}, {}
  for _, pair in ipairs(before or {}) do earlier[pair[1]] = pair[2] end
  for _, pair in ipairs(now) do
    local count = pair[2] - (earlier[pair[1]] or 0)
    if count > 0 then pairs_of[#pairs_of + 1] = { pair[1], count } end
  end
  table.sort(pairs_of, by_bound)
  return setmetatable({ pairs = pairs_of }, histogram)
end

function histogram:count()
  local count = 0
  for _, pair in ipairs(self.pairs) do count = count + pair[2] end
  return count
end

-- In seconds; 0 when there is nothing.
function histogram:mean()
  local sum, count = 0, 0
  for _, pair in ipairs(self.pairs) do sum, count = sum + pair[1] * pair[2], count + pair[2] end
  return count > 0 and sum / count / NS or 0
end

-- In seconds: what this share of them did not exceed.
function histogram:quantile(share)
  local rank, below = share * self:count(), 0
  for _, pair in ipairs(self.pairs) do
    below = below + pair[2]
    if below >= rank then return pair[1] / NS end
  end
  return 0
end

function histogram:max()
  local last = self.pairs[#self.pairs]
  return last and last[1] / NS or 0
end

local function handler_of(look, name)
  for _, handler in ipairs(look and look.handlers or {}) do
    if handler.handler == name then return handler end
  end
  return { duration = {}, wait = {} }
end

local function difference(now, before, name)
  return (now[name] or 0) - (before[name] or 0)
end

local COUNTS = { "runs", "messages", "failed", "timeouts", "redelivered" }

local function handler(round, name)
  local first, ended = handler_of(round.first, name), handler_of(round.ended, name)
  local last = handler_of(round.last or round.ended, name)
  local m = { handler = name, state_bytes = last.state_bytes or 0 }
  for _, count in ipairs(COUNTS) do m[count] = difference(last, first, count) end
  m.cpu = difference(last, first, "cpu_ns") / NS
  m.busy = difference(ended, first, "cpu_ns") / NS
  m.runs_begun = difference(ended, first, "runs")
  m.duration = measure.histogram(last.duration, first.duration)
  m.wait = measure.histogram(last.wait, first.wait)
  m.sent = difference(round.sent_ended or {}, round.sent_first or {}, name)
  m.begun = measure.histogram(ended.wait, first.wait):count()
  m.growth = m.sent - m.begun
  return m
end

-- round: what the C side saw (host/cli/tune/round.c): first, ended, last: looks at the host (after the warm-up,
-- when the playing ended, after what was left); at_*, cpu_*, sent_*: when each was, how much CPU the process had
-- used, how many messages had been sent for each handler; rate, reached: messages in a second as wanted and as
-- stored; limit: why no more, if so; rss_bytes; offload: calls at once, each sample; log: { { text, count } };
-- died: why the host ended by itself; exit: its status at the end. A host that died may have less.
---@return table m what happened, with `handlers` in the order of names
function measure.round(round, names)
  local m = {
    rate = round.rate, reached = round.reached or 0, limit = round.limit or "", rss_bytes = round.rss_bytes or 0,
    offload = round.offload or {}, offload_calls = round.offload_calls or 0, log = round.log or {}, died = round.died,
    unfinished = round.exit == 3, stop = round.stop, refused = round.refused or 0, handlers = {},
    measured = (round.at_ended or 0) - (round.at_first or 0),
  }
  for _, name in ipairs(names) do
    local each = handler(round, name)
    each.cores = m.measured > 0 and each.busy / m.measured or 0
    m.handlers[#m.handlers + 1] = each
  end
  m.cores = m.measured > 0 and ((round.cpu_ended or 0) - (round.cpu_first or 0)) / m.measured or 0
  return m
end

-- The p-quantile of plain numbers; 0 when there are none.
function measure.quantile(numbers, share)
  local sorted = {}
  for index, number in ipairs(numbers) do sorted[index] = number end
  table.sort(sorted)
  return sorted[math.max(1, math.ceil(share * #sorted))] or 0
end

return measure
