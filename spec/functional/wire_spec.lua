-- Which way messages go: over a socket of the host's own, or through nats.c.
local credentials = require "spec.support.credentials"
local posix = require "spec.support.posix"
local proxy = require "spec.support.proxy"
local server = require "spec.support.server"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local ECHO = [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)
bus.subscribe("twice", function(msg) return bus.request("echo", msg.data .. msg.data).data end)
bus.subscribe("code", function(msg)
  local _, err = bus.request("echo", msg.data .. msg.data, { timeout = "1m" })
  return err and err.code or "none"
end)]]

local FAST = 'reconnect = { wait = "20ms", max_wait = "50ms", jitter = 0 }'

describe("the wire", function()
  local w = world.new()
  local between
  setup(function() w:open() end)
  after_each(function()
    w:clear()
    if between then between:close() end
    between = nil
  end)
  teardown(function() w:close() end)

  local function run(options)
    options.handlers = { ["echo.lua"] = ECHO }
    options.env = options.env or {}
    options.env.MOONBUS_WIRE, options.wire = options.wire or "auto", nil
    options.admin = true
    return w:run(options)
  end

  local function behind(config)
    between = proxy.start(w.server)
    return run { server = between, config = ("return { %s, %s }"):format(FAST, config or 'ping_interval = "5s"') }
  end

  local function status(host, key)
    local _, body = posix.http(tonumber(host.admin:match "%d+$"), "GET", "/status")
    return require "cjson".decode(body)[key]
  end

  -- Soon: right after a loss the server may still take the old connection for the subscriber.
  local function works()
    wait.eventually(function()
      local reply = w.client:request("twice", "ab", { timeout = 0.5 })
      return reply and reply.data == "abab"
    end)
  end

  local function is(host, name)
    assert.same({ consume = name, publish = name }, status(host, "wire"))
    works()
  end

  it("is the host's own", function()
    local host = run {}
    is(host, "own")
    local shown = w:moonbus({ "status", "--admin", host.admin }).stdout
    assert.matches("connections: consume connected %(own wire%), publish connected %(own wire%)", shown)
    assert.same({}, host:logged { level = "warn" })
  end)

  it("goes through nats.c when the config says so", function()
    is(run { wire = "nats.c" }, "nats.c")
  end)

  it("goes through nats.c where there is TLS, whether the host asks for it or the server does", function()
    local folder = w:folder()
    local made = credentials.tls(folder)
    local tls = server.start { config = ('tls { cert_file: "%s/server.pem", key_file: "%s/server-key.pem" }')
      :format(made, made) }
    finally(function() tls:close() end)
    local trusted = ('return { tls = { ca = "%s/ca.pem" } }'):format(made)
    for _, config in ipairs { trusted, "return { tls = { verify = false } }" } do
      local host = run { server = tls, config = config }
      assert.same({ consume = "nats.c", publish = "nats.c" }, status(host, "wire"))
      assert.same({}, host:logged { level = "warn" })
    end
  end)

  for odd, why in pairs { events = "it knows no event loops", socket = "it does not use its descriptor" } do
    it("goes through a nats.c with which it cannot be the host's own: " .. why, function()
      local library = os.getenv "MOONBUS_UNITS":gsub("units.so$", "odd_library.so")
      if not io.open(library) then return pending "a sanitizer bears no library before others" end
      local host = run { env = { LD_PRELOAD = library, ODD_LIBRARY = odd } }
      is(host, "nats.c")
      local told = host:logged { level = "warn", msg = "cannot be taken from nats.c" }
      assert.equal(2, #told) -- of each connection, once
      assert.matches(why, told[1].msg, 1, true)
    end)
  end

  it("says of a connection that is cut what is true, though somebody had asked how slow the server is", function()
    between = proxy.start(w.server)
    between:delay(20)
    local host = run { server = between, config = "return { " .. FAST .. " }" }
    posix.http(tonumber(host.admin:match "%d+$"), "GET", "/metrics") -- asks; the PONG comes later than is waited for
    wait.holds(function() return #host:logged "connection to .* lost" == 0 end, 1.5)
    between:reset()
    for _, label in ipairs { "consume", "publish" } do
      assert.matches("closed by the server or the network", host:wait_log(label .. " connection to .* lost").msg)
    end
    between:pass()
    works()
  end)

  it("ends a connection that speaks no NATS any more, says so, and makes another one", function()
    local host = behind()
    between:say "HTTP/1.1 400 Bad Request\\r\\n"
    host:wait_log { level = "warn",
      msg = "consume connection to .* lost: what it sends is not NATS: an operation that is none" }
    host:wait_log { level = "info", msg = "consume connection back" }
    works()
    is(host, "own")
  end)

  it("takes no message of a length that cannot be, and none that does not end where it should", function()
    local host = behind()
    for _, text in ipairs { "MSG echo 1 99999999999\\r\\n", "MSG echo 1 1\\r\\nabc\\r\\n" } do
      between:say(text)
      host:wait_log { msg = "consume connection to .* lost: what it sends is not NATS: a message" }
      host:wait_log { level = "info", msg = "consume connection back" }
      works()
    end
  end)

  it("goes through nats.c when one connection after the other speaks no NATS at once", function()
    local host = behind()
    local count = 0
    wait.eventually(function()
      between:say "nonsense\\r\\n"
      count = count + 1
      return #host:logged { level = "warn", msg = "cannot be taken from nats.c" } == 2
    end, 60)
    wait.eventually(function() return status(host, "wire").consume == "nats.c" end)
    works()
  end)

  it("takes what the network brings in pieces, and what of it is large", function()
    local host = behind()
    between:delay(1)
    for _, size in ipairs { 0, 1, 1000, 16384, 40000, 500000 } do
      local data = ("x"):rep(size)
      assert.equal(data .. data, w.client:request("twice", data).data)
    end
    is(host, "own")
  end)

  it("hears of a bound that the server changes while it is connected", function()
    local host = behind()
    between:say 'INFO {"server_id":"x","version":"2.9.10","headers":true,"max_payload":100}\\r\\n'
    wait.eventually(function()
      return w.client:request("code", ("x"):rep(60), { timeout = 0.5 }).data == "too_large"
    end)
    works()
    -- The handler, unless the other connection hears of it first: then who answers it.
    for _, event in ipairs(host:logged { level = "error" }) do assert.equal("too_large", event.code) end
  end)

  it("bears a network that takes most of a second there and back", function()
    between = proxy.start(w.server)
    between:delay(350)
    local host = w:start { handlers = { ["echo.lua"] = ECHO }, server = between }
    host:wait_ready(30)
    assert.equal("abab", w.client:request("twice", "ab", { timeout = 10 }).data)
    local began = wait.now()
    assert.equal(0, host:stop())
    assert.is_true(wait.now() - began < wait.within(10))
    assert.same({}, host:logged { level = "warn" })
  end)
end)
