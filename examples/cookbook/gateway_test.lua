-- Tests of gateway.lua: what is called, and what a requester hears.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("gateway", function()
  local script
  before_each(function()
    script = test.load("gateway.lua", {
      settings = { upstreams = { shop = { base = "https://shop.example/api", token = "t0p" } } },
    })
  end)

  local function status_of(r) return r.reply_headers["Nats-Service-Error-Code"] end

  it("calls the upstream with its key, and replies its body", function()
    script:stub_http("https://shop.example/*", { json = { id = 7 } })
    local r = script:deliver "http.get.shop.orders.7"
    assert.equal(7, r.reply.id)
    assert.same({ "200", "application/json" }, { r.reply_headers.Status, r.reply_headers["Content-Type"] })
    assert.same({ "GET", "https://shop.example/api/orders/7", "Bearer t0p" },
      { r.http[1].method, r.http[1].url, r.http[1].headers.Authorization })
  end)

  it("posts the data, with the requester's idempotency key", function()
    script:stub_http("https://shop.example/*", { status = 201, body = "made" })
    local r = script:deliver("http.post.shop.orders", { id = 8 }, { headers = { ["Idempotency-Key"] = "k1" } })
    assert.same({ "made", 8, "k1" }, { r.raw_reply, r.http[1].data.id, r.http[1].headers["Idempotency-Key"] })
  end)

  it("says what the upstream says, and nothing of the key", function()
    script:stub_http("https://shop.example/*", { status = 404, body = "no\r\norder" })
    local r = script:deliver "http.get.shop.orders.9"
    assert.equal("404", status_of(r))
    assert.is_nil(tostring(r.error):find "t0p")
  end)

  it("has an answer before the requester gives up", function()
    script:stub_http("https://shop.example/*", { error = "timeout" })
    assert.equal("504", status_of(script:deliver "http.get.shop.slow"))
    script:stub_http("https://shop.example/*", { error = "refused" })
    assert.equal("502", status_of(script:deliver "http.get.shop.away"))
    script:stub_http("https://shop.example/*", { status = 302, headers = { Location = "http://10.0.0.1/" } })
    assert.equal("502", status_of(script:deliver "http.get.shop.elsewhere"))
  end)

  it("calls nothing that is not meant", function()
    assert.equal("404", status_of(script:deliver "http.get.other.orders"))
    assert.equal("400", status_of(script:deliver "http.delete.shop.orders"))
    assert.equal("400", status_of(script:deliver "http.get.shop.a?b"))
  end)
end)
