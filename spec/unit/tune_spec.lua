-- The thinking of `moonbus tune`: which rounds are played, and what follows from them. A host is played here by a
-- few lines that know how fast it is.
local function load_modules()
  local path = package.path
  package.path = "lua/?.lua;" .. path
  local modules = {
    measure = require "moonbus.tune_measure", plan = require "moonbus.tune_plan",
    rules = require "moonbus.tune_rules", streams = require "moonbus.tune_streams",
    text = require "moonbus.tune_text", report = require "moonbus.tune_report",
  }
  package.path = path
  return modules
end

local tune = load_modules()
local NS = 1e9

-- Durations of this many seconds, so often.
local function durations(seconds, count) return { { seconds * NS, count } } end

describe("a histogram of a round", function()
  it("is what came between two looks", function()
    local h = tune.measure.histogram({ { 1e6, 5 }, { 2e6, 3 }, { 9e6, 1 } }, { { 1e6, 5 }, { 2e6, 1 } })
    assert.equal(3, h:count())
    assert.equal(0.002, h:quantile(0.5))
    assert.equal(0.009, h:max())
    assert.is_true(math.abs(h:mean() - (2 * 0.002 + 0.009) / 3) < 1e-9)
  end)

  it("of nothing is zero", function()
    local h = tune.measure.histogram({}, nil)
    assert.same({ 0, 0, 0, 0 }, { h:count(), h:mean(), h:quantile(0.99), h:max() })
  end)
end)

-- A host whose runs take `duration` seconds, of which `cpu` of a thread, with so much in its fullest state. It
-- handles what comes, as far as concurrency and workers go.
local function model(options)
  return function(round)
    local concurrency = round.settings[1].concurrency
    local workers = round.flags.workers or options.workers or 2
    local most = math.min(concurrency / options.duration, options.cpu > 0 and workers / options.cpu or math.huge,
      options.most or math.huge)
    local timeout = round.settings[1].timeout
    local late = timeout > 0 and timeout < options.duration
    local function counts(seconds)
      local sent = math.floor(round.rate * seconds)
      local done = math.floor(math.min(round.rate, most) * seconds)
      local wait = round.rate <= most and 0.001 or (sent - done) / most
      return sent, {
        handler = "S/d", runs = done, messages = done, failed = late and done or 0, timeouts = late and done or 0,
        redelivered = 0, cpu_ns = done * options.cpu * NS, state_bytes = options.memory or 1e6,
        duration = durations(options.duration, done), wait = durations(wait, done),
      }
    end
    local sent_first, first = counts(round.warm)
    local sent_ended, ended = counts(round.seconds)
    local cpu = ended.cpu_ns / NS
    return {
      rate = round.rate, reached = math.min(round.rate, options.player or math.huge), limit = "the player",
      first = { handlers = { first } }, ended = { handlers = { ended } }, last = { handlers = { ended } },
      offload = options.offload, offload_calls = options.offload and 100 or 0,
      sent_first = { ["S/d"] = sent_first }, sent_ended = { ["S/d"] = sent_ended },
      at_first = round.warm, at_ended = round.seconds, cpu_first = 0, cpu_ended = cpu, rss_bytes = 2e7, exit = 0,
    }
  end
end

local function play(options, input)
  input.handlers = { { handler = "S/d", concurrency = options.concurrency or 64 } }
  input.flags = { workers = options.workers or 2, ["limits.offload_threads"] = 4 }
  input.cpus, input.bound, input.budget = options.cpus or 8, 0.5, input.budget or 60
  local plan, host, played = tune.plan.new(input), model(options), {}
  local round, result = plan:next()
  while round do
    played[#played + 1] = round
    assert.is_true(#played < 100)
    round, result = plan:next(tune.measure.round(host(round), { "S/d" }))
  end
  return result, played, input
end

local function value(result, setting)
  local rows = tune.rules
  local row = rows.row(result.found.handlers[1].rows, setting) or rows.row(result.found.process, setting)
  return row and row.value
end

describe("a ramp", function()
  it("finds the highest rate that concurrency allows, by doubling and bisecting", function()
    local result = play({ duration = 0.2, cpu = 0, concurrency = 40 }, {})
    assert.is_true(result.held.rate <= 211 and result.held.rate > 170, result.held.rate)
    assert.is_true(result.broke.rate / result.held.rate <= 1.16)
    assert.matches("concurrency: 40 of 40", result.broke.limit_of_host)
  end)

  it("finds the one that the workers allow, and says so", function()
    local result = play({ duration = 0.01, cpu = 0.01, workers = 2 }, {})
    assert.is_true(result.held.rate <= 212 and result.held.rate > 165, result.held.rate)
    assert.matches("workers: .* of 2 workers", result.broke.limit_of_host)
  end)

  it("finds the one that the offload threads allow, and how many there should be", function()
    local result = play({ duration = 0.02, cpu = 0, most = 200, offload = { 4, 4, 4 } }, {})
    assert.equal("limits.offload_threads: all 4 had a call", result.broke.limit_of_host)
    assert.equal(6, value(result, "limits.offload_threads"))
  end)

  it("says when nothing in the host was the limit", function()
    local result = play({ duration = 0.02, cpu = 0, most = 200 }, {})
    assert.matches("nothing in the host", result.broke.limit_of_host)
  end)

  it("says when the player was the limit, not the handlers", function()
    local result = play({ duration = 0.001, cpu = 0.00001, player = 5000 }, {})
    assert.is_true(result.held.rate <= 5300 and result.held.rate > 4000, result.held.rate)
    assert.is_nil(result.broke.broke)
    assert.is_true(result.broke.slow_player)
  end)

  it("recommends for 80 % of it, and has that played", function()
    local result = play({ duration = 0.2, cpu = 0, concurrency = 40 }, {})
    assert.is_true(result.rate <= 0.8 * result.held.rate)
    assert.is_nil(result.confirmed.broke)
  end)

  it("plays no longer than it was told, but for the last round", function()
    local _, played = play({ duration = 0.2, cpu = 0, concurrency = 40 }, { budget = 20 })
    local seconds = 0
    for i = 1, #played - 1 do seconds = seconds + played[i].seconds end
    assert.is_true(seconds <= 20 + played[#played].seconds, seconds)
  end)
end)

describe("a recommendation", function()
  it("for concurrency is Little's law at 70 %, and half of it does not hold", function()
    local result = play({ duration = 0.2, cpu = 0 }, { rate = 100 })
    assert.equal(29, value(result, "concurrency")) -- 100/s x 0.2 s = 20 at a time
    assert.is_nil(result.confirmed.broke)
    assert.matches("left over", result.half.broke)
  end)

  it("for timeout is half as much again as the longest run, and half of that fails", function()
    local result = play({ duration = 0.4, cpu = 0 }, { rate = 20 })
    assert.equal(0.6, value(result, "timeout"))
    local tried = play({ duration = 0.4, cpu = 0 }, { rate = 20, try = { timeout = 0.3 } })
    assert.matches("reached their timeout", tried.tried.broke)
  end)

  it("for workers is the CPU that is spent in a second, and half of it does not hold", function()
    local result = play({ duration = 0.01, cpu = 0.01, workers = 4 }, { rate = 250 })
    assert.equal(4, value(result, "workers"))
    local tried = play({ duration = 0.01, cpu = 0.01, workers = 4 }, { rate = 250, try = { workers = 2 } })
    assert.is_truthy(tried.tried.broke)
  end)

  it("never has more workers than there are CPUs", function()
    local result = play({ duration = 0.01, cpu = 0.01, workers = 2, cpus = 2 }, { rate = 180 })
    assert.equal(2, value(result, "workers"))
  end)

  it("for memory is the fullest Lua state and half of it again", function()
    local result = play({ duration = 0.1, cpu = 0, memory = 20 * 2 ^ 20 }, { rate = 20 })
    assert.equal(30 * 2 ^ 20, value(result, "limits.memory"))
  end)

  it("has an ack_wait that outlasts a lost heartbeat, and no more than 30 s", function()
    assert.equal(5, value(play({ duration = 0.1, cpu = 0 }, { rate = 20 }), "ack_wait"))
    assert.equal(20, value(play({ duration = 2, cpu = 0 }, { rate = 20 }), "ack_wait"))
    assert.equal(30, value(play({ duration = 4, cpu = 0 }, { rate = 10 }), "ack_wait"))
  end)

  it("says when graceful_timeout is beyond what Kubernetes grants", function()
    local result = play({ duration = 25, cpu = 0, concurrency = 100 }, { rate = 1, budget = 900 })
    local row = tune.rules.row(result.found.process, "graceful_timeout")
    assert.is_true(row.value > 30)
    assert.matches("terminationGracePeriodSeconds", row.because)
  end)

  it("is not made when every run fails", function()
    local result = play({ duration = 0.1, cpu = 0, most = 0.0001 }, { rate = 20 })
    assert.matches("no handler ended", result.problem)
    assert.is_nil(result.found)
  end)

  it("can be pasted", function()
    local result, _, input = play({ duration = 0.2, cpu = 0 }, { rate = 100 })
    local printed = tune.report.text(input, result, false)
    assert.matches('"S", { durable = "d", concurrency = 29, timeout = "300ms", ack_wait = "5s" }', printed)
    assert.matches('workers = 1, graceful_timeout = "1s", limits = { memory = "2MB" }', printed)
  end)
end)

describe("the streams of a test", function()
  local found = {
    streams = { { name = "ORDERS", subjects = { "orders.>" } } },
    handlers = {
      { handler = "ORDERS/a", stream = "ORDERS", filters = { "orders.*.new" }, dead_letter = "dead.a" },
      { handler = "OTHER/b", stream = "OTHER", filters = { "other.x" }, dead_letter = "orders.dead" },
    },
  }

  it("are those that handlers consume from and do not state, and one for dead letters that none takes", function()
    local made = tune.streams.needed(found, "ORDERS", { "orders.1.new" }, nil, { "out.>" })
    assert.same({ "OTHER", "TUNE_DEAD_LETTERS", "TUNE_OUTPUTS" }, { made[1].name, made[2].name, made[3].name })
    assert.same({ "other.x" }, made[1].subjects)
    assert.same({ "dead.a" }, made[2].subjects)
  end)

  it("have subjects to play by the filters of the handlers", function()
    assert.same({ "orders.tune.new" }, tune.streams.subjects(found, "ORDERS").subjects)
  end)

  it("have handlers, or it is said which durables there are", function()
    local none, problem = tune.streams.subjects(found, "NOWHERE")
    assert.is_nil(none)
    assert.equal("no handler consumes from the stream NOWHERE; the durables of these scripts: ORDERS/a, OTHER/b",
      problem)
  end)
end)

describe("numbers", function()
  it("are written as settings take them", function()
    assert.equal("320ms", tune.text.setting(0.32))
    assert.equal("12s", tune.text.setting(12))
    assert.equal("5m", tune.text.setting(300))
    assert.equal("30MB", tune.text.megabytes(30 * 2 ^ 20))
  end)

  it("are rounded up to two figures, rates down", function()
    assert.equal(320, tune.text.nice(311))
    assert.equal(97, tune.text.nice(97))
    assert.equal(310, tune.text.nice_down(318))
  end)
end)
