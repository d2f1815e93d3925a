-- bus.offload: blocking functions run on threads of their own, with the whole library.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- The jump out of compiled code is left out of sanitized builds: there such a thread is lost.
local escapes = not (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS")

describe("bus.offload", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A host with lib/work.lua and a script whose handler "spec" runs `body`.
  local function run(module, body, options)
    options = options or {}
    options.files = options.files or {}
    options.files["lib/work.lua"] = module
    options.admin = true
    options.handlers = { ["handler.lua"] = ([[
local bus = require "moonbus"
local work = bus.offload("work")
local function describe(...)
  local ok, err = ...
  if ok ~= nil then return { ok = tostring(ok) } end
  return { code = err.code, message = err.message, file = err.file, line = err.line,
    traceback = err.traceback, text = tostring(err) }
end
local function try(...)
  local ok, err = pcall(...)
  return ok and "no error" or tostring(err)
end
bus.subscribe("alive", function() return "yes" end)
bus.subscribe("spec", { timeout = "1m" }, function(msg)
%s
end)]]):format(body) }
    return w:run(options)
  end

  local function ask(deadline)
    local reply = w.client:request("spec", "", { timeout = deadline or 10 })
    assert.is_nil(reply:header "Nats-Service-Error")
    return reply:json()
  end

  local function result_of(module, body, options)
    run(module, body, options)
    return ask()
  end

  local function status(host)
    return cjson.decode((posix.http_get(tonumber(host.admin:match "%d+$"), "/status"))).offload
  end

  local function alive()
    local began = wait.now()
    assert.equal("yes", w.client:request("alive", "", { timeout = wait.least }).data)
    assert.is_true(wait.now() - began < wait.within(0.5))
  end

  describe("calls", function()
    it("a module of the script's own name, which is not the script itself", function()
      local calls = 'local bus = require "moonbus"\nbus.subscribe("%s", function() ' ..
        'local who, err = bus.offload("off").who() return who or err.message end)'
      local host = w:run {
        handlers = { ["off.lua"] = calls:format "own" },
        files = { ["lib/off.lua"] = 'return { who = function() return "lib" end }' },
        config = 'return { limits = { offload_threads = 1 } }', admin = true,
      }
      assert.equal("lib", w.client:request("own", "").data)
      -- Its neighbour finds the script, which is no module for an offload thread.
      temp.write(host.folder, "handlers/other.lua", calls:format "other")
      assert.equal(0, w:moonbus({ "reload", "--admin", host.admin }).status)
      assert.matches('^off%.lua:1: require "moonbus": what is offloaded runs beside NATS',
        w.client:request("other", "").data)
      assert.equal("lib", w.client:request("own", "").data)
      -- And without the other one it says where it looked.
      os.remove(host.folder .. "/lib/off.lua")
      temp.write(host.folder, "handlers/gone.lua", (calls:format "gone":gsub('"off"', '"gone"')))
      assert.equal(0, w:moonbus({ "reload", "--admin", host.admin }).status)
      assert.matches('module "gone" not found; looked for handlers/gone%.lua: the script itself, .*lib/gone%.lua',
        w.client:request("gone", "").data)
    end)

    it("a function of a module, and gives its results", function()
      assert.same({ 12, "text", true, "nil", 5 }, result_of([[
return { product = function(a, b) return a * b, "text", true, nil, 5 end }]], [[
        local a, b, c, d, e = work.product(3, 4)
        return { a, b, c, tostring(d), e }]]))
    end)

    it("with copies of plain values, tables in tables included", function()
      assert.same({ 4, "deep", true, "inner changed", "outer", 0, 1 }, result_of([[
return {
  change = function(t, ...)
    t.list[1].name = "inner changed"
    return select("#", ...) + 1, { { deep = "deep" }, ok = true }, t
  end,
  nothing = function() end,
  one = function() return nil end,
}]], [[
        local t = { list = { { name = "outer" } } }
        local count, r, copy = work.change(t, nil, 2, nil)
        return { count, r[1].deep, r.ok, copy.list[1].name, t.list[1].name,
          select("#", work.nothing()), select("#", work.one()) }]]))
    end)

    it("with the whole library: io, os, ffi, debug, package, cjson", function()
      local result = result_of([[
local ffi = require "ffi"
local cjson = require "cjson"
ffi.cdef "int getpid(void);"
local M = {}
function M.all()
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write "written"
  file:close()
  local text = assert(io.open(path)):read "*a"
  os.remove(path)
  local pipe = io.popen "echo popen"
  local said = pipe:read "*l"
  pipe:close()
  return { text, said, os.execute "exit 0", ffi.C.getpid() > 0, type(debug.getinfo(1)),
    type(package.path), cjson.encode { 1 }, type(string.dump) }
end
return M]], [[ return work.all() ]])
      assert.same({ "written", "popen", 0, true, "table", "string", "[1]", "function" }, result)
    end)

    it("modules that lie beside the script, or in a folder of config lib; these require others", function()
      w:run { config = 'return { lib = { "more/" } }', handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local near, far = bus.offload "near.module", bus.offload "far"
bus.subscribe("spec", function() return near.say() .. far.say() end)]] }, files = {
        ["handlers/near/module.lua"] = 'return { say = function() return require("near.helper") .. " " end }',
        ["handlers/near/helper.lua"] = 'return "near"',
        ["more/far.lua"] = 'local t = require "tool" return { say = function() return t.name end }',
        ["more/tool.lua"] = 'return { name = "far" }',
      } }
      assert.equal("near far", w.client:request("spec", "").data)
    end)

    it("modules that require what is installed where package.path leads, and so does that", function()
      assert.same({ "one two" }, result_of([[
package.path = "installed/?.lua;" .. package.path
return { say = function() return require("one").say() end }]], [[ return { work.say() } ]], { files = {
        ["installed/one.lua"] = 'local two = require "two" return { say = function() return "one " .. two end }',
        ["installed/two.lua"] = 'return "two"',
      } }))
    end)

    it("while other handlers go on, on one worker", function()
      local host = run([[return { block = function()
        os.execute "while [ -e lib/work.lua -a ! -e go ]; do sleep 0.05; done" return "blocked" end }]],
        [[ return { (work.block()) } ]], { args = { "--workers", "1" } })
      local answers = w.client:subscribe "answer"
      w.client:publish("spec", "", nil, "answer")
      for _ = 1, 20 do alive() end
      assert.same({}, answers:arrived())
      temp.write(host.folder, "go", "")
      assert.same({ "blocked" }, answers:next(5):json())
    end)

    it("inside gather, as many at a time as there are threads", function()
      -- 1 and 2 end once both have begun, and so do 3 and 4; each tells how many are at work.
      assert.same({ 4321, 2 }, result_of([[
local function exists(name)
  local file = io.open(name)
  return file and file:close()
end
local function touch(name) io.open(name, "w"):close() end
return { meet = function(n)
  local most, other = 0, n % 2 == 1 and n + 1 or n - 1
  touch("began-" .. n)
  repeat
    local now = 0
    for i = 1, 4 do now = now + (exists("began-" .. i) and not exists("ended-" .. i) and 1 or 0) end
    most = math.max(most, now)
    os.execute "sleep 0.05"
  until exists("began-" .. other)
  touch("ended-" .. n)
  return n, most
end }]], [[
        local fns, most = {}, 0
        for i = 1, 4 do
          fns[i] = function()
            local n, now = work.meet(i)
            most = math.max(most, now)
            return n
          end
        end
        local a, b, c, d = bus.gather(fns)
        return { a + b * 10 + c * 100 + d * 1000, most } ]],
        { config = "return { limits = { offload_threads = 2 } }" }))
    end)

    it("on threads that keep their state between calls", function()
      assert.same({ 1, 2, 3 }, result_of([[
local n = 0
return { count = function() n = n + 1 return n end }]],
        [[ return { (work.count()), (work.count()), (work.count()) } ]],
        { config = "return { limits = { offload_threads = 1 } }" }))
    end)

    it("without a redelivery, however long it takes", function()
      w.client:stream("IN", { "in" }, { storage = "memory" })
      w:run { handlers = { ["handler.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
local work = bus.offload "work"
js.consume("IN", { durable = "d", ack_wait = "1s" }, function(msg)
  bus.publish("done", tostring(msg.attempt) .. work.block())
end)]] }, files = { ["lib/work.lua"] = 'return { block = function() os.execute "sleep 2.5" return "!" end }' } }
      local done = w.client:subscribe "done"
      w.client:store("in", "x")
      assert.equal("1!", done:next(10).data)
      wait.eventually(function() return w.client:settled("IN", "d") end)
      assert.equal(0, w.client:consumer_info("IN", "d").num_redelivered)
    end)

    it("so that programs which it starts can be ended by signals", function()
      local result = result_of([[
return { child = function()
  local began = os.time()
  os.execute "kill -TERM $$; sleep 5"
  local pipe = io.popen "kill -INT $$; sleep 5; echo survived"
  return pipe:read "*a", os.time() - began
end }]], [[ return { work.child() } ]])
      assert.equal("", result[1])
      assert.is_true(result[2] < 4)
    end)
  end)

  describe("answers nil and an error", function()
    it("when the function raises, with its place and traceback", function()
      local err = result_of("local M = {}\nlocal function inner() error 'boom' end\n" ..
        "function M.raise() inner() end\nreturn M", [[ return describe(work.raise()) ]])
      assert.same({ "offload_error", "lib/work.lua:2: boom", "lib/work.lua", 2 },
        { err.code, err.message, err.file, err.line })
      assert.matches("lib/work%.lua:2: in function 'inner'", err.traceback)
      assert.matches("lib/work%.lua:3: in function", err.traceback)
      assert.not_matches("moonbus", err.traceback)
      assert.equal("offload_error: lib/work.lua:2: boom", err.text)
    end)

    it("which the log shows with the module's place when the handler returns it", function()
      local host = run("return { raise = function() error 'boom' end }", [[ return work.raise() ]])
      w.client:request("spec", "", { timeout = wait.least })
      local event = host:wait_log { level = "error", code = "offload_error" }
      assert.same({ "lib/work.lua", 1 }, { event.file, event.line })
      assert.matches("boom", event.msg)
      assert.matches("lib/work%.lua:1", event.traceback)
    end)

    it("when the module is missing, with the places where it was looked for", function()
      local err = result_of("return {}", [[ return describe(bus.offload("nowhere").f()) ]])
      assert.equal("not_found", err.code)
      assert.matches('module "nowhere" not found; looked for .*handlers/nowhere%.lua.*lib/nowhere%.lua', err.message)
    end)

    it("when the module has no such function", function()
      local err = result_of("return { resize = print, rotate = print, size = 5 }",
        [[ return describe(work.resiz()) ]])
      assert.equal("not_found", err.code)
      assert.equal('module "work" has no function "resiz"; it has resize, rotate', err.message)
    end)

    it("when the module does not load, until it does", function()
      local host = run("error 'not today'", [[ return describe(work.x()) ]])
      local err = ask()
      assert.equal("offload_error", err.code)
      assert.matches("lib/work%.lua:1: not today", err.message)
      temp.write(host.folder, "lib/work.lua", "return {\n  x = = 1\n}")
      assert.matches("lib/work%.lua:2: unexpected symbol", ask().message)
      temp.write(host.folder, "lib/work.lua", "return 5")
      assert.matches('module "work" gives a number', ask().message)
      temp.write(host.folder, "lib/work.lua", "return { x = function() return 'mended' end }")
      assert.same({ ok = "mended" }, ask())
    end)

    it("when a result cannot be copied, with its path", function()
      local err = result_of("return { f = function() return 1, { items = { print } } end }",
        [[ return describe(work.f()) ]])
      assert.matches("work%.f: result 2: items%[1%]: a function cannot be passed between threads", err.message)
      assert.equal("invalid", err.code)
    end)

    it("when it needs more than limits.memory; the next call works", function()
      local host = run([[
return {
  bomb = function() local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end,
  large = function() return ("x"):rep(30e6) end,
  fine = function() return "fine" end,
}]], [[
        local first, second = describe(work.bomb()), work.fine()
        return { first, second, describe(work.large()), work.fine() } ]],
        { config = "return { limits = { memory = '16MB', offload_threads = 1 } }" })
      for _ = 1, 3 do
        local r = ask(20)
        assert.same({ "memory", "fine", "memory", "fine" }, { r[1].code, r[2], r[3].code, r[4] })
      end
      assert.is_true(host:memory_mb() < 120 * wait.slow)
      assert.equal(0, status(host).lost)
    end)
  end)

  describe("timeout", function()
    local LOOPS = {
      ["a loop"] = { "while true do end", compiled = true },
      ["a loop that allocates"] = { "local t = {} while true do t[1] = {} end" },
      ["pcall in a loop"] = { "while true do pcall(function() while true do end end) end", compiled = true },
      ["a loop while the module loads"] = { "", load = "local n = 0 while true do n = n + #tostring(n) end" },
    }
    for what, loop in pairs(LOOPS) do
      it("ends " .. what .. ", and its thread works on", function()
        local host = run(("%s return { loop = function() %s end, fine = function() return 'fine' end }")
          :format(loop.load or "", loop[1]), [[
          local began = bus.now()
          local err = describe(bus.offload("work", { timeout = "200ms" }).loop())
          err.seconds = bus.now() - began
          return err ]], { config = "return { limits = { offload_threads = 1 } }" })
        local err = ask()
        assert.equal("timeout", err.code)
        assert.matches("work%.loop did not end within 200ms", err.message)
        assert.is_true(err.seconds >= 0.199 and err.seconds < wait.within(0.7), err.seconds)
        wait.eventually(function() return status(host).running == 0 or (loop.compiled and not escapes) end)
        if escapes or not loop.compiled then assert.equal(0, status(host).lost) end
        if loop.load then
          temp.write(host.folder, "lib/work.lua", "return { loop = function() return 'fine' end }")
          assert.equal("fine", ask().ok)
        else
          assert.equal("timeout", ask().code)
        end
        assert.equal(0, #host:logged { level = "error" })
      end)
    end

    -- In C, until the file "go" is there, or all of the test's files are gone.
    local BLOCK = [[block = function()
      return os.execute "while [ -e moonbus.lua -a ! -e go ]; do sleep 0.05; done"
    end]]

    it("comes in time from a call that blocks in C; another thread takes its place", function()
      local host = run("return { " .. BLOCK .. ", fine = function() return 'fine' end }", [[
        local began = bus.now()
        local err = describe(bus.offload("work", { timeout = ]] .. 0.2 * wait.slow .. [[ }).block())
        err.seconds = bus.now() - began
        err.fine = work.fine()
        return err ]], { config = "return { limits = { offload_threads = 1 } }" })
      local err = ask(30)
      assert.same({ "timeout", "fine" }, { err.code, err.fine })
      assert.is_true(err.seconds < wait.within(0.7), err.seconds)
      host:wait_log { script = "handler.lua", msg = "^the offloaded function work%.block is in a call that "
        .. "cannot be interrupted: its thread is lost until it returns %(1 of at most 1" }
      local now = status(host)
      assert.same({ 1, 1, 1 }, { now.threads, now.lost, now.running })
      temp.write(host.folder, "go", "")
      wait.eventually(function() return status(host).lost == 0 end, 10)
      assert.equal(1, status(host).threads)
      assert.same({}, host:logged { level = "error" })
    end)

    it("comes in time when every thread is lost, and says so; who has more time gets one that comes back", function()
      local host = run("return { " .. BLOCK .. " }", [[
        local timeout = msg.data == "patient" and "30s" or "100ms"
        return describe(bus.offload("work", { timeout = timeout }).block()) ]],
        { config = "return { limits = { offload_threads = 1 } }" })
      for lost = 1, 2 do -- on a busy machine a call may be over before it began
        wait.eventually(function()
          assert.equal("timeout", ask().code)
          return status(host).lost == lost
        end, 10)
      end
      assert.matches("work%.block found no thread free within 100ms", ask().message)
      assert.equal(0, status(host).threads)
      host:wait_log "none takes its place any more"
      alive()
      local code, body = posix.http(tonumber(host.admin:match "%d+$"), "GET", "/readyz")
      assert.equal(503, code)
      assert.same({ ok = false,
        reasons = { "bus.offload: no thread is left, 2 are in calls that do not return" } }, cjson.decode(body))
      local answers = w.client:subscribe "answer"
      w.client:publish("spec", "patient", nil, "answer")
      wait.eventually(function() return status(host).queued == 1 end)
      temp.write(host.folder, "go", "")
      assert.equal("0", answers:next(10):json().ok)
      wait.eventually(function() return status(host).lost == 0 end, 10)
      assert.equal("0", w.client:request("spec", "patient", { timeout = 10 }):json().ok)
      assert.equal(1, status(host).threads)
      code = posix.http(tonumber(host.admin:match "%d+$"), "GET", "/readyz")
      assert.equal(200, code)
    end)

    it("bounds the wait for a thread", function()
      local result = result_of([[return { block = function() os.execute "sleep 0.5" return 1 end }]], [[
        local first = bus.spawn(work.block)
        bus.sleep("50ms")
        local err = describe(bus.offload("work", { timeout = "100ms" }).block())
        return { err.code, err.message, first:wait() } ]],
        { config = "return { limits = { offload_threads = 1 } }" })
      assert.same({ "timeout", "work.block found no thread free within 100ms", 1 }, result)
    end)
  end)

  it("lets callers wait for a place when its queue is full, in their order", function()
    local host = run([[
local n = 0
return { count = function(data) n = n + 1 return n, #data end }]], [[
      local futures, out = {}, { inside = 0, order = true }
      for i = 1, 600 do
        futures[i] = bus.spawn(function() return work.count(("x"):rep(1000)) end)
      end
      bus.sleep("1ms")
      for i = 1, 600 do
        local n, size = futures[i]:wait()
        if n ~= i or size ~= 1000 then out.order, out.wrong = false, out.wrong or { n, i } end
      end
      return out ]], { config = "return { limits = { offload_threads = 1 } }" })
    local result = ask(20)
    assert.is_true(result.order, cjson.encode(result))
    local now = status(host)
    assert.same({ 600, 0, 0, 0 }, { now.calls, now.queued, now.waiting, now.running })
  end)

  it("gives back the places of callers that are cancelled while they wait for one", function()
    local host = run([[
return { block = function() os.execute "sleep 0.3" return 1 end, fine = function() return 2 end }]], [[
      local futures = {}
      for i = 1, 700 do futures[i] = bus.spawn(work.block) end
      bus.sleep("50ms")
      for i = 1, 700 do futures[i]:cancel() end
      return { work.fine() } ]], { config = "return { limits = { offload_threads = 1 } }" })
    for _ = 1, 3 do assert.same({ 2 }, ask(20)) end
    wait.eventually(function()
      local now = status(host)
      return now.queued == 0 and now.waiting == 0 and now.running == 0
    end)
  end)

  describe("loads a module again", function()
    local function versions(host)
      return function(text)
        temp.write(host.folder, "lib/work.lua", text)
        return ask().ok
      end
    end

    it("when its file has changed, however quickly", function()
      local host = run("return { v = function() return 0 end }", [[ return describe(work.v()) ]])
      assert.equal("0", ask().ok)
      local save = versions(host)
      for i = 1, 9 do
        assert.equal(tostring(i), save(("return { v = function() return %d end }"):format(i)))
      end
    end)

    it("when a module has changed that it requires", function()
      local host = run([[return { v = function() return require("helper").v end }]],
        [[ return describe(work.v()) ]], { files = { ["lib/helper.lua"] = "return { v = 1 }" } })
      assert.equal("1", ask().ok)
      temp.write(host.folder, "lib/helper.lua", "return { v = 2 }")
      assert.equal("2", ask().ok)
    end)

    it("and not when it is only touched", function()
      local text = "local n = 0 return { v = function() n = n + 1 return n end }"
      local host = run(text, [[ return describe(work.v()) ]],
        { config = "return { limits = { offload_threads = 1 } }" })
      assert.equal("1", ask().ok)
      assert.equal("2", versions(host)(text))
    end)

    it("unless it does not load: then the version before it goes on, and the log says so once", function()
      local host = run("return { v = function() return 'one' end }", [[ return describe(work.v()) ]],
        { config = "return { limits = { offload_threads = 1 } }" })
      assert.equal("one", ask().ok)
      local save = versions(host)
      assert.equal("one", save "return { v = = }")
      assert.equal("one", ask().ok)
      local event = host:wait_log { level = "error",
        msg = 'module "work": refused, the version before it goes on: lib/work%.lua:1: unexpected' }
      assert.equal("handler.lua", event.script)
      assert.equal("two", save "return { v = function() return 'two' end }")
      assert.equal(1, #host:logged { level = "error" })
    end)

    -- A module that tells its version; `meet` returns when as many are in it at a time.
    local function version(name)
      return ([[
local M = {}
function M.v() return %q end
function M.meet(folder, count)
  io.open(folder .. "/" .. tostring(M):match "0x%%x+", "w"):close() -- one for each thread
  repeat
    local pipe = io.popen("ls " .. folder .. " | wc -l")
    local here = pipe:read "*n"
    pipe:close()
  until here >= count
  return %q
end
function M.bomb() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000) .. i end end
return M]]):format(name, name)
    end

    local ASKS = [[
      local what, folder, count = msg.data:match "^(%S+) ?(%S*) ?(%S*)$"
      if what == "meet" then
        local calls = {}
        for i = 1, tonumber(count) do calls[i] = function() return (work.meet(folder, tonumber(count))) end end
        return { ok = table.concat({ bus.gather(calls) }, " ") }
      end
      return describe(work[what](folder, tonumber(count))) ]]

    local function told(what)
      return w.client:request("spec", what, { timeout = 20 }):json()
    end

    it("and goes on with the last version that loaded, on every thread, also on one that never had it",
      function()
        local host = run(version "one", ASKS, { config = "return { limits = { offload_threads = 3 } }" })
        assert.equal("one", told("v").ok)
        temp.write(host.folder, "lib/work.lua", version "two")
        assert.equal("two", told("v").ok)
        temp.write(host.folder, "lib/work.lua", "return { v = = }")
        assert.equal("two two two", told("meet " .. w:folder() .. " 3").ok)
        assert.equal(1, #host:logged { level = "error" })
        temp.write(host.folder, "lib/work.lua", version "three")
        assert.equal("three three three", told("meet " .. w:folder() .. " 3").ok)
        temp.write(host.folder, "lib/work.lua", "return { v = = }")
        assert.equal("three three three", told("meet " .. w:folder() .. " 3").ok)
        assert.equal(2, #host:logged { level = "error" })
      end)

    it("and goes on with it on a thread whose state had to be given up", function()
      local host = run(version "one", ASKS,
        { config = "return { limits = { memory = '8MB', offload_threads = 1 } }" })
      assert.equal("one", told("v").ok)
      temp.write(host.folder, "lib/work.lua", "return { v = = }")
      assert.equal("memory", told("bomb").code)
      assert.equal("one", told("v").ok)
    end)

    it("and goes on with all of it, modules that it requires included, when its file is gone; one line says so",
      function()
        local host = run('return { v = require("helper").v }', ASKS, {
          files = { ["lib/helper.lua"] = "return { v = function() return 'helped' end }" },
          config = "return { limits = { memory = '8MB', offload_threads = 2 } }",
        })
        assert.equal("helped", told("v").ok)
        os.remove(host.folder .. "/lib/work.lua")
        temp.write(host.folder, "lib/helper.lua", "return { v = = }")
        for _ = 1, 5 do assert.equal("helped", told("v").ok) end
        local event = host:wait_log { level = "error" }
        assert.equal('offloaded module "work": its file is gone, the last version goes on: put it back', event.msg)
        assert.is_nil(event.traceback)
        temp.write(host.folder, "lib/work.lua", 'return { v = require("helper").v }')
        for _ = 1, 5 do assert.equal("helped", told("v").ok) end
        temp.write(host.folder, "lib/helper.lua", "return { v = function() return 'mended' end }")
        for _ = 1, 5 do assert.equal("mended", told("v").ok) end
        os.remove(host.folder .. "/lib/helper.lua")
        assert.equal("mended", told("v").ok)
        event = host:logged({ level = "error" })[3]
        assert.matches('^offloaded module "work": refused, the version before it goes on: lib/work%.lua:1: ' ..
          'module "helper" not found$', event.msg)
        temp.write(host.folder, "lib/helper.lua", "return { v = function() return 'back' end }")
        for _ = 1, 5 do assert.equal("back", told("v").ok) end
      end)
  end)

  it("raises in a handler that is cancelled while it waits, and stops what runs for it", function()
    local host = run([[
return { loop = function(path)
  while true do
    local file = io.open(path, "a")
    file:write "x"
    file:close()
  end
end }]], [[ return {} ]], { config = "return { limits = { offload_threads = 1 } }" })
    temp.write(host.folder, "handlers/other.lua", ([[
local bus = require "moonbus"
local work = bus.offload "work"
bus.subscribe("stubborn", { timeout = %g }, function()
  local ok, err = pcall(work.loop, %q)
  bus.log.info("it was", { code = err.code })
  pcall(work.loop, %q)
end)]]):format(0.2 * wait.slow, host.folder .. "/a", host.folder .. "/b"))
    host:signal "HUP"
    host:wait_log "other%.lua: generation 1 live"
    w.client:publish("stubborn", "")
    assert.equal("cancelled", host:wait_log("it was").fields.code)
    host:wait_log { level = "error", code = "timeout", handler = "stubborn" }
    wait.eventually(function() return status(host).running == 0 end)
    local size = #temp.read(host.folder .. "/a")
    assert.is_true(size > 0)
    assert.is_true(wait.holds(function() return #temp.read(host.folder .. "/a") == size end, 0.1))
    assert.is_nil(temp.read(host.folder .. "/b"))
    assert.equal(0, status(host).lost)
  end)

  it("stops a call that is given up while its thread prepares for it", function()
    -- The state of a call that was refused memory is closed: a new one is made for the next call.
    local host = run([[
return {
  loop = function() local t = {} while true do t[1] = {} end end,
  refused = function() return ("x"):rep(30e6) end,
}]], [[
      local codes = {}
      for i = 1, 40 do
        local _, err = bus.offload("work", { timeout = "10s" }).refused()
        local call = bus.spawn(work.loop)
        bus.sleep((i % 20) * 0.0001)
        call:cancel()
        codes[err.code] = (codes[err.code] or 0) + 1
      end
      return codes ]],
      { config = "return { limits = { memory = '16MB', offload_threads = 1 } }" })
    assert.same({ memory = 40 }, ask(30))
    wait.eventually(function() return status(host).running == 0 end)
    assert.equal(0, status(host).lost)
  end)

  it("finishes on the old code when a reload comes meanwhile", function()
    local function text(version)
      return ([[
local bus = require "moonbus"
local work = bus.offload "work"
bus.subscribe("call", function() return work.block(%q) .. %q end)
bus.subscribe("version", function() return %q end)]]):format(version, version, version)
    end
    local host = w:run { args = { "--watch" }, handlers = { ["handler.lua"] = text "one" }, files = {
      ["lib/work.lua"] = 'return { block = function(v) os.execute "sleep 0.7" return v end }' } }
    local answers = w.client:subscribe "answer"
    w.client:publish("call", "", nil, "answer")
    temp.write(host.folder, "handlers/handler.lua", text "two")
    host:wait_log "handler%.lua: generation 2 live"
    assert.equal("two", w.client:request("version", "").data)
    assert.equal("oneone", answers:next(5).data)
    host:wait_log "generation 1 closed"
  end)

  describe("does not hold up a stop", function()
    it("with a call that its handler waits for: that ends first", function()
      local host = run([[return { block = function() os.execute "sleep 0.6" return 1 end }]],
        [[ return { work.block() } ]])
      local answers = w.client:subscribe "answer"
      w.client:publish("spec", "", nil, "answer")
      wait.eventually(function() return status(host).running == 1 end)
      assert.equal(0, host:stop())
      assert.same({ 1 }, answers:next():json())
    end)

    it("with a call in C that nobody waits for", function()
      local host = run([[return { block = function() os.execute "sleep 20" end }]],
        [[ return describe(bus.offload("work", { timeout = "100ms" }).block()) ]])
      assert.equal("timeout", ask().code)
      local began = wait.now()
      assert.equal(0, host:stop(15))
      assert.is_true(wait.now() - began < wait.within(3))
    end)

    it("with a call in C that is longer than graceful_timeout", function()
      local host = run([[return { block = function() os.execute "sleep 20" end }]],
        [[ work.block() ]], { args = { "--graceful-timeout", "1s" } })
      w.client:publish("spec", "")
      wait.eventually(function() return status(host).running == 1 end)
      local began = wait.now()
      assert.equal(3, host:stop(15))
      assert.is_true(wait.now() - began < wait.within(3))
    end)
  end)

  it("has as many threads as the config says, also after it was changed", function()
    local function config(threads)
      return ("return { limits = { offload_threads = %d } }"):format(threads)
    end
    local host = run([[return { block = function() os.execute "sleep 0.1" return 1 end }]], [[
      local fns = {}
      for i = 1, 8 do fns[i] = work.block end
      bus.gather(fns)
      return {} ]], { config = config(2) })
    ask()
    assert.same({ 2, 2 }, { status(host).limit, status(host).threads })
    temp.write(host.folder, "moonbus.lua", config(5))
    host:signal "HUP"
    wait.eventually(function() return status(host).limit == 5 end)
    ask()
    assert.equal(5, status(host).threads)
    temp.write(host.folder, "moonbus.lua", config(1))
    host:signal "HUP"
    wait.eventually(function() return status(host).threads == 1 end)
    ask()
    assert.equal(1, status(host).threads)
    assert.matches("offload: threads 1 of 1, lost 0, running 0, queued 0",
      w:moonbus({ "status", "--admin", host.admin }).stdout)
  end)

  it("raises when it is misused, and says what is right", function()
    local errors = result_of("return { f = function() return 1 end }", [[
      return {
        try(bus.offload), try(bus.offload, 5), try(bus.offload, ""),
        try(bus.offload, "../work"),
        try(bus.offload, "work", { time = 1 }), try(bus.offload, "work", { timeout = "soon" }),
        try(bus.offload, "work", { timeout = 0 }), try(bus.offload, "work", "1s"),
        try(function() work:f() end), try(function() work.x = 1 end), try(function() work() end),
        try(function() return work[5] end), try(work.f, print),
        try(work.f, 1, { items = { 1, { fn = print } } }), try(work.f, msg),
        try(function() table.sort({ 3, 2, 1 }, function() return work.f() end) end),
      } ]])
    local expected = {
      "bus.offload: module: expected the name of a module", "got 5", 'got ""', 'got "../work"',
      'unknown option "time"', "timeout: ", "timeout: expected at least", "table of options",
      "work.f: call it with a dot", "no fields that can be set", 'call a function of "work"',
      "name must be a string", "work.f: argument 1: a function cannot be passed between threads",
      "work.f: argument 2: items%[2%]%.fn: a function", "work.f: argument 1: a message cannot be passed",
      "cannot wait inside",
    }
    for index, text in ipairs(expected) do
      assert.matches(text, errors[index])
      assert.matches("^handler%.lua:%d+: ", errors[index])
    end
  end)

  it("can be named while a script loads, and called only after that", function()
    local failed = w:fail { handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.offload("work").f()]] }, files = { ["lib/work.lua"] = "return {}" } }
    assert.equal(2, failed.status)
    assert.matches('work%.f: not while the script loads', failed.events[1].msg)
    assert.equal(2, failed.events[1].line)
  end)

  it("ends a recursion through C functions and coroutines with an error", function()
    run([[
local M = {}
function M.gsub() return (("x"):gsub("x", M.gsub)) end
function M.wrap() return coroutine.wrap(M.wrap)() end
function M.resume() return select(2, assert(coroutine.resume(coroutine.create(M.resume)))) end
return M]], [[ return { describe(work.gsub()).message, describe(work.wrap()).message,
      describe(work.resume()).message } ]])
    for _, text in ipairs(ask(20)) do
      assert.is_truthy(text:find "overflow" or text:find "not enough memory", text)
    end
    alive()
  end)

  it("logs errors in finalizers of the FFI, wherever the collector runs them", function()
    local host = run([[
local ffi = require "ffi"
local struct = ffi.metatype("struct { int x; }", { __gc = function() error "of a struct" end })
local function fail() error "in a finalizer" end
local callable = setmetatable({}, { __call = function() error "of a table" end })
ffi.cdef "int abs(int);"
return { leave = function()
  for _ = 1, 5000 do
    ffi.gc(ffi.new "char[16]", fail)
    struct()
    ffi.gc(ffi.new "char[16]", callable)
    ffi.gc(ffi.new "char[16]", ffi.C.abs)
    ffi.gc(ffi.new "char[16]", "no function")
  end
  error "raised"
end }]], [[ return describe(work.leave()) ]], { config = "return { limits = { offload_threads = 1 } }" })
    for _ = 1, 10 do assert.matches("raised", ask().message) end
    host:wait_log { level = "error", msg = "an error in a finalizer: lib/work.lua:3: in a finalizer" }
    host:wait_log { level = "error", msg = "an error in a finalizer: lib/work.lua:2: of a struct" }
    host:wait_log { level = "error", msg = "an error in a finalizer: lib/work.lua:4: of a table" }
    host:wait_log { level = "error", msg = "an error in a finalizer: .*cannot convert" }
    host:wait_log { level = "error", msg = "an error in a finalizer: attempt to call a string value" }
  end)

  it("has no moonbus inside, logs what is printed, and ends no process", function()
    local host = run([[
return {
  bus = function() require "moonbus" end,
  exit = function() os.exit(7) end,
  locale = function() os.setlocale("C") end,
  print = function() print("said", 5) end,
}]], [[
      work.print()
      return { describe(work.bus()).message, describe(work.exit()).message,
        describe(work.locale()).message } ]])
    local texts = ask()
    assert.matches('lib/work%.lua:2: require "moonbus": what is offloaded runs beside NATS', texts[1])
    assert.matches("lib/work%.lua:3: os%.exit would end the host", texts[2])
    assert.matches("os%.setlocale", texts[3])
    host:wait_log { level = "info", msg = "^said\t5$", script = "handler.lua" }
    alive()
  end)
end)
