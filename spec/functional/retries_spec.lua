-- backoff.park_after on real servers: with schedules (2.12 and newer) long retries are parked, without they are
-- delayed naks. What waits for long is spec/sim/retries_spec.lua's.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("backoff.park_after", function()
  local w, schedules = world.new(), false
  setup(function()
    w:open()
    schedules = (w.client:api "INFO".api.level or 0) >= 2
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function handler(body, options)
    return ([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "OUT", subjects = { "out.>", "dead.>" } }
js.consume("IN", { durable = "worker", dead_letter = "dead.in", attempts = 3, %s
  backoff = { min = "2s", max = "2s", jitter = 0, park_after = "1s" } }, function(msg)
%s
end)]]):format(options or "", body)
  end

  local TELL = [[
    js.publish("out.a", { msg.id, msg.attempt, msg.subject, msg.sequence, msg.timestamp, msg.stream, msg.consumer,
      msg.data, msg.headers["Nats-Msg-Id"], msg.headers.color }, { id = msg.id .. msg.attempt })
  ]]

  local function outputs() return w.client:messages "OUT" end

  local function durable(stream, name) return w.client:api("CONSUMER.INFO." .. stream .. "." .. name) end

  it("has a message come again as what it was, and leaves the durable nothing to wait for", function()
    if not schedules then pending "this server has no schedules" return end
    local host = w:run(handler(TELL .. [[if msg.attempt < 3 then error "not yet" end]], "max_ack_pending = 2,"))
    for i = 1, 5 do
      w.client:store("in.a", "x" .. i, { ["Nats-Msg-Id"] = "id" .. i, color = "red" })
    end
    wait.eventually(function()
      local info = durable("IN", "worker")
      return info.num_ack_pending == 0 and info.num_pending == 0 and info.delivered.consumer_seq == 5
    end, 10)
    wait.eventually(function() return #outputs() == 15 end, 30)
    local seen = {}
    for _, message in ipairs(outputs()) do
      local told = message:json()
      local key = told[8]
      seen[key] = seen[key] or {}
      seen[key][told[2]] = told
    end
    for i = 1, 5 do
      local told = seen["x" .. i]
      for attempt = 1, 3 do
        local expected = { told[1][1], attempt, "in.a", told[1][4], told[1][5], "IN", "worker", "x" .. i, "id" .. i,
          "red" }
        assert.same(expected, told[attempt])
      end
    end
    wait.eventually(function()
      return durable("MOONBUS_RETRIES", "IN=worker").num_ack_pending == 0
        and w.client:stream_info("MOONBUS_RETRIES").state.messages == 0
    end, 10)
    assert.equal(5, durable("IN", "worker").delivered.consumer_seq)
    assert.same({}, host:logged "forgets the ids") -- which copies do not need
  end)

  it("has what is given up in its dead letter, as it was", function()
    w:run(handler [[error "never"]])
    w.client:store("in.a", "x", { color = "red" })
    w.client:await_stored("OUT", 1, 30)
    local letter = w.client:message("OUT", 1)
    assert.same({ "dead.in", "x", "IN", "worker", "1", "in.a", "3", "red" }, {
      letter.subject, letter.data, letter:header "Moonbus-Stream", letter:header "Moonbus-Consumer",
      letter:header "Moonbus-Sequence", letter:header "Moonbus-Subject", letter:header "Moonbus-Attempt",
      letter:header "color",
    })
  end)

  it("says in the log and in the status how it is done", function()
    local host = w:run { handlers = { ["handler.lua"] = handler [[error "not yet"]] }, admin = true }
    w.client:store("in.a", "x")
    local event = host:wait_log { level = "error", msg = "not yet" }
    assert.equal(schedules and "parked" or "nak", event.verdict)
    assert.equal(schedules and 0 or 1, #host:logged { level = "info", msg = "needs message schedules" })
    local status = w:moonbus({ "status", "--json", "--admin", host.admin }).stdout
    local shown = w:moonbus({ "status", "--admin", host.admin }).stdout
    assert.equal(not schedules, shown:find "long retries are delayed naks" ~= nil)
    assert.matches(schedules and '"retries":"parked"' or '"retries":"naks"', (status:gsub("%s", "")))
  end)

  it("is refused where something waits for the message in its place", function()
    for options, wanted in pairs {
      ['order_by = "subject",'] = "order_by, as the key of a message waits for it",
      ["pinned = true,"] = "pinned, as what is parked may come back to another process",
      ["max_ack_pending = 1,"] = "max_ack_pending = 1, as the next message would not wait for it",
    } do
      local run = w:fail(handler("", options))
      assert.equal(2, run.status)
      assert.is_truthy(run.stderr:find("backoff.park_after does not go with " .. wanted, 1, true), run.stderr)
      assert.same({ "handler.lua", 5 }, { run.events[1].file, run.events[1].line })
    end
    local run = w:fail((handler(""):gsub('park_after = "1s"', 'park_after = "10ms"')))
    assert.matches("backoff.park_after", run.stderr)
  end)

  it("refuses to start beside a stream of that name which does not serve", function()
    if not schedules then pending "this server has no schedules" return end
    w.client:stream("MOONBUS_RETRIES", { "moonbus.retries.>" })
    local run = w:start(handler "")
    run:wait_log { level = "error", msg = "MOONBUS_RETRIES is not as backoff.park_after needs it" }
    run:signal "TERM"
    run:wait()
  end)

  it("goes on in another process, with the attempts that were", function()
    if not schedules then pending "this server has no schedules" return end
    local first = w:run(handler(TELL .. [[error "not yet"]]))
    w.client:store("in.a", "x")
    w.client:await_stored("OUT", 1)
    first:signal "KILL"
    first:wait()
    w:run(handler(TELL))
    w.client:await_stored("OUT", 2, 20)
    assert.equal(2, w.client:message("OUT", 2):json()[2])
  end)
end)
