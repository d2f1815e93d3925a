-- Which round `moonbus tune` plays next: a coroutine that yields rounds and is resumed with what they measured
-- (moonbus.tune_measure). Pure: no time passes here, and nothing is read.
--
--   base ─▶ doubling ─▶ bisecting ─▶ measure at 80 % ─▶ recommend ─▶ confirm (more of it, if need be) ─▶ half of it
--     └─ with a rate: ──────────────▶ measure at it ──┘
--     └─ with settings to try: one round with them, and its verdict
local rules = require "moonbus.tune_rules"
local text = require "moonbus.tune_text"

local plan = {}

local BASE_RATE = 20        -- messages in a second of the first round: nothing is busy yet
local HEADROOM = 0.8        -- of the highest rate that held: what settings are recommended for
local NEAR_ENOUGH = 1.15    -- between a rate that held and one that did not
local SEARCH_SHARE = 0.55   -- of the time, for the highest rate; the rest is for the settings
local CONFIRM_TRIES = 4
local HALVES = 2
local RATE_MOST = 1e6

local play

-- --- settings ---

local function stated(self)
  local settings = { concurrency = {}, timeout = {}, ack_wait = {}, batch = {} }
  for _, handler in ipairs(self.handlers) do
    settings.concurrency[handler.handler] = handler.concurrency
  end
  for leaf, value in pairs(self.flags) do settings[leaf] = value end
  return settings
end

-- What the host is to be told: of each handler, and as flags of the config.
local function instructions(self, settings)
  local list = {}
  for _, handler in ipairs(self.handlers) do
    local name = handler.handler
    list[#list + 1] = {
      handler = name, concurrency = settings.concurrency[name] or 0, batch = settings.batch[name] or 0,
      timeout = settings.timeout[name] or 0, ack_wait = settings.ack_wait[name] or 0,
    }
  end
  return list
end

local function told_flags(self, settings)
  local map = {}
  for _, leaf in ipairs { "workers", "limits.memory", "limits.offload_threads", "graceful_timeout" } do
    if settings[leaf] ~= self.flags[leaf] then map[leaf] = settings[leaf] end
  end
  return map
end

-- The settings of a recommendation.
local function settings_of(self, found)
  local settings = stated(self)
  for _, each in ipairs(found.handlers) do
    for _, row in ipairs(each.rows) do settings[row.setting][each.handler] = row.value end
  end
  for _, row in ipairs(found.process) do settings[row.setting] = row.value end
  return settings
end

-- What was asked to be tried, for every handler.
local function settings_to_try(self)
  local settings = stated(self)
  for setting, value in pairs(self.try) do
    local per_handler = setting == "concurrency" or setting == "timeout" or setting == "ack_wait" or setting == "batch"
    if per_handler then
      for _, handler in ipairs(self.handlers) do settings[setting][handler.handler] = value end
    else
      settings[setting] = value
    end
  end
  return settings
end

-- --- rounds ---

-- How long a round lasts, and how much of it is not counted: until so many messages are under way as always.
local function length(self, times)
  local slowest = self.slowest or 0
  local seconds = math.max(self.round_seconds * (times or 1), 4 * slowest)
  seconds = math.min(seconds, math.max(self.budget / 3, self.round_seconds))
  return seconds, math.min(math.max(0.2 * seconds, 1.2 * slowest), seconds / 2)
end

-- Each handler gets this share of the messages.
local function add_shares(self, round)
  local sent = 0
  for _, handler in ipairs(round.handlers) do sent = math.max(sent, handler.sent) end
  for index, handler in ipairs(round.handlers) do
    handler.share = sent > 0 and handler.sent / sent or 1
    handler.batch = self.handlers[index].batch
  end
end

-- options: title, rate, settings, seconds, warm, drain, under_load (the stop comes while messages still do),
-- only_looks (it has no verdict: nothing is under way as always yet).
function play(self, options)
  if not options.seconds then options.seconds, options.warm = length(self, options.times) end
  local round = coroutine.yield {
    title = options.title, rate = options.rate, seconds = options.seconds, warm = options.warm,
    drain = options.drain or 0, under_load = options.under_load or false,
    settings = instructions(self, options.settings), flags = told_flags(self, options.settings),
  }
  self.spent = self.spent + options.seconds
  add_shares(self, round)
  round.title, round.settings, round.only_looks = options.title, options.settings, options.only_looks
  round.broke = not options.only_looks and rules.broke(round, self.bound, self.failing or 0) or nil
  round.slow_player = not round.died and round.reached < 0.95 * round.rate
  if round.broke and not round.died then round.limit_of_host = rules.limit(round, options.settings, self.cpus) end
  self.rounds[#self.rounds + 1] = round
  return round
end

local function left(self) return self.budget - self.spent end

-- --- the first round ---

local function first_error(round)
  local worst = round.log[1]
  return worst and (": " .. worst.text) or ""
end

local function look_at_base(self, round)
  local runs, failed = 0, 0
  self.slowest = 0
  for _, handler in ipairs(round.handlers) do
    runs, failed = runs + handler.runs, failed + handler.failed
    self.slowest = math.max(self.slowest, handler.duration:quantile(0.99))
  end
  self.failing = runs > 0 and failed / runs or 0
  if round.died then return "the host ended: " .. round.died end
  if runs == 0 then
    return ("no handler ended within %s: it takes longer, or gets none of the messages; more time: --for")
      :format(text.duration(round.measured))
  end
  if failed == runs then return "every run failed" .. first_error(round) end
end

local function base(self)
  local rate = math.min(self.rate or BASE_RATE, BASE_RATE)
  local round = play(self, {
    title = "at first", rate = rate, settings = stated(self), seconds = self.round_seconds, warm = 0,
    drain = math.max(self.round_seconds, self.budget / 4), only_looks = true,
  })
  return round, look_at_base(self, round)
end

-- --- the highest rate ---

-- What Little's law and the CPU allow, as far as the first round shows: where doubling begins.
local function guess(self, round)
  local least = RATE_MOST
  for index, handler in ipairs(round.handlers) do
    local duration, cpu = handler.duration:mean(), handler.runs > 0 and handler.cpu / handler.runs or 0
    local concurrency = self.handlers[index].concurrency
    if duration > 0 then least = math.min(least, concurrency / duration) end
    if cpu > 0 then least = math.min(least, self.cpus / cpu) end
  end
  return math.min(math.max(least / 8, BASE_RATE), 4000)
end

-- The highest rate that held, the round of it, and the lowest that did not (or nil).
local function search(self, first)
  local settings, rate = stated(self), text.nice_down(guess(self, first))
  local held, broke
  local until_spent = self.spent + SEARCH_SHARE * left(self)
  while self.spent < until_spent or not held and left(self) > 0 do
    local round = play(self, { title = held and broke and "bisecting" or "doubling", rate = rate, settings = settings })
    if round.broke or round.slow_player then broke = round else held = round end
    if held and broke and broke.rate / held.rate <= NEAR_ENOUGH then break end
    if broke and not held and rate <= 1 then break end
    rate = held and broke and math.sqrt(held.rate * broke.rate) or held and held.rate * 2 or broke.rate / 4
    rate = text.nice_down(rate)
    if held and rate <= held.rate or rate > RATE_MOST then break end
  end
  return held, broke
end

-- --- the settings ---

local function raise(rows, setting, factor)
  local row = rules.row(rows, setting)
  if not row then return end
  row.value = row.duration and text.nice(row.value * factor, 1e-3) or math.ceil(row.value * factor)
  row.raised = true
end

local function has_failed(round)
  for _, handler in ipairs(round.handlers) do
    if handler.failed > handler.timeouts then return true end
  end
  return round.died ~= nil
end

-- Raises what may have been too little in a round that did not hold.
local function raise_all(self, found, round)
  for index, each in ipairs(found.handlers) do
    if round.handlers[index].timeouts > 0 then raise(each.rows, "timeout", 2) end
    raise(each.rows, "concurrency", 1.5)
  end
  local workers = rules.row(found.process, "workers")
  if workers.value < self.cpus and rules.busy(round) > rules.BUSY * workers.value then
    raise(found.process, "workers", 1.5)
  end
  if has_failed(round) then raise(found.process, "limits.memory", 1.5) end
  raise(found.process, "limits.offload_threads", 1.5)
  if round.unfinished then raise(found.process, "graceful_timeout", 2) end
end

-- Plays the rate with what is recommended, and with more of it until it holds.
local function confirm(self, rate, found)
  local round
  for try = 1, CONFIRM_TRIES do
    round = play(self, {
      title = try == 1 and "as recommended" or "with more", rate = rate, settings = settings_of(self, found),
      under_load = true,
    })
    if not round.broke or left(self) <= 0 then break end
    if try < CONFIRM_TRIES then raise_all(self, found, round) end
  end
  return round
end

-- Half of the concurrency: where it holds, too, that is the recommendation.
local function halve(self, rate, found)
  for _ = 1, HALVES do
    local halved, any = settings_of(self, found), false
    for name, concurrency in pairs(halved.concurrency) do
      if concurrency > 1 then halved.concurrency[name], any = math.ceil(concurrency / 2), true end
    end
    if not any or left(self) <= 0 then return end
    local round = play(self, { title = "half of the concurrency", rate = rate, settings = halved, under_load = true })
    self.half = round
    if round.broke then return end
    for _, each in ipairs(found.handlers) do
      rules.row(each.rows, "concurrency").value = halved.concurrency[each.handler]
      rules.row(each.rows, "concurrency").halved = true
    end
  end
end

local function recommend(self, result, rate)
  local round = play(self, { title = "as stated", rate = rate, settings = stated(self), times = 2,
    drain = math.max(1, 2 * self.slowest) })
  if round.died then
    result.problem = "the host ended: " .. round.died
    return
  end
  local found = rules.recommend(round, self.cpus)
  result.rate, result.measured, result.found = rate, round, found
  result.confirmed = confirm(self, rate, found)
  if not result.confirmed.broke then halve(self, rate, found) end
  result.half = self.half
end

local function run(self)
  local result = { rounds = self.rounds, failing = 0 }
  self.result = result
  if self.try then
    local round = play(self, { title = "to try", rate = self.rate, settings = settings_to_try(self),
      seconds = self.budget, warm = self.budget / 4, under_load = true })
    result.tried = round
    return result
  end
  local first, problem = base(self)
  result.failing, result.problem = self.failing, problem
  if problem then return result end
  if not self.rate then
    local held, broke = search(self, first)
    result.held, result.broke = held, broke
    if not held then
      result.problem = ("no rate held, not even %s%s"):format(text.rate(broke.rate),
        broke.broke and (": " .. broke.broke) or "")
      return result
    end
  end
  recommend(self, result, self.rate or text.nice_down(HEADROOM * result.held.rate))
  return result
end

-- input: handlers (those of the stream: handler, concurrency, batch or nil), rate (nil: a ramp), budget (seconds
-- to play in all), bound (seconds that the 99th percentile may wait), cpus, flags (workers...), try (settings;
-- nil: none). Gives an object whose :next(round) gives the next round to play, or nil and the result.
function plan.new(input)
  local self = {
    handlers = input.handlers, rate = input.rate, budget = input.budget, bound = input.bound, cpus = input.cpus,
    flags = input.flags, try = input.try, rounds = {}, spent = 0,
    round_seconds = math.min(math.max(input.budget / 15, 0.5), 10),
  }
  local step = coroutine.create(run)
  local begun = false
  return {
    next = function(_, round)
      local ok, value
      if begun then ok, value = coroutine.resume(step, round) else ok, value = coroutine.resume(step, self) end
      begun = true
      if not ok then error(value, 0) end
      if coroutine.status(step) == "dead" then return nil, value end
      return value
    end,
    -- What there is so far.
    result = function() return self.result end,
  }
end

return plan
