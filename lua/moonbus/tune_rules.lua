-- From measurements to settings. Each setting is one row: what it is computed from, by which factor, and why.
-- Pure: what was measured goes in, what is recommended comes out. docs/TUNING.md explains each row.
local measure = require "moonbus.tune_measure"
local text = require "moonbus.tune_text"

local rules = {}

-- So much of what there is may be in use on average; the rest is for bursts.
rules.BUSY = 0.7

-- Beyond Kubernetes' own 30 s the pod needs a longer terminationGracePeriodSeconds.
local KUBERNETES_SECONDS = 28

local MB = 2 ^ 20

-- Messages more than at first that are under way at the end of a round by chance alone.
local GROWTH_SLACK = 3

local function least(value, bound) return value < bound and bound or value end

-- How many threads the handlers kept busy.
function rules.busy(round)
  local busy = 0
  for _, handler in ipairs(round.handlers) do busy = busy + handler.cores end
  return busy
end

-- Of a handler. Each row: setting; from: the percentile; factor; why; value(handler, round): the recommendation, as
-- a number, and the sentence that led to it; nil: nothing to say. paste(value): as the setting takes it.
rules.of_handler = {
  {
    setting = "concurrency", from = "mean", factor = 1 / rules.BUSY,
    why = "Little's law: so many run at a time as come in a second, times the seconds that each takes",
    value = function(handler, round)
      local size = handler.runs > 0 and handler.messages / handler.runs or 1
      local at_once = round.rate * handler.share / size * handler.duration:mean()
      return least(math.ceil(at_once / rules.BUSY), 1),
        ("%s x %s (mean) = %.3g at a time, at %s"):format(text.rate(round.rate * handler.share / size),
          text.duration(handler.duration:mean()), at_once, text.percent(rules.BUSY))
    end,
  },
  {
    setting = "timeout", from = "max", factor = 1.5, duration = true,
    why = "a run that takes longer than any that was seen, and half as much again, hangs",
    value = function(handler)
      local longest = handler.duration:max()
      return least(text.nice(longest * 1.5, 1e-3), 0.25),
        ("1.5 x the longest run, %s (p99.9 %s)"):format(text.duration(longest),
          text.duration(handler.duration:quantile(0.999)))
    end,
  },
  {
    setting = "ack_wait", from = "p99.9", factor = 10, duration = true,
    why = "heartbeats keep a message however long its handler runs; a short ack_wait only has messages of a host "
      .. "that crashed come again sooner, and must outlast a lost heartbeat",
    value = function(handler)
      local slow = handler.duration:quantile(0.999)
      return math.min(least(text.nice(10 * slow, 1), 5), 30),
        ("10 x p99.9 (%s), from 5 s to 30 s: how soon a crash's messages come again"):format(text.duration(slow))
    end,
  },
  {
    setting = "batch", from = "mean", factor = 1.5,
    why = "a batch holds what arrives while it waits; room for more is only memory",
    value = function(handler)
      if not handler.batch or handler.runs == 0 then return nil end
      local mean = handler.messages / handler.runs
      return math.min(math.ceil(mean * 1.5), handler.batch), ("1.5 x the mean batch, %.3g messages"):format(mean)
    end,
  },
}

-- Of the process: all handlers together. value(round, cpus): as above.
rules.of_process = {
  {
    setting = "workers", from = "mean", factor = 1 / rules.BUSY,
    why = "Lua threads: as many as there are seconds of CPU to spend in a second",
    value = function(round, cpus)
      local busy = rules.busy(round)
      local value = least(math.ceil(busy / rules.BUSY), 1)
      return math.min(value, cpus), ("handlers took %.2g s of CPU in a second, at %s%s"):format(busy,
        text.percent(rules.BUSY), value > cpus and ("; as many as there are CPUs here, %d"):format(cpus) or "")
    end,
  },
  {
    setting = "graceful_timeout", from = "max", factor = 1.5, duration = true,
    why = "a handler that has just begun when the host is told to stop has time to end",
    value = function(round)
      local longest = 0
      for _, handler in ipairs(round.handlers) do longest = math.max(longest, handler.duration:max()) end
      local value = least(text.nice(longest * 1.5, 1e-3), 1)
      return value, ("1.5 x the longest run, %s%s"):format(text.duration(longest),
        value > KUBERNETES_SECONDS and (" (Kubernetes: terminationGracePeriodSeconds: %d)"):format(value + 5)
          or "; within Kubernetes' 30 s")
    end,
  },
  {
    setting = "limits.offload_threads", from = "p95", factor = 1 / rules.BUSY,
    why = "calls of bus.offload that run or wait at a time",
    value = function(round)
      if round.offload_calls == 0 then return nil end
      local busy = measure.quantile(round.offload, 0.95)
      return least(math.ceil(busy / rules.BUSY), 1),
        ("%d calls at a time (p95), at %s"):format(busy, text.percent(rules.BUSY))
    end,
  },
  {
    setting = "limits.memory", from = "max", factor = 1.5, size = true,
    why = "of each Lua state: what it holds, and half as much again for the collector to work in",
    value = function(round)
      local fullest = 0
      for _, handler in ipairs(round.handlers) do fullest = math.max(fullest, handler.state_bytes) end
      return least(math.ceil(1.5 * fullest / MB), 2) * MB,
        ("1.5 x the fullest Lua state, %s"):format(text.bytes(fullest))
    end,
  },
}

-- What the machine should give the process; said, not set.
local function resources(round)
  return {
    memory_bytes = text.nice(round.rss_bytes * 1.3 / MB) * MB, rss_bytes = round.rss_bytes,
    cpu = math.ceil(round.cores * 1.25 * 20) / 20, cores = round.cores,
  }
end

local function row(rule, value, because)
  if not value then return nil end
  return {
    setting = rule.setting, value = value, from = rule.from, factor = rule.factor, because = because, why = rule.why,
    duration = rule.duration, size = rule.size,
  }
end

local function apply(list, ...)
  local rows = {}
  for _, rule in ipairs(list) do rows[#rows + 1] = row(rule, rule.value(...)) end
  return rows
end

-- round: of measure.round, of a rate that held; each handler with `share`, of the messages that it gets, and
-- `batch`, the size that it states. Gives the rows of each handler, and of the process.
function rules.recommend(round, cpus)
  local found = { handlers = {}, process = apply(rules.of_process, round, cpus), resources = resources(round) }
  for _, handler in ipairs(round.handlers) do
    found.handlers[#found.handlers + 1] = {
      handler = handler.handler, rows = apply(rules.of_handler, handler, round),
    }
  end
  return found
end

-- The row of a setting; nil: there is none.
function rules.row(rows, setting)
  for _, each in ipairs(rows) do
    if each.setting == setting then return each end
  end
end

-- Why a round did not hold; nil: it did. bound: seconds that the 99th percentile may wait; failing: the share of
-- runs that fails anyway.
function rules.broke(round, bound, failing)
  if round.died then return "the host ended: " .. round.died end
  for _, handler in ipairs(round.handlers) do
    local name, runs = handler.handler, math.max(handler.runs, 1)
    if handler.timeouts > 0 then
      return ("%s: %d of %d runs reached their timeout"):format(name, handler.timeouts, runs)
    elseif handler.failed / runs > failing + 0.01 then
      return ("%s: %d of %d runs failed"):format(name, handler.failed, runs)
    elseif handler.redelivered > handler.failed * math.max(handler.messages / runs, 1) then
      return ("%s: %d messages were redelivered"):format(name, handler.redelivered)
    elseif handler.growth > 0.05 * handler.sent + GROWTH_SLACK then
      return ("%s: %d of %d messages were left over"):format(name, handler.growth, handler.sent)
    elseif handler.wait:quantile(0.99) > bound then
      return ("%s: messages waited %s (p99)"):format(name, text.duration(handler.wait:quantile(0.99)))
    end
  end
  if round.unfinished then return "handlers were unfinished at graceful_timeout" end
end

-- What there was too little of when a rate did not hold. settings: as played, with those of the process.
function rules.limit(round, settings, cpus)
  for _, handler in ipairs(round.handlers) do
    local at_once = round.measured > 0 and handler.runs_begun / round.measured * handler.duration:mean() or 0
    local concurrency = settings.concurrency[handler.handler]
    if concurrency and at_once > 0.85 * concurrency then
      return ("concurrency: %.3g of %d handlers of %s ran at a time"):format(math.min(at_once, concurrency),
        concurrency, handler.handler)
    end
  end
  local busy = rules.busy(round)
  if busy > 0.85 * settings.workers then
    return ("workers: handlers took %.2g s of CPU in a second, of %d workers on %d CPUs"):format(busy,
      settings.workers, cpus)
  end
  local threads = settings["limits.offload_threads"]
  if threads and round.offload_calls > 0 and measure.quantile(round.offload, 0.5) >= threads then
    return ("limits.offload_threads: all %d had a call"):format(threads)
  end
  if round.cores + 0.5 < 0.7 * cpus then
    return ("nothing in the host, which took %.2g of %d CPUs: the server, or what the handlers wait for")
      :format(round.cores, cpus)
  end
  return ("CPU of this machine, which also runs the server and the player: the host took %.2g of %d CPUs")
    :format(round.cores, cpus)
end

return rules
