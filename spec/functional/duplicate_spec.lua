-- A publish that is stored already at the first run of its input is odd, and told of; one that the
-- host itself repeats is not.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local worker = require "spec.support.worker"
local world = require "spec.support.world"

-- The jump out of compiled code is left out of sanitized builds.
local escapes = not (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS")

describe("a duplicate", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local WARNING = { level = "warn", msg = "has a message with the id" }

  local function stored() return #w.client:messages "OUT" end

  it("at the first run of an input is a warning that says which one, and where", function()
    local script = worker.script("", [[ js.publish("out.x", msg.data) ]])
    local host = w:run(script)
    w.client:store("in.a", "x")
    w.client:await_settled("IN", "worker")
    assert.equal(0, host:stop())
    w.client:delete_consumer("IN", "worker") -- and is made anew: from the beginning
    local event = w:run(script):wait_log(WARNING)
    assert.same({ "handler.lua", "IN/worker", "IN", "worker", 1, 1, "handler.lua", 7 },
      { event.script, event.handler, event.stream, event.consumer, event.sequence, event.attempt,
        event.file, event.line })
    assert.matches('js.publish "out.x": the stream OUT has a message with the id "IN:%d+:worker:1:0.1:out.x"',
      event.msg)
    assert.matches("its durable was made anew", event.msg)
    w.client:await_settled("IN", "worker")
    assert.equal(1, stored())
  end)

  it("in a batch likewise, by the message that it comes from", function()
    local script = worker.script('batch = { size = 2, wait = "50ms" }',
      [[ for _, each in ipairs(msg) do js.publish_async("out.x", each.data, { from = each }) end ]])
    local host = w:run(script)
    w.client:store("in.a", "x")
    w.client:store("in.a", "y")
    w.client:await_settled("IN", "worker")
    assert.equal(0, host:stop())
    w.client:delete_consumer("IN", "worker")
    host = w:run(script)
    host:wait_log(WARNING, 5, 2)
    local sequences = {}
    for index, event in ipairs(host:logged(WARNING)) do sequences[index] = event.sequence end
    table.sort(sequences)
    assert.same({ 1, 2 }, sequences)
  end)

  it("is none to speak of when the input comes again", function()
    local host = w:run(worker.script(worker.QUICK, [[
      js.publish("out.x", msg.data)
      if msg.attempt < 3 then error "again" end
    ]]))
    w.client:store("in.a", "x")
    w.client:await_settled("IN", "worker")
    assert.same({ 1, 0 }, { stored(), #host:logged(WARNING) })
  end)

  it("nor when an old version was one too many, and the new one began again", function()
    local SCRIPT = worker.script("", [[
      js.publish("out.x", msg.data)
      bus.publish("stored", "%s")
      bus.sleep "%s"
    ]])
    local told = w.client:subscribe "stored"
    local host = w:run { handlers = { ["handler.lua"] = SCRIPT:format("one", "1m") },
      args = { "--watch" }, config = "return { limits = { generations = 1 } }" }
    w.client:store("in.a", "x")
    assert.equal("one", told:next().data)
    temp.write(host.folder, "handlers/handler.lua", SCRIPT:format("two", "1ms"))
    assert.equal("two", told:next(10).data)
    w.client:await_settled("IN", "worker")
    assert.same({ 1, 0 }, { stored(), #host:logged(WARNING) })
  end)

  if escapes then
    it("nor when its Lua state was given up meanwhile", function()
      local told = w.client:subscribe "stored"
      local host = w:run { handlers = { ["handler.lua"] = worker.script("", [[
        js.publish("out.x", msg.data)
        bus.publish("stored", "")
        bus.sleep "700ms"
      ]]) .. [[ bus.script { workers = 1 } bus.subscribe("burn", function() while true do end end) ]] },
        config = 'return { limits = { cpu = "100ms" } }' }
      w.client:store("in.a", "x")
      told:take(1)
      w.client:publish("burn", "")
      host:wait_log("its Lua state was given up", 10)
      told:take(1, 10)
      w.client:await_settled("IN", "worker", 10)
      assert.same({ 1, 0 }, { stored(), #host:logged(WARNING) })
      assert.is_true(wait.holds(function() return stored() == 1 end, 0.05))
    end)
  end
end)
