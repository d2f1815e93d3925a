-- The cases, as `make bench` runs and prints them.
--
--   serves      what the program under test does: a file of bench/handlers/ with its settings and
--               lines of configuration, a mode of bench/baseline/, and one of those in other languages
--   measure     a function of harness/measures.lua; its `metrics` are printed
--   contenders  who takes part besides moonbus:
--                 c         sends what moonbus sends by contract: in stored messages a Nats-Msg-Id,
--                           with JSON a content-type
--                 c_plain   sends only what is needed; so do those in other languages
--                 c_header  sends a header where moonbus sends none
--                 c_fetch   nats.c's own Fetch loop
--                 one       moonbus with one worker, or one process of it
--                 quiet     moonbus without a reload
--                 go, node, python
--   against     whom the ratio is to, "c" if nothing is said; ideal: a figure instead
--   target      what the ratio must be: at least (rates), at most (lower); others: that to others
--   messages    of one run, in streams, times the variant's share; elsewhere it is time that counts
local MOST_CPU = 1.3

-- Processor time of the whole process for a message.
local function cpu_of(against)
  return { key = "cpu_ns", unit = "ns CPU", lower = true, against = against, target = MOST_CPU }
end

local function rate_only(against)
  local cpu = cpu_of(against)
  cpu.target = nil
  return { { key = "rate", unit = "msg/s", against = against }, cpu }
end

local function rate(target, others)
  return { { key = "rate", unit = "msg/s", target = target, others = others }, cpu_of() }
end

local function plain_rate(target)
  return { { key = "rate", unit = "msg/s", target = target, against = "c_plain" }, cpu_of "c_plain" }
end

local SMALL = { title = "128 B", size = 128 }
local LARGE = { title = "4 KB", size = 4096 }

local function stored(storage, size)
  local title = ("%s, %s"):format(size == 128 and "128 B" or "4 KB", storage)
  return { title = title, storage = storage, size = size, share = size == 128 and 1 or 0.25 }
end

local STREAMS = { stored("memory", 128), stored("memory", 4096), stored("file", 128), stored("file", 4096) }

local ROUND_TRIP = {
  { key = "p50_us", unit = "µs p50", lower = true, target = 1.1 },
  { key = "p99_us", unit = "µs p99", lower = true, target = 1.3 },
  cpu_of(),
}

local function latencies(p99_target)
  return {
    { key = "p50_us", unit = "µs p50", lower = true, against = "c_plain" },
    { key = "p99_us", unit = "µs p99", lower = true, against = "c_plain", target = p99_target },
    { key = "p999_us", unit = "µs p99.9", lower = true, against = "c_plain" },
    { key = "max_us", unit = "µs max", lower = true, against = "c_plain" },
  }
end

local function sleeps(ideal)
  local metrics = rate_only "node"
  metrics[1] = { key = "rate", unit = "msg/s", target = 0.9, ideal = ideal }
  return metrics
end

local AGAINST_NODE = {
  { key = "rate", unit = "op/s", against = "node", target = 1.0 },
  { key = "cpu_ns", unit = "ns CPU", lower = true, against = "node" },
}
local AGAINST_ONE = rate_only "one"
local MANY = rate_only "c_plain"
local MANY_SCRIPTS = '  limits = { memory = "2GB" },'
local ENOUGH_MEMORY = '  limits = { memory = "1GB" },\n  graceful_timeout = "100ms",'

local ALL = { "c", "go", "node", "python" }
local ALL_PLAIN = { "c_plain", "go", "node", "python" }
local WITH_PLAIN = { "c", "c_plain", "go", "node", "python" }

return {
  {
    number = 1, title = "core: receive and publish one",
    serves = { moonbus = "echo", c = "echo", others = "echo" },
    contenders = { "c_plain", "c_header", "go", "node", "python" },
    measure = "flow", metrics = plain_rate(1.1), variants = {
      SMALL, LARGE,
      { title = "128 B, with a header", size = 128, contenders = { "c", "c_plain" }, metrics = rate(1.1),
        serves = { moonbus = "echo_header", c = "echo" } },
      { title = "4 KB, with a header", size = 4096, contenders = { "c", "c_plain" }, metrics = rate(1.1),
        serves = { moonbus = "echo_header", c = "echo" } },
    },
  },
  {
    number = 2, title = "core: receive",
    serves = { moonbus = "receive", c = "receive", others = "receive", settings = { per_mark = 256 } },
    contenders = ALL_PLAIN, per_mark = 256,
    variants = { SMALL, LARGE }, measure = "flow", metrics = plain_rate(0.95),
  },
  {
    number = 3, title = "request and reply",
    serves = { moonbus = "respond", c = "respond", others = "respond" },
    contenders = ALL,
    variants = {
      { title = "128 B, one by one", size = 128, in_flight = 1 },
      { title = "4 KB, one by one", size = 4096, in_flight = 1 },
      { title = "128 B, 64 in flight", size = 128, in_flight = 64, metrics = rate() },
      { title = "4 KB, 64 in flight", size = 4096, in_flight = 64, metrics = rate() },
    },
    measure = "request", metrics = ROUND_TRIP,
  },
  {
    number = 4, title = "JetStream: consume and ack",
    serves = { moonbus = "consume", c = "consume", others = "consume", settings = { concurrency = 1000 } },
    contenders = { "c", "c_fetch", "go", "node", "python" },
    variants = STREAMS, messages = 300000, measure = "stream", metrics = rate(1.0),
  },
  {
    number = 5, title = "JetStream: consume, publish with PubAck, ack",
    serves = { moonbus = "relay", c = "relay", others = "relay", settings = { concurrency = 1000 } },
    contenders = WITH_PLAIN, variants = STREAMS, messages = 150000, publishes = true, measure = "stream",
    metrics = rate(1.0, { go = 1.2, node = 5 }),
  },
  {
    number = 6, title = "the same, JSON decoded and encoded",
    serves = { moonbus = "relay_json", c = "relay", others = "relay", settings = { concurrency = 1000 } },
    contenders = WITH_PLAIN, variants = STREAMS, messages = 150000, publishes = true, json = true,
    measure = "stream", metrics = rate(0.9),
  },
  {
    number = 7, title = "handlers that sleep 100 ms, 10,000 at a time",
    serves = {
      moonbus = "sleep", others = "sleep", settings = { concurrency = 10000 }, config = ENOUGH_MEMORY,
    },
    contenders = { "node" }, window = 20000, measure = "flow", variants = {
      SMALL,
      -- 100,000 of these in a second are more than the server and the loopback carry.
      { title = "4 KB, 1,000 at a time", size = 4096, window = 2000,
        settings = { concurrency = 1000 }, metrics = sleeps(10000) },
    },
    metrics = sleeps(100000),
  },
  {
    number = 8, title = "from when a message is due to its handler",
    serves = { moonbus = "latency", c = "latency", others = "latency" },
    contenders = { "c_plain" }, measure = "latency", metrics = latencies(), variants = {
      { title = "128 B, 1,000 msg/s", size = 128, per_second = 1000, contenders = ALL_PLAIN },
      { title = "128 B, 10,000 msg/s", size = 128, per_second = 10000, contenders = ALL_PLAIN },
      { title = "128 B, 30,000 msg/s", size = 128, per_second = 30000, contenders = { "c_plain", "go" } },
      { title = "4 KB, 1,000 msg/s", size = 4096, per_second = 1000 },
      { title = "128 B, 1,000 beside a burner", size = 128, burn = true, metrics = latencies(1.5) },
      { title = "4 KB, 1,000 beside a burner", size = 4096, burn = true, metrics = latencies(1.5) },
    },
  },
  {
    number = 9, title = "10,000 messages held for 30 s",
    serves = {
      moonbus = "hold", c = "hold", settings = { concurrency = 10000 }, config = ENOUGH_MEMORY,
    },
    contenders = { "c_plain" }, messages = 10000, variants = {
      { title = "128 B", size = 128, storage = "memory" },
      { title = "4 KB", size = 4096, storage = "memory" },
    },
    measure = "hold",
    metrics = { { key = "cpu_percent", unit = "% CPU", lower = true, ideal = 0.8, target = 1.0 } },
  },
  {
    number = 10, title = "handlers that compute: more workers, more processes",
    serves = { moonbus = "compute", settings = { loops = 20000 } },
    contenders = { "one" }, metrics = AGAINST_ONE, measure = "workers", window = 1024,
    messages = 20000,
    variants = {
      { title = "2 workers", size = 128, workers = 2 },
      { title = "4 workers", size = 128, workers = 4 },
      { title = "2 processes, one durable", size = 128, storage = "memory", measure = "processes",
        processes = 2, serves = { moonbus = "compute_stored", settings = { loops = 20000 } } },
    },
  },
  {
    number = 11, title = "start and memory",
    serves = { moonbus = "respond", c = "respond", others = "respond" },
    contenders = ALL, measure = "start",
    variants = {
      { title = "one script", metrics = {
        { key = "ready_ms", unit = "ms", lower = true }, { key = "idle_mb", unit = "MB", lower = true },
      } },
      { title = "one more script", measure = "scripts", contenders = {},
        metrics = { { key = "script_kb", unit = "KB", lower = true } } },
      { title = "one suspended handler", measure = "suspended", contenders = {},
        serves = { moonbus = "suspend", config = ENOUGH_MEMORY },
        metrics = { { key = "suspended_kb", unit = "KB", lower = true } } },
    },
  },
  {
    number = 12, title = "a script of 200 lines reloaded, again and again",
    serves = { moonbus = "latency" }, contenders = { "quiet" }, measure = "reload",
    variants = { { title = "20,000 msg/s", per_second = 20000, metrics = {
      { key = "switch_ms", unit = "ms switch", lower = true, against = "none" },
      { key = "late_ms", unit = "ms latest", lower = true, ideal = 10, target = 1.0 },
    } } },
  },
  {
    number = 13, title = "GET /metrics of 50 handlers, half of them durables",
    serves = {}, contenders = {}, measure = "scrape",
    variants = { { title = "processor time of one", metrics = {
      { key = "scrape_ms", unit = "ms CPU", lower = true, ideal = 10, target = 1.0 },
    } } },
  },
  {
    number = 14, title = "a bucket: gets and puts, 64 at a time",
    serves = { moonbus = "kv", others = "kv" }, contenders = { "node" }, messages = 30000, measure = "kv",
    metrics = AGAINST_NODE,
    variants = {
      { title = "128 B, get", size = 128, operation = "get" },
      { title = "128 B, get, cached", size = 128, operation = "get", settings = { cache = true } },
      { title = "128 B, put", size = 128, operation = "put" },
      { title = "4 KB, get", size = 4096, operation = "get" },
      { title = "4 KB, put", size = 4096, operation = "put" },
    },
  },
  {
    number = 15, title = "a bucket: the changes that a watch sees",
    serves = { moonbus = "kv_watch", others = "kv_watch" }, contenders = { "node" }, messages = 100000,
    measure = "kv_watch", metrics = AGAINST_NODE, variants = { SMALL },
  },
  {
    number = 16, title = "core: 10,000 subjects, 100 scripts",
    serves = { c = "echo", config = MANY_SCRIPTS }, contenders = { "c_plain" }, measure = "subjects",
    variants = { { title = "128 B", size = 128, subjects = 10000, metrics = {
      MANY[1], MANY[2],
      { key = "ready_ms", unit = "ms start", lower = true, against = "c_plain" },
      { key = "memory_mb", unit = "MB", lower = true, against = "c_plain" },
    } } },
  },
  {
    number = 17, title = "JetStream: 1,000,000 pending, of which a filter takes one in ten",
    serves = {
      moonbus = "consume", c = "consume", settings = { concurrency = 1000, filter = "bench.js.in" },
    },
    contenders = { "c" }, messages = 1000000, measure = "stream", metrics = rate_only "c",
    variants = { { title = "128 B, file", size = 128, storage = "file", of = 10 } },
  },
  {
    number = 18, title = "JetStream: consume and ack, four processes on one durable",
    serves = { moonbus = "consume", c = "consume", settings = { concurrency = 1000 } },
    contenders = { "one", "c" }, messages = 300000, measure = "processes", metrics = rate_only "c",
    variants = { { title = "128 B, memory", size = 128, storage = "memory", processes = 4 } },
  },
}
