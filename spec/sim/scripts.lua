-- The handlers of a trial, as text. Each message says in its data what its handler is to do at each
-- attempt; handlers note what they do:
--
--   + CONSUMER ID ATTEMPT RUN   it begins (RUN: the host, and a number of its own); - CONSUMER ID HOW RUN   it ends
--   v CONSUMER ID VERDICT RUN   it is about to settle its message
--   r ID REPLY                  what it asked for, and what came
local scripts = {}

scripts.STREAMS = [[
js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "OUT", subjects = { "out.>" }, duplicate_window = "3h" }
js.stream { name = "DEAD", subjects = { "dead.>" }, duplicate_window = "3h" }
]]

scripts.STEPS = [[
local steps = {}

local function say(run, verdict)
  sim.note(("v %s %s %s %s"):format(run.consumer, run.id, verdict, run.number))
end

function steps.sleep(_, _, ms) bus.sleep(ms / 1000) end
function steps.burn(_, _, ms) sim.burn(ms) end
function steps.error() error "planned" end
function steps.progress(_, msg) msg:progress() end
function steps.out(run, msg)
  run.outs = run.outs + 1
  local stored, err = js.publish("out." .. run.consumer, run.id .. "-" .. run.outs, { from = msg })
  if not stored then error(err) end
end
function steps.aout(run, msg)
  run.outs = run.outs + 1
  js.publish_async("out." .. run.consumer, run.id .. "-" .. run.outs, { from = msg })
end
function steps.ask(run)
  local reply, err = bus.request("ask." .. run.id, tostring(run.id), { timeout = "2s" })
  sim.note(("r %s %s"):format(run.id, reply and reply.data or err.code))
end
function steps.spawn(_, _, ms)
  local futures = {}
  for i = 1, 3 do futures[i] = bus.spawn(function() bus.sleep(ms * i / 3000) end) end
  for i = 1, 3 do futures[i]:wait() end
end
function steps.ack(run, msg)
  say(run, "ack")
  msg:ack()
end
function steps.nak(run, msg, ms)
  say(run, "nak")
  msg:nak(ms / 1000)
end
function steps.term(run, msg)
  say(run, "term")
  msg:term()
end
function steps.reject(run, msg)
  say(run, "reject")
  msg:reject()
end

local function follow(consumer, number, msg)
  local job = msg:json()
  local run = { consumer = consumer, number = number, id = job.id, outs = 0 }
  local plan = job.plan[math.min(msg.attempt, #job.plan)]
  for _, step in ipairs(plan) do
    local name, number = step:match "^(%a+) ?(%d*)$"
    steps[name](run, msg, tonumber(number))
  end
end

local count = bus.shared "runs"

local function begin(consumer, msg)
  local run = HOST .. "." .. count:incr "run"
  sim.note(("+ %s %s %d %s"):format(consumer, msg:header "id", msg.attempt, run))
  return run
end

local function finish(consumer, msg, run, ok, err)
  local how = ok and "ok" or type(err) == "table" and err.code == "cancelled" and "cancelled" or "error"
  sim.note(("- %s %s %s %s"):format(consumer, msg:header "id", how, run))
end

local function one(consumer)
  return function(msg)
    local run = begin(consumer, msg)
    local ok, err = pcall(function() follow(consumer, run, msg) end)
    finish(consumer, msg, run, ok, err)
    if not ok then error(err, 0) end
  end
end

local function many(consumer)
  return function(msgs)
    local runs = {}
    for i, msg in ipairs(msgs) do runs[i] = begin(consumer, msg) end
    local ok, err = pcall(function()
      for i, msg in ipairs(msgs) do follow(consumer, runs[i], msg) end
    end)
    for i, msg in ipairs(msgs) do finish(consumer, msg, runs[i], ok, err) end
    if not ok then error(err, 0) end
  end
end
]]

local function consumer(c)
  local options = {
    ("durable = %q"):format(c.name), ("filter = %q"):format("in." .. c.name .. ".>"),
    ("concurrency = %d"):format(c.concurrency), ("ack_wait = %g"):format(c.ack_wait / 1000),
    ("attempts = %d"):format(c.attempts), ("timeout = %g"):format(c.timeout / 1000),
    ("backoff = { min = %g, max = %g, jitter = %g }"):format(c.backoff / 1000, c.backoff / 250, c.jitter),
    ("dead_letter = %s"):format(c.dead_letter and '"dead.' .. c.name .. '"' or "false"),
  }
  if c.kind == "order" then options[#options + 1] = "order_by = 3" end
  if c.kind == "batch" then
    options[#options + 1] = ("batch = { size = %d, wait = %g }"):format(c.size, c.wait / 1000)
  end
  return ('js.consume("IN", { %s }, %s %q)\n'):format(table.concat(options, ", "),
    c.kind == "batch" and "many" or "one", c.name)
end

-- The script of a host; version: any text that tells one from the other.
function scripts.make(trial, host, version)
  local text = { "-- " .. version .. "\n", "local HOST = " .. host .. "\n", scripts.STREAMS, scripts.STEPS,
    trial.more_steps or "" }
  for _, c in ipairs(trial.consumers) do text[#text + 1] = consumer(c) end
  text[#text + 1] = [[
    bus.subscribe("ask.*", { queue = "ask" }, function(msg)
      bus.sleep(tonumber(msg.data) % 5 / 20)
      return msg.data
    end)
    bus.subscribe("outside.*", { queue = "outside" }, function(msg)
      bus.sleep(tonumber(msg.data) % 3 / 10)
      return "re " .. msg.data
    end)
  ]]
  if trial.timer then
    text[#text + 1] = ([[bus.every(%g, function() bus.publish("tick", "x"); bus.sleep(%g) end)
    ]]):format(trial.timer / 1000, trial.timer / 3000)
  end
  text[#text + 1] = [[bus.on("stop", function() bus.sleep "10ms" end)]]
  return table.concat(text, "\n")
end

return scripts
