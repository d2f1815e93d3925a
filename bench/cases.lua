-- The cases, as `make bench` runs and prints them.
--
--   serves      what the program under test does: a file of bench/handlers/ with its settings and
--               lines of configuration, a mode of bench/baseline/ and of bench/node/
--   measure     a function of harness/measures.lua; its `metrics` are printed
--   contenders  who takes part besides moonbus:
--                 c        sends what moonbus sends by contract: in stored messages a Nats-Msg-Id,
--                          with JSON a content-type
--                 c_plain  sends only what is needed; so does node
--                 c_fetch  nats.c's own Fetch loop
--                 one      moonbus with one worker, or one process of it
--                 quiet    moonbus without a reload
--   against     whom the ratio is to, "c" if nothing is said; ideal: a figure instead
--   target      what the ratio must be: at least (rates), at most (lower)
--   messages    of one run, in streams, times the variant's share; elsewhere it is time that counts
local function rate(target, node_target)
  return { { key = "rate", unit = "msg/s", target = target, node_target = node_target } }
end

local SMALL = { title = "128 B", size = 128 }
local LARGE = { title = "4 KB", size = 4096 }

local function stored(storage, size)
  local title = ("%s, %s"):format(size == 128 and "128 B" or "4 KB", storage)
  return { title = title, storage = storage, size = size, share = size == 128 and 1 or 0.25 }
end

local STREAMS = { stored("memory", 128), stored("memory", 4096), stored("file", 128), stored("file", 4096) }

local ROUND_TRIP = {
  { key = "p50_us", unit = "µs p50", lower = true, target = 1.3 },
  { key = "p99_us", unit = "µs p99", lower = true, target = 1.5 },
}

local function latencies(p99_target)
  return {
    { key = "p50_us", unit = "µs p50", lower = true, against = "c_plain" },
    { key = "p99_us", unit = "µs p99", lower = true, against = "c_plain", target = p99_target },
    { key = "p999_us", unit = "µs p99.9", lower = true, against = "c_plain" },
  }
end

local function sleeps(ideal)
  return { { key = "rate", unit = "msg/s", target = 0.9, ideal = ideal } }
end

local AGAINST_NODE = { { key = "rate", unit = "op/s", against = "node", target = 1.0 } }
local AGAINST_ONE = { { key = "rate", unit = "msg/s", against = "one" } }
local ENOUGH_MEMORY = '  limits = { memory = "1GB" },\n  graceful_timeout = "100ms",'

return {
  {
    number = 1, title = "core: receive and publish one",
    serves = { moonbus = "echo", c = "echo", node = "echo" },
    contenders = { "c", "node" },
    variants = { SMALL, LARGE }, measure = "flow", metrics = rate(0.9),
  },
  {
    number = 2, title = "core: receive",
    serves = { moonbus = "receive", c = "receive", node = "receive", settings = { per_mark = 256 } },
    contenders = { "c_plain", "node" }, per_mark = 256,
    variants = { SMALL, LARGE }, measure = "flow",
    metrics = { { key = "rate", unit = "msg/s", target = 0.9, against = "c_plain" } },
  },
  {
    number = 3, title = "request and reply",
    serves = { moonbus = "respond", c = "respond", node = "respond" },
    contenders = { "c", "node" },
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
    serves = { moonbus = "consume", c = "consume", node = "consume", settings = { concurrency = 1000 } },
    contenders = { "c", "c_fetch", "node" },
    variants = STREAMS, messages = 300000, measure = "stream", metrics = rate(1.0),
  },
  {
    number = 5, title = "JetStream: consume, publish with PubAck, ack",
    serves = { moonbus = "relay", c = "relay", node = "relay", settings = { concurrency = 1000 } },
    contenders = { "c", "c_plain", "node" },
    variants = STREAMS, messages = 150000, publishes = true, measure = "stream", metrics = rate(1.0, 4),
  },
  {
    number = 6, title = "the same, JSON decoded and encoded",
    serves = { moonbus = "relay_json", c = "relay", node = "relay", settings = { concurrency = 1000 } },
    contenders = { "c", "c_plain", "node" },
    variants = STREAMS, messages = 150000, publishes = true, json = true, measure = "stream",
    metrics = rate(0.7),
  },
  {
    number = 7, title = "handlers that sleep 100 ms, 10,000 at a time",
    serves = {
      moonbus = "sleep", node = "sleep", settings = { concurrency = 10000 }, config = ENOUGH_MEMORY,
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
    number = 8, title = "from publish to handler, at 1,000 msg/s",
    serves = { moonbus = "latency", c = "latency", node = "latency" },
    contenders = { "c_plain", "node" },
    variants = {
      { title = "128 B, alone", size = 128 },
      { title = "4 KB, alone", size = 4096 },
      { title = "128 B, beside a burner", size = 128, burn = true, contenders = { "c_plain" },
        metrics = latencies(2) },
      { title = "4 KB, beside a burner", size = 4096, burn = true, contenders = { "c_plain" },
        metrics = latencies(2) },
    },
    measure = "latency", metrics = latencies(),
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
    metrics = { { key = "cpu_percent", unit = "% CPU", lower = true, against = "c_plain" } },
  },
  {
    number = 10, title = "handlers that compute: more workers, more processes",
    serves = { moonbus = "compute", settings = { loops = 20000 } },
    contenders = { "one" }, metrics = AGAINST_ONE, measure = "workers", window = 1024,
    messages = 20000,
    variants = {
      { title = "2 workers", size = 128, workers = 2 },
      { title = "4 workers", size = 128, workers = 4 },
      { title = "2 processes, one durable", size = 128, storage = "memory", measure = "processes" },
    },
  },
  {
    number = 11, title = "start and memory",
    serves = { moonbus = "respond", c = "respond", node = "respond" },
    contenders = { "c", "node" }, measure = "start",
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
    number = 12, title = "a script of 200 lines reloaded at 5,000 msg/s",
    serves = { moonbus = "latency" }, contenders = { "quiet" }, measure = "reload",
    variants = { { title = "change seen to switch", metrics = {
      { key = "switch_ms", unit = "ms", lower = true, against = "none" },
      { key = "gap_ms", unit = "ms gap", lower = true, against = "quiet" },
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
    serves = { moonbus = "kv", node = "kv" }, contenders = { "node" }, messages = 30000, measure = "kv",
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
    serves = { moonbus = "kv_watch", node = "kv_watch" }, contenders = { "node" }, messages = 100000,
    measure = "kv_watch", metrics = AGAINST_NODE, variants = { SMALL },
  },
}
