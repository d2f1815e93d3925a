-- Tests of webhook_fanout.lua: each subscriber has it once, whatever becomes of the others.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("webhook_fanout", function()
  local script
  before_each(function()
    script = test.load "webhook_fanout.lua"
    script:kv("webhooks"):put("crm", { url = "https://crm.example/hook" })
    script:kv("webhooks"):put("mail", { url = "https://mail.example/hook" })
    script:stub_http("https://*", { status = 204 })
  end)

  local function run(event)
    script:send("events.order.paid", event or { id = 1 })
    return script:run()
  end

  it("posts an event to each subscriber, under a key for each", function()
    local r = run()
    assert.equal(2, #r.http)
    assert.same({ id = 1 }, r.http[1].data)
    assert.equal("application/json", r.http[1].headers["Content-Type"])
    assert.matches(":crm$", r.http[1].headers["Idempotency-Key"])
    assert.matches(":mail$", r.http[2].headers["Idempotency-Key"])
  end)

  it("tries the broken one again, with the same key, and the others not", function()
    local calls = 0
    script:stub_http("https://crm.example/hook", function()
      calls = calls + 1
      return calls < 3 and { status = 503 } or { status = 200 }
    end)
    local keys, mails = {}, 0
    for _, call in ipairs(run().http) do
      if call.url:find "crm" then keys[call.headers["Idempotency-Key"]] = true else mails = mails + 1 end
    end
    assert.same({ 3, 1 }, { calls, mails })
    assert.is_nil(next(keys, next(keys)))
  end)

  it("adds who was left out when the event is handled again, and doubles nobody", function()
    local full = { code = 503, err_code = 10047, description = "full" }
    script:stub("deliveries.mail", { stream = "DELIVERIES", seq = 0, error = full })
    assert.equal("nak", script:deliver("events.order.paid", { id = 1 }).verdict)
    script:stub("deliveries.mail", { stream = "DELIVERIES", seq = 2 })
    local r = script:run()
    local sent = {}
    for _, message in ipairs(r.published) do sent[#sent + 1] = message.subject end
    assert.same({ "deliveries.crm", "deliveries.mail" }, sent)
    assert.equal(1, #script:stored "DELIVERIES") -- crm's, of the first run; mail's went to the stub
  end)

  it("comes again when the subscriber says so", function()
    script:stub_http("https://crm.example/hook", { status = 429, headers = { ["Retry-After"] = "120" } })
    script:send("events.order.paid", { id = 1 })
    local r = test.advance "10s"
    for _, one in ipairs(r.runs) do
      if one.subject == "deliveries.crm" then assert.same({ "nak", 120 }, { one.verdict, one.delay }) end
    end
  end)

  it("gives up at once what is refused, and after ten attempts what fails", function()
    script:stub_http("https://crm.example/hook", { status = 422 })
    script:stub_http("https://mail.example/hook", { error = "refused" })
    local r = run()
    assert.equal(2, #r.dead_letters)
    assert.same({ "1", "10" }, { r.dead_letters[1].headers["Moonbus-Attempt"],
      r.dead_letters[2].headers["Moonbus-Attempt"] })
  end)

  it("forgets a subscriber that is gone", function()
    script:stub_http("https://crm.example/hook", { status = 410 })
    assert.same({}, run().dead_letters)
    assert.same({ "mail" }, script:kv("webhooks"):keys())
  end)

  it("does not post to whoever has left meanwhile", function()
    script:kv("webhooks"):delete "crm"
    assert.equal(0, #script:deliver("deliveries.crm", { id = 1 }, { headers = { Event = "e" } }).http)
  end)
end)
