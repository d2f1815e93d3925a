-- moonbus test --server: the same tests against a real nats-server, on the real wire and clock.
local faulty = require "spec.support.faulty"
local host = require "spec.support.host"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local HANDLERS = [[
local bus, js, kv = require "moonbus", require "moonbus.jetstream", require "moonbus.kv"
local seen = kv.bucket { name = "seen" }
js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "OUT", subjects = { "out.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
bus.subscribe("ask", function(msg)
  local reply, err = bus.request("pay", { id = 1 })
  if not reply then return nil, err end
  bus.publish("told", "x")
  return { paid = reply:json().total }
end)
bus.subscribe("get", function() return assert(bus.http.get "https://a.example/x").body end)
js.consume("IN", { durable = "d", attempts = 3, backoff = { min = "100ms" }, dead_letter = "dead.d" }, function(msg)
  bus.log.info("attempt " .. msg.attempt)
  if msg.data == "bad" then error "bad" end
  seen:put("last", msg.data)
  js.publish("out.x", msg.data)
end)
local ticks = 0
bus.every("1s", function() ticks = ticks + 1; bus.publish("tick", tostring(ticks)) end)
]]

local HERE = io.popen("pwd"):read "*l" .. "/"

describe("moonbus test --server", function()
  local w = world.new()
  after_each(function() w:clear() end)

  local function prepare(body)
    local folder = w:folder()
    temp.write(folder, "a.lua", HANDLERS)
    temp.write(folder, "a_test.lua", 'local test = require "moonbus.test"\nlocal s = test.load "a.lua"\n' .. body)
    return folder
  end

  local function run(body, options, ...)
    options = options or {}
    return w:moonbus({ "test", "--server", "a_test.lua", ... },
      { folder = prepare(body), env = options.env, deadline = 120 })
  end

  local function passes(count, body, ...)
    local ended = run(body, nil, ...)
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches(("^a_test%%.lua\n.*%d passed, 0 failed"):format(count), ended.stdout)
    return ended.stdout
  end

  it("delivers, answers with stubs, and tells what became of it", function()
    passes(3, [[
it("a request", function()
  s:stub("pay", { total = 9 })
  local r = s:deliver "ask"
  assert.same({ paid = 9 }, r.reply)
  assert.same({ "pay", "told", "ok" }, { r.requests[1].subject, r.published[1].subject, r.verdict })
  s:stub("pay", { error = "no_responders" })
  assert.equal("no_responders", s:deliver("ask").error.code)
  s:stub("pay", { error = { message = "poor", status = 402 } })
  local failed = s:deliver "ask"
  assert.same({ "service_error", "poor" }, { failed.error.code, failed.reply_headers["Nats-Service-Error"] })
  s:stub_http("https://a.example/*", { body = "from the web", headers = { Status = "201" } }, { delay = "20ms" })
  assert.equal("from the web", s:deliver("get").reply)
end)
it("a stored message", function()
  local r = s:deliver("in.a", "one")
  assert.same({ "ack", "out.x", 1 }, { r.verdict, r.published[#r.published].subject, #s:stored "OUT" })
  assert.equal("one", s:kv "seen":get "last".raw)
end)
it("a stored message that fails", function()
  local r = s:deliver("in.b", "bad", { attempt = 2 })
  assert.same({ "nak", 2 }, { r.verdict, r.attempt })
  r = s:run()
  assert.same({ 3, "dead_letter" }, { r.runs[#r.runs].attempt, r.runs[#r.runs].verdict })
  assert.equal(1, #s:stored "DEAD")
end)]])
  end)

  it("lets a test go on that waits for the server again and again, longer than one that blocks may", function()
    passes(1, [[
it("patient", function()
  for _ = 1, 2 do test.advance "4s" end
end)]], "--timeout", "2s")
  end)

  it("lets short times pass, and leaves out what needs simulated time", function()
    local out = passes(1, [[
it("short", function()
  local r = test.advance "2100ms"
  assert.is_true(#r.published >= 1)
end)
it("long", function() test.advance "1h" error "not reached" end)
it("slow", function() s:stub("pay", "x", { delay = "1m" }) error "not reached" end)
it("often", function() s:deliver("in.a", "x", { attempt = 12 }) error "not reached" end)
it("said", function() test.needs "virtual time" error "not reached" end)]])
    for _, text in ipairs { '  pending long (advance("1h"): time is real with --server)',
      "  pending slow (a stub with a delay of 60s: time is real with --server)",
      "  pending often (attempt = 12: with --server at most 9)",
      "  pending said (it needs virtual time: time is real with --server)", "1 passed, 0 failed, 4 pending" } do
      assert.is_truthy(out:find(text, 1, true), out)
    end
  end)

  it("has a server of its own for each script that is loaded", function()
    passes(2, [[
it("one", function()
  local other = test.load "a.lua"
  other:deliver("in.a", "other")
  assert.same({}, s:stored "OUT")
  s:deliver("in.a", "own")
  assert.same({ "own", "other" }, { s:stored "OUT"[1].raw, other:stored "OUT"[1].raw })
  assert.is_true(#other:stored "OUT" == 1)
end)
it("is emptied for the next one", function()
  for i = 1, 20 do
    local other = test.load "a.lua"
    assert.same({}, other:stored "OUT")
    other:deliver("in.a", "x")
    other:close()
  end
end)]])
  end)

  it("says that a test fails, as any test, and that a script does not load", function()
    local ended = run [[
it("fails", function() assert.equal("nak", s:deliver("in.a", "x").verdict) end)
it("loads", function() test.load "a_test.lua" end)]]
    assert.equal(1, ended.status)
    assert.matches("  FAILED  fails\n    a_test.lua:3: Expected objects to be equal", ended.stdout)
    assert.matches("    log: info a.lua: attempt 1", ended.stdout)
    assert.matches("  FAILED  loads", ended.stdout)
  end)

  it("leaves nothing behind, also when it is told to end", function()
    for _, signal in ipairs { false, "INT", "TERM" } do
      local folder = prepare('it("waits", function() s:deliver("in.a", "x") ' ..
        'io.open("ready", "w"):close() if SIGNAL then test.advance "4s" end end)')
      local text = temp.read(folder .. "/a_test.lua")
      temp.write(folder, "a_test.lua", ("SIGNAL = %s "):format(tostring(signal ~= false)) .. text)
      temp.write(folder, "tmp/x", "")
      local run_it = process.start { command = { host.binary(), "test", "--server", "a_test.lua" }, folder = folder,
        env = { TMPDIR = folder .. "/tmp" } }
      if signal then
        wait.eventually(function() return io.open(folder .. "/ready") ~= nil end, 30)
        run_it:signal(signal)
      end
      local status, number = run_it:wait(60)
      if signal then assert.is_truthy(number or status ~= 0) else assert.equal(0, status, run_it:stdout()) end
      local left = io.popen("ls " .. folder .. "/tmp"):read "*a"
      assert.equal("x\n", left)
      wait.eventually(function()
        return io.popen("ps -eo args"):read "*a":find(folder, 1, true) == nil
      end, 20, "the end of its nats-server")
      run_it:close()
    end
  end)

  it("says what is missing, or is no way to use it", function()
    local ended = run('it("x", function() end)', { env = { PATH = "/nowhere", HOME = "/" } }, "--nats-server", "none")
    assert.equal(1, ended.status)
    assert.matches("^moonbus test: there is no none in PATH: install the package nats%-server, or name one with " ..
      "%-%-nats%-server PATH\n$", ended.stderr)
    ended = run('it("x", function() end)', nil, "--coverage")
    assert.equal(2, ended.status)
    assert.matches("--coverage", ended.stderr, 1, true)
    ended = run('it("x", function() test.needs "luck" end)')
    assert.matches('a_test.lua:3: test.needs: expected "virtual time", got "luck"', ended.stdout)
  end)

  -- All of them take minutes: backoffs are real.
  for _, name in ipairs(faulty.long and { "examples/" } or { "examples/hello_test.lua", "examples/orders_test.lua",
    "examples/parcels_test.lua", "examples/middleware_test.lua", "examples/cookbook/cache_test.lua" }) do
    it("runs the tests of " .. name, function()
      local ended = w:moonbus({ "test", "--server", HERE .. name }, { deadline = 600 })
      assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
      assert.matches("%d passed, 0 failed", ended.stdout)
    end)
  end
end)
