-- Tests of parcels.lua: what fits, what does not, and what the sender is told.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

describe("parcels", function()
  local parcels
  before_each(function() parcels = test.load "parcels.lua" end)

  local function sent(more)
    local items = { { sku = "tea" }, { sku = "jam", count = 2 } }
    local parcel = { id = 7, to = { country = "PT", grams = 500 }, items = items }
    for key, value in pairs(more or {}) do parcel[key] = value end
    return parcels:deliver("parcels.sent", parcel)
  end

  it("quotes what fits, with the defaults in it", function()
    assert.equal(400, parcels:deliver("postage.quote", { country = "PT", grams = 500 }).reply.cents)
    assert.equal(550, parcels:deliver("postage.quote", { country = "PT", grams = 500, express = true }).reply.cents)
  end)

  it("tells a requester what does not fit, and where", function()
    local r = parcels:deliver("postage.quote", { country = "Portugal", grams = 500 })
    assert.equal("400", r.reply_headers["Nats-Service-Error-Code"])
    assert.matches("^country: ", r.error.message)
    assert.matches("^grams: ", parcels:deliver("postage.quote", { country = "PT", grams = 0 }).error.message)
  end)

  it("counts an item once that does not say how often", function()
    local r = sent { note = "ring twice" }
    assert.equal("ack", r.verdict)
    assert.same({ parcel = 7, country = "PT", items = 3, note = "ring twice" }, r.logged[1].fields)
  end)

  it("gives up at once what does not fit: no attempt would mend it", function()
    for place, parcel in pairs { ["id"] = { id = "7" }, ["items"] = { items = {} },
      ["items%[1%]%.sku"] = { items = { {} } }, ["to%.country"] = { to = { grams = 1 } } } do
      local r = sent(parcel)
      assert.same({ "dead_letter", 1 }, { r.verdict, r.attempt })
      assert.matches("^" .. place .. ": ", r.error.message)
    end
    assert.equal("bad_payload", parcels:deliver("parcels.sent", "not JSON").error.code)
  end)
end)
