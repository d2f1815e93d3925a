local faulty = require "spec.support.faulty"
local proxy = require "spec.support.proxy"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local consumer, pick = faulty.consumer, faulty.pick
local INPUTS = pick(1000, 5000)
local PING = pick(1, 2)
local AWAY = pick(4, 8)

describe("an outage", function()
  local w = world.new { config = 'lame_duck_grace_period: "100ms", lame_duck_duration: "30s"' }
  local front
  setup(function()
    w:open()
    front = proxy.start(w.server)
  end)
  after_each(function()
    w.server:thaw()
    front:pass()
    w:clear()
  end)
  teardown(function()
    front:close()
    w:close()
  end)

  local function count(stream) return w.client:stream_info(stream).state.messages end

  local function config(more)
    return ("return { ping_interval = %g, %s }"):format(PING, more or "")
  end

  describe("under load", function()
    local host, inputs

    local function store(many)
      for _ = 1, many do
        inputs = inputs + 1
        w.client:store("in.x", tostring(inputs))
      end
    end

    -- A host in the middle of its work; ack_wait is shorter than the outage.
    local function at_work(server)
      w.client:stream("IN", { "in.>" }, { storage = "file" })
      inputs = 0
      store(INPUTS)
      host = w:run {
        handlers = { ["handler.lua"] = consumer(
          'ack_wait = "2s", concurrency = 16, dead_letter = "dead.x"', [[
            run(msg)
            bus.sleep("20ms")
            js.publish("out.x", msg.data)
            done(msg)
          ]], "file") },
        config = config(), server = server, level = "info",
      }
      wait.eventually(function() return faulty.runs(host).ended > INPUTS / 5 end, 10)
    end

    local function noticed(began)
      host:wait_log("consume connection .* lost", 3 * PING + 2)
      local took = wait.now() - began
      assert.is_true(took < wait.within(3 * PING), "noticed after " .. took)
    end

    local function stays_away(began)
      wait.holds(function() return #host:logged "connection back" == 0 end,
        AWAY - (wait.now() - began))
    end

    -- With `back` the server can be reached again: work goes on, and all of it is done once. On a
    -- busy machine there may be none left.
    local function goes_on(back)
      local before = faulty.runs(host).ended
      back()
      local began = wait.now()
      if before == inputs then store(INPUTS / 5) end
      wait.eventually(function() return faulty.runs(host).ended > before end, 10)
      local took = wait.now() - began
      assert.is_true(took < wait.within(3), "went on after " .. took)
      wait.eventually(function() return w.client:settled("IN", "worker") end, 30, function()
        return host:explain():sub(-4000)
      end)
      local runs, seen = faulty.runs(host), {}
      assert.equal(0, runs.overlapping)
      assert.equal(inputs, runs.begun)
      assert.equal(inputs, count "OUT")
      for _, message in ipairs(w.client:messages "OUT") do seen[message.data] = true end
      for index = 1, inputs do assert.is_true(seen[tostring(index)], index .. " is missing") end
      assert.equal(0, count "DEAD")
      assert.same({}, host:logged "terminated")
    end

    it("of a server that is killed loses and repeats nothing", function()
      at_work()
      w.server:down "KILL"
      host:wait_log "consume connection .* lost"
      goes_on(function() w.server:up() end)
    end)

    it("of a server that is stopped in order loses and repeats nothing", function()
      at_work()
      w.server:down "TERM"
      host:wait_log "consume connection .* lost"
      goes_on(function() w.server:up() end)
    end)

    it("of a server in lame duck mode loses and repeats nothing", function()
      at_work()
      w.server:down("USR2", 30) -- it serves for a while yet
      host:wait_log "consume connection .* lost"
      goes_on(function() w.server:up() end)
    end)

    it("of a server that hangs is noticed, and loses and repeats nothing", function()
      at_work()
      local began = wait.now()
      w.server:freeze()
      noticed(began)
      stays_away(began)
      goes_on(function() w.server:thaw() end)
    end)

    it("of a network that swallows is noticed, and loses and repeats nothing", function()
      at_work(front)
      local began = wait.now()
      front:swallow()
      noticed(began)
      stays_away(began)
      goes_on(function() front:pass() end)
    end)

    it("would repeat what another process took over meanwhile", function()
      w.client:stream("IN", { "in.>" }, { storage = "file" })
      inputs = 0
      store(16)
      local function takes(body, server)
        return w:run { handlers = { ["handler.lua"] = consumer(
          'ack_wait = "2s", concurrency = 16, dead_letter = "dead.x"', body, "file") }, server = server }
      end
      host = takes('run(msg) bus.sleep "1m"', front)
      wait.eventually(function() return faulty.runs(host).begun == 16 end)
      front:swallow()
      local other = takes "run(msg) done(msg)"
      wait.eventually(function() return faulty.runs(other).begun > 0 end)
      for sequence in pairs(faulty.runs(other).of) do assert.equal(1, faulty.runs(host).of[sequence]) end
    end)
  end)

  describe("while a handler publishes", function()
    local function publishing(options, after)
      w.client:stream("IN", { "in.>" })
      w.client:store("in.x", "1")
      local host = w:run {
        handlers = { ["handler.lua"] = consumer('backoff = { min = "200ms", max = "200ms" }', ([[
          run(msg)
          repeat bus.sleep "20ms" until io.open "go"
          print "publishing"
          local receipt, err = js.publish("out.x", msg.data, { %s })
          print(receipt and "stored" or "failed " .. err.code)
          %s
          done(msg)
        ]]):format(options, after or "")) },
        config = config "trust = true", server = front,
      }
      host:wait_log "^run 1"
      front:down()
      temp.write(host.folder, "go", "")
      host:wait_log "^publishing"
      return host
    end

    it("makes it wait, and store its message once", function()
      local host = publishing ""
      local away = pick(2, 5)
      wait.holds(function() return count "OUT" == 0 and #host:logged "^stored" == 0 end, away)
      front:pass()
      host:wait_log("^stored", 5)
      wait.eventually(function() return w.client:settled("IN", "worker") end)
      assert.equal(1, count "OUT")
      assert.equal(1, faulty.runs(host).begun)
    end)

    it("gives nil, err when its attempts are used up, and the input is nak'd", function()
      local host = publishing 'attempts = 2, timeout = "1s"'
      host:wait_log "^failed timeout"
      host:wait_log "a publish was not stored"
      local watch = faulty.watch(w.client)
      front:pass()
      host:wait_log("^stored", 5)
      wait.eventually(function() return w.client:settled("IN", "worker") end)
      assert.equal(1, faulty.count(faulty.verdicts(watch), "-NAK"))
      assert.equal(2, faulty.runs(host).begun)
      assert.equal(1, count "OUT")
    end)

    it("leaves the verdict to a handler that gives it", function()
      local host = publishing('attempts = 2, timeout = "1s"', "msg:ack()")
      host:wait_log "^failed timeout"
      local watch = faulty.watch(w.client)
      front:pass()
      wait.eventually(function() return w.client:settled("IN", "worker") end)
      assert.equal(0, faulty.count(faulty.verdicts(watch), "-NAK"))
      assert.equal(1, faulty.runs(host).begun)
      assert.equal(0, count "OUT")
    end)
  end)

  describe("between the store and its confirmation", function()
    -- Publishes with an expectation; what the server confirms is lost with the connection. The
    -- window in which the server knows message ids, in seconds.
    local function publish(expect, window, cut_at, meanwhile)
      w.client:stream("OUT", { "out.>" }, { duplicate_window = window * 1e9 })
      w.client:store("out.a", "first", { ["Nats-Msg-Id"] = "of the first" })
      local host = w:run {
        handlers = { ["handler.lua"] = ([[
          local bus = require "moonbus"
          local js = require "moonbus.jetstream"
          bus.subscribe("spec", { timeout = "30s" }, function()
            local receipt, err = js.publish("out.a", "second", { expect = { %s } })
            bus.publish("answer", receipt or { code = err.code })
          end)
        ]]):format(expect) },
        config = 'return { reconnect = { wait = "600ms", jitter = 0 } }', server = front,
      }
      local answer = w.client:subscribe "answer"
      front:cut_at(cut_at or '{"stream":"OUT"')
      w.client:publish("spec", "")
      host:wait_log "publish connection .* lost"
      if meanwhile then meanwhile() end
      return answer:next(10):json()
    end

    for window, what in pairs { [120] = "knows its id", [0.1] = "has forgotten its id" } do
      for _, expect in ipairs { "last_sequence = 1", "last_subject_sequence = 1",
        'last_id = "of the first"' } do
        it(("is no wrong sequence: %s, by a server that %s"):format(expect, what), function()
          local answer = publish(expect, window)
          assert.same({ "OUT", 2 }, { answer.stream, answer.seq })
          assert.equal(2, count "OUT")
        end)
      end
    end

    it("is no wrong sequence, though others have published since", function()
      for _, expect in ipairs { "last_sequence = 1", "last_subject_sequence = 1" } do
        local answer = publish(expect, 0.1, nil, function() w.client:store("out.a", "third") end)
        assert.same({ "OUT", 2 }, { answer.stream, answer.seq })
        assert.equal(3, count "OUT")
        w:clear()
      end
    end)

    it("is a wrong sequence when it is one", function()
      for _, expect in ipairs { "last_sequence = 7", "last_subject_sequence = 7",
        'last_id = "of another"' } do
        assert.equal("wrong_sequence", publish(expect, 0.1, '"err_code":1007').code)
        assert.equal(1, count "OUT")
        w:clear()
      end
    end)
  end)
end)
