-- A proxy between the host and NATS, as a service mesh puts one there: it comes late and goes early, it
-- takes its time, it resets connections, and it may wait for a client that waits for the server.
local posix = require "spec.support.posix"
local proxy = require "spec.support.proxy"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a host behind a sidecar", function()
  local w, sidecar = world.new(), nil
  setup(function()
    w:open()
    sidecar = proxy.start(w.server)
  end)
  after_each(function()
    sidecar:pass()
    w:clear()
  end)
  teardown(function()
    sidecar:close()
    w:close()
  end)

  local COPIES = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" }, storage = "memory" }
js.stream { name = "OUT", subjects = { "out.>" }, storage = "memory" }
js.consume("IN", { durable = "copy", concurrency = 32, ack_wait = "%s", attempts = 50,
  backoff = { min = "20ms", max = "100ms", jitter = 0 } }, function(msg)
  bus.sleep "5ms"
  js.publish("out.x", msg.data)
end)
bus.subscribe("greet", function() return "hello" end)]]

  -- What is lost on its way to the host comes again after ack_wait.
  local function behind(config, ack_wait)
    return w:start { server = sidecar, handlers = { ["copies.lua"] = COPIES:format(ack_wait or "1s") },
      config = config, admin = true }
  end

  local function readyz(host) return posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", "/readyz") end
  local function healthz(host) return (posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", "/healthz")) end

  -- Each message of IN is in OUT, once.
  local function copied(count)
    w.client:await_settled("IN", "copy", 20)
    assert.equal(count, w.client:stream_info("OUT").state.messages)
  end

  it("that is not there yet waits for it, healthy and not ready, and serves when it is there", function()
    sidecar:down()
    local host = behind()
    wait.eventually(function() return readyz(host) == 503 end)
    assert.equal(200, healthz(host))
    sidecar:pass()
    host:wait_ready()
    assert.equal("hello", w.client:request("greet", "").data)
  end)

  it("that waits for the client to speak first says what the server owes, and tries again", function()
    sidecar:swallow()
    local host = behind 'return { connect_timeout = "300ms" }'
    local _, body
    wait.eventually(function()
      _, body = readyz(host)
      return body and body:find("it takes connections, but does not end the handshake", 1, true)
    end, 20, function() return tostring(body) end) -- what it says of a first try depends on when the sidecar stopped
    assert.equal(200, healthz(host))
    sidecar:pass()
    host:wait_ready()
  end)

  it("that adds 200 ms to each round trip loses no ping, and nothing runs twice", function()
    sidecar:delay(100)
    local host = behind('return { ping_interval = "500ms" }', "30s")
    host:wait_ready(20)
    for i = 1, 100 do w.client:store("in.x", tostring(i)) end
    copied(100)
    assert.same({}, host:logged "connection .*lost")
    assert.equal(0, w.client:consumer_info("IN", "copy").num_redelivered)
  end)

  it("that adds more than the pings allow is taken for a server that is lost, and so it goes on", function()
    sidecar:delay(300)
    local host = behind 'return { ping_interval = "100ms", max_pings_out = 2 }'
    host:wait_log("connection to .* lost", 20)
  end)

  it("whose connections are reset again and again copies each message once", function()
    local host = behind()
    host:wait_ready()
    for i = 1, 400 do w.client:store("in.x", tostring(i)) end
    for round = 1, 3 do
      wait.eventually(function() return w.client:stream_info("OUT").state.messages > 80 * round end, 20)
      sidecar:reset()
    end
    copied(400)
    for _, connection in ipairs { "consume", "publish" } do
      assert.is_truthy(host:logged(connection .. " connection to .* lost")[1])
    end
  end)

  it("that ends first is no reason to hang: the stop keeps its deadline", function()
    local host = behind 'return { graceful_timeout = "1s" }'
    host:wait_ready()
    for i = 1, 200 do w.client:store("in.x", tostring(i)) end
    wait.eventually(function() return w.client:stream_info("OUT").state.messages > 10 end)
    sidecar:down()
    local began = wait.now()
    host:signal "TERM"
    host:wait(10)
    assert.is_true(wait.now() - began < wait.within(1))
    -- What it held comes to the next one.
    sidecar:pass()
    behind():wait_ready()
    wait.eventually(function() return w.client:stream_info("OUT").state.messages == 200 end, 45)
  end)
end)
