-- Why a connection is not made: said once, in words that tell what to do, at the start and while the
-- host reconnects; and files that were renewed meanwhile are read again.
local credentials = require "spec.support.credentials"
local posix = require "spec.support.posix"
local proxy = require "spec.support.proxy"
local server = require "spec.support.server"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local ECHO = [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)]]

describe("a connection that is not made", function()
  local w = world.new()
  local folder, host
  local made -- once: openssl takes its time
  setup(function() made = credentials.tls(temp.folder()) end)
  before_each(function()
    folder = w:folder()
    for _, name in ipairs { "ca", "server", "server-key", "client", "client-key" } do
      temp.write(folder, name .. ".pem", temp.read(("%s/%s.pem"):format(made, name)))
    end
  end)
  teardown(function() temp.remove(made) end)
  after_each(function()
    if w.client then w.client:close() end
    w.client = nil
    w:clear()
    if w.server then w.server:close() end
    w.server = nil
  end)

  local function tls(verify)
    return ('tls { cert_file: "%s/server.pem", key_file: "%s/server-key.pem", ca_file: "%s/ca.pem"\n'
      .. "verify: %s }"):format(folder, folder, folder, tostring(verify))
  end

  local CA = function() return { "--tls-ca", folder .. "/ca.pem" } end
  local ALL = function()
    return { "--tls-ca", folder .. "/ca.pem", "--tls-cert", folder .. "/client.pem", "--tls-key",
      folder .. "/client-key.pem" }
  end

  local function start(arguments, url)
    local list = { "-s", url or w.server.url }
    for _, argument in ipairs(arguments) do list[#list + 1] = argument end
    host = w:start { handlers = { ["echo.lua"] = ECHO }, server = false, args = list, admin = true,
      config = [[return { connect_timeout = "2s", reconnect = { wait = "20ms", max_wait = "50ms", jitter = 0 } }]] }
  end

  -- It stands in the log, once for each connection, and in /readyz; and never as nats.c has it.
  local function says(reason)
    host:wait_log({ level = "warn", msg = reason }, 10, 2)
    wait.holds(function() return #host:logged(reason) == 2 end, 0.3)
    local _, body = posix.http(tonumber(host.admin:match "%d+$"), "GET", "/readyz")
    assert.matches(reason, body)
    assert.is_nil(host:output():find("PONG", 1, true))
  end

  local function command_says(reason, arguments, url)
    local command = { "pub", "a", "b", "-s", url or w.server.url }
    for _, argument in ipairs(arguments) do command[#command + 1] = argument end
    local run = w:moonbus(command)
    assert.equal(1, run.status)
    assert.matches(reason, run.stderr)
    assert.is_nil(run.stderr:find("PONG", 1, true))
  end

  describe("tells that", function()
    it("the server wants a client certificate", function()
      w.server = server.start { config = tls(true) }
      start(CA())
      says "the server wants a client certificate"
      command_says("the server wants a client certificate", CA())
    end)

    it("the client certificate expired", function()
      credentials.tls(folder, { client = 0 })
      w.server = server.start { config = tls(true) }
      start(ALL())
      says "certificate expired: that of the client"
      command_says("certificate expired: that of the client", ALL())
    end)

    it("the client certificate is signed by somebody whom the server does not know", function()
      w.server = server.start { config = tls(true) }
      local other = credentials.tls(w:folder())
      local arguments = { "--tls-ca", folder .. "/ca.pem", "--tls-cert", other .. "/client.pem",
        "--tls-key", other .. "/client-key.pem" }
      start(arguments)
      says "client certificate in tls%.cert"
      command_says("client certificate in tls%.cert", arguments)
    end)

    it("the server's certificate expired", function()
      credentials.tls(folder, { server = 0 })
      w.server = server.start { config = tls(false) }
      start(CA())
      says "certificate expired: that of the server"
      command_says("certificate expired: that of the server", CA())
    end)

    it("the server's certificate is signed by nobody that is trusted", function()
      w.server = server.start { config = tls(false) }
      start {}
      says "signed by no authority that is trusted here"
      command_says("signed by no authority that is trusted here", {})
    end)

    it("the server's certificate is of another name", function()
      w.server = server.start { config = tls(false) }
      local url = ("tls://127.0.0.2:%d"):format(w.server.port)
      w.server.config = "listen: 0.0.0.0:" .. w.server.port .. "\n" .. w.server.config
      w.server:restart()
      start(CA(), url)
      says "is not for \\?\"127%.0%.0%.2\\?\""
    end)

    it("the server offers no TLS", function()
      w.server = server.start()
      start(CA())
      says "the server does not offer it"
      command_says("the server does not offer it", CA())
    end)

    it("it is not NATS at this port", function()
      w.server = server.start()
      local http = ("nats://127.0.0.1:%d"):format(w.server.monitor_port)
      w.server.url = http
      start {}
      says "not NATS at this port"
    end)

    it("nobody knows the name", function()
      w.server = server.start { start = false }
      -- Too long for DNS, so nobody is asked, who may take his time.
      local url = ("nats://%s.invalid:4222"):format(("no-such-host-"):rep(5) .. "x")
      start({}, url)
      says "its name is not known"
      command_says("its name is not known", {}, url)
    end)
  end)

  describe("while the host reconnects", function()
    it("tells why, once, and gets in with certificates that were renewed", function()
      w.server = server.start { config = tls(true) }
      start(ALL())
      host:wait_ready()
      w.server:down()
      host:wait_log("connection to .* lost", 5, 2)
      credentials.tls(folder, { client = 0 }) -- and of a new authority
      w.server:up()
      says "certificate expired: that of the client"
      credentials.tls(folder)
      w.server:restart()
      host:wait_log("connection back", 15, 2)
      w.client = w.server:connect { tls_ca = folder .. "/ca.pem", tls_cert = folder .. "/client.pem",
        tls_key = folder .. "/client-key.pem" }
      wait.eventually(function()
        return assert(w.client:request("echo", "x", { timeout = 0.5 })).data == "x"
      end)
    end)

    it("tells of files that do not fit together, and reads them again", function()
      w.server = server.start { config = tls(true) }
      start(ALL())
      host:wait_ready()
      w.server:down()
      host:wait_log("connection to .* lost", 5, 2)
      os.rename(folder .. "/client-key.pem", folder .. "/kept.pem")
      w.server:up()
      says "tls%.key: cannot read"
      os.rename(folder .. "/kept.pem", folder .. "/client-key.pem")
      host:wait_log("connection back", 15, 2)
    end)
  end)

  it("asks for the server by its name (SNI)", function()
    w.server = server.start { config = tls(false) }
    local between = proxy.start(w.server)
    finally(function() between:close() end)
    between:look_for "localhost"
    start(CA(), ("tls://localhost:%d"):format(between.port))
    host:wait_ready()
    assert.is_true(between:seen())
  end)
end)
