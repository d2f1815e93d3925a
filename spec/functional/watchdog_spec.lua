-- limits.cpu: what one handler burns is nobody else's loss.
local cjson = require "cjson"
local start = require "spec.support.host".run
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- The jump out of compiled code is left out of sanitized builds: there such a thread is lost.
local escapes = not (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS")

describe("limits.cpu", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local GOOD = [[
local bus = require "moonbus"
bus.subscribe("good", function(msg) return msg.data end)
bus.subscribe("sleeper", function() bus.sleep("300ms") return "slept" end)]]

  local CONFIG = 'return { workers = 2, limits = { cpu = "100ms" } }'

  local function run(body, options)
    options = options or {}
    return w:run {
      handlers = { ["good.lua"] = GOOD, ["handler.lua"] = body },
      config = options.config or CONFIG,
    }
  end

  -- While `subject` is burning: the other script answers, and what slept there wakes in time.
  local function burn(subject, times)
    for index = 1, times or 1 do w.client:publish(subject, tostring(index)) end
    local slept = w.client:subscribe "slept"
    local began = wait.now()
    w.client:publish("sleeper", "", nil, "slept")
    local slowest = 0
    for _ = 1, 50 do
      local asked = wait.now()
      local reply, why = w.client:request("good", "x", { timeout = wait.least })
      assert.equal("x", reply and reply.data, why)
      slowest = math.max(slowest, wait.now() - asked)
    end
    assert.equal("slept", slept:next().data)
    assert.is_true(wait.now() - began < wait.within(0.8), "the sleeper woke late")
    return slowest
  end

  local ENDLESS = {
    ["an endless loop"] = "while true do end",
    ["a loop that counts"] = "local i = 0 while true do i = i + 1 end",
    ["a loop that allocates"] = "local t = {} while true do t[1] = {} end",
    ["pcall in a loop"] = "while true do pcall(function() while true do end end) end",
    ["a pcall that returns its error"] = "return pcall(function() while true do end end)",
    ["an endless coroutine"] = "coroutine.wrap(function() while true do end end)()",
    ["a hopeless string.find"] =
      [[local found = (("a"):rep(40000)):find((".-"):rep(20) .. "b") return tostring(found)]],
    ["a spawned function"] = "bus.spawn(function() while true do end end):wait()",
  }

  describe("of scripts side by side", function()
    local shared
    local scripts, cases = { ["good.lua"] = GOOD }, {}
    for _, jit in ipairs { "true", "false" } do
      local find_too = jit == "true" or escapes
      for what, code in pairs(ENDLESS) do
        if (escapes or jit == "false") and (find_too or not code:find "find") then
          local number = #cases + 1
          cases[number] = ("ends %s, with jit = %s, and nobody else notices"):format(what, jit)
          scripts[("case_%d.lua"):format(number)] = ([[
local bus = require "moonbus"
bus.script { jit = %s }
bus.subscribe("burn.%d", function() %s end)
bus.subscribe("after.%d", function() return "still there" end)]]):format(jit, number, code, number)
        end
      end
    end

    setup(function() shared = start { server = w.server, handlers = scripts, config = CONFIG } end)
    teardown(function() shared:close() end)

    for number, what in ipairs(cases) do
      it(what, function()
        local burns = "burn." .. number
        local ended = { level = "error", code = "cpu", handler = burns }
        burn(burns)
        local event = shared:wait_log(ended)
        assert.matches(("case_%d%%.lua"):format(number), event.file)
        assert.equal("still there", w.client:request("after." .. number, "").data)
        assert.equal(1, #shared:logged(ended))
        burn(burns)
        shared:wait_log(ended, 5, 2)
      end)
    end
  end)

  it("tells where it was, with a traceback", function()
    local host = run [[
local bus = require "moonbus"
bus.script { jit = false }
local function inner()
  while true do end
end
bus.subscribe("burn", function()
  inner()
end)]]
    local reply = { w.client:request("burn", "", { timeout = wait.least }) }
    assert.is_truthy(reply[1])
    local event = host:wait_log { level = "error", code = "cpu" }
    assert.equal(4, event.line)
    assert.matches("100ms", event.msg)
    assert.matches("handler%.lua:4: in function 'inner'", event.traceback)
  end)

  it("naks the message, and after its last attempt it is a dead letter", function()
    w.client:stream("IN", { "in" }, { storage = "memory" })
    local host = run [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.script { jit = false, cpu = "50ms" }
js.stream { name = "DEAD", subjects = { "dead" }, storage = "memory" }
js.consume("IN", { durable = "burner", attempts = 2, backoff = { min = "10ms", max = "10ms" },
  dead_letter = "dead" }, function() while true do end end)]]
    w.client:store("in", "x")
    wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end, 10)
    host:wait_log({ code = "cpu", attempt = 1 })
    host:wait_log({ code = "cpu", attempt = 2 })
  end)

  it("of the script, by bus.script { cpu }", function()
    local host = run([[
local bus = require "moonbus"
bus.script { cpu = "100ms", jit = false }
bus.subscribe("burn", function() while true do end end)]], { config = "return {}" })
    w.client:request("burn", "", { timeout = wait.least })
    host:wait_log { code = "cpu", msg = "100ms" }
  end)

  it("bounds what a handler does to clean up, which its timeout does not", function()
    local host = run([[
local bus = require "moonbus"
bus.subscribe("wait", { timeout = "100ms" }, function()
  local _, err = pcall(bus.sleep, "1m")
  local until_s = os.clock() + 0.2
  while os.clock() < until_s do end
  bus.log.info("cleaned up", { after = err.code })
end)]], { config = "return {}" })
    w.client:publish("wait", "")
    assert.equal("cancelled", host:wait_log("cleaned up").fields.after)
  end)

  it("is not what a handler's timeout has to wait for", function()
    local host = run([[
local bus = require "moonbus"
bus.script { jit = false }
bus.subscribe("burn", { timeout = "100ms" }, function() while true do end end)]],
      { config = "return {}" })
    w.client:request("burn", "", { timeout = wait.least })
    local event = host:wait_log { code = "timeout" }
    assert.matches("handler%.lua:3", event.traceback)
  end)

  it("is nothing to who waits", function()
    local host = run [[
local bus = require "moonbus"
bus.script { cpu = "20ms" }
bus.subscribe("wait", function() bus.sleep("200ms") return "waited" end)]]
    assert.equal("waited", w.client:request("wait", "", { timeout = wait.least }).data)
    assert.same({}, host:logged { code = "cpu" })
  end)

  it("holds while an error is being described", function()
    local host = run [[
local bus = require "moonbus"
bus.subscribe("burn", function()
  error(setmetatable({}, { __tostring = function() while true do end end }))
end)]]
    burn "burn"
    host:wait_log { level = "error", msg = "whose __tostring fails" }
  end)

  if escapes then
    local SHARED = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.script { workers = 1 }
js.stream { name = "OUT", subjects = { "out" }, storage = "memory" }
js.consume("IN", { durable = "d", filter = "in.work", timeout = "1m" }, function(msg)
  js.publish("out", msg.data)
  bus.publish("begun", msg.data)
  bus.sleep(msg.attempt == 1 and bus.settings.pause or "1s")
end)
js.consume("IN", { durable = "b", filter = "in.burn", attempts = 1 }, function()
  while true do end
end)
bus.subscribe("ask", function() bus.sleep("1s") return "answered" end)]]

    it("lets the other messages of the script begin again: none is lost, none is stored twice",
      function()
        w.client:stream("IN", { "in.>" }, { storage = "memory" })
        local begun = w.client:subscribe "begun"
        local answers = w.client:subscribe "answers"
        local host = run(SHARED,
          { config = 'return { settings = { pause = "1s" }, limits = { cpu = "200ms" } }' })
        for index = 1, 5 do w.client:store("in.work", tostring(index)) end
        begun:take(5)
        w.client:publish("ask", "", nil, "answers")
        w.client:store("in.burn", "")
        host:wait_log { level = "warn", msg = "handlers that begin again: 6" }
        begun:take(5)
        assert.equal("answered", answers:next(5).data)
        wait.eventually(function() return w.client:settled("IN", "d") end, 10)
        assert.equal(5, w.client:stream_info("OUT").state.messages)
        local info = w.client:consumer_info("IN", "d")
        assert.equal(0, info.num_redelivered)
      end)

    it("does so again and again, and its memory stays", function()
      local host = run([[
local bus = require "moonbus"
bus.script { cpu = "10ms", workers = 1 }
bus.subscribe("burn", function() while true do end end)]])
      for _ = 1, 5 do w.client:request("burn", "", { timeout = wait.least }) end
      local before = host:memory_mb()
      for _ = 1, 10 do w.client:request("burn", "", { timeout = wait.least }) end
      assert.is_true(host:memory_mb() - before < 4, "memory grows")
      host:wait_log({ level = "error", code = "cpu" }, 5, 15)
    end)
  end

  describe("of a call that nothing interrupts", function()
    local STUCK = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.script { workers = 1 }
js.consume("IN", { durable = "d" }, function(msg)
  if msg.attempt == 1 then os.execute("sleep " .. bus.settings.sleep) end
  bus.publish("done", msg.data)
end)]]

    local function stuck(config)
      w.client:stream("IN", { "in" }, { storage = "memory" })
      return w:run { handlers = { ["good.lua"] = GOOD, ["handler.lua"] = STUCK }, config = config }
    end

    it("gives the thread up: its message is nak'd, and others go on", function()
      local done = w.client:subscribe "done"
      local host = stuck [[return { trust = true, limits = { cpu = "100ms" },
        settings = { sleep = 3 } }]]
      w.client:store("in", "x")
      wait.eventually(function() return #host:logged { msg = "given up" } > 0 end, 10)
      assert.equal("x", w.client:request("good", "x").data)
      assert.equal("x", done:next(15).data)
      wait.eventually(function() return w.client:settled("IN", "d") end, 10)
      -- It comes back in the end, and is not missed.
      host:wait_log({ msg = "given up late" }, 10)
      assert.equal("x", w.client:request("good", "x").data)
    end)

    -- In C, until the file "go" is there, or all of the test's files are gone.
    local BLOCK = 'os.execute "while [ -e moonbus.lua -a ! -e go ]; do sleep 0.05; done"'

    local function blocked(body)
      local host = w:run { admin = true, config = 'return { trust = true, limits = { cpu = "100ms" } }',
        handlers = { ["handler.lua"] = [[
          local bus, js = require "moonbus", require "moonbus.jetstream"
          bus.script { workers = 1 }
          local function block() ]] .. BLOCK .. " end " .. body } }
      local function status()
        local _, text = posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", "/status")
        return cjson.decode(text)
      end
      return host, status, function(name)
        for _, handler in ipairs(status().scripts[1].handlers) do
          if handler.handler == name then return handler end
        end
      end
    end

    it("says what the thread runs, in the log and in the status, until it comes back", function()
      w.client:stream("IN", { "in.>" }, { storage = "memory" })
      local done, waits = w.client:subscribe "done", w.client:subscribe "waits"
      local host, status, handler = blocked [[
        js.consume("IN", { durable = "w", filter = "in.wait" }, function(msg)
          bus.publish("waits", "")
          bus.sleep(msg.attempt == 1 and "1m" or 0)
        end)
        js.consume("IN", { durable = "d", filter = "in.stuck" }, function(msg)
          if msg.attempt == 1 then block() end
          bus.publish("done", msg.data)
        end)]]
      w.client:store("in.wait", "")
      waits:next(10)
      w.client:store("in.stuck", "x")
      local event = host:wait_log({ level = "error", msg = "its thread is lost %(1 of at most 3%)" }, 10)
      assert.same({ "handler.lua", "IN/d", "IN", "d", "in.stuck", 2, 1 }, { event.script, event.handler,
        event.stream, event.consumer, event.subject, event.sequence, event.attempt })
      assert.matches("; with it 1 other handler of its Lua state$", event.msg)
      assert.equal("x", done:next(15).data)
      wait.eventually(function() return handler("IN/d").running == 1 end)
      local now = handler "IN/d"
      assert.same({ 1, true }, { now.stuck, now.oldest_running_ms > 1000 })
      assert.same({ threads = 1, limit = 3, machine_code_left = 0 }, status().stuck)
      assert.equal(0, handler("IN/w").stuck)
      wait.eventually(function() return status().running == 1 end) -- the other one begins again, and ends
      local told = w:moonbus({ "status", "--admin", host.admin }).stdout
      assert.matches("IN/d +running 1 %(stuck 1%), queued 0", told)
      assert.matches("\nstuck: threads lost 1 of at most 3\n", told)
      temp.write(host.folder, "go", "")
      wait.eventually(function() return status().stuck.threads == 0 end, 10)
      now = handler "IN/d"
      assert.same({ 0, 0 }, { now.stuck, now.running })
      assert.is_nil(w:moonbus({ "status", "--admin", host.admin }).stdout:find "stuck")
    end)

    for what, case in pairs {
      ["a batch"] = { body = [[
        js.consume("IN", { durable = "d", batch = { size = 2, wait = "10s" } }, function(msgs)
          if msgs[1].attempt == 1 then block() end
        end)]],
        start = function() for _ = 1, 2 do w.client:store("in", "x") end end,
        event = { handler = "IN/d", stream = "IN", consumer = "d", msg = "interrupted, with a batch of 2: its" } },
      ["a core message"] = { body = 'bus.subscribe("stuck.*", block)',
        start = function() w.client:publish("stuck.here", "") end,
        event = { handler = "stuck.*", subject = "stuck.here" } },
      ["a timer"] = { body = 'bus.every("100ms", function() bus.spawn(block):wait() end)',
        event = { handler = "every 100ms" } },
    } do
      it("says so of " .. what, function()
        w.client:stream("IN", { "in" }, { storage = "memory" })
        local host, status, handler = blocked(case.body)
        if case.start then case.start() end
        case.event.msg = case.event.msg or "the handler is in a call that cannot be interrupted"
        local event = host:wait_log(case.event, 10)
        assert.is_nil(event.sequence or event.attempt)
        wait.eventually(function() return handler(case.event.handler).running == 1 end, 10)
        assert.equal(1, handler(case.event.handler).stuck)
        temp.write(host.folder, "go", "")
        wait.eventually(function() return status().stuck.threads == 0 end, 10)
        assert.equal(0, handler(case.event.handler).stuck)
      end)
    end

    it("ends the host with status 1 when limits.max_stuck of them are lost", function()
      local host = stuck [[return { trust = true, graceful_timeout = "3s",
        limits = { cpu = "100ms", max_stuck = 1 }, settings = { sleep = 8 } }]]
      w.client:store("in", "x")
      host:wait_log({ level = "error", msg = "too many handlers are stuck" }, 10)
      assert.equal(1, host:wait(10))
    end)
  end)
end)
