local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("stopping", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function()
    w.server:thaw()
    w:clear()
  end)
  teardown(function() w:close() end)

  local SLOW = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" }, storage = "file" }
js.stream { name = "OUT", subjects = { "out.>" }, storage = "file" }
js.consume("IN", { durable = "worker", concurrency = 2 }, function(msg)
  bus.publish("begin", msg.data)
  bus.sleep(bus.settings.pause or "300ms")
  js.publish("out.x", msg.data)
end)
bus.subscribe("slow", function(msg)
  bus.publish("begin", msg.data)
  bus.sleep(bus.settings.pause or "300ms")
  return "finished"
end)]]

  local function slow(pause, ...)
    return w:run { handlers = { ["slow.lua"] = SLOW }, args = { ... },
      config = ("return { settings = { pause = %q } }"):format(pause) }
  end

  for _, signal in ipairs { "TERM", "INT" } do
    it("by SIG" .. signal .. " ends with status 0 when nothing runs", function()
      local host = slow "1s"
      host:signal(signal)
      assert.equal(0, host:wait(5))
    end)
  end

  it("finishes the handlers that run, and hands back what has not started", function()
    w.client:stream("IN", { "in.>" }, { storage = "file" })
    for index = 1, 6 do w.client:store("in.x", tostring(index)) end
    local begin = w.client:subscribe "begin"
    local host = slow "300ms"
    begin:take(2)
    local began = wait.now()
    assert.equal(0, host:stop())
    assert.is_true(wait.now() - began < wait.within(5))
    assert.equal(2, w.client:stream_info("OUT").state.messages)
    assert.same({}, begin:arrived())
    local info = w.client:consumer_info("IN", "worker")
    assert.equal(2, info.ack_floor.stream_seq)
    -- What was handed back is here again at once, not after ack_wait.
    slow "10ms"
    wait.eventually(function() return w.client:settled("IN", "worker") end, 10)
    assert.equal(6, w.client:stream_info("OUT").state.messages)
  end)

  it("answers the requests that it has taken", function()
    local begin, inbox = w.client:subscribe "begin", w.client:subscribe "inbox"
    local host = slow "300ms"
    w.client:publish("slow", "x", nil, "inbox")
    begin:take(1)
    assert.equal(0, host:stop())
    assert.equal("finished", inbox:next().data)
    assert.same({ nil, "no responders" }, { w.client:request("slow", "") })
  end)

  it("takes no new messages once it has begun", function()
    local begin = w.client:subscribe "begin"
    local host = slow "400ms"
    w.client:publish("slow", "x")
    begin:take(1)
    host:signal "TERM"
    wait.eventually(function()
      local reply, reason = w.client:request("slow", "late", { timeout = 0.3 })
      return not reply and reason == "no responders"
    end)
    assert.equal(0, host:wait())
  end)

  it("flushes what was published", function()
    local out = w.client:subscribe "last"
    local host = w:run [[
      local bus = require "moonbus"
      bus.on("stop", function() for i = 1, 100 do bus.publish("last", tostring(i)) end end)
    ]]
    assert.equal(0, host:stop())
    assert.equal("100", out:take(100)[100].data)
  end)

  it("at the graceful deadline ends with status 3, and hands back what did not finish", function()
    local begin = w.client:subscribe "begin"
    local host = slow("30s", "--graceful-timeout", "3s")
    w.client:store("in.x", "1")
    begin:take(1)
    local began = wait.now()
    assert.equal(3, host:stop())
    assert.is_true(wait.now() - began >= 2.4) -- what is left is for handing back
    assert.is_true(wait.now() - began < wait.within(7))
    assert.equal(0, w.client:stream_info("OUT").state.messages)
    slow "10ms"
    assert.equal("1", begin:next(5).data) -- long before ack_wait
  end)

  it("cancels what is unfinished at the deadline, with an error in it", function()
    local host = w:run { handlers = { ["handler.lua"] = [[
      local bus = require "moonbus"
      bus.subscribe("wait", function()
        bus.publish("begin", "")
        local ok, err = pcall(bus.sleep, "1m")
        print("ended", ok, err)
      end)
    ]] }, args = { "--graceful-timeout", "3s" } }
    local begin = w.client:subscribe "begin"
    w.client:publish("wait", "")
    begin:take(1)
    assert.equal(3, host:stop())
    host:wait_log "^ended\tfalse"
  end)

  it("is bounded when the server is down", function()
    local begin = w.client:subscribe "begin"
    local host = slow("400ms", "--graceful-timeout", "2s")
    w.client:store("in.x", "1")
    begin:take(1)
    w.server:down "KILL"
    host:wait_log "connection to .* lost"
    local began = wait.now()
    local ok, status = pcall(host.stop, host)
    local took = wait.now() - began
    w.server:up()
    wait.eventually(function() return w.client:stream_info "IN" end, 10)
    assert.is_true(ok, status)
    assert.is_true(status == 0 or status == 3, tostring(status))
    assert.is_true(took < wait.within(4))
  end)

  it("is quick when the server is down and nothing runs", function()
    local host = slow("1s", "--graceful-timeout", "10s")
    w.server:down()
    host:wait_log "connection to .* lost"
    local began = wait.now()
    local ok, status = pcall(host.stop, host)
    local took = wait.now() - began
    w.server:up()
    wait.eventually(function() return w.client:stream_info "IN" end, 10)
    assert.is_true(ok, status)
    assert.equal(0, status)
    assert.is_true(took < wait.within(3))
  end)

  it("works while the server never was there", function()
    local host = w:start { handlers = { ["slow.lua"] = SLOW }, server = false,
      args = { "-s", "nats://127.0.0.1:1" } }
    host:wait_log "127%.0%.0%.1:1"
    local began = wait.now()
    assert.equal(0, host:stop())
    assert.is_true(wait.now() - began < wait.within(3))
  end)

  it("is bounded when the server is frozen, and answers at once", function()
    local host = w:run { handlers = { ["slow.lua"] = SLOW }, args = { "--graceful-timeout", "1s" } }
    w.server:freeze()
    local began = wait.now()
    host:signal "TERM"
    host:wait_log "[Dd]rain"
    assert.is_true(wait.now() - began < wait.within(0.5))
    host:wait(10)
    assert.is_true(wait.now() - began < wait.within(4))
  end)

  it("keeps the other handlers' timers going while the server is frozen", function()
    local host = w:run [[
      local bus = require "moonbus"
      bus.every("20ms", function() print "tick" end)
      bus.every("20ms", function() bus.publish("into.the.void", ("x"):rep(10000)) end)
    ]]
    host:wait_log "tick"
    w.server:freeze()
    local before, longest, last = #host:logged "tick", 0, wait.now()
    wait.eventually(function()
      local now = #host:logged "tick"
      if now > before then
        longest, last, before = math.max(longest, wait.now() - last), wait.now(), now
      end
      return longest > 0 and now >= 40
    end, 10)
    assert.is_true(longest < wait.within(0.5), "a tick took " .. longest)
  end)

  it("answers at once to what goes to either connection while the server is frozen", function()
    w.client:stream("HELD", { "held" })
    local host = w:run [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.consume("HELD", { durable = "worker", timeout = "1m" }, function(msg)
        print "begun"
        local longest = 0
        for _ = 1, 50 do
          local began = bus.now()
          assert(msg:progress()) -- the consume connection
          bus.publish("into.the.void", ("x"):rep(100000)) -- the publish connection
          longest = math.max(longest, bus.now() - began)
          bus.sleep("20ms")
        end
        print("longest", longest)
      end)
    ]]
    w.client:store("held", "1")
    host:wait_log "begun"
    w.server:freeze()
    local longest = host:wait_log("^longest", 10).msg:match "longest%s+(%S+)"
    assert.is_true(tonumber(longest) < wait.within(0.5), "it took " .. longest)
  end)
end)
