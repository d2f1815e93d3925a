local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- Answers with one of its settings, and with nothing else.
local SETTINGS = [[
local bus = require "moonbus"
bus.subscribe("setting.*", function(msg)
  return tostring(bus.settings[msg.subject:match("[^.]+$")])
end)
]]

describe("the config file", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function refused(config, ...)
    local failed = w:fail { handlers = { ["settings.lua"] = SETTINGS }, config = config }
    assert.equal(2, failed.status, failed.output)
    for _, text in ipairs { ... } do
      assert.is_truthy(failed.stderr:find(text, 1, true), text .. " in\n" .. failed.stderr)
    end
    return failed
  end

  local function connection_name(host)
    return wait.eventually(function()
      for _, connection in ipairs(w.server:monitor("connz").connections) do
        if connection.name and connection.name ~= "" then return connection.name end
      end
    end, 5, function() return host:explain() end)
  end

  it("is moonbus.lua in the folder where the host starts", function()
    w:run { handlers = { ["settings.lua"] = SETTINGS },
      config = [[return { settings = { colour = "blue" } }]] }
    assert.equal("blue", w.client:request("setting.colour", "").data)
  end)

  it("may be another file", function()
    w:run { handlers = { ["settings.lua"] = SETTINGS }, args = { "-c", "conf/other.lua" },
      files = { ["conf/other.lua"] = [[
        return { handlers = { "../handlers" }, settings = { colour = "red" } }
      ]] } }
    assert.equal("red", w.client:request("setting.colour", "").data)
  end)

  it("is not needed", function()
    w:run { handlers = { ["settings.lua"] = SETTINGS } }
    assert.equal("nil", w.client:request("setting.colour", "").data)
  end)

  it("says which folders hold handlers and modules", function()
    w:run {
      files = {
        ["src/a.lua"] = [[
          local shout = require "shout"
          require "moonbus".subscribe("shout", function(msg) return shout(msg.data) end)
        ]],
        ["shared/shout.lua"] = [[return function(text) return text:upper() .. "!" end]],
      },
      config = [[return { handlers = { "src/" }, lib = { "shared/" } }]],
    }
    assert.equal("HEY!", w.client:request("shout", "hey").data)
  end)

  it("gives the connections their name", function()
    local host = w:run { handlers = { ["settings.lua"] = SETTINGS },
      config = [[return { name = "billing-host" }]] }
    assert.matches("billing%-host", connection_name(host))
  end)

  it("takes every key of the contract", function()
    local host = w:run {
      handlers = { ["settings.lua"] = SETTINGS },
      config = [[
        return {
          name     = "moonbus",
          jetstream = { domain = nil, api_prefix = nil },  inbox_prefix = "_SPEC",
          handlers = { "handlers/" },
          lib      = { "lib/" },
          workers  = 2,
          connect_timeout  = "5s",
          ping_interval    = "5s",  max_pings_out = 2, wire = "auto",
          reconnect        = { wait = "250ms", max_wait = "5s", jitter = "100ms" },
          request_timeout  = "5s",
          publish          = { timeout = "5s", attempts = 10, backoff = { min = "100ms", max = 5 } },
          graceful_timeout = "25s",
          http     = { max_per_host = 256 },
          limits   = { memory = "64MB", cpu = "5s", offload_threads = 4, max_stuck = 3, generations = 8 },
          watch    = false,
          admin    = "off",
          log      = { level = "info", format = "auto" },
          settings = { anything = "is for handlers" },
        }
      ]],
    }
    assert.equal("is for handlers", w.client:request("setting.anything", "").data)
    assert.same({}, host:logged { level = "error" })
  end)

  it("may bound the memory by more than a machine has", function()
    w:run { handlers = { ["settings.lua"] = SETTINGS },
      config = [[return { limits = { memory = "9223372036854775807" }, settings = { a = "b" } }]] }
    assert.equal("b", w.client:request("setting.a", "").data)
  end)

  it("may write a size as any number of bytes", function()
    w:run { handlers = { ["settings.lua"] = SETTINGS },
      config = [[return { limits = { memory = 2 ^ 50 }, settings = { a = "b" } }]] }
    assert.equal("b", w.client:request("setting.a", "").data)
  end)

  it("may add to what strings can do", function()
    w:run { handlers = { ["settings.lua"] = SETTINGS }, config = [[
      function string.twice(text) return text .. text end
      return { settings = { a = ("b"):twice() } }]] }
    assert.equal("bb", w.client:request("setting.a", "").data)
  end)

  describe("is refused", function()
    it("with a syntax error, by file and line", function()
      refused("return {\n  workers = = 2,\n}\n", "moonbus.lua:2")
    end)

    it("when it raises, by file and line", function()
      refused("local nothing\nreturn { name = nothing.name }\n", "moonbus.lua:2")
    end)

    it("when it gives no table", function()
      refused("workers = 2", "moonbus.lua", "table")
      refused("return 42", "moonbus.lua", "table")
    end)

    it("with a key that does not exist, by file and key", function()
      refused([[return { worker = 2 }]], "moonbus.lua", "worker")
      refused([[return { reconnect = { pause = "1s" } }]], "moonbus.lua", "reconnect.pause")
    end)

    it("with the likely key for a misspelled one", function()
      refused([[return { gracefull_timeout = "1s" }]], "gracefull_timeout", "graceful_timeout")
    end)

    it("with a value of the wrong type, by key and type", function()
      refused([[return { workers = "two" }]], "moonbus.lua", "workers", "two")
      refused([[return { servers = 4222 }]], "moonbus.lua", "servers")
      refused([[return { watch = "yes" }]], "moonbus.lua", "watch")
      refused([[return { log = "debug" }]], "moonbus.lua", "log")
    end)

    it("with a value out of range, and what is allowed", function()
      refused([[return { workers = 0 }]], "moonbus.lua", "workers", "1")
      refused([[return { workers = 1.5 }]], "moonbus.lua", "workers")
      refused([[return { max_pings_out = -1 }]], "moonbus.lua", "max_pings_out")
      refused([[return { log = { level = "loud" } }]], "log.level", "loud", "debug")
      refused([[return { wire = "own" }]], "wire", "own", "auto", "nats.c")
    end)

    it("with a bad duration, and the form that is wanted", function()
      refused([[return { graceful_timeout = "5 minutes" }]], "graceful_timeout", "5 minutes", "5s")
      refused([[return { ping_interval = -1 }]], "ping_interval")
      refused([[return { request_timeout = 5000000000 }]], "request_timeout", "nanoseconds")
    end)

    it("with a bad size, and the form that is wanted", function()
      refused([[return { limits = { memory = "lots" } }]], "limits.memory", "lots", "64MB")
    end)

    it("with a bad URL", function()
      local failed = w:fail { handlers = { ["settings.lua"] = SETTINGS }, server = false,
        config = [[return { servers = { "tcp://127.0.0.1" } }]] }
      assert.equal(2, failed.status)
      assert.matches("tcp://127%.0%.0%.1", failed.stderr)
    end)

    it("with a URL or an address that holds what nobody sees", function()
      refused('return { servers = { "nats://a\\0b" } }', "moonbus.lua", "servers", "URL")
      refused('return { servers = { "nats://u\\n:p@b" } }', "moonbus.lua", "servers", "URL")
      refused('return { admin = "a\\0b:80" }', "moonbus.lua", "admin", "ADDR:PORT")
    end)

    it("with a list that has a hole", function()
      refused('return { servers = { "a", nil, "b" } }', "moonbus.lua", "servers", "[2] is nil")
    end)

    it("with settings that handlers could not read", function()
      refused('return { settings = { deep = { name = "\\255" } } }', "settings.deep.name", "UTF-8")
      refused('return { settings = { ["\\255"] = 1 } }', "settings", "UTF-8")
      refused([[
        local top = {}
        local at = top
        for _ = 1, 200 do at.x = {} at = at.x end
        return { settings = top }]], "settings", "128 deep")
      for _, json in ipairs { '{"a":NaN}', '{"a":"\255"}', "[1]", "{", "7" } do
        local failed = w:fail { handlers = { ["settings.lua"] = SETTINGS },
          env = { MOONBUS_SETTINGS = json } }
        assert.equal(2, failed.status)
        assert.matches("MOONBUS_SETTINGS: must be a JSON object", failed.stderr, 1, true)
      end
    end)

    it("by the name of the file, whatever it raises and whatever its keys say of themselves", function()
      refused("error({})", "moonbus.lua", "raised a table")
      refused('error(setmetatable({}, { __tostring = function() error "x" end }))', "moonbus.lua")
      refused('error("plain", 0)', "moonbus.lua", "plain")
      refused('return { [setmetatable({}, { __tostring = function() return 1 end })] = 2 }',
        "moonbus.lua", "unknown key", "a table")
    end)

    it("in the same words after it has changed what strings can do", function()
      refused([[
        string.format, string.find, table.concat = nil, nil, nil
        local meta = getmetatable ""
        if meta then meta.__index = nil end
        return { worker = 2 }]], "moonbus.lua", "worker", "workers")
    end)

    it("with two ways to reach JetStream", function()
      refused([[return { jetstream = { domain = "a", api_prefix = "b" } }]], "jetstream")
    end)

    it("with a prefix that leaves no room for names behind it", function()
      for key, config in pairs {
        ["jetstream.api_prefix"] = "return { jetstream = { api_prefix = %q } }",
        ["inbox_prefix"] = "return { inbox_prefix = %q }",
      } do
        refused(config:format(("a"):rep(256)), "moonbus.lua: " .. key .. ": must be at most 255 bytes, not 256")
      end
    end)

    it("but not one of 255 bytes, behind which everything works", function()
      w:run { config = ("return { inbox_prefix = %q }"):format(("a"):rep(255)), handlers = { ["handler.lua"] = [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.stream { name = ("s"):rep(200), subjects = { "in" }, storage = "memory" }
        js.consume(("s"):rep(200), { durable = ("d"):rep(200) }, function(msg) bus.publish("done", msg.data) end)
        bus.subscribe("echo", function(msg) return msg.data end)
        bus.subscribe("ask", function(msg) return bus.request("echo", msg.data).data end)]] } }
      local done = w.client:subscribe "done"
      assert.equal("text", w.client:request("ask", "text").data)
      w.client:store("in", "stored")
      assert.equal("stored", done:next(10).data)
    end)

    it("when it reaches for what a config has no use for", function()
      refused([[return { name = io.open("/etc/hostname"):read() }]], "moonbus.lua:1")
      refused([[os.execute "true" return {}]], "moonbus.lua:1")
      refused([[require "ffi" return {}]], "moonbus.lua:1")
    end)
  end)

  describe("env()", function()
    it("reads the environment, or its default", function()
      w:run { handlers = { ["settings.lua"] = SETTINGS },
        config = [[return { settings = { a = env("COLOUR"), b = env("SHADE", "dark") } }]],
        env = { COLOUR = "green" } }
      assert.equal("green", w.client:request("setting.a", "").data)
      assert.equal("dark", w.client:request("setting.b", "").data)
    end)

    it("raises without the variable and a default, by file and line", function()
      refused("return {\n  name = env \"NO_SUCH_VARIABLE\",\n}", "moonbus.lua:2",
        "NO_SUCH_VARIABLE")
    end)
  end)

  describe("secret()", function()
    local HANDLER = { ["settings.lua"] = SETTINGS }
    local CONFIG = [[return { auth = { token = secret("TOKEN") } }]]

    it("reads the variable", function()
      local host = w:run { handlers = HANDLER, config = CONFIG, env = { TOKEN = "hush-hush" } }
      assert.is_nil(host:output():find("hush-hush", 1, true))
    end)

    it("reads the file that NAME_FILE names, without its last line break", function()
      local folder = w:folder()
      temp.write(folder, "token", "blue\n")
      w:run { handlers = HANDLER, env = { TOKEN_FILE = folder .. "/token" },
        config = [[return { settings = { colour = secret("TOKEN") } }]] }
      assert.equal("blue", w.client:request("setting.colour", "").data)
    end)

    it("raises when there is neither, by file and line", function()
      refused(CONFIG, "moonbus.lua:1", "TOKEN", "TOKEN_FILE")
    end)

    it("names a file that cannot be read", function()
      local failed = w:fail { handlers = HANDLER, config = CONFIG,
        env = { TOKEN_FILE = "/nowhere/token" } }
      assert.equal(2, failed.status)
      assert.matches("/nowhere/token", failed.stderr)
    end)

    it("is never printed, not even in an error about it", function()
      local failed = w:fail { handlers = HANDLER, env = { TOKEN = "hush-hush" },
        config = [[return { workers = secret("TOKEN") }]] }
      assert.equal(2, failed.status)
      assert.is_nil(failed.output:find("hush-hush", 1, true))
    end)
  end)

  describe("precedence", function()
    local function name_of(options)
      options.handlers = { ["settings.lua"] = SETTINGS }
      return connection_name(w:run(options))
    end

    it("puts the environment above the file, and the file above the default", function()
      assert.matches("^moonbus", name_of {})
      w:clear()
      assert.matches("from%-file", name_of { config = [[return { name = "from-file" }]] })
      w:clear()
      assert.matches("from%-env", name_of { config = [[return { name = "from-file" }]],
        env = { MOONBUS_NAME = "from-env" } })
    end)

    it("puts a flag above everything", function()
      local host = w:run { handlers = { ["settings.lua"] = SETTINGS }, level = "warn",
        config = [[return { log = { level = "debug" } }]], env = { MOONBUS_LOG_LEVEL = "info" },
        args = { "--log-level", "debug" } }
      host:wait_log { level = "info", msg = "ready in" }
    end)

    it("reaches every leaf by its variable", function()
      local failed = w:fail { handlers = { ["settings.lua"] = SETTINGS },
        env = { MOONBUS_LIMITS_MEMORY = "lots" } }
      assert.equal(2, failed.status)
      assert.matches("MOONBUS_LIMITS_MEMORY", failed.stderr)
      assert.matches("64MB", failed.stderr)
    end)

    it("takes a list by comma", function()
      w:run { files = {
        ["a/a.lua"] = [[require "moonbus".subscribe("a", function() return "yes" end)]],
        ["b/b.lua"] = [[require "moonbus".subscribe("b", function() return "yes" end)]],
      }, env = { MOONBUS_HANDLERS = "a,b" } }
      assert.equal("yes", w.client:request("a", "").data)
      assert.equal("yes", w.client:request("b", "").data)
    end)

    it("names a variable of ours that means nothing", function()
      local host = w:run { handlers = { ["settings.lua"] = SETTINGS },
        env = { MOONBUS_WROKERS = "2" } }
      host:wait_log { level = "warn", msg = "MOONBUS_WROKERS" }
    end)

    it("ignores what Kubernetes sets for a service called moonbus", function()
      local host = w:run { handlers = { ["settings.lua"] = SETTINGS }, env = {
        MOONBUS_PORT = "tcp://10.0.0.1:8223", MOONBUS_PORT_8223_TCP = "tcp://10.0.0.1:8223",
        MOONBUS_SERVICE_HOST = "10.0.0.1", MOONBUS_SERVICE_PORT = "8223",
      } }
      assert.same({}, host:logged "MOONBUS_")
    end)
  end)
end)
