local cluster = require "spec.support.cluster"
local faulty = require "spec.support.faulty"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local pick = faulty.pick
local INPUTS, ROUNDS = 500, pick(1, 10)

describe("a cluster of three, with streams of three replicas", function()
  local w = world.new()
  before_each(function()
    w.server = cluster.start(3)
    w.client = w.server:connect()
  end)
  after_each(function()
    w:clear()
    w:close()
  end)

  local host

  local function explain() return host:explain():sub(-4000) end

  local stored

  local function streams()
    local settings = { storage = "file", num_replicas = 3, duplicate_window = 600e9 }
    for name, subject in pairs { IN = "in.>", OUT = "out.>", DEAD = "dead.>" } do
      w.client:stream(name, { subject }, settings)
    end
    w.client:consumer("IN", "worker", { ack_wait = 5e9, max_ack_pending = 10000 })
    stored, host = 0, nil
  end

  local function run()
    return w:run { level = "info", handlers = { ["handler.lua"] = [[
      local bus = require "moonbus"
      local js = require "moonbus.jetstream"
      js.consume("IN", { durable = "worker", ack_wait = "5s", concurrency = 16, attempts = 3,
        dead_letter = "dead.x" }, function(msg)
        bus.log.info(("run %d %d %.4f"):format(msg.sequence, msg.attempt, bus.now()))
        bus.sleep "100ms"
        js.publish("out.x", msg.data)
        bus.log.info(("done %d"):format(msg.sequence))
      end)]] } }
  end

  -- More inputs than can be done by the time that they are stored; the host is in the middle of them.
  local function at_work()
    for _ = 1, INPUTS do
      stored = stored + 1
      w.client:store("in.x", tostring(stored), { ["Nats-Msg-Id"] = tostring(stored) })
    end
    host = host or run()
    wait.eventually(function() return faulty.runs(host).ended > stored - INPUTS + 50 end, 30, explain)
    assert.is_false(w.client:settled("IN", "worker"))
  end

  -- A server dies, more than what was held already gets done, and the server comes back.
  local function lose(victim)
    victim:down "KILL"
    local before = faulty.runs(host).ended
    wait.eventually(function() return faulty.runs(host).ended > before + 32 end, 30, explain)
    victim:up()
  end

  local function all_done_once()
    wait.eventually(function() return w.client:settled("IN", "worker") end, pick(60, 300), explain)
    -- Who leads now may have confirmed more than it has written.
    wait.eventually(function() return w.client:stream_info "OUT".state.messages >= stored end, 20)
    local times, doubled = {}, {}
    for _, message in ipairs(w.client:messages "OUT") do
      if times[message.data] then
        table.insert(doubled, message.data .. " as " .. message:header "Nats-Msg-Id")
      end
      times[message.data] = true
    end
    for index = 1, stored do assert.is_true(times[tostring(index)], index .. " is lost") end
    assert.same({}, doubled)
    assert.equal(stored, w.client:stream_info("IN").state.messages)
    assert.equal(0, w.client:stream_info("DEAD").state.messages)
    local runs = faulty.runs(host)
    assert.equal(0, runs.overlapping)
    assert.equal(stored, runs.begun)
  end

  local function whole()
    for _, stream in ipairs { "IN", "OUT", "DEAD" } do w.server:whole(stream) end
    w.server:whole("IN", "worker")
  end

  it("loses and doubles nothing when who leads all of it is killed under load", function()
    streams()
    for round = 1, ROUNDS do
      if round > 1 then whole() end
      local victim = w.server:leader(round % 2 == 1 and "IN" or "OUT")
      if round % 2 == 1 then
        w.server:led_by(victim, "IN", "worker")
        w.server:led_by(victim, "OUT")
      end
      at_work()
      lose(victim)
    end
    all_done_once()
  end)
end)
