-- How a case is measured: one function for each kind of it. Each gets a `run` (see harness/bench.lua)
-- and gives the metrics that the case's table names. It raises when something was lost or doubled. Here is
-- what comes over core messages; the rest is in the files that are read at the end.
local programs = require "bench.harness.programs"
local serve = require "bench.harness.serve"
local stats = require "bench.harness.stats"
local wait = require "spec.support.wait"

local must_be, with = serve.must_be, serve.with
local measures = {}

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
    warm_ms = run.warm_ms, ms = run.ms, subjects = run.subjects,
  })
end

-- Core messages, as fast as they go through.
function measures.flow(run)
  local per_mark = run.case.per_mark or 1
  local options = { per_mark = per_mark, subjects = run.subjects, delivery_threads = run.subjects and 1 }
  return with(serve.start(run, options), function(started)
    local result = serve.counted(started, function() return flow(run, per_mark) end)
    if per_mark == 1 then
      must_be(result.sent, result.arrived, "messages")
    else
      wait.eventually(function() return received(run, started) == result.sent end, 5,
        function() return ("%d of %d messages"):format(received(run, started), result.sent) end)
    end
    result.ready_ms, result.memory_mb = started.ready_ms, programs.memory_bytes(started.pid) / 1e6
    return result
  end)
end

local SUBJECTS_OF_A_SCRIPT = 100 -- as handlers/subjects.lua has it

-- As many subjects as the variant has, a hundred of a script.
function measures.subjects(run)
  run.subjects = run.smoke and 200 or run.variant.subjects
  if run.contender ~= "moonbus" then return measures.flow(run) end
  local list, text = {}, programs.handler "subjects"
  for first = 0, run.subjects - 1, SUBJECTS_OF_A_SCRIPT do
    list[#list + 1] = { name = "s" .. first, text = ("local first = %d\n%s"):format(first, text) }
  end
  run.case = setmetatable({ serves = { moonbus = list, config = run.case.serves.config } }, { __index = run.case })
  return measures.flow(run)
end

-- Round trips.
function measures.request(run)
  return with(serve.start(run), function(started)
    local result = serve.counted(started, function()
      return programs.load("request", {
        url = run.server.url, size = run.variant.size, in_flight = run.variant.in_flight,
        warm_ms = run.warm_ms, ms = run.ms,
      })
    end)
    must_be(0, result.failed, "failed requests")
    return result
  end)
end

-- Latencies at a steady pace, alone or beside something that burns the processor.
function measures.latency(run)
  local burn = run.variant.burn
  local started
  if run.contender == "moonbus" then
    started = serve.moonbus(run, { handler = burn and { "latency", "burn" } or "latency" })
    if burn then run.client:publish("bench.burn", "") end
  else
    started = serve.start(run, { burn = burn and "yes" or "no" })
  end
  return with(started, function()
    local result = serve.counted(started, function()
      return programs.load("pace", {
        url = run.server.url, size = run.variant.size, per_second = run.variant.per_second or 1000,
        warm_ms = run.warm_ms, ms = run.ms,
      })
    end)
    must_be(result.sent, result.arrived, "messages")
    return result
  end)
end

-- Handlers that compute: moonbus with the variant's workers, and with one.
function measures.workers(run)
  local workers = run.contender == "one" and 1 or run.variant.workers
  return with(serve.moonbus(run, { workers = workers }), function(started)
    local result = serve.counted(started, function() return flow(run, 1) end)
    must_be(result.sent, result.arrived, "messages")
    return result
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
local SLOT_MS = 10
local AFTERWARDS = 0.05 -- so long after a switch may be late what is late because of it, in seconds

-- How late the latest of those was that began within the windows, in milliseconds.
local function latest_within(windows, result)
  local latest = 0
  for index, late_us in ipairs(result.slots_us) do
    local from = result.began_s + (index - 1) * SLOT_MS / 1e3
    for _, window in ipairs(windows) do
      if from + SLOT_MS / 1e3 >= window.from and from <= window.to then latest = math.max(latest, late_us / 1e3) end
    end
  end
  return latest
end

-- Messages at a steady pace while the script changes again and again ("quiet": while it does not).
function measures.reload(run)
  local script = { name = "long", text = long_script(1) }
  return with(serve.moonbus(run, { handler = { script }, watch = true }), function(started)
    local finish = programs.begin_load("pace", {
      url = run.server.url, size = 128, per_second = run.smoke and 2000 or run.variant.per_second,
      warm_ms = run.warm_ms, ms = math.max(run.ms, 1500), slot_ms = SLOT_MS,
    })
    local took, windows = {}, {}
    for version = 2, RELOADS + 1 do
      serve.pause(0.2)
      local from = wait.now()
      if run.contender == "quiet" then
        serve.pause(0.03)
      else
        started:rewrite("long", long_script(version))
        local event = started.host:wait_log(("generation %d live in"):format(version), 10)
        took[#took + 1] = tonumber(event.msg:match "live in ([%d.]+) ms")
      end
      windows[#windows + 1] = { from = from, to = wait.now() + AFTERWARDS }
    end
    local result = finish()
    must_be(result.sent, result.arrived, "messages")
    return { switch_ms = stats.median(took), late_ms = latest_within(windows, result) }
  end)
end

for _, name in ipairs { "measures_stream", "measures_host", "measures_kv" } do
  for kind, measure in pairs(require("bench.harness." .. name)) do measures[kind] = measure end
end

return measures
