-- One trial: what a seed makes of it. Hosts with random handlers serve random messages, while
-- connections break, the server freezes, answers are lost, scripts are reloaded and hosts are stopped
-- and started; then all is well again until every message has its end. What must be true of it
-- whatever happened is in promises.lua.
--
--   local trial = require("spec.sim.trial").run(17)   -- trial.complaint: nil, or what broke
local chance = require "spec.sim.chance"
local promises = require "spec.sim.promises"
local scripts = require "spec.sim.scripts"
local sim = require "spec.sim.sim"

local trial = {}
trial.__index = trial

-- --- what there is ---

local function make_consumer(random, i)
  return {
    name = "c" .. i, kind = random:pick { "plain", "plain", "order", "batch" },
    concurrency = random:pick { 1, 2, 3, 8 }, ack_wait = random:pick { 1000, 2000, 5000 },
    attempts = random:int(2, 6), timeout = random:pick { 20000, 60000 },
    backoff = random:pick { 50, 300, 1000 }, jitter = random:pick { 0, 0.2 },
    dead_letter = random:of_hundred(70), size = random:int(2, 6), wait = random:pick { 20, 200 },
  }
end

-- What a handler does before it comes to its end, one attempt.
local function make_steps(random, outs)
  local steps = {}
  for _ = 1, random:int(0, 3) do
    steps[#steps + 1] = random:pick {
      "sleep " .. random:int(0, 50), "sleep " .. random:int(100, 3000), "progress", "ask",
      "spawn " .. random:int(10, 900), "burn " .. random:int(1, 4),
    }
  end
  if random:of_hundred(6) then steps[#steps + 1] = "sleep " .. random:int(5000, 15000) end
  for _ = 1, outs do
    table.insert(steps, random:int(1, #steps + 1), random:of_hundred(60) and "out" or "aout")
  end
  return steps
end

local function make_plan(random, outs, is_batch)
  local plan = {}
  while random:of_hundred(30) and #plan < 4 do
    local steps = make_steps(random, random:int(0, outs))
    steps[#steps + 1] = random:pick { "error", "error", "nak " .. random:int(0, 2000) }
    plan[#plan + 1] = steps
  end
  local last = make_steps(random, outs)
  if random:of_hundred(12) and not is_batch then
    last[#last + 1] = random:pick { "error", "term", "reject", "ack" }
  end
  plan[#plan + 1] = last
  return plan
end

function trial:make(seed)
  local random = chance.new(seed)
  self.random = random
  self.consumers, self.jobs, self.asked, self.faults = {}, {}, {}, {}
  self.bursts = seed % 5 == 0 -- many come at once, so that workers take some of them in hand
  for i = 1, random:int(1, 3) do
    self.consumers[i] = make_consumer(random, i)
    if self.bursts then self.consumers[i].concurrency = random:pick { 8, 16, 64 } end
  end
  self.timer = random:of_hundred(30) and random:int(200, 2000)
  self.host_count = random:of_hundred(30) and 2 or 1
  self.settings = {
    workers = random:pick { 1, 2, 3 }, ["limits.generations"] = random:int(2, 4),
    request_timeout = "2s", ["publish.timeout"] = random:pick { "1s", "2s" },
    ["publish.attempts"] = random:pick { 20, 2 }, ["publish.backoff.max"] = "1s",
    ["reconnect.wait"] = "100ms", ["reconnect.max_wait"] = "500ms",
  }
  self.world = sim.new {
    seed = seed, yields = random:pick { 0, 20, 100, 300 }, false_wakes = random:pick { 0, 5, 30 },
    wire = self.wire or "$JS.ACK.",
  }
end

function trial:publish_some()
  local random = self.random
  for _ = 1, self.bursts and random:of_hundred(40) and random:int(20, 60) or random:int(1, 8) do
    local c = random:pick(self.consumers)
    local outs, id = random:int(0, 3), #self.jobs + 1
    local job = { id = id, consumer = c, key = random:pick { "k", "l", "m" }, outs = outs,
      at = self.world:now(), bad = random:of_hundred(3) and c.kind ~= "batch" }
    job.plan = make_plan(random, outs, c.kind == "batch")
    self.jobs[id] = job
    self.world:publish(("in.%s.%s"):format(c.name, job.key),
      job.bad and "no JSON" or { id = id, plan = job.plan }, { headers = { id = id } })
  end
end

function trial:ask()
  local number = #self.asked + 1
  self.asked[number] = { at = self.world:now() }
  self.world:publish("outside." .. number, tostring(number), { reply = "_OUTSIDE.asked." .. number })
end

-- --- hosts ---

function trial:script(host)
  self.versions = (self.versions or 0) + 1
  return sim.script(scripts.make(self, host, "version " .. self.versions))
end

function trial:start_host()
  local host = self.world:host {
    settings = self.settings,
    scripts = { ["work.lua"] = self:script(#self.world.hosts + 1) },
  }
  self.hosts[#self.hosts + 1] = host
  return host
end

function trial:stop_host(index)
  local host = table.remove(self.hosts, index)
  local graceful = self.random:pick { 1000, 3000, 10000 }
  local began = self.world:now()
  self:note_fault("stop", began, graceful)
  local losing = self.world:losses_left() > 0
  local unfinished = host:finish(graceful)
  self.stops[#self.stops + 1] = {
    took = self.world:now() - began, graceful = graceful, unfinished = unfinished, began = began,
    losing = losing,
  }
end

-- --- what goes wrong ---

function trial:note_fault(what, from, ms)
  self.faults[#self.faults + 1] = { what = what, from = from, ms = ms }
  self.world:remark(("%s for %g ms"):format(what, ms))
end

local actions = {}

function actions.publish(self) self:publish_some() end
function actions.ask(self) self:ask() end
function actions.reload(self)
  local host = self.random:pick(self.hosts)
  if host:reloading() then return end
  self.reloads = self.reloads + 1
  host:reload("work.lua", self:script(host.number))
end
function actions.cut(self)
  local back = self.random:pick { 0, 100, 1000, 6000 }
  self:note_fault("cut", self.world:now(), back)
  self.world:cut(back, { link = self.random:pick { -1, -1, 0, 1, 2, 3 }, loss = self.random:int(0, 3) })
end
function actions.lose(self)
  self:note_fault("lose", self.world:now(), 0)
  self.world:lose_answers(self.random:int(1, 4))
end
function actions.freeze(self)
  local ms = self.random:pick { 300, 3000, 7000 }
  self:note_fault("freeze", self.world:now(), ms)
  self.world:freeze(ms)
end
function actions.down(self)
  local ms = self.random:pick { 100, 2000 }
  self:note_fault("down", self.world:now(), ms)
  self.world:down(ms)
end
function actions.slow(self)
  local each, ms = self.random:int(1, 60), self.random:pick { 1000, 5000 }
  self:note_fault("slow", self.world:now(), each * 4)
  self.world:delay(each, ms)
end
function actions.restart(self)
  self.restarts = self.restarts + 1
  self:stop_host(self.random:int(1, #self.hosts))
  self:start_host()
end

local ALL = { "publish", "publish", "publish", "ask", "ask", "reload", "cut", "cut",
  "lose", "freeze", "down", "slow", "restart" }

function trial:disturb()
  for _ = 1, self.random:int(3, 12) do
    actions[self.random:pick(ALL)](self)
    self.world:advance(self.random:pick { 0, 5, 50, 400, 1500, 4000 })
  end
end

-- --- its end ---

function trial:is_settled()
  for _, c in ipairs(self.consumers) do
    local info = self.world:consumer("IN", c.name)
    if not info or not info.num_pending or info.num_pending > 0 or info.num_ack_pending > 0 then
      return false
    end
  end
  return true
end

function trial:is_quiet()
  for _, host in ipairs(self.hosts) do
    if host:status().running > 0 then return false end
  end
  return true
end

function trial:look()
  for _, message in ipairs(self.world:came()) do
    local number = message.subject:match "^_OUTSIDE%.asked%.(%d+)$"
    if number then
      local asked = self.asked[tonumber(number)]
      asked[#asked + 1] = message.status or message.data
    end
  end
end

function trial:recover()
  self.world:lose_answers(0)
  self.world:advance "8s"
  self.settled = self.world:wait(function() return self:is_settled() end, "40m", 1000)
  self.world:wait(function() return self.timer or self:is_quiet() end, "3m", 1000)
  self:look()
  self.inputs = self.world:stream("IN").state.messages
  self.outputs, self.letters = self.world:messages "OUT", self.world:messages "DEAD"
end

function trial:play()
  self.hosts, self.stops, self.restarts, self.reloads = {}, {}, 0, 0
  for _ = 1, self.host_count do self:start_host() end
  self.started_ms = self.world:now()
  self:publish_some()
  self:disturb()
  self:look()
  self:recover()
  self.quiet = {}
  for i, host in ipairs(self.hosts) do self.quiet[i] = host:status() end
  while #self.hosts > 0 do self:stop_host(1) end
end

-- What has been made is played, and looked at. Its fields then: complaint (nil: all promises were
-- kept), trace, left (bytes), notes.
function trial:run_through()
  local ok, why = xpcall(function() self:play() end, function(text)
    return type(text) == "string" and debug.traceback(text, 2) or text
  end)
  local closed, left = pcall(self.world.close, self.world)
  self.notes = self.world.noted
  self.trace = self.world.ended_trace
  self.left = closed and left or 0
  if not ok then
    self.complaint = why
  elseif not closed then
    self.complaint = left
  else
    self.complaint = promises.broken(self)
  end
  return self
end

-- Runs a seed.
function trial.run(seed, wire)
  local self = setmetatable({ seed = seed, wire = wire }, trial)
  self:make(seed)
  return self:run_through()
end

return trial
