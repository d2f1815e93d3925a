-- The judgements, one by one: what each finds, what it says, and its nearest neighbour, in which it finds nothing.
local judged = require "spec.support.judged"

local consume, subscribe, offload = judged.consume, judged.subscribe, judged.offload
local DEAD = { name = "DEAD", subjects = { "dead.>" }, script = "a.lua" }

-- What is found there, as "severity name", in order.
local function found(facts)
  local list = {}
  for _, finding in ipairs(judged.find(facts)) do list[#list + 1] = finding.severity .. " " .. finding.name end
  return list
end

-- Nothing but this finding, whose text has these pieces.
local function finds(facts, severity, name, ...)
  assert.same({ severity .. " " .. name }, found(facts))
  local finding = judged.find(facts)[1]
  for _, piece in ipairs { ... } do
    assert.is_truthy(finding.text:find(piece, 1, true), piece .. " in: " .. finding.text)
  end
  return finding
end

local function finds_nothing(facts) assert.same({}, found(facts)) end

-- Of one durable with these options.
local function durable(options, streams)
  return { handlers = { consume(options) }, streams = streams }
end

describe("The judgements", function()
  it("find nothing where all is well", function()
    finds_nothing { handlers = { consume(), subscribe(), offload() } }
  end)

  it("have names of their own", function()
    local seen = {}
    for _, name in ipairs(judged.names()) do
      assert.is_nil(seen[name], name)
      seen[name] = true
    end
  end)

  it("leave out what a host that starts finds out by itself", function()
    local twice = { consume(), consume { script = "b.lua" } }
    finds({ handlers = twice }, "error", "shared_durable")
    finds_nothing { handlers = twice, serving = true }
  end)

  it("come by script and line", function()
    local list = judged.find { handlers = {
      consume { script = "b.lua", durable = "b", ack_wait = 0.1, line = 3 },
      consume { script = "a.lua", durable = "c", ack_wait = 0.1, line = 7 },
      consume { script = "a.lua", durable = "d", ack_wait = 0.1, line = 2 },
    }, settings = { private_server = true } }
    local places = {}
    for _, finding in ipairs(list) do places[#places + 1] = finding.script .. ":" .. finding.line end
    assert.same({ "a.lua:2", "a.lua:7", "b.lua:3" }, places)
  end)
end)

describe("short_graceful_timeout", function()
  it("finds the longest timeout that a stop does not wait for", function()
    local finding = finds({ handlers = { consume { timeout = 40, durable = "a" }, consume { timeout = 60,
      durable = "b" } } },
      "warning", "short_graceful_timeout", "graceful_timeout (25s)", "1m", 'graceful_timeout = "1m5s"',
        'timeout = "24s"',
      "its message is handled again")
    assert.equal(20, finding.line)
  end)

  it("says of a core handler that its requester gets an error", function()
    finds({ handlers = { subscribe { timeout = 40 } } }, "warning", "short_graceful_timeout",
      "its requester gets an error")
  end)

  it("is a note where nobody has chosen the timeout, and tells of chosen ones first", function()
    finds(durable { timeout = 300, timeout_stated = false }, "note", "short_graceful_timeout", "the default, 5m")
    finds({ handlers = { consume { timeout = 300, timeout_stated = false }, subscribe { timeout = 40 } } },
      "warning", "short_graceful_timeout", "40s")
  end)

  it("knows that the last second of a stop is not the handlers'", function()
    finds_nothing(durable { timeout = 24 })
    finds(durable { timeout = 24.5 }, "warning", "short_graceful_timeout")
  end)
end)

describe("request_outlives_handler and publish_outlives_handler", function()
  for name, setting in pairs { request_outlives_handler = "request_timeout",
    publish_outlives_handler = "publish_timeout" } do
    it("find a timeout that ends before a call does, or with it: " .. name, function()
      local facts = { handlers = { subscribe { timeout = 6 } }, settings = { [setting] = 7 } }
      finds(facts, "warning", name, "timeout (6s)", "(7s)", 'timeout = "15s"', 'timeout = "3s"')
      facts.handlers[1].timeout = 7
      finds(facts, "warning", name, "timeout (7s) is not longer than", "(7s)")
      facts.handlers[1].timeout = 7.001
      finds_nothing(facts)
    end)

    it("are silent in a script that never says the word: " .. name, function()
      finds_nothing { handlers = { subscribe { timeout = 6 } }, settings = { [setting] = 7 },
        scripts = { { name = "a.lua", registrations = 1 } } }
    end)
  end
end)

describe("offload_outlives_handler", function()
  it("finds a call that no handler of its script can wait for", function()
    local finding = finds({ handlers = { offload { timeout = 30 }, subscribe { timeout = 10 }, subscribe {
      script = "b.lua", subject = "b", timeout = 20 } } }, "warning", "offload_outlives_handler", "may take 30s",
        "more than 10s",
      'timeout = "5s" here', 'timeout = "1m" for the handler')
    assert.equal("greet.*", finding.other)
  end)

  it("is silent where one handler can, or no limit is stated", function()
    finds_nothing { handlers = { offload { timeout = 20 }, subscribe { timeout = 20 }, consume { timeout = 6 } } }
    finds_nothing { handlers = { offload { timeout = 0 }, subscribe { timeout = 10 } } }
  end)
end)

describe("short_ack_wait", function()
  it("finds one that is over before a lost connection is back", function()
    local facts = durable { ack_wait = 0.8 }
    facts.settings = { private_server = true }
    finds(facts, "warning", "short_ack_wait", "ack_wait (800ms)", "up to 600ms", 'ack_wait = "900ms"')
    facts.handlers[1].ack_wait = 0.9
    finds_nothing(facts)
  end)

  it("goes by how the config has it connect again", function()
    finds({ handlers = { consume { ack_wait = 20 } }, settings = { reconnect_wait = 20 } }, "warning", "short_ack_wait")
  end)
end)

describe("slow_pings", function()
  it("finds an ack_wait that is over before a dead connection is noticed", function()
    finds(durable { ack_wait = 10 }, "warning", "slow_pings", "noticed after 15s", "ack_wait (10s)", 'ack_wait = "20s"',
      'ping_interval = "1.666s"')
    finds_nothing(durable { ack_wait = 16 })
  end)

  it("is silent of the private server of dev", function()
    finds_nothing { handlers = { consume { ack_wait = 10 } }, settings = { private_server = true } }
  end)
end)

describe("short_duplicate_window", function()
  local function with_output(options, output)
    output = output or {}
    output.name, output.script = output.name or "OUT", output.script or "a.lua"
    output.subjects = output.subjects or { "out.>" }
    return durable(options, { DEAD, output })
  end

  it("finds an output that forgets before the last attempt ends", function()
    local finding = finds(with_output { attempts = 5, timeout = 20, retries = 15 }, "warning", "short_duplicate_window",
      "5 attempts may take 4m25s", "OUT", "after 2m", 'duplicate_window = "4m25s"')
    assert.equal("OUT", finding.other)
  end)

  it("goes by the window that is stated, and by max_age", function()
    finds_nothing(with_output({ attempts = 5, timeout = 20 }, { duplicate_window = 300e9 }))
    finds_nothing(with_output { attempts = 2, timeout = 20 })
    finds(with_output({ attempts = 2, timeout = 20 }, { max_age = 60e9 }), "warning", "short_duplicate_window",
      "after 1m")
  end)

  it("is a note where nobody has chosen the timeout", function()
    finds(with_output { attempts = 5, timeout = 20, timeout_stated = false }, "note", "short_duplicate_window",
      "(the default)")
  end)

  it("takes no stream for an output that is consumed, a bucket, another script's, or whose script publishes nothing",
    function()
    local long = { attempts = 5, timeout = 20 }
    finds_nothing(durable(long, { DEAD, { name = "IN", subjects = { "in.>" }, script = "a.lua" } }))
    finds_nothing(with_output(long, { script = "b.lua" }))
    finds_nothing(with_output(long, { name = "KV_seats", subjects = { "$KV.seats.>" } }))
    local facts = with_output(long)
    facts.scripts = { { name = "a.lua", registrations = 1 } }
    finds_nothing(facts)
  end)
end)

describe("concurrency_above_pending", function()
  it("finds handlers that never all run", function()
    finds(durable { messages = 64, concurrency = 64, max_ack_pending = 10 }, "warning", "concurrency_above_pending",
      "64 messages at a time (concurrency)", "max_ack_pending (10)", "concurrency = 10", "max_ack_pending = 512")
    finds(durable { messages = 64, concurrency = 8, max_ack_pending = 10 }, "warning", "concurrency_above_pending",
      "x batch")
  end)

  it("is silent without a limit", function()
    finds_nothing(durable { max_ack_pending = -1 })
    finds_nothing(durable { max_ack_pending = 0 })
  end)
end)

describe("naks_fill_pending", function()
  it("finds too little room for what waits for its next attempt", function()
    finds(durable { messages = 8, max_ack_pending = 20 }, "warning", "naks_fill_pending", "room for 12 messages",
      "beside the 8", "up to 1m (backoff.max)", "max_ack_pending = 64")
    finds_nothing(durable { messages = 8, max_ack_pending = 64 })
  end)

  it("is silent where one message after the other is wanted, and where retries are held here", function()
    finds_nothing(durable { messages = 1, max_ack_pending = 1 })
    finds_nothing(durable { messages = 8, max_ack_pending = 20, ordered = true })
  end)
end)

describe("park_after", function()
  it("leaves max_ack_pending its room, where the server has schedules", function()
    local options = { messages = 8, max_ack_pending = 20, park_after = 60 }
    finds_nothing(durable(options))
    local IN = { name = "IN", subjects = { "in.>" } }
    finds_nothing { handlers = { consume(options) }, streams = { IN, DEAD }, server = 12 }
    local facts = { handlers = { consume(options) }, streams = { IN, DEAD }, server = 11 }
    assert.same({ "warning naks_fill_pending", "note retries_not_parked" }, found(facts))
  end)

  it("is told of where it has no effect", function()
    local IN = { name = "IN", subjects = { "in.>" } }
    finds({ handlers = { consume { park_after = 60 } }, streams = { IN, DEAD }, server = 10 }, "note",
      "retries_not_parked", "2.12 or newer", "2.10", "more than 1m", "delayed naks")
    finds_nothing { handlers = { consume { park_after = 60 } }, streams = { IN, DEAD }, server = 15 }
  end)
end)

describe("never_parked", function()
  it("finds a park_after that no step of the backoff is longer than", function()
    finds({ handlers = { consume { park_after = 60, longest_retry = 60, attempts = 5 } } }, "warning", "never_parked",
      "park_after (1m) is never reached", "attempts (5) is 1m", "backoff.max above 1m")
    finds_nothing { handlers = { consume { park_after = 60, longest_retry = 60.1 } } }
  end)

  it("is silent of a script that naks by itself, maybe for longer", function()
    finds_nothing { handlers = { consume { park_after = 60, longest_retry = 10 } },
      scripts = { { name = "a.lua", registrations = 1, naks = true } } }
  end)
end)

describe("missing_bucket", function()
  it("finds one that no script states: a warning where the server has none either", function()
    finds({ buckets = { { name = "locks" } } }, "note", "missing_bucket", "each lock", 'cluster = "locks"',
      "unless it is there", 'kv.bucket { name = "locks"')
    finds({ buckets = { { name = "quota", ttl = 0 } }, server = 10 }, "warning", "missing_bucket", "each limit",
      "there is no such bucket")
    finds_nothing { buckets = { { name = "locks" } }, streams = { { name = "KV_locks", script = "b.lua" } } }
  end)

  it("is silent of moonbus' own, and of a host that has not asked yet", function()
    finds_nothing { buckets = { { name = "moonbus_locks", own = true } }, server = 10 }
    finds_nothing { buckets = { { name = "locks" } }, serving = true }
  end)
end)

describe("forgetful_bucket", function()
  local function with(settings, bucket, server)
    settings.name = "KV_locks"
    if not server then settings.script = "b.lua" end
    bucket = bucket or {}
    bucket.name = "locks"
    return { buckets = { bucket }, streams = { settings }, server = server }
  end

  it("finds what loses a lock, or has nobody get one", function()
    for text, settings in pairs {
      ['storage = "memory", and locks are in it'] = { storage = "memory" },
      ['discard = "old" and a limit'] = { discard = "old", max_bytes = 1000 },
      ["no_ack"] = { no_ack = true },
      ["older than 59s, less than twice the ttl of a lock in it (30s)"] = { max_age = 59e9 },
    } do
      finds(with(settings), "warning", "forgetful_bucket", text, "Right: ")
      settings.allow_rollup_hdrs = true
      finds(with(settings, nil, 10), "warning", "forgetful_bucket", text)
    end
    finds_nothing(with { storage = "file", discard = "new", max_bytes = 1000, max_age = 60e9 })
  end)

  it("finds what only a server shows: one replica in a cluster, and no rollups", function()
    finds(with({ allow_rollup_hdrs = true, num_replicas = 1, clustered = true }, nil, 10), "warning",
      "forgetful_bucket", "replicas = 3")
    finds(with({}, nil, 10), "warning", "forgetful_bucket", "allow_rollup_hdrs")
    finds_nothing(with({ allow_rollup_hdrs = true, num_replicas = 1 }, nil, 10))
  end)

  it("goes by the longest ttl of a lock; a limit has none", function()
    finds(with({ max_age = 300e9 }, { ttl = 300 }), "warning", "forgetful_bucket", "(5m)", 'ttl = "10m"')
    finds_nothing(with({ max_age = 10e9 }, { ttl = 0 }))
  end)
end)

describe("window_above_age", function()
  it("finds a stream that no server makes", function()
    local IN = { name = "IN", subjects = { "in.>" }, script = "a.lua", max_age = 60e9, duplicate_window = 61e9 }
    finds({ streams = { IN } }, "error", "window_above_age", "(1m1s)", 'duplicate_window = "1m"')
    IN.duplicate_window = 60e9
    finds_nothing { streams = { IN } }
  end)
end)

describe("no_dead_letter", function()
  local function without(options)
    local facts = durable(options, {})
    facts.handlers[1].dead_letter = nil
    return facts
  end

  it("finds messages that come again for ever", function()
    finds(without { attempts = 3 }, "warning", "no_dead_letter", "after its attempts (3)", "every 1m, for ever",
      'dead_letter = "a.subject"', "dead_letter = false")
    finds(without { ordered = true }, "warning", "no_dead_letter", "and its key waits for it")
  end)

  it("is silent where what fails is terminated", function() finds_nothing(without { drops = true }) end)
end)

describe("dead_letter_returns", function()
  local IN = { name = "IN", subjects = { "in.>", "dead.>" }, script = "a.lua" }

  it("finds letters that come back to their own handler", function()
    finds(durable({}, { IN }), "error", "dead_letter_returns", '"dead.in"', "a filter that leaves them out")
    finds(durable({ filters = { "in.a", "*.in" } }, { IN }), "error", "dead_letter_returns")
    finds_nothing(durable({ filters = { "in.>" } }, { IN }))
  end)

  it("finds letters that come back by way of another handler", function()
    local function two(last)
      return { handlers = {
        consume { stream = "A", durable = "a", dead_letter = "b.dead" },
        consume { stream = "B", durable = "b", dead_letter = last },
      }, streams = {
        { name = "A", subjects = { "a.>" }, script = "a.lua" }, { name = "B", subjects = { "b.>" },
          script = "a.lua" }, DEAD,
      } }
    end
    assert.same({ "warning dead_letter_returns", "warning dead_letter_returns" }, found(two "a.dead"))
    finds_nothing(two "dead.b")
  end)

  it("finds a long way back, and is not held up by rounds that others go", function()
    local handlers, streams = {}, { DEAD }
    local function add(stream, dead_letter)
      local durable_name = "d" .. #handlers
      handlers[#handlers + 1] = consume { stream = stream, durable = durable_name, dead_letter = dead_letter }
    end
    local function stream_of(name) return { name = name, subjects = { name:lower() .. ".>" }, script = "a.lua" } end
    -- To follow each way of the round by itself would take longer than anybody lives.
    add("IN", "a.dead")
    for _ = 1, 30 do add("A", "b.dead") add("B", "a.dead") end
    for name in ("IN A B"):gmatch "%S+" do streams[#streams + 1] = stream_of(name) end
    for index = 1, 20 do
      local name = "LONG" .. index
      streams[#streams + 1] = stream_of(name)
      add(name, "long" .. index % 20 + 1 .. ".dead")
    end
    local began, lines = os.clock(), {}
    for _, finding in ipairs(judged.find { handlers = handlers, streams = streams }) do
      if finding.name == "dead_letter_returns" then lines[#lines + 1] = finding.line end
    end
    assert.equal(60 + 20, #lines)
    for _, line in ipairs(lines) do assert.is_true(line > 10, "the first handler is not in a round") end
    assert.is_true(os.clock() - began < 10)
  end)
end)

describe("dead_letter_without_stream", function()
  it("finds a subject that no script's stream takes, which is an error once a server has none either", function()
    finds(durable({}, {}), "note", "dead_letter_without_stream", "no script states a stream",
      'subjects = { "dead.in" }')
    finds({ handlers = { consume() }, streams = { { name = "IN" } }, server = 10 }, "error",
      "dead_letter_without_stream",
      "no stream takes")
    finds_nothing { handlers = { consume() }, streams = { { name = "IN" }, { name = "DEAD",
      subjects = { "dead.>" } } }, server = 10 }
  end)
end)

describe("dead_letter_unconfirmed and dead_letter_by_interest", function()
  it("find streams that do not keep letters", function()
    finds(durable({}, { { name = "DEAD", subjects = { "dead.>" }, script = "a.lua", no_ack = true } }), "error",
      "dead_letter_unconfirmed", "no_ack")
    finds(durable({}, { { name = "DEAD", subjects = { "dead.>" }, script = "a.lua", retention = "interest" } }),
      "warning",
      "dead_letter_by_interest", 'Right: retention = "limits"')
    finds_nothing(durable({}, { { name = "DEAD", subjects = { "dead.>" }, script = "a.lua",
      retention = "workqueue" } }))
  end)
end)

describe("registers_nothing", function()
  it("finds an empty script", function()
    local finding = finds({ scripts = { { name = "lib.lua", registrations = 0 } } }, "warning", "registers_nothing")
    assert.equal("lib.lua", finding.script)
  end)

  it("finds that there is no script at all", function()
    finds({ no_scripts = true }, "warning", "registers_nothing", "there are no scripts")
    finds_nothing {}
  end)
end)

describe("shared_durable", function()
  it("finds two handlers of one durable, in two scripts", function()
    local finding = finds({ handlers = { consume(), consume { script = "b.lua" } } }, "error", "shared_durable",
      '"worker"')
    assert.equal("b.lua", finding.script)
    finds_nothing { handlers = { consume(), consume { script = "b.lua", durable = "other" } } }
    finds_nothing { handlers = { consume(), consume { script = "b.lua", stream = "OTHER" } } }
  end)
end)

describe("same_subject_twice", function()
  it("finds two handlers that both answer, or share at random", function()
    finds({ handlers = { subscribe(), subscribe() } }, "warning", "same_subject_twice",
      "a.lua:10 handles this subject, too")
    finds({ handlers = { subscribe { queue = "q" }, subscribe { queue = "q" } } }, "warning", "same_subject_twice",
      "in the same queue")
  end)

  it("is silent of queues of their own, and of one that only looks on", function()
    finds_nothing { handlers = { subscribe { queue = "a" }, subscribe { queue = "b" }, subscribe(),
      subscribe { looks_on = true } } }
  end)
end)

describe("listens_where_stored", function()
  it("finds a handler that answers in a stream's place", function()
    local finding = finds({ handlers = { subscribe { subject = "dead.*" } } }, "warning", "listens_where_stored",
      "the stream DEAD stores these messages", "reply = false")
    assert.equal("DEAD", finding.other)
    finds({ handlers = { subscribe { subject = "dead.*", is_endpoint = true } } }, "warning", "listens_where_stored",
      "the stream DEAD stores these messages", "Right: a subject of its own")
    finds_nothing { handlers = { subscribe { subject = "dead.*", looks_on = true } } }
    finds_nothing { handlers = { subscribe { subject = "dead" } } }
  end)
end)

describe("overlapping_filters", function()
  local QUEUE = { name = "IN", subjects = { "in.>" }, retention = "workqueue", script = "a.lua" }
  local function two(first, second)
    return { handlers = { consume { filters = first, durable = "a" }, consume { filters = second, durable = "b" } },
      streams = { QUEUE, DEAD } }
  end

  it("finds durables of a work queue that a server refuses", function()
    finds(two({ "in.a", "in.b.>" }, { "in.*.c" }), "error", "overlapping_filters", 'that of "a"')
    finds(two({}, { "in.a" }), "error", "overlapping_filters")
    finds(two({ "in.a" }, {}), "error", "overlapping_filters")
  end)

  it("is silent where they share no subject, or it is no work queue", function()
    finds_nothing(two({ "in.a", "in.b" }, { "in.c", "in.a.>" }))
    local facts = two({}, {})
    facts.streams = { { name = "IN", subjects = { "in.>" }, script = "a.lua" }, DEAD }
    finds_nothing(facts)
  end)
end)

describe("filter_takes_nothing", function()
  local function facts(filters, given)
    local stream = { name = "IN", subjects = { "in.>", "into" }, script = "a.lua" }
    for key, value in pairs(given or {}) do stream[key] = value end
    return { handlers = { consume { filters = filters } }, streams = { stream, DEAD } }
  end

  it("finds a filter that no subject of the stream has", function()
    finds(facts { "on.a" }, "warning", "filter_takes_nothing",
      'the stream IN takes nothing that fits the filter "on.a"', 'a filter within "in.>", "into"')
    finds(facts { "in.a", "in" }, "warning", "filter_takes_nothing", '"in"')
    local own_name = facts { "in.a" }
    own_name.streams[1].subjects = nil
    finds(own_name, "warning", "filter_takes_nothing", 'within "IN"')
  end)

  it("is silent where one has it, and where the stream is fed by others, or is not known", function()
    finds_nothing(facts { "in.a", "into", "*.b" })
    finds_nothing(facts {})
    finds_nothing(facts({ "on.a" }, { mirror = { name = "M" } }))
    finds_nothing(facts({ "on.a" }, { sources = { { name = "M" } } }))
    finds_nothing(facts({ "on.a" }, { subject_transform = { src = "in.>", dest = "on.>" } }))
    finds_nothing { handlers = { consume { filters = { "on.a" } } }, streams = { DEAD } }
  end)
end)

describe("late_start_of_work_queue", function()
  local QUEUE = { name = "IN", subjects = { "in.>" }, retention = "workqueue", script = "a.lua" }

  it("finds a durable that a server refuses", function()
    finds(durable({ from_start = false }, { QUEUE, DEAD }), "error", "late_start_of_work_queue", 'deliver = "all"')
    finds_nothing(durable({ from_start = false }, { DEAD }))
    finds_nothing(durable({ from_start = false, bind = true }, { QUEUE, DEAD }))
  end)
end)

describe("overlapping_streams", function()
  it("finds a stream that a server refuses", function()
    local A, B = { name = "A", subjects = { "a.*" }, script = "a.lua" }, { name = "B", subjects = { "b", "a.b" },
      script = "a.lua" }
    finds({ streams = { A, B } }, "error", "overlapping_streams", "of stream A already")
    finds({ streams = { A, { name = "B", subjects = { "*.x" } } }, server = 10 }, "error", "overlapping_streams",
      "of stream B already")
    finds_nothing { streams = { A, { name = "B", subjects = { "b" }, script = "a.lua" } } }
    finds_nothing { streams = { A, { name = "A", subjects = { "a.*" }, script = "b.lua" } } }
  end)
end)

describe("forgetful_output", function()
  it("finds an output that forgets ids when its server restarts", function()
    for _, retention in ipairs { "workqueue", "interest" } do
      local out = { name = "JOBS", subjects = { "jobs.>" }, script = "a.lua", retention = retention }
      local finding = finds(durable({}, { out, DEAD }), "warning", "forgetful_output", "JOBS", retention, "IN/worker",
        "stored twice")
      assert.same({ "JOBS", "IN/worker" }, { finding.handler, finding.other })
    end
  end)

  it("is silent of what its script only reads", function()
    finds_nothing(durable({}, { DEAD,
      { name = "JOBS", subjects = { "jobs.>" }, script = "a.lua", retention = "workqueue", only_read = true } }))
  end)

  it("is silent of an input, and of what only core handlers publish to", function()
    finds_nothing(durable({}, { { name = "IN", subjects = { "in.>" }, script = "a.lua", retention = "workqueue" },
      DEAD }))
    finds_nothing { handlers = { subscribe() }, streams = {
      { name = "JOBS", subjects = { "jobs.>" }, script = "a.lua", retention = "workqueue" } } }
  end)
end)

describe("async_persist and headers_only", function()
  it("find what is otherwise than one would think", function()
    finds({ streams = { { name = "A", script = "a.lua", persist_mode = "async" } } }, "warning", "async_persist",
      "leave persist_mode out")
    finds(durable { headers_only = true }, "note", "headers_only", "Nats-Msg-Size")
  end)
end)

describe("Of a server that was asked", function()
  it("old_server finds what it does not know", function()
    local facts = { handlers = { consume { filters = { "in.a", "in.b" } } }, streams = {
      { name = "IN", script = "a.lua", compression = "s2", subjects = { "in.>" } }, { name = "IN",
        subjects = { "in.>" } }, DEAD,
    }, server = 9 }
    assert.same({ "error old_server", "error old_server" }, found(facts))
    assert.matches("compression needs nats%-server 2%.10 or newer, and this one is 2%.9", judged.find(facts)[1].text)
    assert.matches("a list of filters needs nats%-server 2%.10", judged.find(facts)[2].text)
    facts.server = 10
    finds_nothing(facts)
    facts = { handlers = { consume { needs = "pinned", needs_minor = 11 } }, streams = {
      { name = "IN", subjects = { "in.>" } }, DEAD }, server = 10 }
    finds(facts, "error", "old_server", "pinned needs nats-server 2.11 or newer, and this one is 2.10")
    facts.server = 11
    finds_nothing(facts)
  end)

  it("missing_stream and missing_durable find what is not there and will not be made", function()
    finds({ handlers = { consume() }, server = 10 }, "error", "missing_stream", 'no stream "IN"',
      'js.stream { name = "IN"')
    local there = { { name = "IN", subjects = { "in.>" } }, DEAD }
    finds({ handlers = { consume { bind = true } }, streams = there, server = 10 }, "error", "missing_durable",
      "bind = true forbids")
    finds_nothing { handlers = { consume() }, streams = there, server = 10 }
  end)

  it("stream_differs and durable_differs find other settings, which are no error where an update is allowed", function()
    local IN = { name = "IN", script = "a.lua", differs = "max_age: here 1h, on the server 2h" }
    finds({ streams = { IN }, server = 10 }, "error", "stream_differs", "here 1h, on the server 2h", "update = true")
    IN.update = "YES"
    finds({ streams = { IN }, server = 10 }, "note", "stream_differs", "will be updated")
    local function with(options)
      options.differs = "ack_wait: here 30s, on the server 1m"
      return { handlers = { consume(options) }, streams = { { name = "IN" }, DEAD }, server = 10 }
    end
    finds(with {}, "error", "durable_differs", "the durable worker", "on the server 1m")
    finds(with { update = "NO", own = true }, "error", "durable_differs")
    finds(with { own = true }, "note", "durable_differs", "will be updated")
  end)

  it("what it has counts more than what is stated", function()
    local out = { name = "OUT", subjects = { "out.>" }, script = "a.lua", duplicate_window = 600e9 }
    local facts = durable({ attempts = 5, timeout = 20 }, { out, DEAD, { name = "IN" } })
    facts.server = 10
    finds_nothing(facts)
  end)
end)

describe("Two subjects overlap", function()
  local units = require "spec.support.units"
  units.include "base/value.h"

  it("when one subject is both", function()
    for _, pair in ipairs { { "a", "a" }, { "a.*", "a.b" }, { "a.>", "a.b.c" }, { ">", "a" }, { "*.b", "a.*" },
      { "a.*.c", "*.b.>" } } do
      assert.is_true(units.lib.subject_overlaps(pair[1], pair[2]), pair[1] .. " " .. pair[2])
      assert.is_true(units.lib.subject_overlaps(pair[2], pair[1]), pair[2] .. " " .. pair[1])
    end
  end)

  it("else they do not", function()
    for _, pair in ipairs { { "a", "b" }, { "a", "a.b" }, { "a.>", "a" }, { "a.*", "a.b.c" }, { "*", "a.b" }, { "a.b",
      "*.c" } } do
      assert.is_false(units.lib.subject_overlaps(pair[1], pair[2]), pair[1] .. " " .. pair[2])
      assert.is_false(units.lib.subject_overlaps(pair[2], pair[1]), pair[2] .. " " .. pair[1])
    end
  end)
end)

describe("idle_backoff", function()
  it("finds a backoff that no second attempt waits for", function()
    finds(durable { attempts = 1, backoff_stated = true }, "warning", "idle_backoff", "attempts = 1:",
      "attempts = 2 or more")
    finds_nothing(durable { attempts = 2, backoff_stated = true })
    finds_nothing(durable { attempts = 1 })
  end)

  it("is silent without a dead letter: there the backoff is used, for ever", function()
    local facts = durable { attempts = 1, backoff_stated = true }
    facts.handlers[1].dead_letter = nil
    finds(facts, "warning", "no_dead_letter")
  end)
end)

describe("order_without_token", function()
  local function ordered(token, filters, subjects)
    return durable({ ordered = true, order_token = token, filters = filters },
      { DEAD, { name = "IN", subjects = subjects or { "in.>" }, script = "a.lua" } })
  end

  it("finds a filter, or else a subject of the stream, that has fewer tokens", function()
    finds(ordered(3, { "in.*" }), "warning", "order_without_token", 'the subjects of "in.*" have no token 3')
    finds(ordered(2, {}, { "in.*", "log" }), "warning", "order_without_token", '"log" have no token 2')
  end)

  it("is silent where each has it, or may have it", function()
    finds_nothing(ordered(2, { "in.*", "in.a.b" }))
    finds_nothing(ordered(9, { "in.>" }))
    finds_nothing(ordered(9, {}))
    finds_nothing(ordered(0, { "in.*" }))
  end)

  it("is silent of a stream that stores its messages under other subjects", function()
    local facts = ordered(3, {}, { "in.*" })
    facts.streams[2].subject_transform = { src = "in.*", dest = "in.{{partition(4,1)}}.{{wildcard(1)}}" }
    finds_nothing(facts)
  end)
end)

describe("short_max_age", function()
  local function aged(seconds, options)
    return durable(options, { DEAD, { name = "IN", subjects = { "in.>" }, script = "a.lua", max_age = seconds * 1e9 } })
  end

  it("finds messages that go while they are handled", function()
    finds(aged(24), "warning", "short_max_age", "max_age of IN (24s) is shorter than ack_wait (30s)")
    finds(aged(21, { ack_wait = 20, timeout = 22 }), "warning", "short_max_age", "(21s) is shorter than timeout (22s)")
  end)

  it("is silent from there on, without a bound, and for a timeout that nobody has chosen", function()
    finds_nothing(aged(30))
    finds_nothing(aged(0))
    finds_nothing(aged(21, { ack_wait = 20, timeout = 22, timeout_stated = false }))
  end)
end)

describe("missing_file", function()
  it("finds what cannot be read, for who checks; a host that starts says it by itself", function()
    local facts = { handlers = { consume() }, settings = { unreadable = { { "tls.ca", "/none/ca.pem" } } } }
    finds(facts, "note", "missing_file", 'tls.ca: "/none/ca.pem" cannot be read')
    facts.serving = true
    finds_nothing(facts)
  end)
end)

describe("overlaps_itself", function()
  local function stream(...) return { name = "IN", subjects = { ... }, script = "a.lua" } end

  it("finds subjects of one stream that overlap, and filters of one durable", function()
    finds({ streams = { stream("in.>", "in.a") } }, "error", "overlaps_itself", 'its subjects "in.>" and "in.a"')
    finds(durable { filters = { "in.*", "log", "in.a" } }, "error", "overlaps_itself", 'its filters "in.*" and "in.a"')
  end)

  it("is silent of those that share no subject, and of what a server has", function()
    finds_nothing { streams = { stream("in.*", "in.a.b", "log") } }
    finds_nothing(durable { filters = { "in.*", "log", "in.a.b" } })
    finds_nothing { streams = { { name = "IN", subjects = { "in.>", "in.a" } } }, server = 10 }
  end)
end)
