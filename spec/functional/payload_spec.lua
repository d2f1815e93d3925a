-- What is sent says what it is only where that is known: a table is JSON, a string is bytes.
local world = require "spec.support.world"

describe("a payload", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local BYTES = "\137PNG\r\n\0\255\254"

  -- Each way to send the value of an expression: what arrives.
  local function sent(expression)
    local found = {}
    local sub = w.client:subscribe "out.*"
    w.client:stream("OUT", { "kept.*" })
    w:run(([[
local bus, js = require "moonbus", require "moonbus.jetstream"
local value = %s
bus.subscribe("spec.return", function() return value end)
bus.subscribe("spec.respond", function(msg) msg:respond(value) end)
bus.subscribe("spec.send", function(msg)
  bus.publish("out.publish", value)
  bus.request("out.request", value, { timeout = "10ms" })
  js.publish("kept.one", value)
  js.publish_async("kept.two", value):wait()
  return "sent"
end)]]):format(expression))
    assert(w.client:request("spec.send", ""))
    for _, message in ipairs(sub:take(2)) do found[message.subject:sub(5)] = message end
    found.publish_stored, found.publish_async = w.client:message("OUT", 1), w.client:message("OUT", 2)
    found.returned = assert(w.client:request("spec.return", ""))
    found.responded = assert(w.client:request("spec.respond", ""))
    return found
  end

  it("that is a string goes as it is, without a content-type", function()
    local count = 0
    for way, message in pairs(sent(("%q"):format(BYTES):gsub("\n", "n"):gsub("\r", "\\r"):gsub("%z", "\\0"))) do
      count = count + 1
      assert.equal(BYTES, message.data, way)
      assert.is_nil(message:header "content-type", way)
    end
    assert.equal(6, count)
  end)

  it("that is nothing is empty, without a content-type", function()
    for way, message in pairs(sent '""') do
      assert.same({ "" }, { message.data, message:header "content-type" }, way)
    end
  end)

  it("that is a table is JSON, and says so", function()
    for way, message in pairs(sent "{ id = 7 }") do
      assert.same({ '{"id":7}', "application/json" }, { message.data, message:header "content-type" }, way)
    end
  end)

  it("has the content-type that its sender states", function()
    local sub = w.client:subscribe "out"
    w:run [[
local bus = require "moonbus"
bus.on("start", function()
  bus.publish("out", "words", { headers = { ["Content-Type"] = "text/plain; charset=utf-8" } })
end)]]
    assert.equal("text/plain; charset=utf-8", sub:next(10):header "content-type")
  end)
end)
