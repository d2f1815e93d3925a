-- In a batch each input's publishes are stored once, however its next attempt is put together.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a batch's publishes", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- The handler's body has `msgs`. Two messages come in one batch, 1 and 2; the second batch is
  -- what is left.
  local function run(body, options)
    local host = w:run(([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" }, storage = "memory" }
js.stream { name = "OUT", subjects = { "out" }, storage = "memory" }
js.consume("IN", { durable = "worker", batch = { size = 2, wait = "%s" },
  backoff = { min = "20ms", max = "50ms", jitter = 0 }, attempts = 3 }, function(msgs)
%s
end)]]):format(options or "1m", body))
    w.client:store("in.a", "1")
    w.client:store("in.a", "2")
    return host
  end

  local function outputs()
    w.client:await_settled("IN", "worker", 10)
    local list = {}
    for index, message in ipairs(w.client:messages "OUT") do list[index] = message.data end
    table.sort(list)
    return list
  end

  -- The first attempt has both, and fails when 2 is half done; then 2 comes alone.
  local HALF_DONE = [[
    local first = #msgs == 2
    local function work(msg)
      js.publish("out", msg.data .. " one", { from = msg })
      if first and msg.data == "2" then error "half done" end
      js.publish("out", msg.data .. " two", { from = msg })
      if first then msg:ack() end -- at once; else by returning, when all is stored
    end
  ]]

  it("lose none and double none when the rest of a batch comes again alone", function()
    run(HALF_DONE .. [[ for _, msg in ipairs(msgs) do work(msg) end ]], "100ms")
    assert.same({ "1 one", "1 two", "2 one", "2 two" }, outputs())
  end)

  it("nor when each message has a coroutine of its own", function()
    run(HALF_DONE .. [[
      local work_on = {}
      for index, msg in ipairs(msgs) do work_on[index] = bus.spawn(work, msg) end
      for _, future in ipairs(work_on) do future:wait() end
    ]], "100ms")
    assert.same({ "1 one", "1 two", "2 one", "2 two" }, outputs())
  end)

  it("nor when nobody waits for them", function()
    run(HALF_DONE:gsub("js.publish", "js.publish_async") ..
      [[ for _, msg in ipairs(msgs) do work(msg) end ]], "100ms")
    assert.same({ "1 one", "1 two", "2 one", "2 two" }, outputs())
  end)

  it("have the id of the option, or of the header, where one is given", function()
    run([[
      js.publish("out", "x", { id = "first" })
      js.publish("out", "x", { headers = { ["Nats-Msg-Id"] = "second" } })
      js.publish_async("out", "x", { headers = { ["nats-msg-id"] = "third" } })
    ]], "50ms")
    w.client:await_settled("IN", "worker", 10)
    local ids = {}
    for index, message in ipairs(w.client:messages "OUT") do
      ids[index] = message:header "Nats-Msg-Id"
    end
    assert.same({ "first", "second", "third" }, ids)
  end)

  it("are refused without from and id", function()
    local host = run([[
      for _, publish in ipairs { js.publish, js.publish_async } do
        print(pcall(publish, "out", "x"))
        print(pcall(publish, "out", "x", { headers = { a = "b" } }))
      end
    ]], "50ms")
    host:wait_log("^false\t.*in a batch, say from = msg", 5, 4)
    assert.same({}, outputs())
  end)
end)

describe("from", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A script that keeps the first message, and publishes for it when the second one comes.
  it("is refused for a message of another run, whose publishes have been counted", function()
    local host = w:run [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.script { workers = 1 }
js.stream { name = "IN", subjects = { "in.>" }, storage = "memory" }
js.stream { name = "OUT", subjects = { "out" }, storage = "memory" }
local kept
js.consume("IN", { durable = "worker", concurrency = 1 }, function(msg)
  js.publish("out", msg.data, { from = msg })
  if kept then print(pcall(js.publish, "out", "again", { from = kept })) end
  kept = msg
end)]]
    w.client:store("in.a", "1")
    w.client:store("in.a", "2")
    host:wait_log("^false\t.*handler%.lua:%d+: js.publish: from must be a message that this handler")
    w.client:await_settled("IN", "worker")
    local ids = {}
    for index, message in ipairs(w.client:messages "OUT") do
      ids[index] = message:header("Nats-Msg-Id"):match ":worker:(.*)$"
    end
    assert.same({ "1:0.1:out", "2:0.1:out" }, ids)
  end)

  it("may be the only message of a run, of which it says nothing new", function()
    local answers = w.client:subscribe "answers"
    w:run [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "OUT", subjects = { "out" }, storage = "memory" }
bus.subscribe("ask", function(msg)
  bus.publish("answers", tostring(js.publish("out", msg.data, { from = msg }).seq))
end)]]
    w.client:publish("ask", "x")
    w.client:publish("ask", "x")
    assert.same({ "1", "2" }, { answers:next().data, answers:next().data })
    assert.is_true(wait.holds(function() return #w.client:messages "OUT" == 2 end, 0.05))
  end)
end)
