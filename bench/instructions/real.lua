-- Instructions for a message of the real process with one worker, and of the bare C program, beside a
-- real server: two runs with different numbers of messages, and the difference. By thread, with nats.c,
-- libc and the allocator; a run differs from the next by a percent or two, as threads that look for work
-- look more often or less often.
local callgrind = require "bench.instructions.callgrind"
local host = require "spec.support.host"
local process = require "spec.support.process"
local programs = require "bench.harness.programs"
local server = require "spec.support.server"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

local real = {}

local FEW, MANY = 2048, 12288 -- of 256 `receive` answers one
local DEADLINE = 120

-- The threads that a message passes, and a function that only one of them calls. Those of nats.c are
-- known by what its library tells: it names no static function.
local KNOWN_BY = {
  { role = "worker", name = "worker_main" }, { role = "writer", name = "link_writer" },
  { role = "reader", name = "socket_reader" },
  { role = "rest", name = "run_clock" }, { role = "rest", name = "run_jobs" }, { role = "rest", name = "main" },
  { role = "reader", name = "natsParser_Parse" },
  { role = "delivery", name = "natsMsg_GetData" },
  { role = "delivery", name = "natsMsg_GetReply" },
  { role = "collector", name = "natsMsg_free" },
}

real.ROLES = { "reader", "delivery", "worker", "writer", "collector", "rest" }

-- Adds the instructions of a thread to its role's.
local function add(file, roles)
  local sum, names = 0, {}
  callgrind.each(file, function(at, count)
    sum = sum + count
    names[at.name] = true
  end)
  for _, known in ipairs(KNOWN_BY) do
    if names[known.name] then
      roles[known.role] = (roles[known.role] or 0) + sum
      return
    end
  end
  roles.rest = (roles.rest or 0) + sum
end

local function words(folder) return callgrind.command(folder .. "/counts", { "-q", "--separate-threads=yes" }) end

local starts = {}

-- The host below callgrind: a program in its place, as spec.support.host starts it.
function starts.moonbus(folder, case, on)
  local wrapper = temp.write(folder, "moonbus",
    ("#!/bin/sh\nexec %s %s/moonbus \"$@\"\n"):format(table.concat(words(folder), " "), programs.build))
  os.execute("chmod +x " .. wrapper)
  host.binary = function() return wrapper end
  local started = host.start {
    handlers = { ["bench.lua"] = programs.handler(case.handler) }, server = on, level = "info",
    args = { "--workers", "1" },
    config = "return { settings = { durable = 'bench', concurrency = 1000, per_mark = 256 } }\n",
  }
  return started:wait_ready(DEADLINE)
end

-- The bare C program; with the headers that moonbus sends.
function starts.c(folder, case, on)
  local command = words(folder)
  for _, word in ipairs {
    programs.build .. "/moonbus_baseline", case.baseline or case.handler, "--url", on.url, "--per-mark", "256",
    "--durable", "bench", "--headers", case.durable and "yes" or "no", "--json", case.json and "yes" or "no",
  } do
    command[#command + 1] = word
  end
  local started = process.start { command = command }
  wait.eventually(function() return started:stdout():find("ready", 1, true) end, DEADLINE,
    function() return started:stderr() end)
  function started:stop(deadline)
    self:signal "TERM"
    self:wait(deadline)
  end
  return started
end

-- So many messages through it; how many there were.
local function send(case, on, client, count)
  if case.durable then
    wait.eventually(function()
      local info = client:consumer_info("IN", "bench")
      return info.num_pending == 0 and info.num_ack_pending == 0
    end, DEADLINE)
    return count
  end
  if case.request then -- so many milliseconds
    return programs.load("request", { url = on.url, size = 128, in_flight = 64, warm_ms = 0, ms = count }).sent
  end
  return programs.load("flow", {
    url = on.url, size = 128, window = 4096, count = count, warm_ms = 0, ms = DEADLINE * 1000,
    per_mark = case.handler == "receive" and 256 or 1,
  }).sent
end

-- One run: instructions by role, and the number of messages.
local function run(case, count, contender)
  local on, folder = server.start(), temp.folder()
  local client = on:connect()
  if case.durable then
    client:stream("IN", { "bench.js.in" }, { storage = "memory" })
    client:stream("OUT", { "bench.js.out" }, { storage = "memory" })
    programs.load("fill", { url = on.url, size = 128, count = count, json = case.json and "yes" })
  end
  local started = starts[contender](folder, case, on)
  local ok, messages = pcall(send, case, on, client, count)
  if ok then started:stop(DEADLINE) end
  started:close()
  client:close()
  on:close()
  local roles = {}
  for _, file in pairs(callgrind.files(folder .. "/counts")) do add(file, roles) end
  temp.remove(folder)
  if not ok then error(messages, 0) end
  return roles, messages
end

-- Counts a case of "moonbus" or "c". Gives { total, roles = { worker = ... } }, each in instructions for a
-- message.
function real.count(case, contender)
  local few, few_messages = run(case, FEW, contender)
  local many, many_messages = run(case, MANY, contender)
  local counts = { total = 0, roles = {} }
  for role, sum in pairs(many) do
    local each = (sum - (few[role] or 0)) / (many_messages - few_messages)
    counts.roles[role] = each
    counts.total = counts.total + each
  end
  return counts
end

return real
