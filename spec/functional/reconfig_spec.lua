-- The config file, read anew while the host runs: what may change does, what cannot is said by name
-- and kept; a file that is not good changes nothing.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("the config file on a reload", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- Answers "setting.<name>", counts its runs since it was loaded in "count".
  local HANDLER = [[
local bus = require "moonbus"
local count = 0
bus.subscribe("setting.*", function(msg) return tostring(bus.settings[msg.subject:match "[^.]+$"]) end)
bus.subscribe("count", function() count = count + 1 return tostring(count) end)]]

  local function run(config, more)
    local options = { handlers = { ["handler.lua"] = HANDLER }, config = config, admin = true,
      level = false }
    for key, value in pairs(more or {}) do options[key] = value end
    return w:run(options)
  end

  local function save(host, text, name) temp.write(host.folder, name or "moonbus.lua", text) end

  local function status(host)
    local _, body = posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", "/status")
    return cjson.decode(body)
  end

  local function reload(host)
    return w:moonbus({ "reload", "--admin", host.admin }, { folder = host.folder })
  end

  local function ask(subject) return w.client:request(subject, "").data end

  it("gives new settings to the scripts, as new generations", function()
    local host = run 'return { settings = { colour = "blue" } }'
    assert.equal("blue", ask "setting.colour")
    save(host, 'return { settings = { colour = "red" } }')
    local result = reload(host)
    assert.equal(0, result.status, result.stderr)
    assert.matches("^moonbus%.lua: settings: changed\nhandler%.lua: generation 2 live in %d+ ms\n$",
      result.stdout)
    assert.equal("red", ask "setting.colour")
  end)

  it("touches no script by what is none of its business", function()
    local host = run 'return { log = { level = "info" }, settings = { colour = "blue" } }'
    assert.equal("1", ask "count")
    save(host, [[return { log = { level = "debug" }, request_timeout = "100ms", graceful_timeout = "9s",
      publish = { attempts = 3, timeout = "1s", backoff = { min = "1s", max = "2s" } },
      settings = { colour = "blue" } }]])
    local result = reload(host)
    assert.equal(0, result.status, result.stderr)
    for _, line in ipairs { "request_timeout: 5s -> 100ms", "publish.timeout: 5s -> 1s",
      "publish.attempts: 10 -> 3", "publish.backoff.min: 100ms -> 1s", "publish.backoff.max: 5s -> 2s",
      "graceful_timeout: 25s -> 9s", "log.level: info -> debug" } do
      assert.is_truthy(result.stdout:find("moonbus.lua: " .. line .. "\n", 1, true),
        line .. " in\n" .. result.stdout)
    end
    assert.equal("2", ask "count")
    assert.equal(1, status(host).scripts[1].generation)
    assert.equal("nothing has changed\n", reload(host).stdout)
  end)

  it("follows the log's level and format on SIGHUP, and back", function()
    local host = run('return { log = { level = "error" } }', {
      handlers = { ["handler.lua"] = [[
        local bus = require "moonbus"
        bus.subscribe("log", function() bus.log.debug "a detail" end)]] }, format = false,
      command = "dev", server = false,
      args = { "--nats-port", tostring(posix.free_port()), "--no-watch" } })
    save(host, 'return { log = { level = "debug", format = "json" } }')
    host:signal "HUP"
    host:wait_log "moonbus%.lua: log%.level: error %-> debug"
    save(host, 'return { log = { level = "error" } }')
    host:signal "HUP"
    wait.eventually(function() return status(host).config.reloads == 2 end)
    assert.equal(0, #host:logged "log%.level: debug")
  end)

  it("changes bus.request's timeout while it runs", function()
    local host = run('return { request_timeout = "1m" }', { handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("silent", function() bus.sleep("1h") end)
bus.subscribe("asks", function() local _, err = bus.request("silent", "") return err.code end)]] } })
    save(host, 'return { request_timeout = "50ms", graceful_timeout = "100ms" }')
    assert.equal(0, reload(host).status)
    assert.equal("timeout", ask "asks")
  end)

  local HANGS = [[
local bus = require "moonbus"
bus.subscribe("hang", { timeout = "1h" }, function() bus.publish("hangs", "") bus.sleep("1h") end)]]

  local function hang(host)
    local hangs = w.client:subscribe "hangs"
    w.client:flush()
    w.client:publish("hang", "")
    hangs:take(1)
    return host
  end

  it("bounds the stop by a graceful_timeout that has come since", function()
    local host = hang(run('return { graceful_timeout = "1h" }', { handlers = { ["handler.lua"] = HANGS } }))
    save(host, 'return { graceful_timeout = "300ms" }')
    assert.equal(0, reload(host).status)
    assert.equal(3, host:stop())
  end)

  it("bounds how many generations live by a limits.generations that has come since", function()
    local host = hang(run("return {}", { handlers = { ["handler.lua"] = HANGS } }))
    save(host, "return { limits = { generations = 1 } }")
    assert.equal(0, reload(host).status)
    save(host, HANDLER, "handlers/handler.lua")
    assert.equal(0, reload(host).status)
    wait.eventually(function() return status(host).scripts[1].live_generations == 1 end)
    assert.equal(0, host:stop())
  end)

  it("gives limits to the scripts, as new generations", function()
    local host = run('return { limits = { cpu = "10s", memory = "64MB" } }', {
      handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.script { jit = false } -- for sanitizers' builds, where nothing leaves compiled code
bus.subscribe("burn", function() while true do end end)
bus.subscribe("hoard", function() return tostring(#("x"):rep(8 * 1024 * 1024)) end)]] } })
    assert.equal(tostring(8 * 1024 * 1024), ask "hoard")
    save(host, 'return { limits = { cpu = "100ms", memory = "4MB" } }')
    assert.equal(0, reload(host).status)
    assert.equal(2, status(host).scripts[1].generation)
    local function failure(subject)
      return w.client:request(subject, "").headers["Nats-Service-Error"][1]
    end
    assert.matches("limits%.cpu", failure "burn")
    assert.matches("memory", failure "hoard")
  end)

  it("looks for modules where lib says now", function()
    local host = run('return { lib = { "old/" } }', {
      handlers = { ["handler.lua"] =
        'local m = require "m" require "moonbus".subscribe("where", function() return m end)' },
      files = { ["old/m.lua"] = "return 'old'", ["new/m.lua"] = "return 'new'" } })
    assert.equal("old", ask "where")
    save(host, 'return { lib = { "new/" } }')
    assert.equal(0, reload(host).status)
    assert.equal("new", ask "where")
  end)

  it("loads what handlers leads to now, unloads what it does not, and takes that back", function()
    local function answers(text)
      return ('require "moonbus".subscribe(%q, function() return "here" end)'):format(text)
    end
    local host = run('return { handlers = { "one/" } }', { handlers = {},
      files = { ["one/a.lua"] = answers "a", ["two/b.lua"] = answers "b", ["c.lua"] = answers "c" } })
    assert.equal("here", ask "a")
    save(host, 'return { handlers = { "two/", "c.lua" } }')
    local result = reload(host)
    assert.equal(0, result.status, result.stderr)
    assert.matches("moonbus%.lua: handlers: one/ %-> two/, c%.lua\n", result.stdout)
    assert.matches("a%.lua: the config's handlers no longer lead to it; it is no longer served",
      result.stdout)
    assert.same({ "here", "here" }, { ask "b", ask "c" })
    assert.is_nil((w.client:request("a", "")))
    save(host, 'return { handlers = { "one/", "two/" } }')
    assert.equal(0, reload(host).status)
    assert.same({ "here", "here" }, { ask "a", ask "b" })
    assert.is_nil((w.client:request("c", "")))
  end)

  it("leaves alone what the command line says of handlers", function()
    local host = run('return { handlers = { "one/" } }', { args = { "handlers" },
      files = { ["one/a.lua"] = HANDLER, ["two/a.lua"] = HANDLER } })
    save(host, 'return { handlers = { "two/" } }')
    local result = reload(host)
    assert.equal("moonbus.lua: handlers: one/ -> two/, without effect: the command line says which are "
      .. "served\n", result.stdout)
    assert.equal(1, #status(host).scripts)
    assert.equal("1", ask "count")
  end)

  it("says nothing under dev of servers that it ignores anyway", function()
    local host = run('return { servers = { "nats://one.example" } }', { command = "dev", server = false,
      args = { "--nats-port", tostring(posix.free_port()), "--no-watch" }, level = "debug" })
    save(host, 'return { servers = { "nats://two.example" }, auth = { token = "x" }, jetstream = { domain = "d" } }')
    local result = reload(host)
    assert.same({ 0, "nothing has changed\n" }, { result.status, result.stdout })
    assert.same({}, status(host).config.at_next_start)
  end)

  it("says by name what takes effect at the next start, and keeps it", function()
    local host = run('return { workers = 2, name = "one", auth = { token = "old" } }')
    save(host, 'return { workers = 4, name = "two", auth = { token = "new" } }')
    local result = reload(host)
    assert.equal(0, result.status, result.stderr)
    assert.equal([[
moonbus.lua: name: one -> two takes effect at the next start
moonbus.lua: auth.token: changed takes effect at the next start
moonbus.lua: workers: 2 -> 4 takes effect at the next start
]], result.stdout)
    assert.same({ 2, 3 }, { status(host).workers, #status(host).config.at_next_start })
    local told = w:moonbus({ "status", "--admin", host.admin }, { folder = host.folder })
    assert.matches("moonbus%.lua: workers: 2 %-> 4 takes effect at the next start\n", told.stdout)
    assert.equal("nothing has changed\n", reload(host).stdout)
    save(host, 'return { workers = 3, name = "one", auth = { token = "old" } }')
    assert.equal([[
moonbus.lua: name: two -> one, as it runs
moonbus.lua: auth.token: changed, as it runs
moonbus.lua: workers: 2 -> 3 takes effect at the next start
]], reload(host).stdout)
    assert.same({ "workers: 2 -> 3 takes effect at the next start" }, status(host).config.at_next_start)
  end)

  it("that is broken refuses the reload with file and line, and everything runs on", function()
    local host = run 'return { settings = { colour = "blue" } }'
    local function refused(text, pattern)
      save(host, text)
      local result = reload(host)
      assert.equal(1, result.status)
      assert.matches("\nmoonbus%.lua: refused, the settings stay as they are: " .. pattern,
        "\n" .. result.stderr)
      assert.matches(pattern, status(host).config.last_error)
      assert.equal("blue", ask "setting.colour")
    end
    save(host, HANDLER .. "\n-- new", "handlers/handler.lua")
    refused("return {\n  workers = = 2 }", "moonbus%.lua:2: unexpected symbol")
    refused('return { worker = 2 }', 'moonbus%.lua: unknown key "worker"')
    refused('return { workers = 2, settings = { colour = "red" }, limits = { cpu = "soon" } }',
      "moonbus%.lua: limits%.cpu: ")
    refused('return { handlers = { "nowhere/" }, settings = { colour = "red" } }',
      "moonbus%.lua: handlers: nowhere/: No such file")
    assert.equal(1, status(host).scripts[1].generation) -- the scripts wait for a config that is good
    assert.equal(4, status(host).config.refused)
    save(host, 'return { settings = { colour = "red" } }')
    assert.equal(0, reload(host).status)
    assert.is_nil(status(host).config.last_error)
    assert.equal("red", ask "setting.colour")
  end)

  it("that never ends, or hoards memory, is refused, and delays no message", function()
    local host = run 'return { settings = { colour = "blue" } }'
    for text, pattern in pairs {
      ["while true do pcall(function() while true do end end) end"] =
        "moonbus%.lua:1: still loading after 5s",
      [ [[local x = (("a"):rep(40000)):find((".-"):rep(20) .. "b")]] ] = "moonbus%.lua: still loading after 5s",
      ["local t = {} while true do t[#t + 1] = #t .. ('x'):rep(1e6) end"] = "moonbus%.lua: not enough memory",
    } do
      save(host, text)
      host:signal "HUP"
      local longest = 0
      wait.eventually(function()
        local began = wait.now()
        assert.equal("blue", ask "setting.colour")
        longest = math.max(longest, wait.now() - began)
        return (status(host).config.last_error or ""):find(pattern)
      end, 15)
      assert.is_true(longest < wait.within(1), longest)
    end
  end)

  it("that is gone is refused", function()
    local host = run 'return { settings = { colour = "blue" } }'
    os.remove(host.folder .. "/moonbus.lua")
    local result = reload(host)
    assert.equal(1, result.status)
    assert.equal("moonbus.lua: refused, the settings stay as they are: the file is gone\n", result.stderr)
    assert.equal("blue", ask "setting.colour")
  end)

  it("may come only now", function()
    local host = run()
    save(host, 'return { settings = { colour = "late" } }')
    assert.equal(0, reload(host).status)
    assert.equal("late", ask "setting.colour")
  end)

  it("yields to flags and to the environment, as at start", function()
    local host = run('return { log = { level = "info" }, settings = { colour = "blue" } }',
      { level = "debug", env = { MOONBUS_SETTINGS = '{"colour":"green"}', MOONBUS_REQUEST_TIMEOUT = "3s" } })
    save(host, 'return { log = { level = "warn" }, settings = { colour = "red" }, request_timeout = "1s" }')
    assert.equal("nothing has changed\n", reload(host).stdout)
    assert.equal("green", ask "setting.colour")
  end)

  it("reads the files of secret() anew, and never tells them", function()
    local host = run('return { admin_token = secret "TOKEN", settings = { key = secret "KEY" } }',
      { files = { ["token"] = "first\n", ["key"] = "alpha\n" },
        env = { TOKEN_FILE = "token", KEY_FILE = "key" } })
    assert.equal("alpha", ask "setting.key")
    save(host, "beta\n", "key")
    save(host, "second\n", "token")
    host:signal "HUP"
    wait.eventually(function() return ask "setting.key" == "beta" end)
    local port = tonumber(host.admin:match ":(%d+)$")
    assert.equal(401, (posix.http(port, "POST", "/reload", "Authorization: Bearer first\r\n")))
    assert.equal(200, (posix.http(port, "POST", "/reload", "Authorization: Bearer second\r\n")))
    host:wait_log "moonbus%.lua: admin_token: changed"
    for _, secret in ipairs { "first", "second", "alpha", "beta" } do
      assert.is_nil(host:output():find(secret, 1, true))
    end
  end)

  describe("with --watch", function()
    it("is read when it changes, by renaming too, and not when it is only touched", function()
      local host = run('return { settings = { colour = "blue" } }', { args = { "--watch" } })
      save(host, 'return { settings = { colour = "red" } }', "moonbus.lua.new")
      os.rename(host.folder .. "/moonbus.lua.new", host.folder .. "/moonbus.lua")
      wait.eventually(function() return ask "setting.colour" == "red" end)
      save(host, 'return { settings = { colour = "red" } }')
      save(host, "return {")
      wait.eventually(function() return status(host).config.refused == 1 end)
      save(host, 'return { settings = { colour = "green" } }')
      wait.eventually(function() return ask "setting.colour" == "green" end)
      assert.equal(3, status(host).scripts[1].generation)
    end)

    it("stops watching and begins to, as the file says", function()
      local host = run 'return { watch = false }'
      local function answer(text)
        save(host, ('require "moonbus".subscribe("v", function() return %q end)'):format(text),
          "handlers/handler.lua")
      end
      save(host, 'return { watch = true }')
      assert.equal(0, reload(host).status)
      answer "one"
      wait.eventually(function() return (w.client:request("v", "") or {}).data == "one" end)
      save(host, 'return { watch = false }')
      host:wait_log "moonbus%.lua: watch: true %-> false"
      answer "two"
      assert.equal(0, reload(host).status)
      assert.equal("two", ask "v")
    end)

    it("watches the folders that handlers leads to now", function()
      local host = run('return { handlers = { "one" } }', { handlers = {}, args = { "--watch" },
        files = { ["one/a.lua"] = HANDLER, ["two/b.lua"] = "" } })
      save(host, 'return { handlers = { "two" } }')
      host:wait_log "b%.lua: generation 1 live"
      save(host, 'require "moonbus".subscribe("b", function() return "here" end)', "two/b.lua")
      host:wait_log "b%.lua: generation 2 live"
      assert.equal("here", ask "b")
    end)
  end)
end)
