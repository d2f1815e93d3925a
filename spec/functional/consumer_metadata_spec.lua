-- Metadata of a durable that its script states, and a durable that somebody pauses.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a durable", function()
  local w = world.new()
  local release
  setup(function()
    w:open()
    release = tonumber(w.server:monitor "varz".version:match "^2%.(%d+)")
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function script(metadata)
    return ([[
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" } }
js.consume("IN", { durable = "worker", dead_letter = false, consumer = { metadata = %s } }, function() end)]])
      :format(metadata)
  end

  local function metadata() return w.client:consumer_info("IN", "worker").config.metadata end

  it("has the metadata that its script states, keeps what is beside them, and is told changes", function()
    if release < 10 then return end
    local host = w:run(script '{ team = "billing", tier = "gold" }')
    local function told() return { metadata().team, metadata().tier, metadata()["moonbus.script"] } end
    assert.same({ "billing", "gold", "handler.lua" }, told())
    host:stop(20)
    host = w:run(script '{ team = "sales" }')
    assert.same({ "sales", "gold", "handler.lua" }, told())
    assert.same({}, host:logged { level = "error" })
  end)

  it("needs texts for its metadata, and no names of others", function()
    for text, wrong in pairs {
      ["consumer.metadata: expected strings by name"] = "{ tier = 1 }",
      ["is not a script's to set"] = '{ ["moonbus.script"] = "other.lua" }',
      ["begin others' names"] = '{ ["_nats.ver"] = "1" }',
    } do
      local result = w:fail(script(wrong))
      assert.equal(2, result.status)
      assert.is_truthy(result.output:find(text, 1, true), result.output)
      assert.is_truthy(result.output:find('"line":3', 1, true), result.output)
    end
  end)

  it("that is paused is shown so, with the time until when, and the host is ready", function()
    if release < 11 then return end
    local host = w:run { admin = true, handlers = { ["handler.lua"] = script "{}" } }
    local port = tonumber(host.admin:match "%d+$")
    local function handler() return cjson.decode((posix.http_get(port, "/status"))).scripts[1].handlers[1] end
    assert.is_false(handler().paused)
    w.client:api("CONSUMER.PAUSE.IN.worker", { pause_until = "2099-01-02T03:04:05Z" })
    w.client:store("in.x", "1")
    wait.eventually(function() return handler().paused end, 60)
    assert.equal("2099-01-02T03:04:05Z", handler().paused_until)
    assert.matches("\n    paused on the server until 2099%-01%-02T03:04:05Z\n",
      w:moonbus({ "status", "--admin", host.admin }).stdout)
    assert.equal(200, (posix.http(port, "GET", "/readyz")))
    w.client:api("CONSUMER.PAUSE.IN.worker", {})
    wait.eventually(function() return not handler().paused end, 60)
    assert.is_nil(handler().paused_until)
  end)
end)
