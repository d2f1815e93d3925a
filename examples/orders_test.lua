-- Tests of orders.lua: a durable, what it asks, what it publishes, and what becomes of a message.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

describe("billing", function()
  local orders
  before_each(function() orders = test.load "orders.lua" end) -- a server of its own for each test

  it("publishes an invoice for what was charged", function()
    orders:stub("payments.charge", { total = 9 })
    local r = orders:deliver("orders.created", { id = 1 })
    assert.equal("ack", r.verdict)
    assert.equal("payments.charge", r.requests[1].subject)
    assert.equal("invoices.created", r.published[1].subject)
    assert.same({ order = 1, total = 9 }, r.published[1].data)
  end)

  it("comes again in a second when nobody takes the money", function()
    orders:stub("payments.charge", { error = "no_responders" })
    local r = orders:deliver("orders.created", { id = 2 })
    assert.equal("nak", r.verdict)
    assert.equal(1, r.delay)
    assert.same({}, r.published)

    orders:stub("payments.charge", { total = 9 })
    assert.same({}, test.advance("900ms").runs)
    r = test.advance "200ms"
    assert.equal(2, r.runs[1].attempt)
    assert.equal("ack", r.runs[1].verdict)
  end)

  it("is charged at the second attempt by the payments of this file", function()
    orders:send("orders.created", { id = 3, amount = 7 })
    local r = orders:run()
    assert.equal(2, #r.requests)
    assert.same({ order = 3, total = 7 }, r.published[1].data)
    assert.equal(1, #orders:stored "INVOICES")
  end)

  it("gives up at once what is not JSON", function()
    local r = orders:deliver("orders.created", "not JSON")
    assert.equal("dead_letter", r.verdict)
    assert.equal("bad_payload", r.error.code)
    assert.equal("dead.billing", r.dead_letter.subject)
  end)
end)
