-- A durable that is given its own dead letters would make one of each of them, for ever.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a durable whose filter lets its own dead letters in", function()
  local w = world.new()
  setup(function() w:open() end)
  before_each(function() w.client:stream("IN", { "in.>" }) end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function script(filter)
    return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
bus.subscribe("version", function() return %q end)
js.consume("IN", { durable = "worker", dead_letter = "in.dead"%s }, function(msg) msg:json() end)]])
      :format(filter, filter)
  end

  local REFUSED = 'handler%.lua:3: IN/worker: dead letters to "in%.dead" would come back to this durable, ' ..
    'and what cannot be processed would go round for ever: let another stream take them, or state a filter'

  for what, filter in pairs {
    ["no filter"] = "", ["a wildcard"] = ', filter = "in.*"', ["their subject"] = ', filter = "in.dead"',
  } do
    it("is refused at start: " .. what, function()
      local failed = w:fail(script(filter))
      assert.equal(2, failed.status)
      local said = {}
      for index, event in ipairs(failed.events) do said[index] = event.msg end
      assert.matches(REFUSED, table.concat(said, "\n"))
    end)
  end

  it("is refused when a reload widens the filter", function()
    local host = w:run(script ', filter = "in.work"')
    temp.write(host.folder, "handlers/handler.lua", script ', filter = "in.*"')
    host:signal "HUP"
    local event = host:wait_log "refused, generation 1 keeps running"
    assert.matches(REFUSED, event.msg)
  end)

  it("is served when it is bound to what somebody else has made: its filter is on the server", function()
    w.client:consumer("IN", "worker", { filter_subject = "in.work", max_deliver = -1 })
    local host = w:run(script ", bind = true")
    w.client:store("in.work", "no JSON")
    w.client:await_settled("IN", "worker", 10)
    host:wait_log { level = "error", msg = "to the dead letter in.dead" }
  end)

  it("is served when it states no filter, and the one that it has on the server leaves them out", function()
    w.client:consumer("IN", "worker", { filter_subject = "in.work", max_deliver = -1 })
    local host = w:run(script "")
    w.client:store("in.work", "no JSON")
    host:wait_log { level = "error", msg = "to the dead letter in.dead" }
    w.client:await_stored("IN", 2, 10)
    w.client:await_settled("IN", "worker", 10)
    wait.holds(function() return w.client:stream_info("IN").state.messages == 2 end, 0.2)
  end)

  for what, stated in pairs { ["it is bound to"] = ", bind = true", ["it states no filter for"] = "" } do
    it("is refused when what " .. what .. " has a filter that lets them in", function()
      w.client:consumer("IN", "worker", { filter_subject = "in.*", max_deliver = -1 })
      local failed = w:fail(script(stated))
      assert.equal(2, failed.status)
      local said = {}
      for index, event in ipairs(failed.events) do said[index] = event.msg end
      assert.matches(REFUSED, table.concat(said, "\n"))
    end)
  end

  it("is served when the filter leaves them out, and each letter is written once", function()
    local host = w:run(script ', filter = "in.work"')
    w.client:store("in.work", "no JSON")
    host:wait_log { level = "error", msg = "to the dead letter in.dead" }
    w.client:await_stored("IN", 2, 10)
    w.client:await_settled("IN", "worker", 10)
    wait.holds(function() return w.client:stream_info("IN").state.messages == 2 end, 0.2)
    assert.equal(1, #host:logged { level = "error", msg = "to the dead letter in.dead" })
  end)
end)
