-- Locks, semaphores and limits that several hosts share, in virtual time.
local sim = require "spec.sim.sim"

describe("What hosts share, in virtual time:", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  -- Hosts 1 to n with this script, in which HOST is a host's number.
  local function hosts(n, text)
    local list = {}
    for i = 1, n do
      list[i] = world:host { scripts = { ["s.lua"] = sim.script(text:gsub("HOST", tostring(i))) } }
    end
    world:settle()
    return list
  end

  -- Of handlers without an end, which would go on until the deadline of a stop.
  local function end_soon()
    for _, host in ipairs(world.hosts) do host:finish "100ms" end
  end

  -- How many are in at a time at most, by notes "1a in" and "1a out"; and how many came in.
  local function most_in(notes)
    local inside, most, entries = 0, 0, 0
    for _, note in ipairs(notes) do
      if note:find " in$" then inside, entries = inside + 1, entries + 1 end
      if note:find " out$" then inside = inside - 1 end
      most = math.max(most, inside)
    end
    return most, entries
  end

  local CONTENDER = [[
    bus.subscribe("go.HOST.*", { timeout = "10m" }, function(msg)
      local me = "HOST" .. msg.subject:match "%%a+$"
      local got = assert(%s)
      sim.note(me .. " in")
      bus.sleep "700ms"
      sim.note(me .. " out")
      if msg.data == "release" then got:release(); bus.sleep "5s" end
      if msg.data == "raise" then error "on purpose" end
    end)]]

  local function contend(text, count)
    hosts(2, CONTENDER:format(text))
    for _, letter in ipairs { "a", "b", "c", "d", "e", "f" } do
      for host = 1, 2 do
        world:publish(("go.%d.%s"):format(host, letter), ({ a = "release", b = "raise" })[letter])
      end
    end
    assert.is_true(world:wait(function() return select(2, most_in(world:said())) == count end, "10m"))
    world:advance "5s"
    return most_in(world:said())
  end

  describe("bus.lock with cluster", function()
    it("is one host's at a time, and each that waits gets it", function()
      assert.same({ 1, 12 }, { contend('bus.lock("door", { cluster = true })', 12) })
      assert.is_true(world:now() < 30000, world:now() .. " ms")
    end)

    it("has a token that grows from one holder to the next", function()
      hosts(2, [[
        bus.subscribe("go.HOST", function()
          bus.lock("door", { cluster = true }, function(lock) sim.note(tostring(lock.token)) end)
        end)]])
      local last = 0
      for i = 1, 6 do
        world:request("go." .. i % 2 + 1, "")
        local token = tonumber(world:said()[i])
        assert.is_true(token > last)
        last = token
      end
    end)

    it("is the next one's soon, however its handler ends", function()
      hosts(2, [[
        bus.subscribe("go.HOST", { timeout = "3s" }, function(msg)
          assert(bus.lock("door", { cluster = true, ttl = "1m" }))
          sim.note(msg.data)
          bus.sleep "1s"
          if msg.data == "raises" then error "broken" end
          if msg.data == "fails" then return nil, "failed" end
          if msg.data == "waits" then bus.sleep "1h" end
        end)]])
      local due = 0
      for i, how in ipairs { "raises", "fails", "waits", "returns", "last" } do
        world:publish("go." .. i % 2 + 1, how)
        assert.is_true(world:wait(function() return #world:said() == i end, "10s"), how)
        assert.is_true(world:now() - due < 1500, how)
        due = world:now() + (how == "waits" and 3000 or 1000)
      end
    end)

    it("is renewed while its handler runs, for many times its ttl", function()
      hosts(2, [[
        bus.subscribe("go.HOST", { timeout = "10m" }, function()
          local lock = assert(bus.lock("door", { cluster = true, ttl = "2s" }))
          sim.note "HOST in"
          for _ = 1, 60 do bus.sleep "1s"; assert(lock:held()) end
          sim.note "HOST out"
        end)]])
      world:publish "go.1"
      world:settle()
      world:publish "go.2"
      world:advance "3m"
      assert.same({ "1 in", "1 out", "2 in", "2 out" }, world:said())
    end)

    it("of a host that is cut off is another one's after its ttl, when the first knows that it has lost it", function()
      hosts(2, [[
        bus.subscribe("go.HOST", { timeout = "10m" }, function()
          local lock = assert(bus.lock("door", { cluster = true, ttl = "5s", wait = "5m" }))
          sim.note "HOST in"
          while lock:held() do bus.sleep "10ms" end
          sim.note "HOST out"
          bus.sleep "2m"
        end)]])
      world:publish "go.1"
      world:advance "1s"
      world:publish "go.2"
      world:advance "7s"
      world:cut("1m", { link = 1 })
      world:advance "30s"
      local at = world:said { at = true }
      assert.same({ "1 in", "1 out", "2 in" }, world:said())
      assert.is_true(tonumber(at[3]:match "^%d+") - tonumber(at[2]:match "^%d+") < 5000, table.concat(at, ", "))
      world:advance "1m"
      local told = 0
      for _, event in ipairs(world:logged "warn") do
        if event.msg:find('^the lock "door" of the cluster was lost: ') then told = told + 1 end
      end
      assert.equal(1, told)
    end)

    it("is no other one's while the machines' clocks are set", function()
      hosts(2, [[
        bus.subscribe("go.HOST", { timeout = "10m" }, function(msg)
          local lock = assert(bus.lock("door", { cluster = true, ttl = "3s" }))
          sim.note "HOST in"
          for _ = 1, 20 do bus.sleep "1s"; assert(lock:held()) end
          sim.note "HOST out"
        end)]])
      world:publish "go.1"
      world:settle()
      world:publish "go.2"
      for _ = 1, 8 do
        world:advance "2s"
        world:set_clock(4000)
        world:advance "2s"
        world:set_clock(-4000)
      end
      world:advance "20s"
      assert.same({ "1 in", "1 out", "2 in", "2 out" }, world:said())
    end)

    it("is not had twice where answers are lost, and is had by who wrote it", function()
      hosts(2, [[
        bus.subscribe("go.HOST", { timeout = "10m" }, function(msg)
          local lock, err = bus.lock("door", { cluster = true, ttl = "20s" })
          if not lock then return sim.note("HOST " .. err.code) end
          sim.note "HOST in"
          bus.sleep "2s"
          sim.note "HOST out"
        end)]])
      world:request("go.1", "", { timeout = "10s" })
      for lost = 1, 6 do
        world:lose_answers(lost)
        world:publish "go.1"
        world:publish "go.2"
        world:advance "90s"
        assert.equal(1, (most_in(world:said())))
      end
      local _, entries = most_in(world:said())
      assert.is_true(entries >= 4, tostring(entries))
    end)

    it("is not had from a server that stands still, and its wait ends", function()
      hosts(1, [[
        bus.subscribe("go.HOST", { timeout = "10m" }, function(msg)
          if msg.data == "late" then bus.sleep "1s" end
          local lock, err = bus.lock("door", { cluster = true, wait = "2s" })
          sim.note(tostring(lock) .. " " .. (err and err.code or "none"))
        end)]])
      world:request("go.1", "")
      world:publish("go.1", "late")
      world:settle() -- its handler has begun
      world:freeze "30s"
      world:advance "20s"
      assert.same({ "lock (held) none", "nil timeout" }, world:said())
      world:advance "1m"
    end)

    it("is asked for once with wait = 0", function()
      hosts(2, [[
        bus.subscribe("hold.HOST", function() bus.lock("door", { cluster = true }); bus.sleep "10s" end)
        bus.subscribe("go.HOST", function()
          local lock, err = bus.lock("door", { cluster = true, wait = 0 })
          sim.note(tostring(lock) .. " " .. err.code .. ": " .. err.message)
        end)]])
      world:publish "hold.1"
      world:advance "1s"
      world:request("go.2", "")
      world:request("go.1", "")
      local no = 'nil timeout: "door" has not come free in time'
      assert.same({ no, no }, world:said())
    end)

    it("tells who ran under a lock that was lost, and gives no result", function()
      hosts(2, [[
        bus.subscribe("go.HOST", { timeout = "10m" }, function()
          local ok, err = bus.lock("door", { cluster = true, ttl = "1s", wait = "5m" }, function(lock)
            sim.note "HOST in"
            if HOST == 1 then bus.sleep "2m" end
            return "done"
          end)
          sim.note("HOST " .. tostring(ok) .. " " .. (err and err.code or "none"))
        end)]])
      world:publish "go.1"
      world:advance "1s"
      world:cut("1m", { link = 1 })
      world:publish "go.2"
      world:advance "5m"
      assert.same({ "1 in", "2 in", "2 done none", "1 nil lease_lost" }, world:said())
    end)

    it("is not kept by a host that takes it again and again from one that waits", function()
      hosts(2, [[
        bus.subscribe("go.HOST", { timeout = "10m" }, function()
          while true do
            local lock = assert(bus.lock("door", { cluster = true }))
            sim.note "HOST"
            bus.sleep "10ms"
            lock:release()
          end
        end)]])
      world:publish "go.1"
      world:publish "go.2"
      world:advance "60s"
      local count = { ["1"] = 0, ["2"] = 0 }
      for _, host in ipairs(world:said()) do count[host] = count[host] + 1 end
      local less, more = math.min(count["1"], count["2"]), math.max(count["1"], count["2"])
      assert.is_true(less > 500 and more < 3 * less, ("%d and %d times"):format(less, more))
      end_soon()
    end)

    it("is taken and given back many times by one handler", function()
      hosts(1, [[
        bus.subscribe("go.HOST", { timeout = "10m" }, function()
          for i = 1, 50 do
            local lock = assert(bus.lock("a.b/" .. i % 3 .. "..x.", { cluster = true, ttl = "1h" }))
            assert(lock:held() and lock:release() and not lock:release() and not lock:held())
          end
          sim.note "done"
        end)]])
      world:request("go.1", "", { timeout = "1m" })
      assert.same({ "done" }, world:said())
    end)

    it("may be in a bucket of one's own, which must be there", function()
      hosts(1, [[
        require "moonbus.kv".bucket { name = "mine", ttl = "1m" }
        bus.subscribe("go.HOST", function()
          for _, case in ipairs { { "mine", "10s" }, { "mine", "40s" }, { "none", "10s" } } do
            local lock, err = bus.lock("door", { cluster = case[1], ttl = case[2] })
            sim.note(lock and "held" or err.code .. ": " .. err.message)
          end
        end)]])
      world:request("go.1", "")
      assert.same({ "held",
        'mismatch: bus.lock: ttl: the bucket "mine" forgets what is older than 60s: a ttl of 40s is more than half ' ..
          "of that",
        'no_stream: bus.lock: there is no bucket "none": state it with kv.bucket { name = "none", replicas = 3 }',
      }, world:said())
      assert.is_nil(world:stream("KV_moonbus_locks").config)
    end)

    it("that its handler holds already is refused, as it would wait for itself", function()
      hosts(1, [[
        bus.subscribe("go.HOST", function()
          assert(bus.lock("door", { cluster = true }))
          sim.note(tostring(select(2, pcall(bus.lock, "door", { cluster = true }))))
          for _, opts in ipairs { { cluster = 7 }, { cluster = "a.b" }, { cluster = true, ttl = "100ms" },
            { cluster = true, ttl = "2h" } } do
            sim.note(tostring(select(2, pcall(bus.lock, "x", opts))))
          end
          sim.note(tostring(select(2, pcall(bus.lock, ("x"):rep(256), { cluster = true }))))
          sim.note(tostring(select(2, pcall(bus.semaphore, "x", 101, { cluster = true }))))
        end)]])
      world:request("go.1", "")
      local said = world:said()
      for i, text in ipairs { "would wait for itself", 'cluster: expected true, or the name of a bucket', "cluster: ",
        "ttl: expected from 1s to 1h", "ttl: expected from 1s to 1h", "at most 255 bytes",
        "at most 100, with cluster" } do
        assert.is_truthy(said[i]:find(text, 1, true), said[i])
      end
    end)

    it("leaves little behind in who could not have it, of any number of locks", function()
      hosts(1, [[
        local mine = require "moonbus.kv".bucket { name = "mine" }
        local function try_others(first, last)
          for i = first, last do
            local name = "order-" .. i
            assert(mine:put("lock." .. name, { process = "another", id = "x", ttl = 3600 }))
            local lock, err = bus.lock(name, { cluster = "mine", wait = 0 })
            assert(not lock and err.code == "timeout")
          end
          collectgarbage()
          return collectgarbage "count"
        end
        bus.subscribe("go.HOST", { timeout = "1h" }, function()
          local before = try_others(1, 8000)
          sim.note(("%.0f KB more"):format(try_others(8001, 16000) - before))
        end)]])
      world:request("go.1", "", { timeout = "1h" })
      local more = tonumber(world:said()[1]:match "^(-?%d+) KB")
      assert.is_true(more < 500, world:said()[1])
    end)
  end)

  describe("bus.semaphore with cluster", function()
    it("has n holders at a time over all hosts, and uses all its places", function()
      assert.same({ 3, 12 }, { contend('bus.semaphore("desk", 3, { cluster = true })', 12) })
      assert.is_true(world:now() < 20000, world:now() .. " ms")
    end)
  end)

  describe("bus.limiter with cluster", function()
    it("lets through what its rate says, over all hosts", function()
      hosts(2, [[
        local limiter = bus.limiter("api", { rate = 10, burst = 5, cluster = true })
        bus.subscribe("go.HOST", { timeout = "10m" }, function()
          for _ = 1, 150 do
            assert(limiter:take())
            sim.note "taken"
          end
        end)]])
      for _ = 1, 3 do
        world:publish "go.1"
        world:publish "go.2"
      end
      world:advance "20s"
      local taken = #world:said()
      assert.is_true(taken <= 5 + 200, tostring(taken))
      assert.is_true(taken >= 190, tostring(taken))
      world:advance "2m"
      assert.equal(900, #world:said())
    end)

    it("draws more at once where there are many, and never more than there are", function()
      hosts(2, [[
        local limiter = bus.limiter("api", { rate = 1000, burst = 1000, cluster = true })
        bus.subscribe("go.HOST", { timeout = "10m" }, function()
          while true do
            assert(limiter:take())
            sim.note "taken"
          end
        end)]])
      world:publish "go.1"
      world:publish "go.2"
      world:advance "2s"
      local taken = #world:said()
      assert.is_true(taken <= 3000 and taken > 2000, tostring(taken))
      end_soon()
    end)

    it("tries without waiting, and owes nothing", function()
      hosts(2, [[
        local limiter = bus.limiter("api", { rate = "1/s", burst = 3, cluster = true })
        bus.subscribe("go.HOST", function()
          sim.note(tostring(limiter:try(2)))
          return ""
        end)]])
      for i = 1, 4 do world:request("go." .. i % 2 + 1, "") end
      world:advance "1100ms"
      world:request("go.1", "")
      world:request("go.2", "")
      world:advance "2s"
      world:request("go.2", "")
      assert.same({ "true", "false", "false", "false", "true", "false", "true" }, world:said())
    end)

    it("gives an error while the server is away", function()
      hosts(1, [[
        local limiter = bus.limiter("api", { rate = 10, cluster = true })
        bus.subscribe("go.HOST", { timeout = "10m" }, function()
          bus.sleep "1s"
          local ok, err = limiter:take()
          sim.note(tostring(ok) .. " " .. (err and err.code or "none"))
        end)]])
      world:request("go.1", "")
      world:publish "go.1"
      world:advance "100ms"
      world:freeze "30s"
      world:advance "1m"
      assert.same({ "true none", "nil timeout" }, world:said())
    end)

    it("leaves little behind, of any number of limits", function()
      hosts(1, [[
        local function take_of(first, last)
          for i = first, last do
            assert(bus.limiter("user-" .. i, { rate = 100, burst = 100, cluster = true }):take())
            bus.sleep "10ms"
          end
          collectgarbage()
          return collectgarbage "count"
        end
        bus.subscribe("go.HOST", { timeout = "1h" }, function()
          local before = take_of(1, 1000)
          sim.note(("%.0f KB more"):format(take_of(1001, 4000) - before))
        end)]])
      world:request("go.1", "", { timeout = "1h" })
      local more = tonumber(world:said()[1]:match "^(-?%d+) KB")
      assert.is_true(more < 150, world:said()[1])
    end)

    it("is full again where somebody has written what is no count", function()
      hosts(1, [[
        local limiter = bus.limiter("api", { rate = 10, burst = 5, cluster = true })
        bus.subscribe("go.HOST", function()
          local took, tried = pcall(limiter.take, limiter), pcall(limiter.try, limiter)
          return tostring(took) .. " " .. tostring(tried)
        end)]])
      assert.equal("true true", world:request("go.1", "").data)
      for _, forged in ipairs {
        '{"tokens":"nan","at":"nan","drawn":1}', '{"tokens":3,"at":"nan","drawn":1}',
        '{"tokens":3,"at":1,"drawn":"nan"}', '{"tokens":3,"at":1,"drawn":-1e300}',
        '{"tokens":-1e308,"at":5e9,"drawn":1e308}', '{"tokens":1e999,"at":1,"drawn":0}',
        '{"tokens":{},"at":[],"drawn":{}}', "{}",
      } do
        world:advance "5s"
        world:publish("$KV.moonbus_locks.limiter.api", forged)
        local reply = world:request("go.1", "", { timeout = "20s" })
        assert.equal("true true", reply and reply.data, forged)
      end
    end)

    it("that would need more than half a day to fill is refused", function()
      hosts(1, [[
        bus.subscribe("go.HOST", function()
          sim.note(tostring(select(2, pcall(bus.limiter, "x", { rate = "1/d", cluster = true }))))
        end)]])
      world:request("go.1", "")
      assert.matches("burst: expected what comes within 12 hours at most", world:said()[1])
    end)
  end)
end)
