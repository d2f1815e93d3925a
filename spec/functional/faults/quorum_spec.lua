-- A cluster of three of which two are down has no leader: what needs one is waited for, as a server
-- that is not there, and nobody needs to start anything anew when it is back. It takes a cluster long
-- to notice, and to come back, so all of this is of one loss.
local quorum = require "spec.support.quorum"
local temp = require "spec.support.temp"

describe("with two of three servers down", function()
  local three = quorum.new()
  local w = three.world
  local serves, again, new -- hosts: one that goes on, one whose streams are there, and a first start
  setup(function()
    three:open()
    serves = w:run { handlers = { ["handler.lua"] = three.handler "serves" }, admin = true }
    three:handles(serves, "serves", "first")
    local before = w:run(three.handler "again")
    three:handles(before, "again", "first")
    assert.equal(0, before:stop())
    three:lose_two()
    again, new = w:start(three.handler "again"), w:start(three.handler "new")
  end)
  teardown(function() three:close() end)

  it("a start that waits is ended by a signal, in order", function()
    local host = w:start(three.handler "again")
    host:wait_log({ level = "warn", msg = "cannot serve yet" }, 30)
    assert.equal(0, host:stop())
  end)

  it("a reload is refused for now", function()
    temp.write(serves.folder, "handlers/handler.lua", three.handler("serves", "9s", " anew"))
    local result = w:moonbus({ "reload", "--admin", serves.admin }, { deadline = 30 })
    assert.equal(1, result.status, result.stdout .. result.stderr)
    assert.matches("generation 1 keeps running", result.stderr)
  end)

  it("a start waits, and says once for each reason what for", function() three.goes_on_waiting(again) end)

  it("a first start waits, too", function() three.goes_on_waiting(new) end)

  describe("until there is a leader,", function()
    setup(function() three:both_back() end)

    it("a start serves then", function()
      again:wait_ready(60)
      three:handles(again, "again", "second")
      assert.equal(0, again:stop())
    end)

    it("a first start makes its streams then, and serves", function()
      new:wait_ready(60)
      three:handles(new, "new", "second")
    end)

    it("a reload goes live by itself then", function()
      serves:wait_log("handler%.lua: generation %d+ live", 90)
      three:handles(serves, "serves", "second")
      assert.equal(9e9, w.client:consumer_info("IN_serves", "worker").config.ack_wait)
    end)
  end)
end)
