-- An answer of JetStream that is lost with its connection is asked for again on the next one: nobody
-- waits until the deadline of something that can be asked twice.
local proxy = require "spec.support.proxy"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("an answer that is lost with its connection", function()
  local w = world.new()
  local between
  setup(function() w:open() end)
  before_each(function() between = proxy.start(w.server) end)
  after_each(function()
    w:clear()
    between:close()
  end)
  teardown(function() w:close() end)

  local function run(handler)
    return w:run { server = between, handlers = { ["handler.lua"] = handler },
      config = [[return { inbox_prefix = "_SPEC" }]] }
  end

  local CONSUME = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in" }, storage = "memory" }
js.consume("IN", { durable = "worker" }, function(msg) bus.log.info("got " .. msg.data) end)]]

  for what, answer in pairs { ["of a deleted durable"] = "consumer_info_response",
    ["of its stream"] = "stream_info_response", ["to its creation"] = "consumer_create_response" } do
    it("when it was that " .. what .. ", holds the consumer up for no longer than the reconnect",
      function()
        local host = run(CONSUME)
        w.client:store("in", "before")
        host:wait_log "got before"
        between:cut_at(what == "of a deleted durable" and "consumer not found" or answer)
        local began = wait.now()
        w.client:delete_consumer("IN", "worker")
        w.client:store("in", "after")
        host:wait_log("publish connection to .* lost", 5)
        host:wait_log("got after", 8)
        assert.is_true(wait.now() - began < wait.within(2), ("%.1f s"):format(wait.now() - began))
      end)
  end

  it("when it was the confirmation of an ack, does not fail the ack", function()
    local host = run [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in" }, storage = "memory" }
js.consume("IN", { durable = "worker" }, function(msg)
  bus.log.info "about to ack"
  bus.sleep "200ms"
  local began = bus.now()
  local ok, err = msg:ack { sync = true }
  bus.log.info(("acked: %s after %.1f s"):format(ok or err.code, bus.now() - began))
end)]]
    w.client:store("in", "x")
    host:wait_log "about to ack"
    between:cut_at "_SPEC"
    local event = host:wait_log("acked:", 8)
    assert.equal(1, #host:logged "connection to .* lost")
    assert.matches("acked: true", event.msg)
    assert.is_true(tonumber(event.msg:match "after ([%d.]+)") < wait.within(1), event.msg)
  end)
end)
