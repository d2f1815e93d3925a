-- How a case is measured: one function for each kind of it. Each gets a `run` (see harness/bench.lua)
-- and gives the metrics that the case's table names. It raises when something was lost or doubled.
local programs = require "bench.harness.programs"
local wait = require "spec.support.wait"

local measures = {}

-- Starts the program that the run is for, serving what `case.serve` says.
local function serve(run, more)
  local serves = run.case.serves
  if run.contender == "moonbus" then
    local settings = { durable = run.durable }
    for name, value in pairs(serves.settings or {}) do settings[name] = value end
    return programs.start_moonbus {
      handler = serves.moonbus, settings = settings, server = run.server,
      workers = serves.workers, config = serves.config,
    }
  end
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

-- Core messages, as fast as they go through.
function measures.flow(run)
  local per_mark = run.case.per_mark or 1
  return with(serve(run, { per_mark = per_mark }), function(started)
    local result = programs.load("flow", {
      url = run.server.url, size = run.variant.size, per_mark = per_mark,
      window = run.case.window or math.min(16384, math.floor(16777216 / run.variant.size)),
      warm_ms = run.warm_ms, ms = run.ms,
    })
    if per_mark == 1 then
      must_be(result.sent, result.arrived, "messages")
    else
      wait.eventually(function() return received(run, started) == result.sent end, 5,
        function() return ("%d of %d messages"):format(received(run, started), result.sent) end)
    end
    return { rate = result.rate }
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

-- The durable is this run's own, and so is the stream of what is published.
local function settle_all(run)
  fill(run)
  if run.case.publishes then
    run.client:stream("OUT", { OUTPUT }, { storage = run.variant.storage })
  end
  local finish, watching = programs.begin_load("watch", {
    url = run.server.url, stream = "IN", durable = run.durable, count = run.messages,
  })
  wait.eventually(function() return watching:stdout():find("ready", 1, true) end)
  local result = with(serve(run, {
    durable = run.durable, out = OUTPUT, json = run.case.json and "yes",
  }), finish)
  must_be(run.messages, result.delivered, "deliveries")
  if run.case.publishes then
    must_be(run.messages, run.client:stream_info("OUT").state.messages, "stored messages")
  end
  return result
end

-- A stream's messages, until all are acknowledged.
function measures.stream(run)
  local ok, result = pcall(settle_all, run)
  pcall(run.client.api, run.client, "CONSUMER.DELETE.IN." .. run.durable)
  if run.case.publishes then pcall(run.client.delete_stream, run.client, "OUT") end
  if not ok then error(result, 0) end
  return result
end

return measures
