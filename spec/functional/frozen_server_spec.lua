-- A server that freezes while it is connected to: it accepts, says its INFO, and nothing more. nats.c
-- before 3.8 would wait for it without sleeping, for ever.
local posix = require "spec.support.posix"
local proxy = require "spec.support.proxy"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local ECHO = [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)]]

describe("a server that freezes between INFO and PONG", function()
  local w = world.new()
  local between
  setup(function() w:open() end)
  before_each(function() between = proxy.start(w.server) end)
  after_each(function()
    w:clear()
    between:close()
  end)
  teardown(function() w:close() end)

  local function options()
    return { server = between, handlers = { ["echo.lua"] = ECHO }, admin = true,
      config = [[return { connect_timeout = "500ms" }]] }
  end

  local function echoes()
    return assert(w.client:request("echo", "x", { timeout = 0.5 })).data == "x"
  end

  -- While it is tried again and again.
  local function stays_idle(host)
    local cpu, began = host:cpu_seconds(), wait.now()
    wait.holds(function() return host:running() end, 2)
    local share = (host:cpu_seconds() - cpu) / (wait.now() - began)
    assert.is_true(share < 0.2, ("%.0f %% of a CPU"):format(share * 100))
    assert.is_true(host:memory_mb() < 100 * wait.slow)
  end

  local function stops_at_once(host)
    local began = wait.now()
    assert.equal(0, host:stop(20))
    assert.is_true(wait.now() - began < wait.within(2), ("%.1f s"):format(wait.now() - began))
  end

  describe("at the start", function()
    it("is given up after connect_timeout, said so, and tried again", function()
      between:greet()
      local host = w:start(options())
      local event = host:wait_log("does not end the handshake within 0%.5s", 5)
      assert.equal("warn", event.level)
      stays_idle(host)
      local ready = posix.http_get(tonumber(host.admin:match "%d+$"), "/readyz")
      assert.matches("does not end the handshake", ready)
      between:pass()
      host:wait_ready(10)
      assert.is_true(echoes())
    end)

    it("holds up no stop", function()
      between:greet()
      local host = w:start(options())
      host:wait_log("does not end the handshake", 5)
      stops_at_once(host)
    end)
  end)

  describe("at a reconnect", function()
    local COMPLAINT = "does not end the handshake within 0%.5s"

    -- What it said of the start, on a busy machine, does not count.
    local function freeze(host)
      local before = #host:logged(COMPLAINT)
      between:greet()
      host:wait_log "consume connection to .* lost"
      host:wait_log "publish connection to .* lost"
      host:wait_log(COMPLAINT, 5, before + 1)
    end

    it("is given up after connect_timeout, said so, and tried again", function()
      local host = w:run(options())
      freeze(host)
      stays_idle(host)
      between:pass()
      wait.eventually(echoes, 10)
    end)

    it("holds up no stop", function()
      local asks = w.client:subscribe "$JS.API.STREAM.NAMES"
      local host = w:run(options())
      assert.is_truthy(asks:next()) -- whether a stream stores what the script listens to
      assert.is_true(echoes())
      freeze(host)
      stops_at_once(host)
    end)
  end)

  it("ends a command of the client, which says why", function()
    between:greet()
    local began = wait.now()
    local run = w:moonbus({ "pub", "a", "b", "-s", between.url },
      { env = { MOONBUS_CONNECT_TIMEOUT = "500ms" } })
    assert.equal(1, run.status)
    assert.matches("does not end the handshake", run.stderr)
    assert.is_true(wait.now() - began < wait.within(3))
  end)
end)
