local faulty = require "spec.support.faulty"
local proxy = require "spec.support.proxy"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local consumer, pick = faulty.consumer, faulty.pick

describe("a message that this process holds", function()
  local w = world.new()
  local front
  setup(function()
    w:open()
    front = proxy.start(w.server)
  end)
  after_each(function()
    front:pass()
    w:clear()
  end)
  teardown(function()
    front:close()
    w:close()
  end)

  local function store(count, data)
    if w.client:api("STREAM.INFO.IN").error then w.client:stream("IN", { "in.>" }) end
    for index = 1, count do w.client:store("in.x", data or tostring(index)) end
  end

  local function settled(deadline)
    wait.eventually(function() return w.client:settled("IN", "worker") end, deadline)
  end

  local BURN = pick({ wait = "1s", burn = 3 }, { wait = "2s", burn = 6 })

  local function burning(body)
    return w:run {
      handlers = { ["handler.lua"] = consumer(('ack_wait = %q'):format(BURN.wait), body) },
      args = { "--workers", "1" },
      config = 'return { limits = { cpu = "10s" } }',
    }
  end

  it("is delivered once, though it waits behind one that burns CPU longer than ack_wait", function()
    store(11)
    local host = burning(('run(msg) if msg.data == "1" then burn(%d) end done(msg)')
      :format(BURN.burn))
    settled(20)
    assert.equal(11, faulty.deliveries(w.client))
    assert.equal(11, faulty.runs(host).begun)
  end)

  it("is delivered again when its heartbeats stop, and joined: it runs once all the same", function()
    store(11)
    local host = burning 'run(msg) bus.sleep("2500ms") done(msg)'
    wait.eventually(function() return faulty.runs(host).begun == 11 end)
    host:signal "STOP"
    wait.eventually(function() return faulty.deliveries(w.client) > 11 end, 10)
    host:signal "CONT"
    settled(20)
    assert.equal(11, faulty.runs(host).begun)
  end)

  it("is run once, though all of them take longer than ack_wait", function()
    local count, pause = pick(8, 20), pick(0.5, 1)
    store(count)
    local host = w:run(consumer(('concurrency = 2, ack_wait = "%gs"'):format(pause),
      ('run(msg) bus.sleep(%g) done(msg)'):format(pause)))
    settled(30)
    assert.equal(count, faulty.runs(host).begun)
  end)

  it("costs no wake of the process by itself: what many hold is renewed in bulk", function()
    local count, beats = 1000, 2000
    store(count)
    local host = w:run(consumer('concurrency = 1000, ack_wait = "3s"', 'run(msg) bus.sleep "1m"'))
    wait.eventually(function() return faulty.runs(host).begun == count end, 20)
    local watch = faulty.watch(w.client)
    local before = host:switches()
    watch:take(beats, 30)
    local switches = host:switches() - before
    assert.is_true(switches < beats, switches .. " switches of threads")
    assert.equal(count, faulty.deliveries(w.client))
  end)

  it("is not fetched before a handler can soon have it", function()
    store(20)
    local host = w:run(consumer('concurrency = 2', 'run(msg) bus.sleep(0.1) done(msg)'))
    local most = 0
    wait.eventually(function()
      local info = w.client:consumer_info("IN", "worker")
      most = math.max(most, info.num_ack_pending)
      return info.num_pending == 0 and info.num_ack_pending == 0
    end, 20)
    assert.is_true(most >= 2 and most <= 4, most .. " held at once")
    assert.equal(20, faulty.runs(host).begun)
  end)

  it("would be delivered again if it were fetched, and had no heartbeats", function()
    store(20)
    w.client:consumer("IN", "worker", { ack_wait = 300e6 })
    local inbox = w.client:subscribe "inbox"
    w.client:publish("$JS.API.CONSUMER.MSG.NEXT.IN.worker", '{"batch":40}', nil, "inbox")
    inbox:take(40)
    assert.is_true(faulty.deliveries(w.client) > 20)
  end)

  describe("with a publish on its way", function()
    -- One burns CPU for 4 s while the publishes of the others are on their way, on one worker.
    local function publishing()
      store(1, "publish")
      store(1, "burn")
      store(3, "publish")
      w.client:stream("OUT", { "out.>" })
      return w:run {
        handlers = { ["handler.lua"] = consumer('concurrency = 5, backoff = { min = "30s", max = "30s" }', [[
          run(msg)
          if msg.data == "burn" then burn(4) else
            local receipt, err = js.publish("out.x", tostring(msg.sequence),
              { timeout = "3s", attempts = 1 })
            print(receipt and "stored" or err.code)
          end
          done(msg)
        ]]) },
        args = { "--workers", "1" }, server = front, config = 'return { limits = { cpu = "20s" } }',
      }
    end

    it("has it stored at the first try, though another handler burns the CPU meanwhile", function()
      local tries = w.client:subscribe "out.x"
      front:delay(10)
      local host = publishing()
      settled(20)
      assert.same({}, host:logged "^timeout$")
      assert.equal(4, #host:logged "^stored$")
      assert.equal(4, #tries:arrived(), host:explain())
      assert.equal(4, w.client:stream_info("OUT").state.messages)
      assert.equal(5, faulty.deliveries(w.client))
    end)

    it("is told of a timeout that is one", function()
      local host = publishing()
      wait.eventually(function() return faulty.runs(host).ended == 5 end)
      assert.equal(4, #host:logged "^stored$")
      front:delay(1700)
      store(1, "publish")
      host:wait_log "^timeout$"
    end)
  end)

  it("is not run again when it comes back after a term that came too late", function()
    store(1)
    local host = w:run { server = front, handlers = { ["handler.lua"] = consumer(
      'ack_wait = "500ms"', [[
      run(msg)
      bus.sleep("1500ms")
      local ok, err = msg:term()
      print("term", ok, err and err.code)
    ]]) } }
    wait.eventually(function() return faulty.runs(host).begun == 1 end)
    front:down()
    host:wait_log "^term\tnil\tlease_lost$"
    front:pass()
    settled(10)
    assert.equal(1, faulty.runs(host).begun)
  end)

  describe("and has lost to another process", function()
    -- Naks, once, when it is let.
    local LOST = [[
      run(msg)
      repeat bus.sleep "20ms" until io.open "go"
      local ok, err = msg:nak("1m")
      print("nak", ok, err and err.code)
    ]]

    local function one(server)
      return w:run { server = server, handlers = { ["handler.lua"] = consumer(
        'ack_wait = "3s", concurrency = 1, dead_letter = "dead.x"', LOST) }, config = "return { trust = true }" }
    end

    local function let_nak(host) temp.write(host.folder, "go", "") end

    local function begins(host)
      wait.eventually(function() return faulty.runs(host).begun == 1 end)
    end

    -- What the server got, up to such a verdict. The first delivery was the first host's.
    local function others_until(verdict, watch)
      local list = {}
      wait.eventually(function()
        for _, each in ipairs(faulty.verdicts(watch)) do list[#list + 1] = each end
        return faulty.count(list, verdict) > 0
      end)
      for _, each in ipairs(list) do assert.is_true(each.delivered > 1, each.text) end
      return list
    end

    it("is not nak'd any more, nor renewed", function()
      store(1)
      local first = one()
      begins(first)
      local second = one()
      first:signal "STOP"
      begins(second)
      local watch = faulty.watch(w.client)
      first:signal "CONT"
      let_nak(first)
      first:wait_log "^nak\tnil\tlease_lost$"
      -- Heartbeats are the second's, and nothing else comes until it has finished.
      assert.equal(0, faulty.count(others_until("+WPI", watch), "-NAK"))
      let_nak(second)
      second:wait_log "^nak\ttrue"
      assert.equal(1, faulty.count(others_until("-NAK", watch), "-NAK"))
    end)

    it("is not nak'd by a nak that had to wait for the connection", function()
      store(1)
      local first = one(front)
      begins(first)
      front:down()
      let_nak(first)
      first:wait_log "^nak\ttrue"
      local second = one()
      begins(second)
      local watch = faulty.watch(w.client)
      front:pass()
      first:wait_log "consume connection back"
      let_nak(second)
      second:wait_log "^nak\ttrue"
      assert.equal(1, faulty.count(others_until("-NAK", watch), "-NAK"))
    end)

    it("is acked when its dead letter is stored, and is not run again", function()
      store(1)
      local function failing(pause, server)
        return w:run { server = server, handlers = { ["handler.lua"] = consumer(
          'ack_wait = "500ms", attempts = 1, dead_letter = "dead.x", timeout = "2m"',
          'run(msg) bus.sleep(bus.settings.pause) error "no way"') },
          config = ("return { settings = { pause = %q } }"):format(pause) }
      end
      local first = failing("1500ms", front)
      wait.eventually(function() return faulty.runs(first).begun == 1 end)
      front:down()
      local second = failing "1m"
      wait.eventually(function() return faulty.runs(second).begun == 1 end)
      first:wait_log "to the dead letter"
      local watch = faulty.watch(w.client)
      front:pass()
      local acks = {}
      wait.eventually(function()
        for _, each in ipairs(faulty.verdicts(watch)) do
          if each.verdict ~= "+WPI" then table.insert(acks, each) end
        end
        return #acks > 0
      end, 10)
      assert.same({ "+ACK", 1 }, { acks[1].verdict, acks[1].delivered })
      assert.equal(1, w.client:stream_info("DEAD").state.messages)
      second:signal "KILL"
      settled()
    end)

    it("is nak'd while the lease is there", function()
      store(1)
      local watch = faulty.watch(w.client)
      local host = one()
      let_nak(host)
      host:wait_log "^nak\ttrue"
      wait.eventually(function() return faulty.count(faulty.verdicts(watch), "-NAK") > 0 end)
    end)
  end)

  describe("and naks with a delay", function()
    -- When it was run again, in seconds after the first time: never before `least`, and once before `most`.
    -- A machine that is busy with others makes a try late, but none too early.
    local TRIES = 8
    local function comes_back(ack_wait, delay, least, most)
      local host = w:run(consumer(("ack_wait = %q"):format(ack_wait), ([[
        run(msg)
        if msg.attempt == 1 then return msg:nak(%q) end
      ]]):format(delay)))
      local best = math.huge
      for try = 1, TRIES do
        store(1)
        local runs
        wait.eventually(function()
          runs = faulty.runs(host).list
          return #runs == 2 * try
        end, 10)
        local after = runs[2 * try].at - runs[2 * try - 1].at
        assert.is_true(after >= least, after)
        best = math.min(best, after)
        if best < most then break end
      end
      assert.is_true(best < most, ("at best %.3f s in %d tries"):format(best, TRIES))
    end

    it("has it back at its delay, not at a longer ack_wait", function() comes_back("30s", "700ms", 0.69, 1.2) end)

    it("has it back at its delay, not at a shorter ack_wait", function() comes_back("500ms", "2s", 1.99, 2.5) end)
  end)
end)
