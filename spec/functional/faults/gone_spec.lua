local faulty = require "spec.support.faulty"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local consumer, pick = faulty.consumer, faulty.pick

describe("under a running host", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function count(stream) return w.client:stream_info(stream).state.messages end

  local function settled()
    wait.eventually(function() return w.client:settled("IN", "worker") end, 30)
  end

  local function complaints(host)
    return #host:logged { level = "warn", handler = "IN/worker", msg = "deleted" }
      + #host:logged { level = "warn", handler = "IN/worker", msg = "gone" }
      + #host:logged { level = "warn", handler = "IN/worker", msg = "anew" }
  end

  local COPY = [[
    run(msg)
    js.publish("out.x", msg.data)
    done(msg)
  ]]
  local DEAD = 'dead_letter = "dead.x", '

  -- The CPU time of all of a host's threads, in seconds.
  local function cpu_seconds(host)
    local total = 0
    local tasks = io.popen(("cat /proc/%d/task/*/schedstat"):format(host.pid))
    for line in tasks:lines() do total = total + tonumber(line:match "^%d+") end
    tasks:close()
    return total / 1e9
  end

  -- The share of a CPU that a host takes while `condition` holds.
  local function cpu_share(host, condition)
    local seconds = pick(3, 10)
    local before = cpu_seconds(host)
    wait.holds(condition, seconds)
    return (cpu_seconds(host) - before) / seconds
  end

  it("a deleted consumer is said once and made again, and goes on from its ack floor", function()
    local host = w:run(consumer(DEAD .. "concurrency = 4", [[
      run(msg)
      if msg.data == "held" and msg.attempt == 1 then bus.sleep "1s" end
      js.publish("out.x", msg.data)
      done(msg)
    ]]))
    for index = 1, 50 do w.client:store("in.x", tostring(index)) end
    settled()
    -- What was acknowledged is known to the host when it has asked for the floor.
    w.client:store("in.x", "held")
    wait.eventually(function() return faulty.runs(host).begun == 51 end)
    w.client:delete_consumer("IN", "worker")
    for index = 52, 80 do w.client:store("in.x", tostring(index)) end
    host:wait_log({ level = "warn", msg = "created again" }, 30)
    settled()
    wait.eventually(function() return count "OUT" == 80 end)
    local runs = faulty.runs(host)
    assert.equal(80, runs.begun)
    assert.equal(0, runs.overlapping)
    assert.equal(1, complaints(host))
    assert.equal(0, count "DEAD")
  end)

  it("a deleted consumer that is not to be made again is said once, and waited for", function()
    w.client:stream("IN", { "in.>" })
    w.client:stream("OUT", { "out.>" })
    w.client:stream("DEAD", { "dead.>" })
    w.client:consumer("IN", "worker", {})
    local host = w:run(consumer(DEAD .. "bind = true", COPY))
    w.client:delete_consumer("IN", "worker")
    host:wait_log({ level = "warn", msg = "bind = true" }, 30)
    w.client:store("in.x", "1")
    w.client:consumer("IN", "worker", {})
    wait.eventually(function() return count "OUT" == 1 end, 10)
    assert.equal(1, complaints(host))
  end)

  it("a stream that is deleted and made anew has the outputs of its new messages stored", function()
    local host = w:run(consumer(DEAD, COPY))
    for index = 1, 5 do w.client:store("in.x", "old " .. index) end
    wait.eventually(function() return count "OUT" == 5 end)
    w.client:delete_stream "IN"
    w.client:stream("IN", { "in.>" })
    for index = 1, 5 do w.client:store("in.x", "new " .. index) end
    wait.eventually(function() return count "OUT" == 10 end, 30, function()
      return host:explain()
    end)
    settled()
    local stored = {}
    for _, message in ipairs(w.client:messages "OUT") do stored[message.data] = true end
    for index = 1, 5 do assert.is_true(stored["new " .. index]) end
    assert.equal(1, #host:logged { level = "warn", msg = "anew" })
  end)

  it("a stream that is gone is said once, and looked for without spinning", function()
    local host = w:run(consumer(DEAD, COPY))
    w.client:store("in.x", "1")
    settled()
    w.client:delete_stream "IN"
    host:wait_log({ level = "warn", msg = "the stream is gone" }, 30)
    local share = cpu_share(host, function() return complaints(host) == 1 end)
    assert.is_true(share < 0.03 * wait.slow, ("%.2f %% CPU"):format(share * 100))
    w.client:stream("IN", { "in.>" })
    w.client:store("in.x", "2")
    wait.eventually(function() return count "OUT" == 2 end, 10)
  end)

  it("something that does spin shows in the CPU time", function()
    local host = w:run [[
      local bus = require "moonbus"
      bus.every("10ms", function()
        local began = os.clock()
        while os.clock() - began < 0.008 do bus.publish("spin", "") end
      end)
    ]]
    local before = cpu_seconds(host) -- as much as is far too much for the three seconds above
    wait.eventually(function() return cpu_seconds(host) - before > 0.03 * wait.slow * pick(3, 10) end)
  end)

  it("a durable of the same name with other settings and update = false ends the second host with status 2", function()
    local first = w:run(consumer(DEAD .. 'ack_wait = "7s", max_ack_pending = 50', COPY))
    local before = w.client:consumer_info("IN", "worker")
    local second = w:fail(consumer(DEAD .. 'update = false, ack_wait = "9s", max_ack_pending = 50', COPY))
    assert.equal(2, second.status, second.output)
    for _, text in ipairs { "IN/worker", "ack_wait", "7s", "9s" } do
      assert.is_truthy(second.output:find(text, 1, true), text .. " in " .. second.output)
    end
    local after = w.client:consumer_info("IN", "worker")
    assert.same(before.config, after.config)
    assert.equal(before.created, after.created)
    w.client:store("in.x", "1")
    wait.eventually(function() return faulty.runs(first).ended == 1 end)
  end)

  it("a durable of the same name with the same settings is shared", function()
    local first = w:run(consumer(DEAD .. 'ack_wait = "7s", concurrency = 2', COPY))
    local second = w:run(consumer(DEAD .. 'ack_wait = "7s", concurrency = 2', COPY))
    for index = 1, 100 do w.client:publish("in.x", tostring(index)) end
    wait.eventually(function() return count "OUT" == 100 end)
    assert.equal(100, faulty.runs(first).begun + faulty.runs(second).begun)
    assert.is_true(faulty.runs(first).begun > 0 and faulty.runs(second).begun > 0)
  end)
end)
