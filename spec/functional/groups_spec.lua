-- Priority groups of a consumer (ADR-42): nats-server 2.11 and newer; `priority`: 2.12.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a priority group", function()
  local w = world.new()
  local level
  setup(function()
    w:open()
    level = w.client:api "INFO".api.level or 0
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function able(needed)
    if level < needed then pending("needs JetStream API level " .. needed) end
    return level >= needed
  end

  -- A host whose handler says which host has run it.
  local function run(name, options, body, settings)
    return w:run { admin = true, handlers = { ["job.lua"] = ([[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.consume("JOBS", { durable = "worker", timeout = "1m", %s }, function(msg)
        bus.publish("ran", %q .. " " .. msg.data)
        %s
      end)]]):format(options, name, body or "") }, args = settings }
  end

  local function durable(host)
    local status = cjson.decode((posix.http_get(tonumber(host.admin:match "%d+$"), "/status")))
    return status.scripts[1].handlers[1]
  end

  local function await_pinned(host, whether)
    wait.eventually(function() return durable(host).pinned == whether end, 10)
  end

  -- How often each host has run what is stored now: { a = 3 }.
  local function shares(ran, count, prefix)
    for i = 1, count do w.client:store("jobs.x", (prefix or "") .. i) end
    local by = {}
    for _, message in ipairs(ran:take(count, 20)) do
      local name = message.data:match "^%a+"
      by[name] = (by[name] or 0) + 1
    end
    return by
  end

  local function jobs(storage)
    w.client:stream("JOBS", { "jobs.>" }, { storage = storage })
    return w.client:subscribe "ran"
  end

  describe("with one process that is pinned", function()
    it("gives it all messages; when it is killed, another goes on", function()
      if not able(1) then return end
      local ran = jobs()
      -- What is sent to the dead one comes again.
      local PINNED = 'pinned = { timeout = "1s" }, ack_wait = "1s"'
      local first = run("a", PINNED)
      assert.same({ a = 5 }, shares(ran, 5))
      await_pinned(first, true)
      local second = run("b", PINNED)
      assert.same({ a = 50 }, shares(ran, 50))
      await_pinned(second, false)
      assert.equal("moonbus", durable(first).group)
      first:signal "KILL"
      assert.same({ b = 20 }, shares(ran, 20))
      await_pinned(second, true)
      second:wait_log "^pinned: the messages come to this process"
    end)

    it("keeps it pinned while it is idle, or has no room for more", function()
      if not able(1) then return end
      local ran = jobs()
      local PINNED = 'pinned = { timeout = "1s" }, concurrency = 1'
      local first = run("a", PINNED, [[ if msg.data == "long" then bus.sleep "4s" end ]])
      assert.same({ a = 1 }, shares(ran, 1))
      local second = run("b", PINNED)
      w.client:store("jobs.x", "long")
      for i = 1, 3 do w.client:store("jobs.x", tostring(i)) end
      local seen = {}
      for _, message in ipairs(ran:take(4, 20)) do seen[#seen + 1] = message.data end
      assert.same({ "a long", "a 1", "a 2", "a 3" }, seen)
      assert.same({}, first:logged "no longer pinned")
      local idle = wait.now() + 2.5
      wait.eventually(function() return wait.now() > idle end, 5)
      assert.same({ a = 1 }, shares(ran, 1))
      assert.is_false(durable(second).pinned)
    end)

    it("is another one at once when it is stopped", function()
      if not able(1) then return end
      local ran = jobs()
      local PINNED = 'pinned = { timeout = "1m" }'
      local first = run("a", PINNED)
      assert.same({ a = 5 }, shares(ran, 5))
      local second = run("b", PINNED)
      first:stop()
      assert.same({ b = 5 }, shares(ran, 5))
      await_pinned(second, true)
    end)

    it("is not taken from another one by a stop that waits for a handler", function()
      if not able(1) then return end
      local ran = jobs()
      local PINNED = 'pinned = { timeout = "1s" }, concurrency = 1'
      local first = run("a", PINNED, [[ bus.sleep "4s" bus.publish("ran", "a ended") ]])
      w.client:store("jobs.x", "long")
      assert.equal("a long", ran:take(1, 20)[1].data)
      local second = run("b", PINNED)
      w.client:store("jobs.x", "1")
      first:signal "TERM"
      local seen = {}
      for i, message in ipairs(ran:take(2, 20)) do seen[i] = message.data end
      wait.eventually(function() return not first:running() end, 10)
      assert.same({ b = 5 }, shares(ran, 5))
      assert.same({}, second:logged "no longer pinned")
      assert.same({ "a ended", "b 1" }, seen)
    end)

    it("is chosen anew when somebody unpins it", function()
      if not able(1) then return end
      local ran = jobs()
      local first = run("a", "pinned = true")
      assert.same({ a = 5 }, shares(ran, 5))
      await_pinned(first, true)
      assert.is_nil(w.client:api("CONSUMER.UNPIN.JOBS.worker", { group = "moonbus" }).error)
      assert.same({ a = 5 }, shares(ran, 5, "again "))
      first:wait_log "^no longer pinned"
      first:wait_log("^pinned: ", 10, 2)
    end)

    it("stays so over a lost connection", function()
      if not able(1) then return end
      local ran = jobs "file"
      local first = run("a", "pinned = true")
      assert.same({ a = 5 }, shares(ran, 5))
      w.server:down()
      w.server:up()
      first:wait_log("consume connection back", 10)
      wait.eventually(function() return w.client:stream_info "JOBS" end, 10)
      assert.same({ a = 5 }, shares(ran, 5, "again "))
      await_pinned(first, true)
      assert.same({}, first:logged { level = "error" })
    end)
  end)

  it("serves one process only when there is more than another can do", function()
    if not able(1) then return end
    local ran = jobs()
    local home = run("home", "overflow = {}, concurrency = 1", [[ if msg.data:find "slow" then bus.sleep "1m" end ]])
    run("far", "overflow = { min_pending = 10 }")
    assert.same({ home = 3 }, shares(ran, 3))
    w.client:store("jobs.x", "slow")
    assert.matches("home slow", ran:take(1)[1].data)
    for i = 1, 30 do w.client:store("jobs.x", tostring(i)) end
    for _, message in ipairs(ran:take(20, 20)) do assert.matches("^far ", message.data) end
    assert.is_nil(durable(home).pinned)
  end)

  it("serves first whoever has the lower priority number", function()
    if not able(2) then return end
    local ran = jobs()
    run("second", "priority = 5")
    run("first", "priority = 1")
    wait.eventually(function() return w.client:api("CONSUMER.INFO.JOBS.worker").num_waiting == 2 end, 10)
    assert.same({ first = 20 }, shares(ran, 20))
  end)

  it("can be one that somebody else has made", function()
    if not able(1) then return end
    local ran = jobs()
    w.client:consumer("JOBS", "worker", { priority_groups = { "theirs" }, priority_policy = "pinned_client" })
    local host = run("a", 'bind = true, group = "theirs"')
    assert.same({ a = 5 }, shares(ran, 5))
    await_pinned(host, true)
    assert.equal("theirs", durable(host).group)
  end)

  it("is refused when the durable has another, or has one and none is stated", function()
    if not able(1) then return end
    jobs()
    w.client:consumer("JOBS", "worker", { priority_groups = { "theirs" }, priority_policy = "overflow" })
    local function refusal(options)
      return w:fail { handlers = { ["job.lua"] = ([[
        require "moonbus.jetstream".consume("JOBS", { durable = "worker", %s }, function() end)]])
          :format(options) } }.output
    end
    assert.matches("job%.lua:1: JOBS/worker: group: here ours, on the server theirs",
      refusal 'bind = true, group = "ours"')
    assert.matches('group: here none, on the server theirs %(overflow%)', refusal "attempts = 3")
    assert.matches('priority_groups: here .*ours.*on the server .*theirs', refusal 'group = "ours", overflow = {}')
  end)

  it("is changed by a reload, and given up by one", function()
    if not able(1) then return end
    local ran = jobs()
    local host = run("a", "pinned = true")
    assert.same({ a = 5 }, shares(ran, 5))
    await_pinned(host, true)
    local reloads = 0
    local function reload(name, options)
      temp.write(host.folder, "handlers/job.lua", ([[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.consume("JOBS", { durable = "worker", %s }, function(msg) bus.publish("ran", %q .. " " .. msg.data) end)]])
        :format(options, name))
      host:signal "HUP"
      reloads = reloads + 1
      host:wait_log("^job.lua: generation %d+ live", 10, reloads)
    end
    reload("b", "overflow = { min_pending = 1 }")
    assert.same({ b = 5 }, shares(ran, 5))
    assert.equal("overflow", w.client:api("CONSUMER.INFO.JOBS.worker").config.priority_policy)
    reload("c", "attempts = 3")
    assert.same({ c = 5 }, shares(ran, 5))
    assert.is_nil(w.client:api("CONSUMER.INFO.JOBS.worker").config.priority_policy)
  end)

  it("is refused by a server that knows none, at the line that asks for it", function()
    if level >= 1 then return pending "needs a server before 2.11" end
    jobs()
    local run_of = function(options)
      return w:fail { handlers = { ["job.lua"] = ([[
        local js = require "moonbus.jetstream"
        js.consume("JOBS", { durable = "worker", %s }, function() end)]]):format(options) } }
    end
    local refused = run_of "pinned = true"
    assert.equal(2, refused.status)
    assert.matches("job%.lua:2: JOBS/worker: pinned needs nats%-server 2%.11 or newer %(JetStream API level 1%); " ..
      "this server has level 0", refused.output)
    assert.matches("priority needs nats%-server 2%.12 or newer", run_of "priority = 3".output)
    assert.equal(404, w.client:api("CONSUMER.INFO.JOBS.worker").error.code)
  end)
end)
