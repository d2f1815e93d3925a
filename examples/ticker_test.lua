-- Tests of ticker.lua: time that passes in a moment.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

describe("the ticker", function()
  local ticker
  before_each(function() ticker = test.load "ticker.lua" end)

  it("ticks six times a minute", function()
    local r = test.advance "1m"
    assert.equal(6, #r.published)
    assert.equal("ticks", r.published[1].subject)
  end)

  it("counts down", function()
    local r = ticker:deliver("ticker.countdown", "2")
    assert.equal("lift-off", r.reply)
    local counts = {}
    for _, message in ipairs(r.published) do counts[#counts + 1] = message.data end
    assert.same({ "2", "1" }, counts)
  end)
end)
