-- A stream with `no_ack` confirms nothing: nobody can tell whether what was published to it is
-- stored, and no retry changes that.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a stream that confirms nothing", function()
  local w = world.new()
  setup(function() w:open() end)
  before_each(function()
    w.client:stream("QUIET", { "quiet.>" }, { no_ack = true })
    w.client:stream("IN", { "in.>" })
    w.client:stream("DEAD", { "dead.>" })
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function script(body)
    return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.consume("IN", { durable = "worker", dead_letter = "dead.x", attempts = 2, backoff = { min = "50ms" } },
  function(msg)
%s
end)]]):format(body)
  end

  local function count(stream) return w.client:stream_info(stream).state.messages end

  it("gives js.publish no_ack, which says what to do", function()
    local host = w:run(script [[
    local receipt, err = js.publish("quiet.x", msg.data, { timeout = "200ms" })
    bus.log.info(tostring(receipt) .. " " .. err.code .. " " .. err.message)]])
    w.client:store("in.x", "1")
    host:wait_log('^nil no_ack "quiet%.x": stream QUIET confirms nothing %(no_ack%): .*nats stream edit QUIET %-%-ack')
    assert.equal(1, count "QUIET")
  end)

  it("gives no_ack also when there is one attempt only", function()
    local host = w:run(script [[
    local receipt, err = js.publish("quiet.x", msg.data, { timeout = "200ms", attempts = 1 })
    bus.log.info(tostring(receipt) .. " " .. err.code)]])
    w.client:store("in.x", "1")
    host:wait_log "^nil no_ack$"
  end)

  it("sends no input to the dead letter: no other run would know more", function()
    local host = w:run(script [[
    js.publish("quiet.x", msg.data, { timeout = "200ms" })]])
    for i = 1, 3 do w.client:store("in.x", tostring(i)) end
    w.client:await_settled("IN", "worker", 10)
    assert.equal(3, count "QUIET")
    assert.equal(0, count "DEAD")
    assert.equal(1, #host:logged { level = "warn", msg = "stream QUIET confirms nothing" })
    assert.same({}, host:logged { level = "error" })
  end)

  it("fails the input if the handler says so", function()
    w:run(script [[
    return js.publish("quiet.x", msg.data, { timeout = "200ms" })]])
    w.client:store("in.x", "1")
    w.client:await_stored("DEAD", 1, 10)
    assert.equal("no_ack", w.client:message("DEAD", 1):header "Moonbus-Code")
  end)

  it("is refused for dead letters at start", function()
    local failed = w:fail((script "" :gsub("dead%.x", "quiet.dead")))
    assert.equal(2, failed.status)
    assert.matches('handler%.lua:2: IN/worker: stream \\"QUIET\\" takes the dead_letter subject \\"quiet%.dead\\", ' ..
      'but confirms nothing %(no_ack%).*nats stream edit QUIET %-%-ack', failed.output)
  end)

  it("is not refused, but warned of, when it drops dead letters for which there is no consumer", function()
    w.client:delete_stream "DEAD"
    w.client:stream("DEAD", { "dead.>" }, { retention = "interest" })
    local host = w:run(script "")
    host:wait_log { level = "warn", msg = '^dead letters to "dead%.x" go to stream DEAD, which keeps only' }
  end)

  it("takes bus.publish as any other", function()
    w:run(script [[ bus.publish("quiet.x", msg.data) ]])
    w.client:store("in.x", "1")
    wait.eventually(function() return count "QUIET" == 1 end)
    w.client:await_settled("IN", "worker")
  end)
end)
