-- A stream of three replicas that was full: nats-server 2.10 keeps the ids of what it could not store
-- as ids that it knows, and answers "duplicate" for them until its duplicate_window is over.
local cluster = require "spec.support.cluster"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("an output stream of three replicas that was full", function()
  local w = world.new()
  before_each(function()
    w.server = cluster.start(3)
    w.client = w.server:connect()
  end)
  after_each(function()
    w:clear()
    w:close()
  end)

  it("has each output once when it has room again, and no input is in the dead letter", function()
    local settings = { name = "OUT", subjects = { "out.>" }, storage = "memory", num_replicas = 3, max_msgs = 1,
      discard = "new", duplicate_window = 6e9 }
    w.client:stream("OUT", settings.subjects, settings)
    for name, subject in pairs { IN = "in.>", DEAD = "dead.>" } do w.client:stream(name, { subject }) end
    w.client:store("out.x", "the one that fills it")
    local host = w:run { config = 'return { publish = { attempts = 2, backoff = { min = "50ms", max = "500ms" } } }',
      handlers = { ["handler.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.consume("IN", { durable = "worker", dead_letter = "dead.x", attempts = 4, backoff = { min = "1s", max = "1s" } },
  function(msg)
    bus.log.info "run"
    js.publish("out.x", msg.data)
  end)]] } }
    w.client:store("in.x", "output")
    wait.eventually(function()
      return #host:logged "was not stored" + #host:logged "a known fault of nats%-server" > 0
    end, 10, function() return host:explain() end)
    settings.max_msgs = 10
    assert.is_nil(w.client:api("STREAM.UPDATE.OUT", settings).error)
    wait.eventually(function() return w.client:settled("IN", "worker") end, 40, function() return host:explain() end)
    assert.equal(0, w.client:stream_info("DEAD").state.messages, host:explain())
    local messages = w.client:messages "OUT"
    assert.same({ 2, "output" }, { #messages, messages[2].data })
  end)
end)
