-- Without a dead letter a message is never given up; dead_letter = false terminates it.
local temp = require "spec.support.temp"
local worker = require "spec.support.worker"
local world = require "spec.support.world"

local consumer = worker.script
local SHORT = 'attempts = 2, backoff = { min = "20ms", max = "150ms", jitter = 0 }'

describe("without a dead letter", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function pending() return w.client:consumer_info("IN", "worker").num_ack_pending end

  -- The runs of the first message, `count` of them: each at the time that its handler published.
  local function runs(seen, count)
    local list = {}
    for index, message in ipairs(seen:take(count, 10)) do list[index] = message:json() end
    return list
  end

  local RUN = [[ bus.publish("seen", { attempt = msg.attempt, at = bus.now(), data = msg.data }) ]]

  it("a message that fails comes again for ever, at the longest backoff after its attempts", function()
    local seen = w.client:subscribe "seen"
    local host = w:run(consumer(SHORT, RUN .. [[ error "not yet" ]]))
    w.client:store("in.a", "x")
    local list = runs(seen, 8) -- far more than attempts, and the three that crashes are believed
    for index = 1, 8 do assert.equal(index, list[index].attempt) end
    for index = 2, 7 do assert.is_true(list[index + 1].at - list[index].at >= 0.149) end
    host:wait_log({ level = "error", msg = "not yet; not given up, .*no dead_letter; nak in 150ms" },
      5, 6)
    assert.equal(1, #host:logged { level = "error", attempt = 1, msg = "not yet; nak in 20ms" })
    assert.equal(1, pending())
  end)

  it("and is done with when it succeeds at last", function()
    local seen = w.client:subscribe "seen"
    w:run(consumer(SHORT, RUN .. [[ if msg.attempt < 7 then error "not yet" end ]]))
    w.client:store("in.a", "x")
    runs(seen, 7)
    w.client:await_settled("IN", "worker")
    assert.is_nil(seen:next(0.2))
  end)

  for what, body in pairs {
    ["bad JSON"] = [[ return msg:json() ]], ["msg:reject"] = [[ msg:reject "unfit" ]],
  } do
    it("so does one that is hopeless, without a hurry: " .. what, function()
      local seen = w.client:subscribe "seen"
      local host = w:run(consumer(SHORT, RUN .. body))
      w.client:store("in.a", "not JSON")
      local list = runs(seen, 5)
      for index = 1, 4 do assert.is_true(list[index + 1].at - list[index].at >= 0.149) end
      host:wait_log({ level = "error", code = "bad_payload", msg = "nak in 150ms" }, 5, 4)
      assert.equal(1, pending())
    end)
  end

  it("msg:nak means what it says at each attempt", function()
    local seen = w.client:subscribe "seen"
    w:run(consumer(SHORT, RUN .. [[
      if msg.attempt % 2 == 0 then return msg:nak() end
      return msg:nak "30ms"
    ]]))
    w.client:store("in.a", "x")
    local list = runs(seen, 6)
    assert.is_true(list[4].at - list[3].at < 0.149)
    assert.is_true(list[5].at - list[4].at >= 0.149)
    assert.equal(1, pending())
  end)

  it("in a batch likewise, and the rest of it is done", function()
    local seen = w.client:subscribe "seen"
    local host = w:run(consumer(SHORT .. ', batch = { size = 2, wait = "50ms" }', [[
      for _, each in ipairs(msg) do
        if each.data == "bad" then
          bus.publish("seen", { attempt = each.attempt, at = bus.now() })
          if each.attempt % 2 == 0 then each:reject "unfit" else each:nak() end
        end
      end
    ]]))
    w.client:store("in.a", "good")
    w.client:store("in.a", "bad")
    local list = runs(seen, 6)
    for index = 2, 5 do assert.is_true(list[index + 1].at - list[index].at >= 0.149) end
    host:wait_log { level = "error", sequence = 2, msg = "unfit; not given up" }
    local info = w.client:consumer_info("IN", "worker")
    assert.same({ 1, 1 }, { info.num_ack_pending, info.ack_floor.stream_seq })
  end)

  it("an error of a batch naks it again and again", function()
    local seen = w.client:subscribe "seen"
    local host = w:run(consumer(SHORT .. ', batch = { size = 2, wait = "20ms" }', [[
      bus.publish("seen", { attempt = msg[1].attempt, at = bus.now() })
      error "not yet"
    ]]))
    w.client:store("in.a", "x")
    runs(seen, 6)
    host:wait_log({ level = "error", msg = "of a batch of 1: 1 nak'd, 0 " }, 5, 6)
    assert.equal(1, pending())
  end)

  describe("in order", function()
    it("its key waits for it, and no other", function()
      local seen = w.client:subscribe "seen"
      local host = w:run(consumer(SHORT .. ', order_by = "subject"', RUN .. [[
        if msg.data == "bad" then error "not yet" end
      ]]))
      local warning = host:wait_log "never given up"
      assert.matches("and its key waits for it", warning.msg)
      w.client:store("in.a", "bad")
      w.client:store("in.a", "behind")
      w.client:store("in.b", "other")
      local count = { bad = 0, behind = 0, other = 0 }
      for _, message in ipairs(seen:take(8, 10)) do
        local data = message:json().data
        count[data] = count[data] + 1
      end
      assert.same({ 0, 1 }, { count.behind, count.other })
      host:wait_log { level = "error", msg = "not given up, .*; again in 150ms" }
    end)
  end)

  describe("the start warns", function()
    it("of what will happen", function()
      local host = w:run(consumer(SHORT, ""))
      local event = host:wait_log { level = "warn", handler = "IN/worker", msg = "^no dead_letter" }
      assert.matches("never given up: after its attempts %(2%) it comes again every 150ms", event.msg)
      assert.matches("dead_letter = false terminates it", event.msg)
      assert.is_nil(event.msg:find "key waits")
    end)

    it("not with a dead letter, nor with dead_letter = false; a reload that takes it away does", function()
      local host = w:run { handlers = { ["handler.lua"] = consumer(worker.DEAD, "") },
        args = { "--watch" } }
      assert.same({}, host:logged "^no dead_letter")
      temp.write(host.folder, "handlers/handler.lua", consumer("dead_letter = false", ""))
      host:wait_log "generation 2 live"
      assert.same({}, host:logged "^no dead_letter")
      temp.write(host.folder, "handlers/handler.lua", consumer("", ""))
      host:wait_log "generation 3 live"
      assert.equal(1, #host:logged "^no dead_letter")
    end)
  end)
end)

describe("with dead_letter = false", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function terminated(body, times, options)
    local seen = w.client:subscribe "seen"
    local host = w:run(consumer(SHORT .. ", dead_letter = false" .. (options or ""),
      [[ bus.publish("seen", "") ]] .. body))
    w.client:store("in.a", "not JSON")
    seen:take(times)
    w.client:await_settled("IN", "worker")
    assert.is_nil(seen:next(0.2))
    return host
  end

  it("a message is terminated after its last attempt", function()
    terminated([[ error "no" ]], 2):wait_log { level = "error", attempt = 2, code = nil,
      msg = "no; terminated %(dead_letter = false%)" }
  end)

  it("a hopeless one at once", function()
    terminated([[ msg:json() ]], 1):wait_log { level = "error", attempt = 1, code = "bad_payload",
      msg = "; terminated %(dead_letter = false%)" }
  end)

  it("and one that was nak'd at its last attempt", function()
    terminated([[ msg:nak "10ms" ]], 2)
  end)

  it("true is no value for it", function()
    local host = w:start { handlers = { ["handler.lua"] = consumer("dead_letter = true", "") },
      server = w.server }
    assert.equal(2, host:wait())
    assert.matches("dead_letter: expected a subject, or false", host:output())
  end)
end)
