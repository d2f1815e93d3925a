-- Tests of cache.lua: how often the catalog is asked, by the simulated clock.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("cache", function()
  local script, asked
  before_each(function()
    script, asked = test.load "cache.lua", 0
    script:stub("catalog.get", function(request)
      asked = asked + 1
      if request.data.sku == "tea" then return { sku = "tea", cents = asked } end
      return nil, { status = 404, message = "none" }
    end)
  end)

  it("asks once, also for what there is not", function()
    for _ = 1, 3 do assert.equal(1, script:deliver("products.get.tea").reply.cents) end
    for _ = 1, 3 do
      assert.equal("404", script:deliver("products.get.milk").reply_headers["Nats-Service-Error-Code"])
    end
    assert.equal(2, asked)
  end)

  it("asks once when many want it at a time", function()
    for _ = 1, 50 do script:send "products.get.tea" end
    test.advance "1s"
    assert.equal(1, asked)
  end)

  it("asks again when somebody says that it has changed", function()
    script:deliver "products.get.tea"
    script:kv("product_changes"):put("tea", "")
    test.advance "10ms"
    assert.equal(2, script:deliver("products.get.tea").reply.cents)
    script:deliver("catalog.set", { sku = "tea", cents = 7 })
    test.advance "10ms"
    assert.equal(3, script:deliver("products.get.tea").reply.cents)
  end)

  it("serves what it has while the catalog is away, and fails for what it has not", function()
    script:deliver "products.get.tea"
    script:stub("catalog.get", { error = "no_responders" })
    test.advance "11m"
    assert.equal(1, script:deliver("products.get.tea").reply.cents)
    local r = script:deliver "products.get.milk"
    assert.equal("no_responders", r.error.code)
    test.advance "2s"
    script:stub("catalog.get", { sku = "milk", cents = 9 })
    assert.equal(9, script:deliver("products.get.milk").reply.cents)
  end)
end)
