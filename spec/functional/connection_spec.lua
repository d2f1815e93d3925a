local credentials = require "spec.support.credentials"
local server = require "spec.support.server"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local ECHO = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "STORE", subjects = { "store" }, storage = "memory" }
bus.subscribe("echo", function(msg) return msg.data end)
bus.subscribe("keep", function(msg) return tostring(assert(js.publish("store", msg.data)).seq) end)]]

describe("the connection", function()
  local w = world.new()
  after_each(function()
    if w.client then w.client:close() end
    w.client = nil
    w:clear()
    if w.server then w.server:close() end
    w.server = nil
  end)

  local function open(options)
    w.server = server.start(options)
    w.client = w.server:connect()
  end

  local function works(client)
    assert.equal("x", assert(client:request("echo", "x")).data)
    assert.equal("1", assert(client:request("keep", "x")).data)
  end

  describe("to a server that is not up yet", function()
    it("is waited for, and said so", function()
      w.server = server.start { start = false }
      local host = w:start { handlers = { ["echo.lua"] = ECHO } }
      host:wait_log("127%.0%.0%.1:" .. w.server.port)
      assert.is_true(host:running())
      w.server:up()
      host:wait_ready(20)
      w.client = w.server:connect()
      works(w.client)
    end)
  end)

  describe("that is lost", function()
    it("comes back by itself, with every subscription, and logs each change once", function()
      open()
      local host = w:run { handlers = { ["echo.lua"] = ECHO } }
      w.server:down()
      host:wait_log "connection to .* lost"
      wait.holds(function() return host:running() end, 0.5)
      w.server:up()
      host:wait_log("connection back", 15)
      wait.eventually(function()
        return assert(w.client:request("echo", "x", { timeout = 0.5 })).data == "x"
      end, 15)
      for _, text in ipairs { "connection to .* lost", "connection back" } do
        for _, label in ipairs { "consume", "publish" } do
          local events = host:logged(text)
          local of_one = 0
          for _, event in ipairs(events) do
            if event.msg:find(label, 1, true) then of_one = of_one + 1 end
          end
          assert.is_true(of_one <= 1, label .. " logged " .. text .. " " .. of_one .. " times")
        end
        assert.is_true(#host:logged(text) <= 2)
        assert.matches("127%.0%.0%.1:" .. w.server.port, host:logged(text)[1].msg)
      end
    end)

    it("is no program's that a script starts, neither before nor after", function()
      open()
      local host = w:run { files = { ["lib/work.lua"] = [[
return { open = function() return io.popen("ls -l /proc/self/fd"):read "*a" end }]] }, handlers = { ["spec.lua"] = [[
local bus = require "moonbus"
local work = bus.offload "work"
bus.subscribe("open", function() return (work.open()) end)]] } }
      local function inherited()
        local reply = w.client:request("open", "", { timeout = 2 })
        return reply and reply.data
      end
      assert.not_matches("socket:", wait.eventually(inherited))
      w.server:down()
      host:wait_log "connection to .* lost"
      w.server:up()
      host:wait_log("connection back", 15, 2)
      assert.not_matches("socket:", wait.eventually(inherited, 15))
    end)

    it("buffers what is published, up to a bound", function()
      open()
      local host = w:run [[
        local bus = require "moonbus"
        local count = 0
        bus.every("20ms", function()
          count = count + 1
          local ok, err = bus.publish("ticks", tostring(count))
          print(ok and "published" or err.code)
        end)
      ]]
      w.server:down()
      host:wait_log "connection to .* lost"
      local before = #host:logged "published"
      wait.eventually(function() return #host:logged "published" > before + 3 end)
      w.server:up()
      host:wait_log("connection back", 15)
      local ticks = w.server:connect()
      ticks:subscribe("ticks"):take(2, 10)
      ticks:close()
    end)
  end)

  describe("is made with", function()
    local function opens(login, flags)
      w.client = w.server:connect(login)
      w:run { handlers = { ["echo.lua"] = ECHO }, args = flags.args, env = flags.env,
        config = flags.config }
      works(w.client)
    end

    it("a user and a password", function()
      w.server = server.start { config = "authorization { user: ada, password: secret }" }
      local login = { user = "ada", password = "secret" }
      opens(login, { args = { "--user", "ada", "--password", "secret" } })
    end)

    it("a user and a password of the environment", function()
      w.server = server.start { config = "authorization { user: ada, password: secret }" }
      local login = { user = "ada", password = "secret" }
      opens(login, { env = { NATS_USER = "ada", NATS_PASSWORD = "secret" } })
    end)

    it("a user and a password of the config file", function()
      w.server = server.start { config = "authorization { user: ada, password: secret }" }
      opens({ user = "ada", password = "secret" }, {
        config = [[return { auth = { user = "ada", password = secret "PW" } }]],
        env = { PW = "secret" },
      })
    end)

    it("a user and a password in the URL", function()
      w.server = server.start { config = "authorization { user: ada, password: secret }" }
      w.client = w.server:connect { user = "ada", password = "secret" }
      local host = w:run { handlers = { ["echo.lua"] = ECHO }, server = false,
        args = { "-s", ("nats://ada:secret@127.0.0.1:%d"):format(w.server.port) } }
      works(w.client)
      assert.is_nil(host:output():find("ada:secret", 1, true))
    end)

    it("a token", function()
      w.server = server.start { config = 'authorization { token: "hush" }' }
      opens({ token = "hush" }, { args = { "--token", "hush" } })
    end)

    it("an NKey", function()
      local key = credentials.nkey "user"
      w.server = server.start {
        config = ("authorization { users = [ { nkey: %s } ] }"):format(key.public),
      }
      local file = temp.write(w.server.folder, "user.nk", key.seed .. "\n")
      opens({ nkey = file, nkey_public = key.public }, { args = { "--nkey", file } })
    end)

    it("credentials of a decentralised account", function()
      local operator = credentials.operator()
      w.server = server.start { config = operator.config }
      local file = temp.write(w.server.folder, "user.creds", operator.creds)
      opens({ creds = file }, { args = { "--creds", file } })
    end)

    local function tls(verify)
      local folder = credentials.tls(w:folder())
      w.server = server.start { config = ([[
        tls {
          cert_file: "%s/server.pem", key_file: "%s/server-key.pem", ca_file: "%s/ca.pem"
          verify: %s
        }
      ]]):format(folder, folder, folder, tostring(verify)) }
      return folder
    end

    it("TLS", function()
      local folder = tls(false)
      opens({ tls_ca = folder .. "/ca.pem" }, { args = { "--tls-ca", folder .. "/ca.pem" } })
    end)

    it("TLS and a certificate of its own, as the nats command spells it", function()
      local folder = tls(true)
      opens({ tls_ca = folder .. "/ca.pem", tls_cert = folder .. "/client.pem",
        tls_key = folder .. "/client-key.pem" }, { args = { "--tlsca", folder .. "/ca.pem",
        "--tlscert", folder .. "/client.pem", "--tlskey", folder .. "/client-key.pem" } })
    end)

    it("TLS of the environment", function()
      local folder = tls(true)
      opens({ tls_ca = folder .. "/ca.pem", tls_cert = folder .. "/client.pem",
        tls_key = folder .. "/client-key.pem" }, { env = { NATS_CA = folder .. "/ca.pem",
        NATS_CERT = folder .. "/client.pem", NATS_KEY = folder .. "/client-key.pem" } })
    end)

    it("TLS that is not verified, when the config says so", function()
      local folder = tls(false)
      opens({ tls_ca = folder .. "/ca.pem" }, {
        config = [[return { tls = { verify = false } }]],
      })
    end)

    it("an inbox prefix of its own", function()
      w.server = server.start { config = [[
        authorization {
          users = [
            { user: admin, password: a }
            { user: ada, password: a, permissions: {
              publish: ">", subscribe: ["_ADA.>", "echo", "keep"] } }
          ]
        }
      ]] }
      opens({ user = "admin", password = "a" }, {
        args = { "--user", "ada", "--password", "a" },
        config = [[return { inbox_prefix = "_ADA" }]],
      })
    end)
  end)

  describe("with a wrong password", function()
    it("keeps trying, says why, and gets in when it is let in", function()
      w.server = server.start { config = "authorization { user: ada, password: secret }" }
      local host = w:start { handlers = { ["echo.lua"] = ECHO },
        args = { "--user", "ada", "--password", "wrong" } }
      local event = host:wait_log "[Aa]uth"
      assert.is_true(event.level == "warn" or event.level == "error")
      wait.holds(function() return host:running() end, 0.5)
      w.server:down()
      w.server:up "authorization { user: ada, password: wrong }"
      host:wait_ready(20)
      w.client = w.server:connect { user = "ada", password = "wrong" }
      works(w.client)
    end)

    it("ends a command of the client with status 1, and says why", function()
      w.server = server.start { config = "authorization { user: ada, password: secret }" }
      local run = w:cli { "pub", "a", "b", "--user", "ada", "--password", "wrong" }
      assert.equal(1, run.status)
      assert.matches("[Aa]uth", run.stderr)
      assert.is_nil(run.stderr:find("wrong", 1, true))
    end)
  end)

  describe("whose user may not", function()
    local PERMISSIONS = [[
      authorization {
        users = [
          { user: admin, password: a }
          { user: ada, password: a, permissions: { publish: { deny: "forbidden.>" } } }
        ]
      }
    ]]

    it("publish somewhere, is told permission", function()
      w.server = server.start { config = PERMISSIONS }
      w.client = w.server:connect { user = "admin", password = "a" }
      w.client:stream("FORBIDDEN", { "forbidden.>" })
      local host = w:run { handlers = { ["handler.lua"] = [[
        local bus = require "moonbus"
        local js = require "moonbus.jetstream"
        bus.subscribe("try", function()
          local _, err = js.publish("forbidden.x", "x", { timeout = "1s", attempts = 2 })
          local _, err2 = bus.request("forbidden.y", "y", { timeout = "1s" })
          local _, err3 = bus.request_many("forbidden.z", "z", { timeout = "10s" })()
          return err.code .. " " .. err2.code .. " " .. err3.code
        end)
      ]] }, args = { "--user", "ada", "--password", "a" } }
      assert.equal("permission permission permission", w.client:request("try", "").data)
      host:wait_log { msg = "forbidden%.x" }
    end)
  end)

  it("goes to the servers in turn until one answers", function()
    open()
    w:run { handlers = { ["echo.lua"] = ECHO }, server = false,
      args = { "-s", "nats://127.0.0.1:1", "-s", w.server.url } }
    works(w.client)
  end)

  it("uses a JetStream domain", function()
    local started = server.start { jetstream = false, name = "domain",
      config = ('jetstream { store_dir: "%s", domain: "spec" }'):format(w:folder()) }
    w.server = started
    w.client = started:connect()
    w:run { handlers = { ["echo.lua"] = ECHO },
      config = [[return { jetstream = { domain = "spec" } }]] }
    assert.equal("1", w.client:request("keep", "x").data)
  end)

  it("says clearly that JetStream is not there", function()
    open { jetstream = false }
    local host = w:start { handlers = { ["echo.lua"] = ECHO } }
    local event = host:wait_log("JetStream", 15)
    assert.is_true(event.level == "error" or event.level == "warn")
  end)
end)
