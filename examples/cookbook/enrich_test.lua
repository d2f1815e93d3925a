-- Tests of enrich.lua: what goes on, and what becomes of an order when the other service does not answer.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("enrich", function()
  local script
  before_each(function() script = test.load "enrich.lua" end)

  it("adds the customer, and forwards", function()
    local r = script:deliver("raw.orders.ada", { id = 1, cents = 900 })
    assert.equal("ack", r.verdict)
    assert.same({ id = 1, cents = 900, customer = { name = "ada", country = "GB", tier = 1 } },
      script:stored("ENRICHED")[1].data)
  end)

  it("waits for a service that is away, and forwards each order once, in order", function()
    script:stub("customers.get", { error = "no_responders" })
    for id = 1, 3 do script:send("raw.orders.ada", { id = id, cents = 1 }) end
    test.advance "2s"
    assert.equal(0, #script:stored "ENRICHED")
    script:stub("customers.get", { country = "GB", tier = 1 })
    script:run()
    local ids = {}
    for index, order in ipairs(script:stored "ENRICHED") do ids[index] = order.data.id end
    assert.same({ 1, 2, 3 }, ids)
  end)

  it("tries again when the answer is no JSON: that is not the order's fault", function()
    script:stub("customers.get", "<html>down for maintenance</html>")
    local r = script:deliver("raw.orders.ada", { id = 1, cents = 1 })
    assert.equal("nak", r.verdict)
  end)

  it("gives up at once what nobody can mend", function()
    local r = script:deliver("raw.orders.eve", { id = 1, cents = 1 })
    assert.same({ "dead_letter", 1 }, { r.verdict, #r.requests })
    assert.equal("dead_letter", script:deliver("raw.orders.ada", { id = "one" }).verdict)
  end)

  it("gives up after eight attempts", function()
    script:stub("customers.get", { error = "timeout" })
    local r = script:send("raw.orders.ada", { id = 1, cents = 1 }):run()
    assert.equal(8, #r.requests)
    assert.equal("dead.enrich", r.dead_letter.subject)
  end)
end)
