local sim = require "spec.sim.sim"

describe("A message of a durable, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  -- A stream ORDERS with a durable "billing" whose handler has this body; options as Lua text.
  local function serve(body, options)
    return world:host { scripts = { ["orders.lua"] = sim.script(([[
      js.stream { name = "ORDERS", subjects = { "orders.>" } }
      js.stream { name = "DEAD", subjects = { "dead.>" } }
      js.consume("ORDERS", { durable = "billing", %s }, function(msg)
        sim.note("began " .. msg.data .. " " .. msg.attempt)
        do %s end
        sim.note("ended " .. msg.data)
      end)
    ]]):format(options or "dead_letter = false", body)) } }
  end

  local function pending()
    local info = world:consumer("ORDERS", "billing")
    return info.num_pending, info.num_ack_pending
  end

  it("is acked once its handler has returned, and not before", function()
    serve [[bus.sleep "2s"]]
    world:publish("orders.a", "1")
    world:advance "1s"
    assert.same({ 0, 1 }, { pending() })
    world:advance "2s"
    assert.same({ 0, 0 }, { pending() })
    assert.same({ "began 1 1", "ended 1" }, world:said())
  end)

  it("is kept by heartbeats: 30 s of work with an ack_wait of 1 s are no redelivery", function()
    serve([[bus.sleep "30s"]], [[ack_wait = "1s", dead_letter = false]])
    world:publish("orders.a", "1")
    world:advance "1m"
    assert.same({ "0 began 1 1", "30000 ended 1" }, world:said { at = true })
    assert.same({ 0, 0 }, { pending() })
    assert.equal(0, world:consumer("ORDERS", "billing").num_redelivered)
  end)

  it("that has waited in the host's own queue is no redelivery either", function()
    serve([[bus.sleep "10s"]], [[ack_wait = "1s", concurrency = 1, dead_letter = false]])
    for i = 1, 5 do world:publish("orders.a", tostring(i)) end
    world:advance "1m"
    assert.same({
      "began 1 1", "ended 1", "began 2 1", "ended 2", "began 3 1", "ended 3", "began 4 1", "ended 4",
      "began 5 1", "ended 5",
    }, world:said())
  end)

  it("comes again after the backoff of its attempt, until it is done", function()
    serve([[if msg.attempt < 4 then error "not yet" end]],
      [[backoff = { min = "1s", max = "1m", factor = 2, jitter = 0 }, dead_letter = false]])
    world:publish("orders.a", "1")
    world:advance "1m"
    assert.same({ "0 began 1 1", "1000 began 1 2", "3000 began 1 3", "7000 began 1 4", "7000 ended 1" },
      world:said { at = true })
  end)

  it("comes again when the handler says so", function()
    serve [[if msg.attempt == 1 then return msg:nak "45s" end]]
    world:publish("orders.a", "1")
    world:advance "2m"
    assert.same({ "0 began 1 1", "45000 began 1 2", "45000 ended 1" }, world:said { at = true })
  end)

  it("comes again at the delay of its nak, be ack_wait shorter or longer", function()
    for _, ack_wait in ipairs { "500ms", "30s" } do
      world:close()
      world = sim.new()
      serve([[if msg.attempt == 1 then return msg:nak "2s" end]],
        ("ack_wait = %q, dead_letter = false"):format(ack_wait))
      world:publish("orders.a", "1")
      world:advance "2m"
      assert.same({ "0 began 1 1", "2000 began 1 2", "2000 ended 1" }, world:said { at = true })
      assert.equal(2, world:consumer("ORDERS", "billing").delivered.consumer_seq)
    end
  end)

  it("is dropped on purpose", function()
    serve [[return msg:term "outdated"]]
    world:publish("orders.a", "1")
    world:advance "10m"
    assert.same({ "began 1 1" }, world:said())
    assert.same({ 0, 0 }, { pending() })
  end)

  it("goes to its dead letter after the last attempt, and only there", function()
    serve([[error "never"]], [[attempts = 3, backoff = { min = "1s", max = "1s", jitter = 0 },
      dead_letter = "dead.billing"]])
    world:publish("orders.a", "1")
    world:advance "1m"
    assert.same({ "0 began 1 1", "1000 began 1 2", "2000 began 1 3" }, world:said { at = true })
    assert.same({ "1" }, world:data_of "DEAD")
    assert.same({ 0, 0 }, { pending() })
  end)

  it("goes to its dead letter at once when it can never be handled", function()
    serve([[msg:json()]], [[attempts = 8, dead_letter = "dead.billing"]])
    world:publish("orders.a", "no JSON")
    world:advance "1s"
    assert.same({ "no JSON" }, world:data_of "DEAD")
  end)

  it("is not lost when its dead letter cannot be stored", function()
    world:host { scripts = { ["orders.lua"] = sim.script [[
      js.stream { name = "ORDERS", subjects = { "orders.>" } }
      js.stream { name = "DEAD", subjects = { "dead.>" }, max_msgs = 1, discard = "new" }
      js.consume("ORDERS", { durable = "billing", attempts = 1, dead_letter = "dead.billing" },
        function() error "never" end)
    ]] } }
    world:publish("dead.other", "full")
    world:publish("orders.a", "1")
    world:advance "5m"
    assert.same({ 0, 1 }, { pending() })
    world:api("STREAM.PURGE.DEAD")
    world:advance "5m"
    assert.same({ 0, 0 }, { pending() })
    assert.same({ "1" }, world:data_of "DEAD")
  end)

  it("whose lease is lost in an outage is joined to the run that is under way when it comes again", function()
    serve([[bus.sleep "20s"]],
      [[ack_wait = "2s", timeout = "1m", dead_letter = false]])
    world:publish("orders.a", "1")
    world:advance "1s"
    world:cut "10s"
    world:advance "2m"
    assert.same({ "began 1 1", "ended 1" }, world:said())
    assert.same({ 0, 0 }, { pending() })
  end)

  it("is not run twice by two hosts, however long it takes", function()
    local body = [[bus.sleep "1m"]]
    serve(body, [[ack_wait = "1s", dead_letter = false]])
    serve(body, [[ack_wait = "1s", dead_letter = false]])
    for i = 1, 20 do world:publish("orders.a", tostring(i)) end
    world:advance "10m"
    assert.equal(40, #world:said())
    assert.same({ 0, 0 }, { pending() })
  end)

  it("keeps to the handler's concurrency", function()
    serve([[bus.sleep "1s"]], [[concurrency = 3, dead_letter = false]])
    for i = 1, 30 do world:publish("orders.a", tostring(i)) end
    world:advance "1m"
    local running, most = 0, 0
    for _, text in ipairs(world:said()) do
      running = running + (text:find "^began" and 1 or -1)
      most = math.max(most, running)
    end
    assert.same({ 0, 3 }, { running, most })
  end)
end)
