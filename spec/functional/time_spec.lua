local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("time", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- The reply, decoded, of a handler that runs `body`.
  local function result_of(body)
    w:run(([[
local bus = require "moonbus"
bus.subscribe("spec", function(msg)
%s
end)]]):format(body))
    return w.client:request("spec", ""):json()
  end

  describe("bus.now", function()
    it("is the time in seconds since 1970", function()
      local now = result_of("return { now = bus.now() }").now
      assert.is_true(math.abs(now - os.time()) < 5)
    end)
  end)

  describe("bus.sleep", function()
    it("waits as long as it is told, in every form of a duration", function()
      local result = result_of [[
        local began = bus.now()
        bus.sleep("50ms") bus.sleep(0.05) bus.sleep("0s") bus.sleep(0)
        return { seconds = bus.now() - began }
      ]]
      assert.is_true(result.seconds >= 0.099 and result.seconds < wait.within(2))
    end)

    it("suspends its handler, not the others", function()
      w:run { handlers = { ["handler.lua"] = [[
        local bus = require "moonbus"
        bus.subscribe("sleeper", function() bus.sleep("1m") end)
        bus.subscribe("awake", function() return "yes" end)
      ]] }, args = { "--workers", "1", "--graceful-timeout", "200ms" } }
      for _ = 1, 10 do w.client:publish("sleeper", "") end
      assert.equal("yes", w.client:request("awake", "").data)
    end)

    it("raises when it is misused", function()
      local errors = result_of [[
local errors = {}
for index, use in ipairs {
  function() bus.sleep() end, function() bus.sleep("a while") end, function() bus.sleep(-1) end,
  function() bus.sleep({}) end, function() bus.sleep(5000000000) end,
} do
  local ok, err = pcall(use)
  errors[index] = ok and "no error" or tostring(err)
end
return errors]]
      for _, text in ipairs(errors) do assert.matches("handler%.lua:%d+", text) end
      assert.matches("a while", errors[2])
      assert.matches("nanoseconds", errors[5])
    end)

    it("raises when its handler is cancelled, and at each binding after that", function()
      local leaks = w.client:subscribe "leak"
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("stubborn", { timeout = "100ms" }, function()
          for _ = 1, 5 do pcall(bus.sleep, "1m") end
          pcall(bus.publish, "leak", "x")
          pcall(bus.request, "leak", "x")
        end)
      ]]
      w.client:publish("stubborn", "")
      host:wait_log { level = "error", code = "timeout", handler = "stubborn" }
      assert.same({}, leaks:arrived())
    end)
  end)

  describe("bus.after", function()
    it("runs once, not before its time", function()
      local fired = w.client:subscribe "fired"
      w:run [[
        local bus = require "moonbus"
        local began = bus.now()
        bus.after("100ms", function() bus.publish("fired", tostring(bus.now() - began)) end)
      ]]
      assert.is_true(tonumber(fired:next().data) >= 0.099)
      assert.is_nil(fired:next(0.2))
    end)

    it("runs once per process, however many workers there are", function()
      local fired = w.client:subscribe "fired"
      w:run { handlers = { ["handler.lua"] = [[
        local bus = require "moonbus"
        bus.after("10ms", function() bus.publish("fired", "") end)
      ]] }, args = { "--workers", "4" } }
      fired:take(1)
      assert.is_nil(fired:next(0.2))
    end)

    it("can be cancelled", function()
      local fired = w.client:subscribe "fired"
      result_of [[
        local timer = bus.after("30ms", function() bus.publish("fired", "no") end)
        timer:cancel()
        timer:cancel()
        bus.sleep("80ms")
        bus.publish("fired", "end")
        return {}
      ]]
      assert.equal("end", fired:next().data)
    end)

    it("made inside a handler, ends with it", function()
      local fired = w.client:subscribe "fired"
      result_of [[
        bus.after("50ms", function() bus.publish("fired", "no") end)
        return {}
      ]]
      assert.is_nil(fired:next(0.2))
    end)
  end)

  describe("bus.every", function()
    it("repeats", function()
      local ticks = w.client:subscribe "tick"
      w:run [[
        local bus = require "moonbus"
        bus.every("20ms", function() bus.publish("tick", "") end)
      ]]
      ticks:take(5)
    end)

    it("runs once per process at each time, however many workers there are", function()
      local ticks = w.client:subscribe "tick"
      w:run { handlers = { ["handler.lua"] = [[
        local bus = require "moonbus"
        bus.every("100ms", function() bus.publish("tick", tostring(bus.now())) end)
      ]] }, args = { "--workers", "4" } }
      -- One that is late makes the time to the next one shorter; two at a time would be twice as many.
      local list = ticks:take(21)
      local took = tonumber(list[21].data) - tonumber(list[1].data)
      assert.is_true(took > 1.5, took .. " s for 20 times 100 ms")
    end)

    it("never runs on top of itself", function()
      local trace = w.client:subscribe "trace"
      w:run [[
        local bus = require "moonbus"
        bus.every("10ms", function()
          bus.publish("trace", "in")
          bus.sleep("50ms")
          bus.publish("trace", "out")
        end)
      ]]
      for index, message in ipairs(trace:take(8)) do
        assert.equal(index % 2 == 1 and "in" or "out", message.data)
      end
    end)

    it("goes on after an error, which is logged with file and line", function()
      local host = w:run [[
local bus = require "moonbus"
local count = 0
bus.every("20ms", function()
  count = count + 1
  error("tick " .. count)
end)]]
      host:wait_log { level = "error", file = "handler.lua", line = 5, msg = "tick 1" }
      host:wait_log { level = "error", msg = "tick 3" }
    end)

    it("stops when it is cancelled, from inside too", function()
      local ticks = w.client:subscribe "tick"
      w:run [[
        local bus = require "moonbus"
        local count, timer = 0
        timer = bus.every("10ms", function()
          count = count + 1
          bus.publish("tick", "")
          if count == 3 then timer:cancel() end
        end)
      ]]
      ticks:take(3)
      assert.is_nil(ticks:next(0.1))
    end)

    it("made inside a handler, ends with it", function()
      local ticks = w.client:subscribe "tick"
      result_of [[
        bus.every("10ms", function() bus.publish("tick", "") end)
        bus.sleep("60ms")
        return {}
      ]]
      assert.is_true(#ticks:arrived() >= 2)
      assert.is_nil(ticks:next(0.1))
    end)

    it("runs on while the server is away", function()
      local host = w:run [[
        local bus = require "moonbus"
        local count = 0
        bus.every("20ms", function() count = count + 1 print("tick " .. count) end)
      ]]
      host:wait_log "tick 1$"
      w.server:freeze()
      local before = #host:logged "tick"
      local ok, reason = pcall(wait.eventually, function()
        return #host:logged "tick" >= before + 10
      end)
      w.server:thaw()
      assert.is_true(ok, reason)
    end)
  end)
end)
