-- Tests of middleware.lua: who may come in, and how often.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

describe("vault.*", function()
  local vault
  before_each(function() vault = test.load "middleware.lua" end)

  it("opens with the token alone", function()
    assert.equal("it is open", vault:deliver("vault.open", nil, { headers = { Token = "sesame" } }).reply)
    assert.equal("a token is missing", vault:deliver("vault.open").error.message)
  end)

  it("lets 20 calls in at once, and more a second later", function()
    test.needs "virtual time" -- which stands while 21 calls are made
    local headers, last = { Token = "sesame", From = "ada" }, nil
    for _ = 1, 21 do last = vault:deliver("vault.open", nil, { headers = headers }) end
    assert.equal("too many calls", last.error.message)
    test.advance "1s"
    assert.equal("it is closed", vault:deliver("vault.close", nil, { headers = headers }).reply)
  end)
end)
