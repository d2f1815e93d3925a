-- What the server's JetStream can do is asked for on each connect, by the prefix that is configured.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("the API level of JetStream", function()
  local w = world.new { config = [[
accounts {
  A { jetstream: enabled, users = [
    { user: all, password: all }
    { user: blind, password: blind, permissions { publish { deny: "$JS.API.INFO" } } }
  ], exports: [ { service: "$JS.API.>" } ] }
  B { users = [{ user: other, password: other }]
      imports: [ { service: { account: A, subject: "$JS.API.>" }, to: "hub.api.>" } ] }
}]], login = { user = "all", password = "all" } }
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local SCRIPT = 'require "moonbus".subscribe("x", function() end)'
  local RELEASES = { [0] = "2.9", "2.11", "2.12", "2.14", "2.14", "2.15" }

  local function run(user, config)
    return w:run { handlers = { ["x.lua"] = SCRIPT }, args = { "--user", user, "--password", user }, config = config,
      admin = true }
  end

  local function status(host)
    return cjson.decode((posix.http_get(tonumber(host.admin:match "%d+$"), "/status")))
  end

  local function known(host)
    return wait.eventually(function() return status(host).jetstream.api_level end)
  end

  local function of_server()
    return w.client:api "INFO".api.level or 0
  end

  it("is in the status, with the release that it belongs to", function()
    local host = run "all"
    assert.equal(of_server(), known(host))
    assert.equal(RELEASES[of_server()], status(host).jetstream.nats_server)
    local shown = w:moonbus { "status", "--admin", host.admin }
    assert.matches(("jetstream: API level %d (nats-server %s"):format(of_server(), RELEASES[of_server()]),
      shown.stdout, 1, true)
  end)

  it("is asked for by the prefix of an account that imports JetStream", function()
    local host = run("other", [[return { jetstream = { api_prefix = "hub.api" } }]])
    assert.equal(of_server(), known(host))
  end)

  it("is asked for again when the connection comes back", function()
    local host = run "all"
    known(host)
    local asked = w.client:subscribe "$JS.API.INFO"
    w.server:down()
    w.server:up()
    asked:take(1, 10)
    wait.eventually(function() return status(host).connections.publish == "connected" end, 10)
    assert.equal(of_server(), known(host))
  end)

  it("is not known to a user who may not ask, and nothing complains of that", function()
    local host = run "blind"
    assert.is_nil(status(host).jetstream.api_level)
    host:stop()
    assert.same({}, host:logged { level = "error" })
    assert.same({}, host:logged { level = "warn" })
  end)
end)
