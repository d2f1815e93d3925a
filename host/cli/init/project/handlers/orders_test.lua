-- Tests of orders.lua, without a server: moonbus test
local test = require "moonbus.test"

describe("billing", function()
  local orders
  before_each(function() orders = test.load "orders.lua" end)

  it("stores an invoice for an order", function()
    local r = orders:deliver("orders.created", { id = 1, amount = 9 })
    assert.equal("ack", r.verdict)
    assert.equal("invoices.created", r.published[1].subject)
    assert.same({ order = 1, total = 9, currency = "EUR" }, r.published[1].data)
  end)

  it("gives up at once what is no order, and says why", function()
    local r = orders:deliver("orders.created", { id = "?" })
    assert.equal("dead_letter", r.verdict)
    assert.matches("amount: expected number, got nil", r.error.message)
  end)

  it("answers", function()
    assert.equal("hello, orders are billed in EUR", orders:deliver("orders.hello").reply)
  end)
end)
