-- A cluster of three of which two are down has no leader: what needs one is waited for, as a server
-- that is not there, and nobody needs to start anything anew when it is back.
local quorum = require "spec.support.quorum"

describe("with two of three servers down", function()
  local three = quorum.new()
  local w = three.world
  before_each(function() three:open() end)
  after_each(function() three:close() end)

  it("a start waits, says once for each reason what for, and serves when there is a leader", function()
    local first = w:run(three.handler())
    three:handles(first, "first")
    assert.equal(0, first:stop())
    three:lose_two()
    local host = w:start(three.handler())
    three.goes_on_waiting(host)
    three:both_back()
    host:wait_ready(60)
    three:handles(host, "second")
    assert.equal(0, host:stop())
  end)

  it("a start that waits is ended by a signal, in order", function()
    three:lose_two()
    local host = w:start(three.handler())
    host:wait_log({ level = "warn", msg = "cannot serve yet" }, 30)
    assert.equal(0, host:stop())
  end)
end)
