-- Tests of services.lua: an endpoint is asked like any handler; who else there is, a stub says.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

local function info(name, id)
  return { name = name, version = "2.0.0", id = id, endpoints = { { name = "all", subject = name .. ".all" } } }
end

describe("services", function()
  local services
  before_each(function() services = test.load "services.lua" end)

  it("forecast the weather", function()
    local r = services:deliver "weather.rome"
    assert.same({ "ok", 14 }, { r.verdict, r.reply.degrees })
    r = services:deliver("weather." .. ("x"):rep(21))
    assert.equal("404", r.reply_headers["Nats-Service-Error-Code"])
  end)

  it("find themselves, when there is nobody else", function()
    local found = services:deliver("services.list").reply
    assert.same({ 1, "weather", "1.0.0", "weather.*" }, { #found, found[1].name, found[1].version,
      found[1].subjects[1] })
  end)

  it("are listed in order, without those that answer with an error", function()
    services:stub("$SRV.INFO", { replies = { info("b", "1"), info("a", "2"), { error = "not now" }, info("a", "1") } })
    local found = {}
    for i, each in ipairs(services:deliver("services.list").reply) do found[i] = each.name .. each.id end
    assert.same({ "a1", "a2", "b1" }, found)
  end)

  it("are none, when nobody answers", function()
    services:stub("$SRV.INFO", { error = "no_responders" })
    assert.same({}, services:deliver("services.list").reply)
  end)
end)
