local cjson = require "cjson"
local sim = require "spec.sim.sim"

describe("What is published later, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local STREAMS = [[
    js.stream { name = "IN", subjects = { "in.>" } }
    js.stream { name = "OUT", subjects = { "out.>" }, duplicate_window = "2m" }
  ]]

  -- A subscription "go" with this body; what it returns is JSON.
  local function serve(body)
    return world:host { scripts = { ["out.lua"] = sim.script(STREAMS .. ([[
      bus.subscribe("go", { timeout = "50m" }, function(msg) %s end)
    ]]):format(body)) } }
  end

  local function go(data) return cjson.decode(world:request("go", data or "", { timeout = "50m" }).data) end

  local function stored() return world:data_of "OUT" end

  it("is stored at its time, once, with its headers", function()
    serve [[
      local headers = { color = "red", ["Nats-Color"] = "blue" }
      return js.publish("out.a", { n = 1 }, { after = "10m", headers = headers })
    ]]
    local receipt = go()
    assert.equal("MOONBUS_LATER", receipt.stream)
    assert.is_false(receipt.duplicate)
    assert.is_true(math.abs(receipt.at - 1767225600 - 600) < 5)
    assert.matches("^moonbus%.later%.%x+$", receipt.subject)
    world:advance "9m58s"
    assert.same({}, stored())
    world:advance "5s"
    assert.same({ '{"n":1}' }, stored())
    local message = world:messages("OUT")[1]
    assert.equal("out.a", message.subject)
    for _, header in ipairs { "color: red", "Nats%-Color: blue", "content%-type: application/json" } do
      assert.matches(header, message.headers)
    end
    assert.is_nil(message.headers:lower():find "moonbus")
    world:advance "2h"
    assert.equal(1, #stored())
    assert.same({}, world:data_of "MOONBUS_LATER")
  end)

  it("comes at a point in time, as text or in seconds; what is past comes at once", function()
    serve [[
      js.publish("out.a", "text", { at = "2026-01-01T01:30:00+01:00" })
      js.publish("out.a", "seconds", { at = 1767225600 + 3600 })
      local now = js.publish("out.a", "past", { at = "2025-12-31T23:59:59Z" })
      return { now.stream, now.at == nil }
    ]]
    assert.same({ "OUT", true }, go())
    assert.same({ "past" }, stored())
    world:advance "31m"
    assert.same({ "past", "text" }, stored())
    world:advance "31m"
    assert.same({ "past", "text", "seconds" }, stored())
  end)

  it("waits for days", function()
    serve [[ js.publish("out.a", "x", { after = "72h" }) return {} ]]
    go()
    world:advance "71h59m"
    assert.same({}, stored())
    world:advance "2m"
    assert.same({ "x" }, stored())
  end)

  it("can be cancelled until it is published, once", function()
    serve [[
      local receipt = js.publish("out.a", "x", { after = "10m" })
      if msg.data == "late" then bus.sleep "11m" end
      local first, why = js.cancel(receipt)
      local second, again = js.cancel(receipt)
      return { tostring(first), tostring(why and why.code), tostring(second), tostring(again and again.code) }
    ]]
    -- A second cancel of one receipt is the same one, retried.
    assert.same({ "true", "nil" }, { unpack(go(), 1, 2) })
    world:advance "20m"
    assert.same({}, stored())
    assert.same({}, world:data_of "MOONBUS_LATER")
    assert.same({ "nil", "not_found", "nil", "not_found" }, go "late")
    assert.same({ "x" }, stored())
  end)

  it("is cancelled or published, never both, however close", function()
    serve [[
      local receipt = js.publish("out.a", msg.data, { after = "1s" })
      bus.sleep(tonumber(msg.data) / 1000)
      return { js.cancel(receipt) == true }
    ]]
    local cancelled = 0
    for ms = 990, 1020, 2 do
      local won = go(tostring(ms))[1]
      world:advance "10s"
      local published = false
      for _, data in ipairs(stored()) do published = published or data == tostring(ms) end
      assert.equal(not won, published, ms)
      if won then cancelled = cancelled + 1 end
    end
    assert.is_true(cancelled > 0 and cancelled < 16, cancelled)
  end)

  it("is parked once by a handler that is retried, in the window and after it", function()
    world:host { scripts = { ["out.lua"] = sim.script(STREAMS .. [[
      local backoff = { min = "1m", max = "1m", jitter = 0 }
      js.consume("IN", { durable = "worker", attempts = 10, backoff = backoff }, function(msg)
        local receipt = assert(js.publish("out.a", "once", { after = "30m" }))
        sim.note(tostring(receipt.seq) .. " " .. tostring(receipt.duplicate))
        if msg.attempt < 5 then error "again" end
      end)
    ]]) } }
    world:publish("in.a", "x")
    world:advance "10m"
    assert.equal(1, #world:data_of "MOONBUS_LATER")
    local said = world:said()
    assert.equal(5, #said)
    assert.matches("^1 false", said[1])
    for i = 2, 5 do assert.equal("1 true", said[i]) end
    world:advance "30m"
    assert.same({ "once" }, stored())
  end)

  it("is published by another host, and by one that starts later", function()
    local text = sim.script(STREAMS .. [[
      bus.subscribe("go", function() return js.publish("out.a", "x", { after = "10m" }) end)
    ]])
    local first = world:host { scripts = { ["out.lua"] = text } }
    go()
    first:finish "1s"
    world:advance "20m"
    assert.same({}, stored())
    world:host { scripts = { ["out.lua"] = text } }
    world:advance "10s"
    assert.same({ "x" }, stored())
  end)

  it("keeps its id, so that what was published at once under it is not there twice", function()
    serve [[
      js.publish("out.a", "x", { id = "mine", after = "1m" })
      local now = js.publish("out.a", "y", { id = "mine" })
      return { now.duplicate }
    ]]
    assert.same({ false }, go())
    world:advance "65s"
    assert.same({ "y" }, stored())
    assert.same({}, world:data_of "MOONBUS_LATER")
  end)

  it("stays parked, with an error in the log, while no stream takes it", function()
    serve [[ js.publish("nowhere.a", "x", { after = "1s" }) return {} ]]
    go()
    world:advance "1m"
    assert.equal(1, #world:data_of "MOONBUS_LATER")
    assert.matches("what was to be published later.*no stream", world:logged("error")[1].msg)
  end)

  describe("where the stream has schedules", function()
    local SCHEDULES = [[
      js.stream { name = "OUT", subjects = { "out.>", "moonbus.at.OUT.>" }, allow_msg_schedules = true,
        allow_rollup_hdrs = true }
      bus.subscribe("go", { timeout = "50m" }, function(msg)
        local receipt, err = js.publish("out.a", "x", { id = "mine", after = "1h" })
        return { receipt and receipt.stream or "none", err and err.code or "no error" }
      end)
    ]]

    local function serve_there() return world:host { scripts = { ["out.lua"] = sim.script(SCHEDULES) } } end

    -- It would be published twice: the server gives what it publishes no message id.
    it("is not parked as well because a question about the stream had no answer", function()
      serve_there()
      world:settle()
      world:lose_answers(2)
      assert.same({ "none", "timeout" }, go())
      assert.same({ "OUT", "no error" }, go())
      assert.equal(1, #stored())
      assert.equal(404, world:stream("MOONBUS_LATER").error.code)
    end)

    it("is not parked as well because what the server can do is not known yet", function()
      world:lose_answers(1)
      serve_there()
      assert.same({ "OUT", "no error" }, go())
      assert.equal(1, #stored())
    end)
  end)

  it("is no message that says it follows another one, and not which: an error each, and it is gone", function()
    serve [[ return js.publish("out.a", "x", { after = "1m" }) ]]
    local receipt = go()
    for i, of in ipairs { "", "0", "none", "-1", "1.5", "1e3", "9007199254740993", "99999999999999999999999" } do
      world:publish("moonbus.later." .. i, "", { headers = {
        ["Moonbus-Later-State"] = i % 2 == 0 and "due" or "cancelled", ["Moonbus-Later-Of"] = of ~= "" and of or nil,
      } })
    end
    world:advance "5s"
    assert.equal(1, #world:messages(receipt.stream))
    local errors = world:logged "error"
    assert.equal(8, #errors)
    for _, event in ipairs(errors) do assert.matches("dropped from what is published later", event.msg) end
    world:advance "10m"
    assert.equal(8, #world:logged "error")
    assert.same({ "x" }, stored())
  end)

  it("does not let those who may publish there remove what others have parked", function()
    serve [[ return js.publish("out.a", "x", { after = "1m" }) ]]
    local receipt = go()
    for _, state in ipairs { "due", "cancelled" } do
      world:publish("moonbus.later.mine", "", { headers = {
        ["Moonbus-Later-State"] = state, ["Moonbus-Later-Of"] = ("%.0f"):format(receipt.seq),
        ["Moonbus-Later-Subject"] = "out.b", ["Moonbus-Later-Id"] = state, ["Moonbus-Later-At"] = "0",
      } })
    end
    world:advance "5s"
    assert.equal(1, #world:messages(receipt.stream))
    local errors = world:logged "error"
    assert.equal(2, #errors)
    for _, event in ipairs(errors) do assert.matches("it follows a message of another subject", event.msg) end
    world:advance "10m"
    assert.same({ "x" }, stored())
  end)

  it("does not let those who may publish there command the server", function()
    serve [[ return { js.publish("out.a", "x"), js.publish("out.a", "y", { after = "1m" }) } ]]
    go()
    for i, subject in ipairs { "$JS.API.STREAM.PURGE.OUT", "$SYS.REQ.SERVER.PING" } do
      world:publish("moonbus.later." .. i, "", { headers = {
        ["Moonbus-Later-Subject"] = subject, ["Moonbus-Later-Id"] = subject, ["Moonbus-Later-At"] = "0",
      } })
    end
    world:advance "10m"
    assert.equal(2, #world:logged "error")
    for _, event in ipairs(world:logged "error") do
      assert.matches("dropped from what is published later: its headers do not say where to", event.msg)
    end
    assert.same({ "x", "y" }, stored())
  end)

  it("is no command for the server: refused by file and line", function()
    serve [[
      local ok, err = pcall(js.publish, "$JS.API.STREAM.PURGE.OUT", "", { after = "1m" })
      return { ok, tostring(err) }
    ]]
    local result = go()
    assert.is_false(result[1])
    assert.matches("out.lua:%d+: js.publish: \"$JS.API.STREAM.PURGE.OUT\" is a command for the server", result[2])
  end)

  it("survives outages on the way", function()
    serve [[
      for i = 1, 20 do assert(js.publish("out.a", tostring(i), { after = i })) end
      return {}
    ]]
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "3s"
    world:cut "4s"
    world:advance "10s"
    world:cut "5s"
    world:advance "5m"
    local list = stored()
    table.sort(list, function(a, b) return tonumber(a) < tonumber(b) end)
    assert.equal(20, #list)
    for i, data in ipairs(list) do assert.equal(tostring(i), data) end
  end)
end)
