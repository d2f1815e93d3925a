-- Tests of webhook.lua: answers of HTTP servers, and what a message does about them.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

describe("webhooks", function()
  local webhook
  local HOOK = { url = "https://shop.example/hook", event = { id = 1 } }
  before_each(function() webhook = test.load "webhook.lua" end)

  it("posts the event, with a key", function()
    webhook:stub_http("https://shop.example/*", { status = 204 })
    local r = webhook:deliver("webhooks.order", HOOK)
    assert.equal("ack", r.verdict)
    assert.equal("POST", r.http[1].method)
    assert.same({ id = 1 }, r.http[1].data)
    assert.is_string(r.http[1].headers["Idempotency-Key"])
  end)

  it("tries three times, with the same key, before the message comes again", function()
    webhook:stub_http("https://shop.example/hook", { status = 503 })
    local r = webhook:deliver("webhooks.order", HOOK)
    assert.equal("nak", r.verdict)
    assert.equal(3, #r.http)
    assert.equal(r.http[1].headers["Idempotency-Key"], r.http[3].headers["Idempotency-Key"])
    assert.equal("https://shop.example/hook answered 503", r.error.message)
  end)

  it("gives a subscriber up that is gone", function()
    webhook:stub_http("*", { status = 410 })
    assert.equal("term", webhook:deliver("webhooks.order", HOOK).verdict)
  end)

  it("does not wait for a server for ever", function()
    webhook:stub_http("*", { error = "timeout" })
    local r = webhook:deliver("webhooks.order", HOOK)
    assert.equal("nak", r.verdict)
    assert.equal("timeout", r.error.code)
  end)
end)
