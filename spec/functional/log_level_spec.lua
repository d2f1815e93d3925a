-- How much the log says, changed while the host runs.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("the level of the log", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local ECHO = [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)]]

  local function run(config)
    return w:run { handlers = { ["echo.lua"] = ECHO }, config = config, admin = true, level = false }
  end

  local function ask(host, method, path)
    local status, body = posix.http(tonumber(host.admin:match ":(%d+)$"), method, path)
    return status, cjson.decode(body)
  end

  local function log_level(host, ...)
    return w:moonbus({ "log-level", "--admin", host.admin, ... }, { folder = host.folder })
  end

  -- Is a message a line of the log now?
  local function tells_each(host)
    local before = #host:logged { msg = "^handled in", handler = "echo" }
    w.client:request("echo", "x")
    if select(2, ask(host, "GET", "/log")).level ~= "debug" then
      return #host:logged { msg = "^handled in", handler = "echo" } > before
    end
    host:wait_log({ msg = "^handled in", handler = "echo" }, 5, before + 1)
    return true
  end

  it("is changed by POST /log, and asked for by GET", function()
    local host = run()
    assert.same({ level = "info", configured = "info", format = "json" }, select(2, ask(host, "GET", "/log")))
    assert.is_false(tells_each(host))
    local status, body = ask(host, "POST", "/log?level=debug")
    assert.same({ 200, "debug", "info" }, { status, body.level, body.configured })
    host:wait_log { level = "info", msg = "^log%.level: info %-> debug, by POST /log$" }
    assert.is_true(tells_each(host))
    assert.same({ level = "debug", configured = "info", format = "json" }, select(2, ask(host, "GET", "/status")).log)
    for _, path in ipairs { "/log", "/log?level=", "/log?level=loud", "/log?level=DEBUG" } do
      status, body = ask(host, "POST", path)
      assert.equal(400, status)
      assert.matches("debug, info, warn, error or off", body.error)
    end
    assert.equal("debug", select(2, ask(host, "GET", "/log")).level)
    assert.equal(200, (ask(host, "POST", "/log?level=warn")))
    host:wait_log { level = "info", msg = "^log%.level: debug %-> warn, by POST /log$" }
    assert.is_false(tells_each(host))
  end)

  it("is changed by moonbus log-level, which tells the present one", function()
    local host = run()
    local result = log_level(host)
    assert.same({ 0, "info\n" }, { result.status, result.stdout })
    result = log_level(host, "debug")
    assert.same({ 0, "debug (configured: info)\n" }, { result.status, result.stdout })
    assert.is_true(tells_each(host))
    result = w:moonbus({ "status", "--admin", host.admin }, { folder = host.folder })
    assert.matches("\nlog: level debug, configured is info\n", result.stdout)
    result = log_level(host, "loud")
    assert.equal(2, result.status)
    assert.matches('LEVEL must be debug, info, warn, error or off, not "loud"', result.stderr)
    assert.equal("info\n", log_level(host, "info").stdout)
  end)

  it("is toggled by SIGUSR1: debug, and again what is configured", function()
    local host = run()
    ask(host, "POST", "/log?level=warn")
    host:signal "USR1"
    host:wait_log "^log%.level: warn %-> debug, by SIGUSR1$"
    assert.is_true(tells_each(host))
    host:signal "USR1"
    host:wait_log "^log%.level: debug %-> info, by SIGUSR1$"
    wait.eventually(function() return select(2, ask(host, "GET", "/log")).level == "info" end)
    assert.is_false(tells_each(host))
  end)

  it("follows the config file when that says another one, and else stays as it was set", function()
    local host = run 'return { log = { level = "info" } }'
    local function reload(config)
      temp.write(host.folder, "moonbus.lua", config)
      local result = w:moonbus({ "reload", "--admin", host.admin }, { folder = host.folder })
      assert.equal(0, result.status, result.stderr)
      return select(2, ask(host, "GET", "/log"))
    end
    ask(host, "POST", "/log?level=debug")
    assert.equal("debug", reload('return { log = { level = "info" }, request_timeout = "3s" }').level)
    assert.same({ "error", "error" }, (function(log) return { log.level, log.configured } end)(
      reload 'return { log = { level = "error" } }'))
    assert.equal("info", reload('return { log = { level = "info" } }').level)
    assert.is_false(tells_each(host))
  end)
end)
