-- Tests of hello.lua: a request and its reply.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

describe("greet.*", function()
  local hello = test.load "hello.lua"

  it("greets by name", function()
    assert.equal("hello ada", hello:deliver("greet.ada").reply)
  end)

  it("speaks the language of a header", function()
    local r = hello:deliver("greet.ada", nil, { headers = { Language = "de" } })
    assert.equal("hallo ada", r.reply)
  end)

  it("says which languages there are", function()
    local r = hello:deliver("greet.ada", nil, { headers = { Language = "la" } })
    assert.equal("failed", r.verdict)
    assert.equal("greetings are in de, en and fr", r.error.message)
    assert.equal("500", r.reply_headers["Nats-Service-Error-Code"])
  end)
end)
