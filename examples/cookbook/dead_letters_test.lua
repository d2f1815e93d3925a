-- Tests of dead_letters.lua: what goes back, when, and how often.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("dead_letters", function()
  local script
  before_each(function()
    script = test.load("dead_letters.lua", {
      streams = { { name = "ORDERS", subjects = { "orders.>" } } },
      settings = { alerts = "https://chat.example/hook" },
    })
    script:stub_http("https://chat.example/hook", { status = 200 })
  end)

  local function letter(code, more)
    local headers = { ["Moonbus-Subject"] = "orders.created", ["Moonbus-Code"] = code, ["Moonbus-Error"] = "away",
      ["Moonbus-Consumer"] = "billing", Language = "de" }
    for name, value in pairs(more or {}) do headers[name] = value end
    return script:deliver("dead.billing", { id = 1 }, { headers = headers })
  end

  it("puts back what may pass, with its own headers, after five minutes", function()
    assert.equal("ack", letter("no_responders").verdict)
    test.advance "4m50s"
    assert.equal(0, #script:stored "ORDERS")
    test.advance "20s"
    local order = script:stored("ORDERS")[1]
    assert.same({ "orders.created", 1, "de", "1" },
      { order.subject, order.data.id, order.headers.Language, order.headers["Triage-Round"] })
    assert.is_nil(order.headers["Moonbus-Code"])
    assert.equal(0, #script:stored "DEAD")
  end)

  it("waits longer the second time, and tells somebody the third time", function()
    assert.equal(0, #letter("timeout", { ["Triage-Round"] = "1" }).http)
    test.advance "30m"
    assert.equal(0, #script:stored "ORDERS")
    test.advance "31m"
    assert.equal("2", script:stored("ORDERS")[1].headers["Triage-Round"])
    local r = letter("timeout", { ["Triage-Round"] = "2" })
    assert.equal("dead letter: timeout of billing: away (dead.billing)", r.http[1].data.text)
    assert.equal(1, #script:stored "DEAD")
  end)

  it("leaves what is broken in DEAD, and says so once in ten minutes", function()
    assert.equal(1, #letter("bad_payload").http)
    assert.equal(0, #letter("bad_payload").http)
    assert.equal(1, #letter("handler_error").http)
    test.advance "11m"
    assert.equal(1, #letter("bad_payload").http)
    assert.equal(4, #script:stored "DEAD")
  end)

  it("parks it once when the letter cannot be deleted at first", function()
    script:stub("$JS.API.STREAM.MSG.DELETE.DEAD", { error = "timeout" })
    assert.equal("nak", letter("timeout").verdict)
    script:stub("$JS.API.STREAM.MSG.DELETE.DEAD", { success = true })
    script:run()
    test.advance "10m"
    assert.equal(1, #script:stored "ORDERS")
  end)

  it("does not put back a letter that is only a reference, and bears a chat that is away", function()
    script:stub_http("https://chat.example/hook", { error = "refused" })
    local r = letter("timeout", { ["Moonbus-Reference"] = "true" })
    assert.equal("ack", r.verdict)
    assert.equal(1, #script:stored "DEAD")
  end)
end)
