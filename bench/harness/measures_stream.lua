-- Measures of what comes from a stream: see measures.lua.
local cpu = require "bench.harness.cpu"
local programs = require "bench.harness.programs"
local serve = require "bench.harness.serve"
local wait = require "spec.support.wait"

local must_be, with = serve.must_be, serve.with
local measures = {}

local OUTPUT = "bench.js.out"

-- A stream is filled once for all runs of a variant.
local function fill(run)
  local variant = run.variant
  if run.kept.variant == variant then return end
  run.client:wipe()
  run.client:stream("IN", { "bench.js.in", "bench.js.other" }, { storage = variant.storage })
  programs.load("fill", {
    url = run.server.url, size = variant.size, count = run.messages, of = variant.of,
    json = run.case.json and "yes",
  })
  run.kept.variant = variant
end

-- Deletes what a run on a stream has made.
local function forget(run)
  pcall(run.client.api, run.client, "CONSUMER.DELETE.IN." .. run.durable)
  if run.case.publishes then pcall(run.client.delete_stream, run.client, "OUT") end
end

local function settled(run)
  local info = run.client:consumer_info("IN", run.durable)
  return info.delivered.consumer_seq - info.num_ack_pending
end

-- Settles the stream with the program that start() gives. Its processor time is counted from where it
-- serves, and what it has settled by then is not.
local function watch(run, start)
  local wanted = math.ceil(run.messages / (run.variant.of or 1))
  local finish, watching = programs.begin_load("watch", {
    url = run.server.url, stream = "IN", durable = run.durable, count = wanted,
  })
  wait.eventually(function() return watching:stdout():find("ready", 1, true) end)
  return with(start(), function(started)
    local pids, before = started.pids or { started.pid }, {}
    for index, pid in ipairs(pids) do before[index] = cpu.look(pid) end
    local server = cpu.look(run.server.process.pid)
    local already = settled(run)
    if already > wanted / 2 then before, already = {}, 0 end -- so few: all of it then, with its start
    local result = finish()
    for index, pid in ipairs(pids) do
      cpu.per_message(result, before[index] or {}, cpu.look(pid), wanted - already)
    end
    result.threads.server = cpu.between(server, cpu.look(run.server.process.pid)) / (wanted - already)
    must_be(wanted, result.delivered, "deliveries")
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
    return serve.start(run, {
      durable = run.durable, out = OUTPUT, json = run.case.json and "yes",
      filter = run.variant.of and "bench.js.in",
    })
  end)
  if run.case.publishes then
    must_be(run.messages, run.client:stream_info("OUT").state.messages, "stored messages")
  end
  return result
end

-- Runs it, and deletes what it has made in any case.
local function forgetting(fn)
  return function(run)
    local ok, result = pcall(fn, run)
    forget(run)
    if not ok then error(result, 0) end
    return result
  end
end

measures.stream = forgetting(settle_all)

-- Processor time for messages that are held for long, each kept alive all the time.
measures.hold = forgetting(function(run)
  fill(run)
  local batch = run.messages / 2
  return with(serve.start(run, { durable = run.durable, batch = batch, ack_wait_ms = 6000 }), function(started)
    local function held()
      return run.client:consumer_info("IN", run.durable).num_ack_pending == run.messages
    end
    wait.eventually(held, 20, "all messages are held")
    local before, began = cpu.look(started.pid), wait.now()
    serve.pause(run.smoke and 0.5 or 30)
    local used, took = cpu.between(before, cpu.look(started.pid)), wait.now() - began
    must_be(run.messages, run.client:consumer_info("IN", run.durable).delivered.consumer_seq, "deliveries")
    return { cpu_percent = used / 1e9 / took * 100 }
  end)
end)

-- Several processes as one program.
local function several(count, start)
  local list, pids = {}, {}
  for index = 1, count do
    list[index] = start()
    pids[index] = list[index].pid
  end
  return { pids = pids, stop = function() for _, each in ipairs(list) do each:stop() end end }
end

-- Some processes of one worker on one durable, against one of them.
measures.processes = forgetting(function(run)
  fill(run)
  return watch(run, function()
    return several(run.contender == "one" and 1 or run.variant.processes, function()
      if run.contender == "moonbus" or run.contender == "one" then return serve.moonbus(run, { workers = 1 }) end
      return serve.start(run, { durable = run.durable })
    end)
  end)
end)

return measures
