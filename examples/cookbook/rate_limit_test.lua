-- Tests of rate_limit.lua: how many calls there are in a second, by the simulated clock.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("rate_limit", function()
  local script
  before_each(function()
    script = test.load("rate_limit.lua", { settings = { geocode = { url = "https://api.example", key = "k" } } })
    script:stub_http("https://api.example/*", { json = { lat = 52.5, lon = 13.4 } })
  end)

  it("asks with the key, and stores what was found", function()
    local r = script:deliver "places.berlin"
    assert.equal("ack", r.verdict)
    assert.equal("https://api.example/geocode?q=berlin", r.http[1].url)
    assert.equal("Bearer k", r.http[1].headers.Authorization)
    assert.same({ lat = 52.5, lon = 13.4 }, script:stored("FOUND")[1].data)
  end)

  it("makes five calls at once, then five a second; nobody fails for waiting", function()
    for n = 1, 20 do script:send("places.p" .. n) end
    assert.equal(5, #test.advance("100ms").http)
    assert.equal(5, #test.advance("1s").http)
    local r = script:run()
    for _, run in ipairs(r.runs) do assert.equal("ack", run.verdict) end
    assert.equal(20, #script:stored "FOUND")
  end)

  it("tells a requester at once that there is no room", function()
    for _ = 1, 5 do assert.equal(52.5, script:deliver("geocode.now", "berlin").reply.lat) end
    local r = script:deliver("geocode.now", "berlin")
    assert.equal("429", r.reply_headers["Nats-Service-Error-Code"])
    assert.equal(0, #r.http)
    test.advance "1s"
    assert.equal("ok", script:deliver("geocode.now", "berlin").verdict)
  end)

  it("comes again when the API says so", function()
    script:stub_http("https://api.example/*", { status = 429, headers = { ["Retry-After"] = "30" } })
    local r = script:deliver "places.berlin"
    assert.same({ "nak", 30 }, { r.verdict, r.delay })
  end)

  it("tries what failed again, and gives up in the end", function()
    script:stub_http("https://api.example/*", { status = 500 })
    local r = script:send("places.berlin"):run()
    assert.equal(8, #r.http)
    assert.equal("dead.geocode", r.dead_letter.subject)
    assert.equal("502", script:deliver("geocode.now", "berlin").reply_headers["Nats-Service-Error-Code"])
  end)
end)
