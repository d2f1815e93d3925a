-- How a case is measured: one function for each kind of it. Each gets a `run` (see harness/bench.lua)
-- and gives the metrics that the case's table names. It raises when something was lost or doubled.
local programs = require "bench.harness.programs"
local cjson = require "cjson"
local stats = require "bench.harness.stats"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"

local measures = {}

local function pause(seconds) posix.C.poll(nil, 0, seconds * 1000) end

-- Starts moonbus serving what `case.serves` says; changes: fields that this run wants otherwise.
local function serve_moonbus(run, changes)
  local serves = run.case.serves
  local settings = { durable = run.durable }
  for name, value in pairs(serves.settings or {}) do settings[name] = value end
  for name, value in pairs(run.variant.settings or {}) do settings[name] = value end
  local options = {
    handler = serves.moonbus, settings = settings, config = serves.config, server = run.server,
  }
  for name, value in pairs(changes or {}) do options[name] = value end
  return programs.start_moonbus(options)
end

-- Starts the program that the run is for. more: options for those that are not moonbus.
local function serve(run, more)
  local serves = run.case.serves
  if run.contender == "moonbus" then return serve_moonbus(run) end
  local options = { url = run.server.url }
  for name, value in pairs(more or {}) do options[name] = value end
  if run.contender == "node" then return programs.start_node(serves.node, options) end
  options.headers = run.contender == "c" and "yes" or "no"
  return programs.start_c(run.contender == "c_fetch" and "fetch" or serves.c, options)
end

-- Runs a function with a program, which ends in any case.
local function with(started, fn)
  local ok, result = pcall(fn, started)
  local stopped, reason = pcall(started.stop, started)
  if not ok then error(result, 0) end
  if not stopped then error(reason, 0) end
  return result
end

local function must_be(wanted, got, what)
  if wanted ~= got then error(("%s: %s wanted, %s came"):format(what, wanted, got), 0) end
end

-- How many messages the program says that it received.
local function received(run, started)
  if run.contender == "moonbus" then return started:counts().ok end
  return tonumber((assert(run.client:request("bench.count", ""))).data)
end

-- How many messages may be under way: many, but no more than programs keep in their queues.
local function window_of(run)
  if run.case.window then return run.case.window end
  return math.min(run.smoke and 1024 or 16384, math.floor(16777216 / run.variant.size))
end

local function flow(run, per_mark)
  return programs.load("flow", {
    url = run.server.url, size = run.variant.size, per_mark = per_mark, window = window_of(run),
    warm_ms = run.warm_ms, ms = run.ms,
  })
end

-- Core messages, as fast as they go through.
function measures.flow(run)
  local per_mark = run.case.per_mark or 1
  return with(serve(run, { per_mark = per_mark }), function(started)
    local result = flow(run, per_mark)
    if per_mark == 1 then
      must_be(result.sent, result.arrived, "messages")
    else
      wait.eventually(function() return received(run, started) == result.sent end, 5,
        function() return ("%d of %d messages"):format(received(run, started), result.sent) end)
    end
    return result
  end)
end

-- Round trips.
function measures.request(run)
  return with(serve(run), function()
    local result = programs.load("request", {
      url = run.server.url, size = run.variant.size, in_flight = run.variant.in_flight,
      warm_ms = run.warm_ms, ms = run.ms,
    })
    must_be(0, result.failed, "failed requests")
    return result
  end)
end

local OUTPUT = "bench.js.out"

-- A stream is filled once for all runs of a variant.
local function fill(run)
  local variant = run.variant
  if run.kept.variant == variant then return end
  run.client:wipe()
  run.client:stream("IN", { "bench.js.in" }, { storage = variant.storage })
  programs.load("fill", {
    url = run.server.url, size = variant.size, count = run.messages, json = run.case.json and "yes",
  })
  run.kept.variant = variant
end

-- Deletes what a run on a stream has made.
local function forget(run)
  pcall(run.client.api, run.client, "CONSUMER.DELETE.IN." .. run.durable)
  if run.case.publishes then pcall(run.client.delete_stream, run.client, "OUT") end
end

-- Settles the stream with the program that start() gives.
local function watch(run, start)
  local finish, watching = programs.begin_load("watch", {
    url = run.server.url, stream = "IN", durable = run.durable, count = run.messages,
  })
  wait.eventually(function() return watching:stdout():find("ready", 1, true) end)
  return with(start(), function()
    local result = finish()
    must_be(run.messages, result.delivered, "deliveries")
    return result
  end)
end

-- A stream's messages, until all are acknowledged. The durable is this run's own, and so is the
-- stream of what is published.
local function settle_all(run)
  fill(run)
  if run.case.publishes then
    run.client:stream("OUT", { OUTPUT }, { storage = run.variant.storage })
  end
  local result = watch(run, function()
    return serve(run, { durable = run.durable, out = OUTPUT, json = run.case.json and "yes" })
  end)
  if run.case.publishes then
    must_be(run.messages, run.client:stream_info("OUT").state.messages, "stored messages")
  end
  return result
end

function measures.stream(run)
  local ok, result = pcall(settle_all, run)
  forget(run)
  if not ok then error(result, 0) end
  return result
end

-- Latencies at a steady pace, alone or beside something that burns the processor.
function measures.latency(run)
  local burn = run.variant.burn
  local started
  if run.contender == "moonbus" then
    started = serve_moonbus(run, { handler = burn and { "latency", "burn" } or "latency" })
    if burn then run.client:publish("bench.burn", "") end
  else
    started = serve(run, { burn = burn and "yes" or "no" })
  end
  return with(started, function()
    local result = programs.load("pace", {
      url = run.server.url, size = run.variant.size, per_second = 1000, warm_ms = run.warm_ms,
      ms = run.ms,
    })
    must_be(result.sent, result.arrived, "messages")
    return result
  end)
end

-- Processor time for messages that are held for long, each kept alive all the time.
local function hold(run)
  local batch = run.messages / 2
  return with(serve(run, { durable = run.durable, batch = batch, ack_wait_ms = 6000 }), function(started)
    local function held()
      return run.client:consumer_info("IN", run.durable).num_ack_pending == run.messages
    end
    wait.eventually(held, 20, "all messages are held")
    local cpu, began = programs.cpu_seconds(started.pid), wait.now()
    pause(run.smoke and 0.5 or 30)
    local share = (programs.cpu_seconds(started.pid) - cpu) / (wait.now() - began)
    must_be(run.messages, run.client:consumer_info("IN", run.durable).delivered.consumer_seq, "deliveries")
    return { cpu_percent = share * 100 }
  end)
end

function measures.hold(run)
  fill(run)
  local ok, result = pcall(hold, run)
  forget(run)
  if not ok then error(result, 0) end
  return result
end

-- Handlers that compute: moonbus with the variant's workers, and with one.
function measures.workers(run)
  local workers = run.contender == "one" and 1 or run.variant.workers
  return with(serve_moonbus(run, { workers = workers }), function()
    local result = flow(run, 1)
    must_be(result.sent, result.arrived, "messages")
    return result
  end)
end

-- The same on a durable: two processes of one worker, and one of them.
function measures.processes(run)
  fill(run)
  local function start()
    local list = {}
    for index = 1, run.contender == "one" and 1 or 2 do
      list[index] = serve_moonbus(run, { workers = 1, handler = "compute_stored" })
    end
    return { stop = function() for _, each in ipairs(list) do each:stop() end end }
  end
  local ok, result = pcall(watch, run, start)
  forget(run)
  if not ok then error(result, 0) end
  return result
end

-- From the start of the process until it serves, and what it needs when it has nothing to do.
function measures.start(run)
  return with(serve(run), function(started)
    pause(run.smoke and 0.05 or 0.5)
    return { ready_ms = started.ready_ms, idle_mb = programs.memory_bytes(started.pid) / 1e6 }
  end)
end

-- What one more script needs.
function measures.scripts(run)
  local count = run.smoke and 10 or 200
  local names = {}
  for index = 1, count do names[index] = { name = "s" .. index, text = programs.handler "respond" } end
  local function memory(handler)
    return with(serve_moonbus(run, { handler = handler }), function(started)
      pause(run.smoke and 0.05 or 0.5)
      return programs.memory_bytes(started.pid)
    end)
  end
  return { script_kb = (memory(names) - memory { names[1] }) / (count - 1) / 1e3 }
end

-- What one suspended handler needs.
function measures.suspended(run)
  local messages = run.smoke and 500 or 50000 -- two handlers each
  return with(serve_moonbus(run), function(started)
    local before = programs.memory_bytes(started.pid)
    programs.load("flow", {
      url = run.server.url, size = 128, window = 4096, count = messages, warm_ms = 0, ms = 60000,
    })
    wait.eventually(function() return started:running() == 2 * messages end, 60,
      function() return started:running() .. " handlers are suspended" end)
    return { suspended_kb = (programs.memory_bytes(started.pid) - before) / (2 * messages) / 1e3 }
  end)
end

-- A script of two hundred lines; the version is in its last line.
local function long_script(version)
  local lines = { (programs.handler "latency") }
  for index = 1, 62 do
    lines[#lines + 1] = ("local function helper_%d(value)\n  return (value or 0) + %d\nend"):format(index, index)
  end
  lines[#lines + 1] = ("bus.subscribe(\"bench.version\", function() return tostring(helper_%d(0)) end)"):format(version)
  return table.concat(lines, "\n") .. "\n"
end

local RELOADS = 5

-- Messages at a steady pace while the script changes again and again ("quiet": while it does not).
function measures.reload(run)
  local script = { name = "long", text = long_script(1) }
  return with(serve_moonbus(run, { handler = { script }, watch = true }), function(started)
    local finish = programs.begin_load("pace", {
      url = run.server.url, size = 128, per_second = 5000, warm_ms = run.warm_ms, ms = math.max(run.ms, 1500),
    })
    local took = {}
    for version = 2, run.contender == "quiet" and 1 or RELOADS + 1 do
      pause(0.2)
      started:rewrite("long", long_script(version))
      local event = started.host:wait_log(("generation %d live in"):format(version), 10)
      took[#took + 1] = tonumber(event.msg:match "live in ([%d.]+) ms")
    end
    local result = finish()
    must_be(result.sent, result.arrived, "messages")
    return { switch_ms = stats.median(took), gap_ms = result.gap_ms }
  end)
end

local BUCKET = "KV_bench"

-- An empty bucket, as each client makes it.
local function make_bucket(run)
  pcall(run.client.delete_stream, run.client, BUCKET)
  run.client:stream(BUCKET, { "$KV.bench.>" }, {
    storage = "memory", max_msgs_per_subject = 1, discard = "new", allow_rollup_hdrs = true, deny_delete = true,
    allow_direct = true,
  })
end

-- Operations on a bucket, 64 at a time.
function measures.kv(run)
  make_bucket(run)
  local size, operation = run.variant.size, run.variant.operation
  return with(serve(run), function()
    local function ask(what, count)
      local job = cjson.encode { operation = what, count = count, size = size }
      return cjson.decode((assert(run.client:request("bench.kv", job, { timeout = 120 }))).data).seconds
    end
    ask("put", 1000)
    ask(operation, math.min(1000, run.messages))
    return { rate = run.messages / ask(operation, run.messages) }
  end)
end

-- Changes of a bucket, as fast as they come.
function measures.kv_watch(run)
  make_bucket(run)
  return with(serve(run), function()
    local function counted() return cjson.decode((assert(run.client:request("bench.count", ""))).data) end
    local data = ("x"):rep(run.variant.size)
    for number = 1, run.messages do run.client:send("$KV.bench.k" .. number, data) end
    run.client:flush()
    wait.eventually(function() return counted().count >= run.messages end, 60,
      function() return ("%d of %d changes"):format(counted().count, run.messages) end)
    local result = counted()
    must_be(run.messages, result.count, "changes")
    return { rate = run.messages / result.seconds }
  end)
end

local SCRAPED = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "SCRAPED", subjects = { "scraped.>" }, storage = "memory" }
for i = 1, 25 do
  bus.subscribe("core." .. i, function() return "" end)
  js.consume("SCRAPED", { durable = "d" .. i, filter = "scraped." .. i, dead_letter = false }, function() end)
end]]

-- What it costs the host to say all that it knows, once each handler has run.
function measures.scrape(run)
  local scrapes = run.smoke and 5 or 200
  return with(serve_moonbus(run, { handler = { { name = "scraped", text = SCRAPED } } }), function(started)
    local port = tonumber(started.host.admin:match "%d+$")
    for i = 1, 25 do
      assert(run.client:request("core." .. i, ""))
      run.client:store("scraped." .. i, "")
    end
    local before, text = programs.cpu_seconds(started.pid), nil
    for _ = 1, scrapes do text = posix.http_get(port, "/metrics") end
    local took = programs.cpu_seconds(started.pid) - before
    local _, handlers = text:gsub("\nmoonbus_handler_info{", "")
    must_be(50, handlers, "handlers")
    return { scrape_ms = took / scrapes * 1e3 }
  end)
end

return measures
