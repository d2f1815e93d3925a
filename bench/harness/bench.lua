-- Runs cases: every contender in turn, round after round (A B C A B C ...), so that what disturbs the
-- machine disturbs all of them. Progress goes to standard error.
local measures = require "bench.harness.measures"
local others = require "bench.harness.others"
local programs = require "bench.harness.programs"
local server = require "spec.support.server"
local wait = require "spec.support.wait"

local bench = {}

local on_terminal = os.execute "test -t 2" == 0

-- A terminal has one line for all of it; a log has one for each variant.
local function progress(text, is_new)
  if on_terminal then
    io.stderr:write("\r\27[K", text)
  elseif is_new then
    io.stderr:write(text, "\n")
  end
  io.stderr:flush()
end

-- What a measure is given.
--   case, variant, contender   what is run
--   server, client             a server of its own for the whole benchmark, and a connection to it
--   ms, warm_ms, messages      how long; how many
--   durable                    a name that no run had before
--   kept                       a table for what serves several runs of a variant
local function new_run(self, case, variant, contender)
  self.runs_made = self.runs_made + 1
  return {
    case = case, variant = variant, contender = contender, server = self.server,
    client = self.client, ms = self.options.ms, warm_ms = self.options.warm_ms,
    messages = case.messages and math.max(20,
      math.floor(case.messages * self.options.scale * (variant.share or 1))),
    scale = self.options.scale, smoke = self.options.smoke,
    durable = "d" .. self.runs_made, kept = self.kept,
  }
end

local function contenders_of(case)
  local list = { "moonbus" }
  for _, name in ipairs(case.contenders) do
    if not others.NAMES[name] or programs.others[name] then list[#list + 1] = name end
  end
  return list
end

-- The case as this variant has it: its own fields go before the case's.
local function case_of(case, variant)
  return setmetatable({}, { __index = function(_, key)
    if variant[key] ~= nil and key ~= "title" then return variant[key] end
    return case[key]
  end })
end

-- Adds the processor time by thread of one run to what is kept of a contender: threads[role] is a list.
local function keep_threads(threads, result, round)
  for role, used in pairs(result.threads or {}) do
    threads[role] = threads[role] or {}
    threads[role][round] = used
  end
end

-- All rounds of a variant: values[contender][metric] is a list, and so is threads[contender][role].
local function run_variant(self, case, variant)
  local values, threads, failures = {}, {}, {}
  local contenders = contenders_of(case)
  for _, name in ipairs(contenders) do values[name], threads[name] = {}, {} end
  for round = 1, self.options.runs do
    for _, name in ipairs(contenders) do
      progress(("%2d. %s, %s: run %d of %d, %s"):format(case.number, case.title, variant.title,
        round, self.options.runs, name), round == 1 and name == "moonbus")
      local ok, result = pcall(measures[case.measure], new_run(self, case, variant, name))
      if not ok then failures[#failures + 1] = ("%s: %s"):format(name, tostring(result)) end
      for _, metric in ipairs(case.metrics) do
        local list = values[name][metric.key] or {}
        list[round] = ok and result[metric.key] or false
        values[name][metric.key] = list
      end
      if ok then keep_threads(threads[name], result, round) end
    end
  end
  return values, threads, failures
end

-- What the load generator does when nobody stands between it and the server: its messages come back
-- to itself. In a run it must be far from that.
local function measure_load(self)
  return programs.load("flow", {
    url = self.server.url, send = "bench.self", back = "bench.self", size = 128,
    warm_ms = self.options.warm_ms, ms = self.options.ms,
  })
end

-- options: runs, ms, warm_ms, scale (of message counts), smoke.
-- Gives a list of { case, variant, values, threads, failures }, and what the load generator did alone.
function bench.run(cases, options)
  local self = { options = options, runs_made = 0, kept = {}, results = {} }
  self.server = server.start { config = "max_payload: 8MB" }
  self.client = self.server:connect()
  local began, alone = wait.now(), nil
  local ok, reason = pcall(function()
    alone = measure_load(self)
    for _, case in ipairs(cases) do
      for _, variant in ipairs(case.variants) do
        local own = case_of(case, variant)
        local values, threads, failures = run_variant(self, own, variant)
        self.results[#self.results + 1] = {
          case = own, variant = variant, values = values, threads = threads, failures = failures,
        }
      end
      self.client:wipe()
      self.kept = {}
    end
  end)
  progress(("%d cases in %.0f s"):format(#cases, wait.now() - began), true)
  if on_terminal then io.stderr:write "\n" end
  self.client:close()
  self.server:close()
  if not ok then error(reason, 0) end
  return self.results, alone
end

return bench
