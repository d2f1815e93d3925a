-- Tests of totals.lua: sums that are right, whatever comes twice, fails or gets in between.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("totals", function()
  local script
  before_each(function() script = test.load "totals.lua" end)

  local function total(shop) return script:kv("totals"):get(shop).data end

  it("adds up the sales of each shop", function()
    for cents = 1, 20 do
      script:send("sales.berlin", { cents = cents }):send("sales.rome", { cents = 100 })
    end
    script:run()
    assert.same({ count = 20, cents = 210 }, total "berlin")
    assert.same({ count = 20, cents = 2000 }, total "rome")
  end)

  it("tells who asks", function()
    script:deliver("sales.berlin", { cents = 5 })
    assert.same({ count = 1, cents = 5 }, script:deliver("totals.berlin").reply)
    assert.equal("404", script:deliver("totals.paris").reply_headers["Nats-Service-Error-Code"])
  end)

  it("goes on from what another process has written", function()
    script:kv("totals"):put("berlin", { count = 3, cents = 7 })
    script:deliver("sales.berlin", { cents = 1 })
    assert.same({ count = 4, cents = 8 }, total "berlin")
  end)

  it("reads again when another process was faster", function()
    script:stub("$KV.totals.berlin", { error = { code = 400, err_code = 10071,
      description = "wrong last sequence: 7" }, stream = "KV_totals", seq = 0 })
    local r = script:deliver("sales.berlin", { cents = 1 })
    assert.same({ "nak", "wrong_sequence" }, { r.verdict, r.error.code })
  end)

  it("gives a sale up that is none, and goes on with the next one of its shop", function()
    script:send("sales.berlin", { cents = "many" }):send("sales.berlin", { cents = 2 })
    local r = script:run()
    assert.matches("cents: expected integer", r.dead_letter.headers["Moonbus-Error"])
    assert.same({ count = 1, cents = 2 }, total "berlin")
  end)
end)
