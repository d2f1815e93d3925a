-- What a stop takes out of its handlers' hands is in the log, message by message.
local world = require "spec.support.world"

describe("a message that is handed back at the graceful deadline", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local COUNT = 40

  local function stopped(options, body)
    w.client:stream("IN", { "in" })
    for _ = 1, COUNT do w.client:store("in", "x") end
    local begin = w.client:subscribe "begin"
    local host = w:run { handlers = { ["handler.lua"] = ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.consume("IN", { durable = "worker", concurrency = %d, %s }, function(msg)
  for _ = 1, type(msg) == "table" and #msg or 1 do bus.publish("begin", "") end
  %s
end)]]):format(COUNT, options, body) }, args = { "--graceful-timeout", "2s" } }
    begin:take(COUNT)
    assert.equal(3, host:stop())
    return host
  end

  local function each_is_told(host)
    local told = {}
    for _, event in ipairs(host:logged { level = "warn", msg = "^handed back: the host is stopping$" }) do
      assert.same({ "handler.lua", "IN/worker", "IN", "in", 1 },
        { event.script, event.handler, event.stream, event.subject, event.attempt })
      assert.is_nil(told[event.sequence])
      told[event.sequence] = true
    end
    assert.equal(COUNT, #told)
  end

  it("is told of, each once", function()
    each_is_told(stopped("", [[ bus.sleep "1m" ]]))
  end)

  it("also when its handler does not let go", function()
    each_is_told(stopped("", [[ while true do pcall(bus.sleep, "1m") bus.sleep "1m" end ]]))
  end)

  it("also in a batch", function()
    each_is_told(stopped([[ batch = { size = 8, wait = "20ms" } ]], [[ bus.sleep "1m" ]]))
  end)

  it("not when its handler gave its verdict before", function()
    local host = stopped("", [[ msg:ack() bus.sleep "1m" ]])
    assert.same({}, host:logged "^handed back")
  end)
end)
