-- With two of three servers of a cluster down: what has never served, and what serves already.
-- Beside quorum_spec.lua, so that they run side by side.
local quorum = require "spec.support.quorum"
local temp = require "spec.support.temp"

describe("with two of three servers down", function()
  local three = quorum.new()
  local w = three.world
  before_each(function() three:open() end)
  after_each(function() three:close() end)

  it("a first start waits, too, and makes its streams when there is a leader", function()
    three:lose_two()
    local host = w:start(three.handler())
    three.goes_on_waiting(host)
    three:both_back()
    host:wait_ready(60)
    three:handles(host, "second")
  end)

  it("a reload is refused for now, and goes live by itself when there is a leader", function()
    local host = w:run { handlers = { ["handler.lua"] = three.handler() }, admin = true }
    three:handles(host, "first")
    three:lose_two()
    temp.write(host.folder, "handlers/handler.lua", three.handler("9s", " anew"))
    local result = w:moonbus({ "reload", "--admin", host.admin }, { deadline = 30 })
    assert.equal(1, result.status, result.stdout .. result.stderr)
    assert.matches("generation 1 keeps running", result.stderr)
    three:both_back()
    host:wait_log("handler%.lua: generation %d+ live", 90)
    three:handles(host, "second")
    assert.equal(9e9, w.client:consumer_info("IN", "worker").config.ack_wait)
  end)
end)
