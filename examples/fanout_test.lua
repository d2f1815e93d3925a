-- Tests of fanout.lua: requests that run side by side, by the simulated clock.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

describe("quote.*", function()
  local fanout
  before_each(function() fanout = test.load "fanout.lua" end)

  it("takes as long as one shop, and finds the cheapest", function()
    local quote = fanout:deliver("quote.bread").reply
    assert.same({ "south", 290 }, { quote.best, quote.cents })
    test.needs "virtual time" -- in which nothing else takes any
    assert.is_true(math.abs(quote.seconds - 0.1) < 1e-6)
  end)

  it("fails when a shop is closed", function()
    fanout:stub("shop.*.price", function(request)
      if request.subject == "shop.west.price" then return nil, "closed" end
      return { cents = 1 }
    end)
    local r = fanout:deliver "quote.bread"
    assert.equal("failed", r.verdict)
    assert.matches("closed", r.error.message)
  end)

  it("does not wait for a shop for ever", function()
    fanout:stub("shop.west.price", { error = "timeout" })
    assert.matches("no answer .* within 2s", fanout:deliver("quote.bread").error.message)
  end)
end)
