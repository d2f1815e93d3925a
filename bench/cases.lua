-- The cases, as `make bench` runs and prints them.
--
--   serves      what the program under test does: a file of bench/handlers/, a mode of bench/baseline/
--               and of bench/node/
--   contenders  who takes part besides moonbus: "c" sends what moonbus sends by contract (a
--               content-type; of stored messages a Nats-Msg-Id), "c_plain" only what is needed,
--               "c_fetch" is nats.c's own Fetch loop
--   measure     a function of harness/measures.lua; its `metrics` are printed
--   target      what the ratio moonbus / "c" must be: at least (rates), at most (times)
--   messages    of one run, in streams; seconds otherwise (see bench/run.lua)
local RATE = { key = "rate", unit = "msg/s" }

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

return {
  {
    number = 1, title = "core: receive and publish one",
    serves = { moonbus = "echo", c = "echo", node = "echo" },
    contenders = { "c", "c_plain", "node" },
    variants = { SMALL, LARGE }, measure = "flow", metrics = rate(0.9),
  },
  {
    number = 3, title = "request and reply",
    serves = { moonbus = "respond", c = "respond", node = "respond" },
    contenders = { "c", "c_plain", "node" },
    variants = {
      { title = "128 B, one by one", size = 128, in_flight = 1 },
      { title = "4 KB, one by one", size = 4096, in_flight = 1 },
      { title = "128 B, 64 in flight", size = 128, in_flight = 64, metrics = { RATE } },
      { title = "4 KB, 64 in flight", size = 4096, in_flight = 64, metrics = { RATE } },
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
}
