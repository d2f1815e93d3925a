local sim = require "spec.sim.sim"

-- backoff.park_after: naks of more than that are copies in MOONBUS_RETRIES (host/bus/consume/retries.h).
describe("Long retries, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local STREAMS = [[
    js.stream { name = "IN", subjects = { "in.>" }, retention = "%s" }
    js.stream { name = "OUT", subjects = { "out.>", "dead.>" }, duplicate_window = "1h" }
  ]]
  local CONSUME = [[
    js.consume("IN", { durable = "worker", attempts = 3, ack_wait = "10s", dead_letter = "dead.in",
      %s backoff = { min = "5m", max = "1h", factor = 4, jitter = 0, park_after = "1m" } }, function(msg)
      sim.note(("%%d %%s #%%d %%s"):format(msg.attempt, msg.subject, msg.sequence, msg.data))
      js.publish("out.a", msg.id)
      %s
    end)
  ]]

  local function script(body, options, retention)
    return sim.script(STREAMS:format(retention or "limits") .. CONSUME:format(options or "", body))
  end

  local function serve(body, options, retention)
    return world:host { scripts = { ["in.lua"] = script(body, options, retention) } }
  end

  local function pending(stream, name)
    local info = world:consumer(stream, name)
    return info.num_ack_pending
  end

  it("wait outside of the durable, and come again as the message that they are of", function()
    serve [[
      sim.note(("%s %s %s %s"):format(msg.headers["Nats-Msg-Id"], msg.headers.color, msg.stream, msg.consumer))
      sim.note(msg.id)
      local headers = msg.headers
      for name in pairs(headers) do if name:lower():find "retry" or name:find "^Nats%-Sch" then sim.note(name) end end
      if msg.attempt < 3 then error "not yet" end
    ]]
    world:publish("in.a", "x", { headers = { ["Nats-Msg-Id"] = "first", color = "red" } })
    world:advance "1s"
    assert.equal(0, pending("IN", "worker"))
    assert.equal(1, #world:messages "MOONBUS_RETRIES")
    world:advance "4m"
    assert.equal(3, #world:said())
    world:advance "2m"
    assert.equal(6, #world:said())
    world:advance "21m"
    local said = world:said()
    assert.equal(9, #said)
    for attempt = 1, 3 do
      assert.equal(attempt .. " in.a #1 x", said[3 * attempt - 2])
      assert.equal("first red IN worker", said[3 * attempt - 1])
      assert.equal(said[3], said[3 * attempt])
    end
    assert.same({}, world:messages "MOONBUS_RETRIES")
    -- Its outputs have one id in all attempts.
    assert.equal(1, #world:messages "OUT")
    local info = world:consumer("MOONBUS_RETRIES", "IN=worker")
    assert.equal(0, info.num_ack_pending)
    assert.equal("moonbus.retries.IN.worker.*.due", info.config.filter_subject)
  end)

  it("end in a dead letter that names the message", function()
    serve [[error "never"]]
    world:publish("in.a", "x", { headers = { ["Nats-Msg-Id"] = "first", color = "red" } })
    world:advance "2h"
    assert.equal(3, #world:said())
    local letter
    for _, message in ipairs(world:messages "OUT") do
      if message.subject == "dead.in" then letter = message end
    end
    for _, header in ipairs { "Moonbus%-Stream: IN", "Moonbus%-Consumer: worker", "Moonbus%-Sequence: 1\r",
      "Moonbus%-Subject: in.a", "Moonbus%-Attempt: 3", "Moonbus%-Orig%-Nats%-Msg%-Id: first", "color: red" } do
      assert.matches(header, letter.headers)
    end
    assert.is_nil(letter.headers:find "Retry")
    assert.equal("x", letter.data)
    assert.same({}, world:messages "MOONBUS_RETRIES")
  end)

  it("are those of msg:nak, too, and short ones stay naks", function()
    serve [[
      if msg.attempt == 1 then msg:nak "2m" return end
      if msg.attempt == 2 then msg:nak "30s" return end
    ]]
    world:publish("in.a", "x")
    world:advance "1s"
    assert.equal(1, #world:messages "MOONBUS_RETRIES")
    world:advance "2m"
    assert.equal(2, #world:said())
    assert.equal(1, pending("MOONBUS_RETRIES", "IN=worker"))
    world:advance "1m"
    assert.same({ "1 in.a #1 x", "2 in.a #1 x", "3 in.a #1 x" }, world:said())
    assert.same({}, world:messages "MOONBUS_RETRIES")
  end)

  it("do not hold others up where max_ack_pending is small", function()
    serve([[if msg.data == "bad" then error "never" end]], "max_ack_pending = 2,")
    for _ = 1, 10 do world:publish("in.a", "bad") end
    world:publish("in.a", "good")
    world:advance "30s"
    local said = world:said()
    assert.equal("1 in.a #11 good", said[#said])
  end)

  it("come to nobody else who consumes the stream", function()
    world:host { scripts = { ["in.lua"] = sim.script(STREAMS:format "limits" .. CONSUME:format("", [[
      if msg.attempt < 2 then error "not yet" end]]) .. [[
      js.consume("IN", { durable = "other" }, function(msg) sim.note("other " .. msg.data) end)
    ]]) } }
    world:publish("in.a", "x")
    world:advance "1h"
    local said = world:said()
    table.sort(said)
    assert.same({ "1 in.a #1 x", "2 in.a #1 x", "other x" }, said)
  end)

  it("are lost by no stream that lets acked messages go", function()
    for _, retention in ipairs { "workqueue", "interest" } do
      world:close()
      world = sim.new()
      serve([[if msg.attempt < 3 then error "not yet" end]], nil, retention)
      world:publish("in.a", "x")
      world:advance "1s"
      assert.same({}, world:messages "IN")
      world:advance "1h"
      assert.same({ "1 in.a #1 x", "2 in.a #1 x", "3 in.a #1 x" }, world:said())
    end
  end)

  it("of a batch leave it, too", function()
    world:host { scripts = { ["in.lua"] = sim.script(STREAMS:format "limits" .. [[
      js.consume("IN", { durable = "worker", batch = { size = 3 }, dead_letter = "dead.in",
        backoff = { min = "5m", max = "1h", park_after = "1m" } }, function(msgs)
        for _, msg in ipairs(msgs) do
          js.publish("out.a", msg.id, { from = msg })
          sim.note(msg.attempt .. " " .. msg.data)
        end
        if msgs[1].attempt == 1 then error "not yet" end
      end)
    ]]) } }
    for i = 1, 3 do world:publish("in.a", tostring(i)) end
    world:advance "1s"
    assert.equal(0, pending("IN", "worker"))
    world:advance "1h"
    local said = world:said()
    table.sort(said)
    assert.same({ "1 1", "1 2", "1 3", "2 1", "2 2", "2 3" }, said)
    assert.equal(3, #world:messages "OUT")
  end)

  it("are run once when their host ends between the two steps", function()
    local first = serve [[if msg.attempt < 2 then error "not yet" end]]
    world:lose_sent("$JS.ACK.IN.worker.>", 0, 1)
    world:publish("in.a", "x")
    world:advance "1s"
    assert.equal(1, pending("IN", "worker"))
    assert.equal(1, #world:messages "MOONBUS_RETRIES")
    first:finish "1s"
    serve [[if msg.attempt < 2 then error "not yet" end]]
    world:advance "1m"
    assert.equal(0, pending("IN", "worker"))
    assert.same({ "1 in.a #1 x" }, world:said())
    world:advance "10m"
    assert.same({ "1 in.a #1 x", "2 in.a #1 x" }, world:said())
  end)

  it("are run once when the copy comes before the message itself comes again", function()
    local body, options = [[if msg.attempt < 2 then error "not yet" end]], ""
    local text = script(body, options):gsub('ack_wait = "10s"', 'ack_wait = "10m"')
    local first = world:host { scripts = { ["in.lua"] = text } }
    world:lose_sent("$JS.ACK.IN.worker.>", 0, 1)
    world:publish("in.a", "x")
    world:advance "1s"
    first:finish "1s"
    world:host { scripts = { ["in.lua"] = text } }
    world:advance "30m"
    assert.same({ "1 in.a #1 x", "2 in.a #1 x" }, world:said())
    assert.equal(0, pending("IN", "worker"))
  end)

  it("leave no copy when their lease was lost while it was stored", function()
    local text = script [[if msg.attempt < 3 then error "not yet" end]]
    world:host { scripts = { ["in.lua"] = text } }
    world:advance "1s"
    world:lose_sent("moonbus.retries.>", 0, 1)
    world:publish("in.a", "x")
    world:advance "10"
    world:cut("30s")
    world:advance "40m"
    local said = world:said()
    -- Nobody else was there: the message came to this host again, and went on as the same one.
    assert.equal("1 in.a #1 x", said[1])
    assert.equal("3 in.a #1 x", said[#said])
    assert.equal(3, #said)
    assert.equal(0, pending("IN", "worker"))
    assert.same({}, world:messages "MOONBUS_RETRIES")
  end)

  it("leave no copy when somebody else has got their message meanwhile", function()
    local text = script [[if msg.attempt < 2 then error "not yet" end]]
    world:host { scripts = { ["in.lua"] = text } }
    world:advance "1s"
    world:lose_sent("moonbus.retries.>", 0, 1)
    world:publish("in.a", "x")
    world:advance "10"
    world:host { scripts = { ["in.lua"] = text } }
    world:cut("30s", { link = 0 })
    world:cut("30s", { link = 1 })
    world:advance "25s"
    assert.same({ "1 in.a #1 x", "2 in.a #1 x" }, world:said())
    world:advance "1h"
    assert.same({ "1 in.a #1 x", "2 in.a #1 x" }, world:said())
    assert.same({}, world:messages "MOONBUS_RETRIES")
  end)

  it("are delayed naks when their copy cannot be stored", function()
    serve [[if msg.attempt < 2 then error "not yet" end]]
    world:advance "1s"
    world:api("STREAM.DELETE.MOONBUS_RETRIES")
    world:publish("in.a", "x")
    world:advance "1m"
    assert.equal(1, pending("IN", "worker"))
    world:advance "5m"
    assert.same({ "1 in.a #1 x", "2 in.a #1 x" }, world:said())
  end)

  it("are delayed naks when their copy would be too large, or has not all of the message", function()
    serve [[if msg.attempt < 2 then error "not yet" end]]
    world:publish("in.a", ("x"):rep(1048576 - 4096))
    world:publish("in.b", ("x"):rep(1048576 - 32768))
    world:advance "1s"
    assert.equal(1, pending("IN", "worker"))
    assert.equal(1, #world:messages "MOONBUS_RETRIES")
    world:close()
    world = sim.new()
    serve([[if msg.attempt < 2 then error "not yet" end]], "consumer = { headers_only = true },")
    world:publish("in.a", "x")
    world:publish("in.b", "")
    world:advance "1s"
    assert.equal(1, pending("IN", "worker"))
    assert.equal(1, #world:messages "MOONBUS_RETRIES")
    world:advance "6m"
    assert.equal(4, #world:said())
  end)

  it("keep what their publisher has written in our headers' names", function()
    serve [[
      sim.note(("%s|%s|%s"):format(msg.headers["Moonbus-Retry-Subject"], msg.headers["Moonbus-Retry-Orig-X"],
        msg.headers["Nats-Schedule"]))
      if msg.attempt < 3 then error "not yet" end
    ]]
    local theirs = { ["Moonbus-Retry-Subject"] = "elsewhere", ["Moonbus-Retry-Orig-X"] = "1" }
    world:publish("in.a", "x", { headers = theirs })
    world:advance "1h"
    local said = world:said()
    assert.equal(6, #said)
    for attempt = 1, 3 do
      assert.equal(attempt .. " in.a #1 x", said[2 * attempt - 1])
      assert.equal("elsewhere|1|nil", said[2 * attempt])
    end
  end)

  it("go on over a reload", function()
    local host = serve [[error "never"]]
    world:publish("in.a", "x")
    world:advance "1s"
    host:reload("in.lua", script [[sim.note "new"]], true)
    world:advance "10m"
    assert.same({ "1 in.a #1 x", "2 in.a #1 x", "new" }, world:said())
  end)

  it("are dropped when somebody else writes what is none", function()
    serve ""
    world:advance "1s"
    world:publish("moonbus.retries.IN.worker.7-7.due", "forged")
    world:publish("moonbus.retries.IN.worker.7-7.due", "forged",
      { headers = { ["Moonbus-Retry-Subject"] = "in..a", ["Moonbus-Retry-Attempts"] = "1" } })
    world:advance "1m"
    assert.same({}, world:said())
    assert.same({}, world:messages "MOONBUS_RETRIES")
    assert.equal(2, #world:logged "error")
  end)
end)
