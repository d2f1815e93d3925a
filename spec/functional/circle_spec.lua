-- Dead letters that come back by way of another host: neither of the two sees the circle.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("dead letters that go in a circle over two hosts", function()
  local w = world.new()
  setup(function() w:open() end)
  before_each(function()
    w.client:stream("A", { "a" })
    w.client:stream("B", { "b" })
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function script(stream, dead, more)
    return ([[
local js = require("moonbus.jetstream")
js.consume(%q, { durable = "worker", attempts = 1, dead_letter = %q%s }, function() error "no luck" end)]])
      :format(stream, dead, more or "")
  end

  local CIRCLE = "no luck; to the stream MOONBUS_DEAD: it has been a dead letter 8 times in a row"

  local function ends_after(messages, first, second)
    wait.eventually(function()
      return #first:logged { level = "error", msg = CIRCLE } + #second:logged { level = "error", msg = CIRCLE } == 1
    end, 20, function() return first:stderr() .. second:stderr() end)
    w.client:await_settled("A", "worker", 10)
    w.client:await_settled("B", "worker", 10)
    local function stored()
      return w.client:stream_info("A").state.messages + w.client:stream_info("B").state.messages
    end
    assert.equal(messages, stored())
    wait.holds(function() return stored() == messages end, 0.2)
  end

  it("end after the eighth, in a stream of their own, with an error that says so", function()
    local first = w:run { handlers = { ["first.lua"] = script("A", "b") } }
    local second = w:run { handlers = { ["second.lua"] = script("B", "a") } }
    w.client:store("a", "x")
    ends_after(9, first, second)
    local event = first:logged({ level = "error", msg = CIRCLE })[1]
    assert.same({ "dead_letter", "moonbus.dead.A.worker", "A", 5 },
      { event.verdict, event.dead_letter, event.stream, event.sequence })
    assert.matches("one leg of which is b:", event.msg)
    -- A stranger's word for it, and letters in letters of hosts that do not count: stored there, and the next is
    -- served.
    w.client:store("a", "forged", { ["Moonbus-Hops"] = "99999999999999999999" })
    w.client:store("a", "old", { [("Moonbus-Orig-"):rep(7) .. "Moonbus-Consumer"] = "x" })
    wait.eventually(function() return #first:logged { level = "error", msg = CIRCLE } == 3 end, 10)
    w.client:await_settled("A", "worker", 10)
    assert.equal(7, w.client:stream_info("A").state.messages)
    w.client:await_stored("MOONBUS_DEAD", 3)
    local letters = {}
    for _, letter in ipairs(w.client:messages "MOONBUS_DEAD") do
      local from, hops = letter:header "Moonbus-Subject", letter:header "Moonbus-Hops"
      letters[#letters + 1] = { letter.subject, letter.data, from, hops }
    end
    assert.same({ "moonbus.dead.A.worker", "x", "a", "9" }, letters[1])
    assert.same({ "forged", "old" }, { letters[2][2], letters[3][2] })
  end)

  it("are terminated when they come from there, too", function()
    w.client:stream("MOONBUS_DEAD", { "moonbus.dead.>" })
    local both = script("A", "b") .. (script("MOONBUS_DEAD", "b"):gsub("local js.-\n", ""))
    local host = w:run { handlers = { ["handler.lua"] = both } }
    w.client:store("a", "x", { ["Moonbus-Hops"] = "8" })
    host:wait_log { level = "error", verdict = "term", msg = "no luck; terminated: it has been a dead letter 8 times" }
    w.client:await_settled("MOONBUS_DEAD", "worker", 10)
  end)

  it("end when batches die", function()
    local first = w:run { handlers = { ["first.lua"] = script("A", "b", ', batch = { size = 4, wait = "10ms" }') } }
    local second = w:run { handlers = { ["second.lua"] = script("B", "a") } }
    w.client:store("a", "x")
    ends_after(9, first, second)
  end)
end)
