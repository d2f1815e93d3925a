-- A subscription that the server refuses to the user of the host: the handler gets nothing, so the
-- host is not ready, says which, and tries again.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local server = require "spec.support.server"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local USERS = [[
authorization {
  users = [
    { user: admin, password: a }
    { user: ada, password: a, permissions: { publish: ">", subscribe: { deny: [%s] } } }
  ]
}]]

local HANDLERS = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("open", function() return "open" end)
bus.subscribe("secret.a", function() return "secret" end)
bus.subscribe("secret.b", { queue = "workers" }, function() return "secret" end)]] }

describe("a subscription that the server refuses", function()
  local w = world.new()
  after_each(function()
    if w.client then w.client:close() end
    w.client = nil
    w:clear()
    w.server:close()
  end)

  local host

  local function open(deny)
    w.server = server.start { config = USERS:format(deny), jetstream = false }
    w.client = w.server:connect { user = "admin", password = "a" }
    host = w:run { handlers = HANDLERS, args = { "--user", "ada", "--password", "a" }, admin = true }
  end

  local function get(path)
    local status, body = posix.http(tonumber(host.admin:match "%d+$"), "GET", path)
    return status, body
  end

  local function refused()
    local _, body = get "/status"
    local list = {}
    for _, each in ipairs(cjson.decode(body).refused) do
      list[#list + 1] = each.connection .. " " .. each.subject .. " " .. (each.queue or "-")
    end
    table.sort(list)
    return list
  end

  local function is_red()
    local status, body = get "/readyz"
    return status == 503 and body:find('subscription to \\"secret.a\\"', 1, true) ~= nil
  end

  local function is_green() return (get "/readyz") == 200 end

  local function answers()
    return assert(w.client:request("secret.a", "", { timeout = 0.5 })).data == "secret"
  end

  -- The server's own reload, of other permissions; its clients stay.
  local function permit(deny)
    w.server.config = USERS:format(deny)
    temp.write(w.server.folder, "server.conf",
      ("listen: 127.0.0.1:%d\nhttp: 127.0.0.1:%d\nserver_name: %s\n%s\n"):format(w.server.port,
        w.server.monitor_port, w.server.name, w.server.config))
    w.server.process:signal "HUP"
    wait.eventually(function() return w.server.process:stderr():find "Reloaded server config" end)
  end

  it("is red in /readyz, listed in the status, and logged once", function()
    open '"secret.>"'
    wait.eventually(is_red)
    assert.same({ "consume secret.a -", "consume secret.b workers" }, refused())
    assert.equal(1, #host:logged { level = "error", msg = 'Subscription to "secret%.a"' })
    assert.equal("open", w.client:request("open", "").data)
    assert.matches('refused: the subscription to "secret.a"',
      w:moonbus({ "status", "--admin", host.admin }).stdout)
  end)

  it("is tried again on the next connection, and green when the server takes it", function()
    open '"secret.>"'
    wait.eventually(is_red)
    w.server:restart()
    host:wait_log("connection back", 15, 2)
    wait.holds(is_red, 1)
    w.server:down()
    w.server:up(USERS:format '"nothing"')
    wait.eventually(is_green, 15)
    assert.same({}, refused())
    wait.eventually(answers)
  end)

  it("is tried again by a reload, on the same connection", function()
    open '"secret.>"'
    wait.eventually(is_red)
    host:signal "HUP"
    host:wait_log "nothing has changed"
    wait.holds(is_red, 1)
    permit '"nothing"'
    host:signal "HUP"
    wait.eventually(is_green)
    wait.eventually(answers)
    assert.equal(0, #host:logged "connection to .* lost")
  end)

  it("may have been taken before", function()
    open '"nothing"'
    assert.is_true(is_green())
    permit '"secret.>"'
    wait.eventually(is_red)
  end)

  it("does not flood the log, however many there are", function()
    local handlers = {}
    for number = 1, 200 do
      handlers[number] = ('require "moonbus".subscribe("secret.%d", print)'):format(number)
    end
    w.server = server.start { config = USERS:format '"secret.>"', jetstream = false }
    host = w:run { handlers = { ["handler.lua"] = table.concat(handlers, "\n") },
      args = { "--user", "ada", "--password", "a" }, admin = true }
    wait.eventually(function() return #refused() == 200 end)
    assert.is_true(#host:logged "[Pp]ermission" <= 40)
    assert.equal(1, #host:logged "more permission errors")
  end)

  it("to $SRV leaves a service unfound: warned of once, and it serves", function()
    w.server = server.start { config = USERS:format '"$SRV.>"', jetstream = false }
    w.client = w.server:connect { user = "admin", password = "a" }
    host = w:run { args = { "--user", "ada", "--password", "a" }, admin = true, handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
for _, name in ipairs { "one", "two" } do
  bus.service { name = name, version = "1.0.0" }:endpoint(name, function() return name end)
end]] } }
    host:wait_log { level = "warn", msg = "nobody finds this process's services" }
    assert.equal("one", w.client:request("one", "").data)
    assert.equal("two", w.client:request("two", "").data)
    assert.is_nil(w.client:request("$SRV.PING", "", { timeout = 0.2 }))
    assert.same({}, refused())
    assert.equal(200, (get "/readyz"))
    local warnings = 0
    for _, event in ipairs(host:events()) do
      if event.msg:find("Permissions Violation", 1, true) then warnings = warnings + 1 end
    end
    assert.equal(1, warnings)
  end)
end)
