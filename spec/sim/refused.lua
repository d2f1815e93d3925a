-- A trial in which the host is refused memory: always the same messages and handlers, which use every
-- binding there is, a reload and a lost connection; and one allocation, or some in a row, that fail.
-- The promises are those of all trials (promises.lua), and in the end nothing of it may be kept.
--
--   local refused = require "spec.sim.refused"
--   refused.count()         how many allocations there are
--   refused.run(17)         the 17th is refused; its complaint: nil, or what broke
--   refused.run(17, 100)    100 of them are, from the 17th on
local ffi = require "ffi"
local chance = require "spec.sim.chance"
local sim = require "spec.sim.sim"
local trial = require "spec.sim.trial"

local C = ffi.C
if not pcall(ffi.typeof, "marker_refuse") then
  ffi.cdef [[
    void refuse_begin(long nth);
    void refuse_some(long nth, long count);
    void refuse_no_more(void);
    void refuse_pause(void);
    void refuse_resume(void);
    bool refuse_end(void);
    long refuse_count(void);
    long refuse_kept(void);
    const char *refuse_report(void);
    typedef int marker_refuse;
  ]]
end

local refused = setmetatable({}, { __index = trial })
refused.__index = refused

refused.more_steps = [[
local store, work = bus.shared "store", bus.offload "work"

function steps.gather()
  local a, b = bus.gather { function() bus.sleep "10ms" return 1 end, function() return 2 end }
  assert(a == 1 and b == 2)
end
function steps.shared(run)
  local key = tostring(run.id)
  local ok, err = store:set(key, { list = { 1, 2, "three" } })
  if not ok then error(err) end
  store:add("once", true, { ttl = "50ms" })
  store:incr("sum", 2, { init = 1 })
  assert(store:get(key).list[3] == "three")
  store:delete(key)
end
function steps.json(run, msg)
  local text = bus.json.encode { list = { 1, 2, { a = "b" } }, id = run.id, big = ("x"):rep(2000) }
  assert(bus.json.decode(text).id == run.id and msg:header_values "id"[1])
  msg:json { strict = false }
  bus.log.info("has read it", { id = run.id })
end
function steps.timers()
  local every = bus.every("5ms", function() end)
  bus.after("3ms", function() bus.publish "tick" end)
  bus.sleep "20ms"
  every:cancel()
end
function steps.offload()
  local answer, err = work.add { 1000, 2 }
  if not answer then error(err) end
  assert(answer.sum == 1002)
end
function steps.send()
  local ok, err = bus.publish("tick", ("x"):rep(5000), { headers = { A = "b", C = "d" } })
  if not ok then error(err) end
end
bus.subscribe("many", function(msg) return msg.data end)
bus.service { name = "refused", version = "1.0.0", metadata = { a = "b" } }
  :endpoint("served", { metadata = { c = "d" } }, function(msg) return msg.data end)
function steps.found()
  bus.request("served", "x", { timeout = "100ms" })
  for _, verb in ipairs { "PING", "INFO", "STATS" } do
    local reply = bus.request("$SRV." .. verb .. ".refused", "", { timeout = "100ms" })
    local answer = reply and reply:json()
    if answer then
      assert(answer.version == "1.0.0" and answer.metadata.a == "b" and #answer.id == 22)
      if answer.endpoints then assert(answer.endpoints[1].name == "served") end
    end
  end
end
function steps.many(run)
  for msg in bus.request_many("many", tostring(run.id), { timeout = "100ms", max = 1 }) do
    assert(msg.data == tostring(run.id))
  end
  for _ in bus.request_many("many", "x", { stall = "10ms", timeout = "50ms" }) do end
end
local keys = require "moonbus.kv".bucket { name = "refused", history = 3 }
local files = require "moonbus.objects".bucket { name = "refused" }
function steps.keys(run)
  local key = "k" .. run.id
  local revision, err = keys:put(key, { id = run.id })
  if not revision then error(err) end
  local entry, why = keys:get(key)
  if not entry then error(why) end
  assert(entry:json().id == run.id)
  local list, wrong = keys:keys()
  if not list then error(wrong) end
  local created, there = keys:create("once", "x")
  assert(created or there.code ~= "not_found")
end
function steps.objects(run)
  local name, left = "o" .. run.id, 3
  local info, err = files:put(name, function() left = left - 1 return left >= 0 and ("x"):rep(70000) or nil end)
  if not info then error(err) end
  local data, why = files:get(name)
  if not data then error(why) end
  assert(#data == 210000)
end
function steps.acksync(run, msg)
  say(run, "ack")
  msg:ack { sync = true }
end
]]

local function consumer(name, kind)
  return {
    name = name, kind = kind, concurrency = kind == "order" and 3 or 2, ack_wait = 2000, attempts = 100,
    timeout = 20000, backoff = 50, jitter = 0, dead_letter = true, size = 3, wait = 20,
  }
end

-- What handlers do, one attempt after the other.
local JOBS = {
  { 1, "k", { "out", "aout", "ask", "sleep 20", "spawn 30" } },
  { 1, "k", { "gather", "shared", "json", "timers", "send", "many", "found" } },
  { 1, "k", { "offload", "out", "offload" } },
  { 1, "k", { "keys", "objects" } },
  { 1, "k", { "nak 100" }, { "out" } },
  { 1, "k", { "term" } },
  { 1, "k", { "reject" } },
  { 1, "k", { "ack" } },
  { 1, "k", { "acksync" } },
  { 1, "k", { "error" }, { "progress", "burn 3" } },
  { 1, "k", bad = true },
  { 2, "k", { "error" }, { "out" } },
  { 2, "k", { "sleep 30", "out" } },
  { 2, "l", { "out", "ack" } },
  { 3, "k", { "out", "aout" } },
  { 3, "k", { "sleep 10" } },
  { 3, "l", { "out" } },
  { 3, "l", { "error" }, { "aout" } },
}

function refused:make(seed)
  self.random = chance.new(seed)
  self.consumers = { consumer("c1", "plain"), consumer("c2", "order"), consumer("c3", "batch") }
  self.jobs, self.asked, self.faults, self.host_count = {}, {}, {}, 1
  self.settings = {
    workers = 2, request_timeout = "2s", ["publish.timeout"] = "1s", ["publish.attempts"] = 20,
    ["publish.backoff.max"] = "1s", ["reconnect.wait"] = "100ms", ["reconnect.max_wait"] = "500ms",
    ["limits.offload_threads"] = 2,
  }
  self.world = sim.new { seed = seed, wire = "$JS.ACK." }
end

function refused:publish_some()
  for _, made in ipairs(JOBS) do
    local c, id, outs = self.consumers[made[1]], #self.jobs + 1, 0
    for _, step in ipairs(made.bad and {} or made[#made]) do
      if step == "out" or step == "aout" then outs = outs + 1 end
    end
    self.jobs[id] = { id = id, consumer = c, key = made[2], outs = outs, at = self.world:now(), bad = made.bad }
    local plan = { unpack(made, 3) }
    self.world:publish(("in.%s.%s"):format(c.name, made[2]), made.bad and "no JSON" or { id = id, plan = plan },
      { headers = { id = id } })
  end
end

function refused:disturb()
  self:ask()
  self.world:advance "300ms"
  self.reloads = 1
  self.hosts[1]:reload("work.lua", self:script(1))
  self:publish_some()
  self.world:advance "50ms"
  self:note_fault("cut", self.world:now(), 100)
  self.world:cut(100)
  self:ask()
  self.world:advance "2s"
end

function refused:recover()
  C.refuse_no_more()
  trial.recover(self)
end

local function run(nth, count, seed)
  local self = setmetatable({ seed = seed or 1, no_memory = nth > 0 }, refused)
  self:make(self.seed)
  C.refuse_pause() -- what is done from outside
  C.refuse_some(nth, count)
  self:run_through()
  self.was_refused = C.refuse_end()
  self.count, self.kept = tonumber(C.refuse_count()), tonumber(C.refuse_kept())
  C.refuse_resume()
  local why = type(self.complaint) == "string" and self.complaint or ""
  -- A start that has no memory says so, and ends.
  if not self.started_ms and (why:find("memory", 1, true) or why:find("cannot start", 1, true)) then
    self.complaint = nil
  end
  if not self.complaint and self.kept > 0 then self.complaint = self.kept .. " blocks are kept" end
  if self.complaint then self.complaint = self.complaint .. "\n" .. ffi.string(C.refuse_report()) end
  return self
end

-- seed: another order of fibers.
function refused.run(nth, count, seed) return run(nth, count or 1, seed) end

function refused.count(seed)
  local one = run(0, 0, seed)
  assert(not one.complaint, one.complaint)
  return one.count
end

return refused
