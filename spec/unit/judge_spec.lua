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
    it("find a timeout that ends before a call does: " .. name, function()
      local facts = { handlers = { subscribe { timeout = 6 } }, settings = { [setting] = 7 } }
      finds(facts, "warning", name, "timeout (6s)", "(7s)", 'timeout = "15s"', 'timeout = "3s"')
      facts.handlers[1].timeout = 7
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
    finds_nothing { handlers = { offload { timeout = 20 }, subscribe { timeout = 20 }, consume { timeout = 5 } } }
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
