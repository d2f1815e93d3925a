-- The broker inside the process says what a nats-server says: each scenario runs on both, and what
-- was seen is compared. NATS_SERVER names another server.
--
-- The real one runs in real time, in which a busy machine lets a deadline pass that should not. So a
-- scenario that differs runs again with all times longer, on both: what is a difference stays one.
local base64 = require "lua.moonbus.test.base64"
local broker = require "spec.support.broker"
local cjson = require "cjson"
local raw_client = require "spec.support.raw_client"
local server = require "spec.support.server"

local ACK_WAIT = 0.4 -- seconds; the real server needs them

-- What differs from run to run, or is of a server's own taste.
local function plain(message)
  if not message then return "nothing" end
  local reply = message.reply
  if reply and reply:find "^%$JS%.ACK" then
    reply = reply:gsub("^(%$JS%.ACK%.[^.]+%.[^.]+%.%d+%.%d+%.%d+)%.%d+", "%1.TIME")
  end
  return { subject = message.subject, reply = reply, headers = message.headers, data = message.data }
end

local Scene = {}
Scene.__index = Scene

-- How many times longer a scenario's times are, one try after the other.
local SCALES = { 1, 4, 12 }

local function scene(world, scale)
  return setmetatable({ world = world, scale = scale, peer = world:connect(), seen = {}, peers = {} }, Scene)
end

-- A copy, in which the fields of these names are longer.
local function longer(object, scale, names)
  local copy = {}
  for name, value in pairs(object) do copy[name] = value end
  for name in names:gmatch "%S+" do
    local value = copy[name]
    if type(value) == "number" then copy[name] = value * scale end
    if type(value) == "table" then
      copy[name] = {}
      for index, item in ipairs(value) do copy[name][index] = item * scale end
    end
  end
  return copy
end

Scene.from_base64 = base64.decode

function Scene:note(value) table.insert(self.seen, value) end

-- Another client of the same server.
function Scene:other()
  local peer = self.world:connect()
  table.insert(self.peers, peer)
  return peer
end

function Scene:finish()
  for _, peer in ipairs(self.peers) do peer:close() end
  self.peer:close()
end

-- Asks, and gives the answer back (nil: none came).
function Scene:ask(subject, data, headers)
  self.asked = (self.asked or 0) + 1
  local inbox = "_INBOX.ask." .. self.asked
  local sid = self.peer:subscribe(inbox)
  self.peer:publish(subject, data or "", { reply = inbox, headers = headers })
  local answer = self.peer:next(sid, 2 * self.scale)
  self.peer:unsubscribe(sid)
  return answer
end

function Scene:api(operation, request)
  local answer = self:ask("$JS.API." .. operation, request and cjson.encode(request) or "")
  if not answer or answer.data == "" then return plain(answer) end
  return cjson.decode(answer.data)
end

function Scene:stream(settings)
  settings = settings or {}
  -- In memory: a server of 2.10 finds the files of a stream again that was deleted a moment ago.
  settings.storage = settings.storage or "memory"
  settings.name, settings.subjects = settings.name or "S", settings.subjects or { "s.>" }
  return self:api("STREAM.CREATE." .. settings.name, settings)
end

function Scene:consumer(config)
  config = config or {}
  config.durable_name = config.durable_name or "C"
  config.ack_policy = config.ack_policy or "explicit"
  config.ack_wait = config.ack_wait or ACK_WAIT * 1e9
  return self:api("CONSUMER.DURABLE.CREATE.S." .. config.durable_name,
    { stream_name = "S", config = longer(config, self.scale, "ack_wait backoff") })
end

-- A publish to a stream; its PubAck, decoded.
function Scene:store(subject, data, headers)
  local answer = self:ask(subject, data or "", headers)
  return answer and answer.data ~= "" and cjson.decode(answer.data) or plain(answer)
end

-- A pull request, whose answers come to self.pulls.
function Scene:pull(request, name)
  if not self.pulls then
    self.pulls = self.peer:subscribe "_INBOX.pull"
  end
  self.peer:publish("$JS.API.CONSUMER.MSG.NEXT.S." .. (name or "C"),
    type(request) == "table" and cjson.encode(longer(request, self.scale, "expires idle_heartbeat"))
      or request or "", { reply = "_INBOX.pull" })
end

-- Nobody serves it: newer servers say more than that.
function Scene:note_no_responders(message)
  self:note(message and message.headers and message.headers:match "^NATS/1.0 503" or "nothing")
end

function Scene:pass(seconds) self.peer:pass(seconds * self.scale) end

function Scene:came(seconds) return self.peer:next(self.pulls, (seconds or 2) * self.scale) end
function Scene:note_came(seconds) self:note(plain(self:came(seconds))) end

-- Servers take verdicts up beside everything else: what is asked a moment later may overtake one.
function Scene:verdict(message, text)
  self.peer:publish(message.reply, (text:gsub('("delay": )(%d+)', function(name, ns)
    return ("%s%.0f"):format(name, ns * self.scale)
  end)))
  self:pass(0.05)
end

local function only(object, names)
  local kept = {}
  for name in names:gmatch "%S+" do kept[name] = object[name] end
  return kept
end

function Scene:note_state()
  self:note(only(self:api "STREAM.INFO.S".state, "messages first_seq last_seq bytes consumer_count"))
end

function Scene:note_consumer(name)
  local info = self:api("CONSUMER.INFO.S." .. (name or "C"))
  self:note(info.error or {
    only(info, "num_ack_pending num_redelivered num_pending num_waiting"),
    only(info.delivered, "consumer_seq stream_seq"), only(info.ack_floor, "consumer_seq stream_seq"),
  })
end

local ONE = { batch = 1, expires = 1e9 }
local scenarios = require "spec.support.scenarios"(Scene, {
  plain = plain, only = only, ONE = ONE, ACK_WAIT = ACK_WAIT,
})
for _, scenario in ipairs(require "spec.support.scenarios_newer") do scenarios[#scenarios + 1] = scenario end

describe("the broker inside the process", function()
  local real = {}

  setup(function()
    -- Units of a sanitized build run under its library; the server must not.
    real.server = server.start { env = { LD_PRELOAD = false } }
    function real.connect() return raw_client.connect(real.server.port) end
  end)
  teardown(function() real.server:close() end)

  local function run(world, scenario, scale)
    local stage = scene(world, scale)
    local ok, reason = xpcall(scenario, debug.traceback, stage)
    local names = stage:api "STREAM.NAMES".streams
    for _, name in ipairs(type(names) == "table" and names or {}) do
      if type(name) == "string" then stage:api("STREAM.DELETE." .. name) end
    end
    stage:finish()
    if not ok then error(reason, 0) end
    return stage.seen
  end

  -- With what the real one says.
  local function compare(scenario, scale, seen)
    return pcall(function() assert.same(run(real, scenario.run, scale), seen) end)
  end

  -- The API level of the real one's JetStream.
  local function level()
    local stage = scene(real, 1)
    local api = stage:api "INFO".api
    stage:finish()
    return api and api.level or 0
  end

  for _, scenario in ipairs(scenarios) do
    it("is as a nats-server: " .. scenario.name, function()
      if scenario.level and level() < scenario.level then
        pending(("the server has no JetStream of level %d"):format(scenario.level))
        return
      end
      for _, scale in ipairs(SCALES) do
        local inside = broker.start()
        local ok, seen = pcall(run, inside, scenario.run, scale)
        inside:stop()
        assert(ok, seen)
        assert.is_true(#seen > 0, "it saw nothing")
        local same, difference = compare(scenario, scale, seen)
        if same then return end
        if scale == SCALES[#SCALES] then error(difference, 0) end
      end
    end)
  end
end)
