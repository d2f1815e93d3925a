-- What cannot work, or works otherwise than one would think, is said when a script begins to serve.
local world = require "spec.support.world"

describe("at its start a script", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function consumes(options)
    return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.consume("IN", { durable = "worker", dead_letter = false, %s }, function(msg) end)]]):format(options)
  end

  for field, case in pairs {
    priority_groups = { '{ "a" }', 'write the option "group" of js.consume instead' },
    priority_policy = { '"overflow"', "write pinned = true, overflow = { ... } or priority = N" },
  } do
    it("is refused consumer." .. field .. ", which is an option", function()
      local failed = w:fail(consumes(("consumer = { %s = %s }"):format(field, case[1])))
      assert.equal(2, failed.status)
      assert.matches("js.consume: consumer." .. field .. ": " .. case[2], failed.output:gsub('\\"', '"'), 1, true)
    end)
  end

  it("is told that headers_only leaves it no data", function()
    w.client:stream("IN", { "in.>" })
    local host = w:run(consumes "consumer = { headers_only = true }")
    local event = host:wait_log "headers_only: msg%.data is always empty"
    assert.same({ "handler.lua", 2 }, { event.file, event.line })
  end)

  local function subscribes(...)
    local text = { 'local bus = require "moonbus"' }
    for _, options in ipairs { ... } do
      text[#text + 1] = ('bus.subscribe("greet.*", %s, function() return "hi" end)'):format(options)
    end
    return table.concat(text, "\n")
  end

  it("is warned of two handlers of one subject, of which both answer", function()
    local host = w:run(subscribes("{}", "{}"))
    local event = host:wait_log { level = "warn", msg = "^handler%.lua:2 handles this subject, too: both get" }
    assert.equal(3, event.line)
  end)

  it("is warned of two handlers of one subject in one queue, of which each gets a part", function()
    local text = subscribes '{ queue = "q" }'
    local host = w:run { handlers = { ["a.lua"] = text, ["b.lua"] = text } }
    local event = host:wait_log { level = "warn", msg = "^a%.lua:2 handles this subject in the same queue" }
    assert.same({ "b.lua", 2 }, { event.script, event.line })
  end)

  it("is not warned of handlers in queues of their own, nor of one that only looks on", function()
    local host = w:run { handlers = {
      ["a.lua"] = subscribes('{ queue = "a" }', '{ queue = "b" }', "{}", "{ reply = false }") } }
    assert.same({}, host:logged "handles this subject")
  end)
end)

describe("a subject with * or > inside a token", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("is one like any other to publish to", function()
    w.client:stream("ODD", { "odd.>" })
    local plain = w.client:subscribe "plain.>"
    w:run [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      bus.subscribe("spec", function()
        bus.publish("plain.a*b.c", "1")
        return { js.publish("odd.x>y", "2").seq, js.publish("odd.*z", "3").seq }
      end)
      bus.subscribe("echo.>", function(msg) return msg.subject end)]]
    assert.same({ 1, 2 }, w.client:request("spec"):json())
    assert.equal("plain.a*b.c", plain:next().subject)
    assert.equal("odd.*z", w.client:message("ODD", 2).subject)
    assert.equal("echo.>>", w.client:request("echo.>>").data)
    assert.equal(0, w:cli({ "pub", "plain.2*3", "x" }).status)
    assert.equal("plain.2*3", plain:next().subject)
  end)
end)
