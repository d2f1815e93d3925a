-- What is published is stored, and once; and when it is not, the handler gets to know.
local worker = require "spec.support.worker"
local world = require "spec.support.world"

local consumer, DEAD, QUICK = worker.script, worker.DEAD, worker.QUICK

describe("JetStream", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function settled(deadline) w.client:await_settled("IN", "worker", deadline) end

  local function stored(stream, count, deadline) return w.client:await_stored(stream, count, deadline) end

  local function count(stream) return w.client:stream_info(stream).state.messages end

  describe("js.publish", function()
    -- What a core handler that runs `body` replies, decoded.
    local function result_of(body, options)
      w.client:stream("OUT", { "out.>" })
      w:run { handlers = { ["handler.lua"] = ([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.subscribe("spec", function(msg)
%s
end)]]):format(body) }, config = options and options.config }
      return w.client:request("spec", "", { timeout = 15 }):json()
    end

    it("waits until it is stored, and gives stream, seq and duplicate", function()
      local receipt = result_of [[
        js.publish("out.a", "first")
        return js.publish("out.a", { n = 2 }, { headers = { K = "v" } })
      ]]
      assert.same({ "OUT", 2, false }, { receipt.stream, receipt.seq, receipt.duplicate })
      local message = w.client:message("OUT", 2)
      assert.equal('{"n":2}', (message.data:gsub("%s", "")))
      assert.equal("v", message:header "K")
      assert.equal("application/json", message:header "content-type")
    end)

    it("stores one id once", function()
      local result = result_of [[
        local first = js.publish("out.a", "x", { id = "same" })
        local second = js.publish("out.a", "x", { id = "same" })
        return { first.seq, second.seq, second.duplicate }
      ]]
      assert.same({ 1, 1, true }, result)
      assert.equal("same", w.client:message("OUT", 1):header "Nats-Msg-Id")
      assert.equal(1, count "OUT")
    end)

    it("gives nil, err with no_stream at once when no stream takes the subject", function()
      local result = result_of [[
        local began = bus.now()
        local receipt, err = js.publish("nowhere.at.all", "x")
        return { receipt = tostring(receipt), code = err.code, text = tostring(err),
          quick = bus.now() - began < 5 }
      ]]
      assert.same({ "nil", "no_stream", true }, { result.receipt, result.code, result.quick })
      assert.matches("nowhere%.at%.all", result.text)
    end)

    it("gives nil, err with too_large above the server's limit", function()
      assert.equal("too_large", result_of([[
        local _, err = js.publish("out.a", ("x"):rep(2 * 1024 * 1024))
        return { code = err.code }
      ]]).code)
    end)

    it("gives nil, err with wrong_sequence when its expectation is not met", function()
      local result = result_of [[
        js.publish("out.a", "x")
        local good = js.publish("out.a", "y", { expect = { last_sequence = 1 } })
        local receipt, err = js.publish("out.a", "z", { expect = { last_sequence = 1 } })
        return { good = good.seq, receipt = tostring(receipt), code = err.code }
      ]]
      assert.same({ good = 2, receipt = "nil", code = "wrong_sequence" }, result)
    end)

    it("gives nil, err with wrong_sequence when another stream takes the subject than is expected", function()
      local result = result_of [[
        local good = js.publish("out.a", "x", { expect = { stream = "OUT" } })
        local receipt, err = js.publish("out.a", "y", { expect = { stream = "OTHER" } })
        return { good = good.seq, receipt = tostring(receipt), code = err.code }
      ]]
      assert.same({ good = 1, receipt = "nil", code = "wrong_sequence" }, result)
      assert.equal(1, count "OUT")
    end)

    it("into a work queue says once that its server forgets ids when it restarts", function()
      local host = w:run [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.stream { name = "JOBS", subjects = { "jobs.>" }, retention = "workqueue" }
        js.stream { name = "LOG", subjects = { "log.>" } }
        bus.subscribe("spec", function()
          for _ = 1, 3 do js.publish("jobs.a", "x") js.publish("log.a", "x") end
          return "done"
        end)]]
      assert.equal("done", w.client:request("spec").data)
      local list = host:logged { level = "warn", msg = "forgets" }
      assert.equal(1, #list)
      assert.matches("stream JOBS keeps only what its consumers have not taken: it forgets the ids", list[1].msg)
    end)

    it("gives nil, err with timeout when nothing is stored in time", function()
      w.client:subscribe "void" -- a subscriber that is no stream
      local result = result_of [[
        local receipt, err = js.publish("void", "x", { timeout = "50ms", attempts = 2 })
        return { receipt = tostring(receipt), code = err.code }
      ]]
      assert.equal("nil", result.receipt)
      assert.is_truthy(({ timeout = true, no_stream = true })[result.code], result.code)
    end)

    it("raises when it is misused, by file and line", function()
      local errors = result_of [[
local uses = {
  function() js.publish() end, function() js.publish("a..b", "x") end,
  function() js.publish("out.*", "x") end, function() js.publish("out.a", print) end,
  function() js.publish("out.a", "x", { ident = 1 }) end,
  function() js.publish("out.a", "x", { id = "" }) end,
  function() js.publish("out.a", "x", { headers = { K = "a\nb" } }) end,
  function() js.publish("out.a", "x", { attempts = 0 }) end,
  function() js.publish("out.a", "x", { expect = { last = 1 } }) end,
}
local errors = {}
for index, use in ipairs(uses) do
  local ok, err = pcall(use)
  errors[index] = ok and "no error" or tostring(err)
end
return errors]]
      for _, text in ipairs(errors) do assert.matches("handler%.lua:%d+", text) end
      assert.is_truthy(errors[5]:find("ident", 1, true))
    end)

    it("raises when its handler is cancelled while it waits", function()
      w.client:subscribe "void"
      local host = w:run [[
        local bus = require "moonbus"
        local js = require "moonbus.jetstream"
        bus.subscribe("spec", { timeout = "100ms" }, function()
          js.publish("void", "x", { timeout = "1m" })
          print "not reached"
        end)
      ]]
      w.client:publish("spec", "")
      host:wait_log { level = "error", handler = "spec" }
      assert.same({}, host:logged "not reached")
    end)

    it("from an input has an id of that input, so that a retry stores it once", function()
      w:run(consumer(QUICK, [[
        js.publish("out.a", "one")
        js.publish("out.a", "two")
        js.publish("out.b", "three")
        if msg.attempt < 3 then error "after the publishes" end
      ]]))
      w.client:store("in.a", "x")
      settled(10)
      local messages = w.client:messages "OUT"
      assert.equal(3, #messages)
      local ids = {}
      for index, message in ipairs(messages) do ids[index] = message:header "Nats-Msg-Id" end
      assert.matches("^IN:%d+:worker:1:.*out%.a$", ids[1])
      assert.not_equal(ids[1], ids[2])
      assert.matches("out%.b$", ids[3])
    end)

    it("from branches of gather has ids that do not depend on their order", function()
      w:run(consumer(QUICK, [[
        local function branch(name, pause)
          return function()
            bus.sleep(msg.attempt == 1 and pause or 0.06 - pause)
            js.publish("out.a", name)
          end
        end
        bus.gather { branch("first", 0.01), branch("second", 0.05) }
        if msg.attempt == 1 then error "again" end
      ]]))
      w.client:store("in.a", "x")
      settled(10)
      local messages = w.client:messages "OUT"
      assert.equal(2, #messages)
      assert.same({ "first", "second" }, { messages[1].data, messages[2].data })
    end)

    it("from however deep a branch, to however long a subject, is stored, and once", function()
      w:run(consumer(QUICK, [[
        local long = "out." .. ("x"):rep(1500)
        local function branch(depth)
          js.publish(long, tostring(depth))
          if depth < 40 then bus.spawn(branch, depth + 1):wait() end
        end
        branch(1)
        if msg.attempt == 1 then error "again" end
      ]]))
      w.client:store("in.a", "x")
      stored("OUT", 40, 10) -- before it has delivered anything the server may call all of it settled
      settled(10)
      local messages = w.client:messages "OUT"
      for depth, message in ipairs(messages) do assert.equal(tostring(depth), message.data) end
      assert.equal(40, #messages)
    end)

    it("that failed makes a nak of a handler that returns", function()
      local seen = w.client:subscribe "seen"
      local host = w:run(consumer(DEAD .. ", attempts = 2", [[
        bus.publish("seen", tostring(msg.attempt))
        js.publish("nowhere.at.all", "x")
      ]]))
      w.client:store("in.a", "x")
      assert.equal("1", seen:next().data)
      assert.equal("2", seen:next().data)
      assert.equal("no_stream", stored("DEAD", 1)[1]:header "Moonbus-Code")
      host:wait_log { level = "error", code = "no_stream", attempt = 1 }
    end)

    it("that failed may be dealt with by the handler", function()
      w:run(consumer(DEAD, [[
        local receipt, err = js.publish("nowhere.at.all", "x")
        if not receipt and err.code == "no_stream" then return msg:ack() end
      ]]))
      w.client:store("in.a", "x")
      settled()
      assert.equal(0, count "DEAD")
      assert.equal(0, w.client:consumer_info("IN", "worker").num_redelivered)
    end)

    it("that an earlier run has stored meets what was expected, as it did then", function()
      local notes = w.client:subscribe "note"
      w:run(worker.script('backoff = { min = "20ms" }', [[
        local first = assert(js.publish("out.x", "1", { expect = { last_subject_sequence = 0 } }))
        local second = assert(js.publish("out.x", "2", { expect = { last_sequence = first.seq } }))
        bus.publish("note", first.seq .. " " .. second.seq .. " " .. tostring(second.duplicate))
        if msg.attempt < 3 then error "again" end
      ]]))
      w.client:store("in.a", "x")
      local seen = {}
      for _, message in ipairs(notes:take(3)) do seen[#seen + 1] = message.data end
      assert.same({ "1 2 false", "1 2 true", "1 2 true" }, seen)
      assert.equal(2, #w.client:messages "OUT")
    end)

    it("that lost a race (wrong_sequence) is an answer, and no failure", function()
      w:run(consumer(DEAD, [[
        local receipt, err = js.publish("out.a", "x", { expect = { last_sequence = 99 } })
        assert(not receipt and err.code == "wrong_sequence")
      ]]))
      w.client:store("in.a", "x")
      settled()
      assert.equal(0, w.client:consumer_info("IN", "worker").num_redelivered)
    end)
  end)

  describe("js.publish_async", function()
    it("gives a future of the receipt", function()
      w.client:stream("OUT", { "out.>" })
      w:run [[
        local bus = require "moonbus"
        local js = require "moonbus.jetstream"
        bus.subscribe("spec", function()
          local futures = {}
          for index = 1, 10 do futures[index] = js.publish_async("out.a", tostring(index)) end
          local seqs = {}
          for index = 1, 10 do seqs[index] = futures[index]:wait().seq end
          return seqs
        end)
      ]]
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, w.client:request("spec", ""):json())
    end)

    it("gives nil, err through its future when it failed", function()
      w:run [[
        local bus = require "moonbus"
        local js = require "moonbus.jetstream"
        bus.subscribe("spec", function()
          local receipt, err = js.publish_async("nowhere.at.all", "x"):wait()
          return tostring(receipt) .. " " .. err.code
        end)
      ]]
      assert.equal("nil no_stream", w.client:request("spec", "").data)
    end)

    it("is waited for before the input is acknowledged", function()
      w:run(consumer(nil, [[
        for index = 1, 50 do js.publish_async("out.a", tostring(index)) end
      ]]))
      w.client:store("in.a", "x")
      settled()
      assert.equal(50, count "OUT")
    end)

    it("makes a nak when it failed and nobody looked", function()
      local seen = w.client:subscribe "seen"
      w:run(consumer(DEAD .. ", attempts = 2", [[
        bus.publish("seen", tostring(msg.attempt))
        js.publish_async("nowhere.at.all", "x")
      ]]))
      w.client:store("in.a", "x")
      assert.equal("2", seen:take(2)[2].data)
      stored("DEAD", 1)
    end)
  end)

  it("integers up to 2^53 pass through JSON and back", function()
    w:run(consumer(nil, [[ js.publish("out.a", msg:json()) ]]))
    w.client:store("in.a", '{"id":9007199254740992}')
    assert.is_truthy(stored("OUT", 1)[1].data:find("9007199254740992", 1, true))
  end)
end)
