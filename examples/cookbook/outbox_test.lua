-- Tests of outbox.lua, with a table of the test's own in the place of PostgreSQL.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("outbox", function()
  local script, rows, broken

  before_each(function()
    script = test.load("outbox.lua", { settings = { outbox = { dsn = "host=db" } } })
    rows, broken = {}, nil
    script:stub_offload("slow.outbox_db", {
      unsent = function(dsn, most)
        assert.equal("host=db", dsn)
        local page = {}
        for _, row in ipairs(rows) do
          if not row.sent and #page < most then page[#page + 1] = row end
        end
        return page
      end,
      sent = function(_, ids)
        if broken then return nil, broken end
        for _, id in ipairs(ids) do rows[tonumber(id)].sent = true end
        return #ids
      end,
    })
  end)

  local function insert(count)
    for _ = 1, count do
      rows[#rows + 1] = { id = tostring(#rows + 1), subject = "shop.order.paid", payload = ('{"n":%d}'):format(#rows) }
    end
  end

  it("publishes what is there, in order, page by page", function()
    insert(450)
    test.advance "2s"
    local stored = script:stored "SHOP"
    assert.equal(450, #stored)
    assert.same({ 0, 449, "outbox:450" }, { stored[1].data.n, stored[450].data.n, stored[450].id })
    assert.is_true(rows[450].sent)
  end)

  it("publishes nothing twice when the table did not hear of it", function()
    insert(3)
    broken = "connection lost"
    test.advance "3s"
    assert.is_nil(rows[1].sent)
    broken = nil
    test.advance "1s"
    assert.is_true(rows[3].sent)
    assert.equal(3, #script:stored "SHOP")
  end)

  it("stops at a row that cannot be stored, so that the order stays, and goes on by itself", function()
    insert(3)
    rows[2].subject = "elsewhere"
    test.advance "2s"
    assert.equal(1, #script:stored "SHOP")
    rows[2].subject = "shop.order.sent"
    test.advance "2s"
    assert.equal(3, #script:stored "SHOP")
  end)

  it("waits for a database that is away", function()
    insert(1)
    script:stub_offload("slow.outbox_db", { unsent = { error = "could not connect" } })
    local r = test.advance "3s"
    assert.equal("error", r.logged[1].level)
    assert.equal(0, #script:stored "SHOP")
  end)

  it("does nothing without a database but to say so", function()
    local bare = test.load "outbox.lua"
    bare:start()
    local r = bare:advance "2s"
    assert.equal(0, #r.offloaded)
  end)
end)
