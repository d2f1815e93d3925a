-- What bounds a run that has no timeout of its own: timers, hooks, and what they call.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a start hook", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local LOOP = [[
local bus = require "moonbus"
bus.on("start", function()
  while true do
    bus.publish("turn", %q)
    bus.sleep "10ms"
  end
end)
bus.subscribe("echo", function(msg) return msg.data end)]]

  it("may go on for as long as its version serves, and ends with it", function()
    local turns = w.client:subscribe "turn"
    local host = w:run { handlers = { ["handler.lua"] = LOOP:format "one" }, args = { "--watch" } }
    assert.equal("one", turns:next().data)
    temp.write(host.folder, "handlers/handler.lua", LOOP:format "two")
    host:wait_log "generation 2 live"
    host:wait_log { level = "info", handler = "on start", msg = "version of the script was replaced" }
    turns:arrived()
    for _, message in ipairs(turns:take(10)) do assert.equal("two", message.data) end
    assert.same({}, host:logged { level = "error" })
  end)

  it("ends with the host, which is no error", function()
    local turns = w.client:subscribe "turn"
    local host = w:run { handlers = { ["handler.lua"] = LOOP:format "one" },
      args = { "--graceful-timeout", "500ms" } }
    turns:take(1)
    host:signal "TERM"
    host:wait(10)
    assert.same({}, host:logged { level = "error", handler = "on start" })
  end)
end)

describe("an offloaded call without a timeout", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local WORK = [[
return {
  long = function(seconds) os.execute("sleep " .. seconds) return "slept" end,
  endless = function() local n = 0 while true do n = n + 1 end end,
}]]

  local function run(body)
    return w:run { files = { ["lib/work.lua"] = WORK }, handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local work = bus.offload "work"
]] .. body } }
  end

  it("has what its handler has left: the handler's timeout is what is told", function()
    local host = run [[
bus.subscribe("spec", { timeout = "300ms" }, function() return work.endless() end)]]
    local began = wait.now()
    local reply = w.client:request("spec", "")
    assert.is_true(wait.now() - began < wait.within(2))
    assert.matches("handler ran longer than its timeout of 300ms", reply:header "Nats-Service-Error")
    host:wait_log { level = "error", code = "timeout", handler = "spec" }
    assert.equal(1, #host:logged { level = "error" })
  end)

  it("has its time in a timer and in a hook, too", function()
    local host = run [[
bus.on("start", function() print("hook", work.long(0.05)) end)
bus.after("1ms", function() print("timer", work.long(0.05)) end)]]
    host:wait_log "^hook\tslept"
    host:wait_log "^timer\tslept"
  end)

  if os.getenv "SPEC_LONG" then
    it("may take half a minute, as its handler may", function()
      w.client:stream("IN", { "in" })
      local seen = w.client:subscribe "seen"
      run [[
local js = require "moonbus.jetstream"
js.consume("IN", { durable = "d" }, function(msg)
  bus.publish("seen", msg.attempt .. " " .. tostring(work.long(32)))
end)]]
      w.client:store("in", "")
      assert.equal("1 slept", seen:next(60).data)
    end)
  end
end)
