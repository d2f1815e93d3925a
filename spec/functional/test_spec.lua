-- moonbus test: handler tests without a server. What scripts do there is the engine's; here it is what
-- tests see of it, and how the command ends.
local temp = require "spec.support.temp"
local world = require "spec.support.world"

local ORDERS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "ORDERS", subjects = { "orders.>" } }
js.stream { name = "OUT", subjects = { "out.>", "dead.>" } }
js.consume("ORDERS", { durable = "billing", filter = "orders.created", attempts = 3, dead_letter = "dead.billing" },
  function(msg)
    local order = msg:json()
    if order.fail then error(order.fail) end
    local receipt, err = bus.request("pay", order, { timeout = "5s" })
    if not receipt then return nil, err end
    bus.log.info("charged", { id = order.id })
    js.publish("out.invoices", { order = order.id, total = receipt:json().total })
  end)
js.consume("ORDERS", { durable = "list", filter = "orders.batch", batch = { size = 3, wait = "1s" } }, function(list)
  bus.publish("sizes", tostring(#list))
end)
js.consume("ORDERS", { durable = "keys", filter = "orders.key.*", order_by = "subject", attempts = 2,
  dead_letter = "dead.keys" }, function(msg)
  bus.publish("seen", msg.data)
  if msg.data == "bad" then error "bad" end
end)
bus.every("10s", function() bus.publish("ticks", "t") end)
bus.subscribe("echo", function(msg) return { got = msg:json(), lang = msg.headers.lang } end)
]]

describe("moonbus test", function()
  local w = world.new()
  after_each(function() w:clear() end)

  -- files: name -> text. Runs `moonbus test` there.
  local function run(files, ...)
    local folder = w:folder()
    for name, text in pairs(files) do temp.write(folder, name, text) end
    local ended = w:moonbus({ "test", ... }, { folder = folder })
    ended.folder = folder
    return ended
  end

  local HEAD = 'local test = require "moonbus.test"\nlocal s = test.load "handlers/orders.lua"\n'

  -- A test of the script above that has to pass.
  local function holds(body, ...)
    local ended = run({ ["handlers/orders.lua"] = ORDERS,
      ["handlers/orders_test.lua"] = HEAD .. 'it("holds", function()\n' .. body .. "\nend)\n" }, ...)
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("1 passed, 0 failed\n$", ended.stdout)
  end

  local function fails(body)
    local ended = run { ["handlers/orders.lua"] = ORDERS,
      ["handlers/orders_test.lua"] = HEAD .. 'it("fails", function()\n' .. body .. "\nend)\n" }
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    return ended.stdout
  end

  it("runs the tests of the examples", function()
    local ended = w:moonbus({ "test", "examples" }, { folder = "." })
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("\nexamples/orders_test.lua\n", "\n" .. ended.stdout)
    assert.matches(" passed, 0 failed\n$", ended.stdout)
  end)

  it("tells of a durable's run: verdict, what it asked, published and logged", function()
    holds [[
      s:stub("pay", function(request)
        assert.equal(1, request.data.id)
        return { total = 9 }
      end, { delay = "200ms" })
      local r = s:deliver("orders.created", { id = 1 })
      assert.same({ "ack", 1, "ORDERS", "billing", 1 }, { r.verdict, r.attempt, r.stream, r.consumer, r.sequence })
      assert.same({ 1, "pay" }, { #r.requests, r.requests[1].subject })
      assert.same({ order = 1, total = 9 }, r.published[1].data)
      assert.equal(#'{"order":1,"total":9}', #r.published[1].raw)
      assert.equal("application/json", r.published[1].headers["Content-Type"])
      assert.matches("^ORDERS:", r.published[1].id)
      assert.same({ "info", "charged", 1 }, { r.logged[1].level, r.logged[1].message, r.logged[1].fields.id })
      assert.is_nil(r.error)
      assert.equal(1, s:stored("OUT")[1].data.order)]]
  end)

  it("tells of a reply, with the headers of both", function()
    holds [[
      local r = s:deliver("echo", { a = 1 }, { headers = { Lang = "de" } })
      assert.equal("ok", r.verdict)
      assert.same({ got = { a = 1 }, lang = "de" }, r.reply)
      assert.equal("application/json", r.reply_headers["content-type"])
      r = s:deliver("echo", "no JSON")
      assert.same({ "failed", "bad_payload" }, { r.verdict, r.error.code })
      assert.equal("400", r.reply_headers["Nats-Service-Error-Code"])
      assert.is_nil(s:deliver("echo", {}, { reply = false }).reply)]]
  end)

  it("tells of a failure, and stops before the next attempt", function()
    holds [[
      local r = s:deliver("orders.created", { fail = "boo" })
      assert.same({ "nak", 1, "boo", "handler_error" }, { r.verdict, r.attempt, r.error.message, r.error.code })
      assert.matches("orders.lua$", r.error.file)
      assert.equal("boo", tostring(r.error))
      assert.is_true(r.delay > 0.7 and r.delay < 1.3)
      assert.equal(1, #r.runs)
      r = s:deliver("orders.created", { fail = "boo" }, { attempt = 3 })
      assert.same({ "dead_letter", 3, "dead.billing" }, { r.verdict, r.attempt, r.dead_letter.subject })
      assert.equal("boo", r.dead_letter.headers["Moonbus-Error"])
      r = s:deliver("orders.key.a", "bad") -- where an order is kept, the host tries again by itself
      assert.same({ "nak", 1, "bad" }, { r.verdict, r.attempt, r.error.message })
      assert.is_true(r.delay > 0.7)
      local last
      for _, run in ipairs(s:run().runs) do last = run.consumer == "keys" and run or last end
      assert.same({ "dead_letter", 2 }, { last.verdict, last.attempt })]]
  end)

  it("runs to the end: redeliveries, batches, orders, dead letters", function()
    holds [[
      s:send("orders.created", { fail = "boo" })
      local r = s:run()
      assert.same({ 3, "nak", "nak", "dead_letter", 1 },
        { #r.runs, r.runs[1].verdict, r.runs[2].verdict, r.runs[3].verdict, #r.dead_letters })
      for i = 1, 4 do s:send("orders.batch", tostring(i)) end
      r = s:run()
      local sizes = {}
      for _, message in ipairs(r.published) do
        if message.subject == "sizes" then sizes[#sizes + 1] = message.data end
      end
      assert.same({ "3", "1" }, sizes)
      s:send("orders.key.a", "bad"):send("orders.key.a", "after")
      local seen = {}
      for _, message in ipairs(s:run().published) do
        if message.subject == "seen" then seen[#seen + 1] = message.data end
      end
      assert.same({ "bad", "bad", "after" }, seen)]]
  end)

  it("moves the clock", function()
    holds [[
      assert.equal(6, #test.advance("1m").published)
      assert.equal(360, #s:advance(3600).published)]]
  end)

  it("moves it by weeks in a moment, where little happens", function()
    local ended = run({ ["a.lua"] = [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.stream { name = "S", subjects = { "s" } }
      js.consume("S", { durable = "d", dead_letter = false }, function() end)
      bus.every("24h", function() bus.publish("days", "") end)]], ["a_test.lua"] = [[
      local s = require "moonbus.test".load "a.lua"
      it("takes few steps", function()
        assert.equal(25, #s:advance("25d").published)
        assert.equal("ack", s:deliver("s").verdict)
      end)]] }, "a_test.lua")
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
  end)

  it("has errors in the place of an answer", function()
    holds [[
      s:stub("pay", { error = "no_responders" })
      assert.equal("no_responders", s:deliver("orders.created", { id = 1 }).error.code)
      s:stub("pay", { error = "timeout" })
      assert.equal("timeout", s:deliver("orders.created", { id = 1 }).error.code)
      s:stub("pay", { error = "no money" })
      assert.equal("service_error", s:deliver("orders.created", { id = 1 }).error.code)
      s:stub("pay", function() return nil, { message = "busy", status = 429 } end)
      assert.matches("busy", s:deliver("orders.created", { id = 1 }).error.message)]]
  end)

  it("answers calls of HTTP servers", function()
    local ended = run({ ["a.lua"] = [[
      local bus = require "moonbus"
      bus.subscribe("get", function(msg)
        local answer, err = bus.http.get(msg.data, { timeout = "2s", headers = { Accept = "x" } })
        if not answer then return { code = err.code } end
        return { status = answer.status, body = answer.body, kind = answer.headers["content-type"], at = bus.now() }
      end)
      bus.subscribe("pieces", function(msg)
        local list = {}
        bus.http.get(msg.data, { sink = function(piece) list[#list + 1] = piece end })
        return table.concat(list, ",")
      end)]], ["a_test.lua"] = [[
      local s = require "moonbus.test".load "a.lua"
      it("by URL, method and function", function()
        s:stub_http("http://a.b/*", function(call)
          assert.same({ "GET", "x" }, { call.method, call.headers.accept })
          return { status = 201, json = { url = call.url } }
        end)
        s:stub_http("http://a.b/text", "text", { delay = "500ms" }):stub_http("*", "wrong", { method = "POST" })
        local r = s:deliver("get", "http://a.b/c?d=1")
        assert.equal(201, r.reply.status)
        assert.equal('{"url":"http://a.b/c?d=1"}', r.reply.body)
        assert.equal("application/json", r.reply.kind)
        assert.equal("http://a.b/c?d=1", r.http[1].url)
        local again = s:deliver("get", "http://a.b/text").reply
        assert.same({ 200, "text" }, { again.status, again.body })
        assert.is_true(again.at - r.reply.at >= 0.499)
        assert.equal("text", s:deliver("pieces", "http://a.b/text").reply)
      end)
      it("with errors", function()
        for _, code in ipairs { "refused", "dns", "timeout", "protocol" } do
          s:stub_http("*", { error = code })
          assert.equal(code, s:deliver("get", "http://a.b/").reply.code)
        end
        s:stub_http("*", "late", { delay = "3s" })
        assert.equal("timeout", s:deliver("get", "http://a.b/").reply.code)
      end)
      it("that nobody stubs", function() require "moonbus.test".load("a.lua"):deliver("get", "http://a.b/") end)
      it("wrongly", function() s:stub_http("*", { stat = 200 }) end)]] }, "a_test.lua")
    assert.same({ 1, "" }, { ended.status, ended.stderr })
    assert.matches("2 passed, 2 failed\n$", ended.stdout, nil, ended.stdout)
    assert.is_truthy(ended.stdout:find('a_test.lua:26: a.lua: no stub answers GET http://a.b/: script:stub_http(' ..
      '"http://a.b/", { status = 200 })', 1, true), ended.stdout)
    assert.matches('a_test.lua:27: stub_http: unknown option "stat": there are body,', ended.stdout)
  end)

  it("loads a script afresh, with streams that are another's", function()
    local ended = run({ ["a.lua"] = [[
      local js = require "moonbus.jetstream"
      local count = 0
      js.consume("OTHER", { durable = "d", dead_letter = false }, function(msg)
        count = count + 1
        js.publish("there", tostring(count))
      end)]], ["a_test.lua"] = [[
      local test = require "moonbus.test"
      for i = 1, 2 do
        it("is new " .. i, function()
          local s = test.load("a.lua", { streams = { { name = "OTHER", subjects = { "in" } },
            { name = "THERE", subjects = { "there" } } } })
          local r = s:deliver "in"
          assert.same({ "ack", 1 }, { r.verdict, r.sequence })
          assert.same({ "there", "1" }, { r.published[1].subject, r.published[1].data })
        end)
      end
      it("says that there is none", function() test.load("a.lua"):deliver "in" end)]] }, "a_test.lua")
    assert.equal(1, ended.status)
    assert.matches("2 passed, 1 failed", ended.stdout)
    assert.matches('a_test.lua:11: a.lua: OTHER/d: there is no stream "OTHER" in this test: load%(path, { streams',
      ended.stdout)
  end)

  it("stops handlers that go round and round", function()
    local ended = run({ ["a.lua"] = [[
      local bus = require "moonbus"
      bus.subscribe("round", function() bus.publish "round" end)]], ["a_test.lua"] = [[
      it("is stopped", function() require "moonbus.test".load("a.lua"):deliver "round" end)
      it("goes on", function() end)]] }, "a_test.lua")
    assert.equal(1, ended.status)
    assert.matches("1 passed, 1 failed\n$", ended.stdout)
    assert.matches("a_test.lua:1: a.lua: it goes round and round, and no time passes: does a handler publish",
      ended.stdout)
  end)

  it("stops durables that publish into their own stream, and handlers that wait for no time at all", function()
    local ended = run({ ["a.lua"] = [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.stream { name = "S", subjects = { "s.>" } }
      js.consume("S", { durable = "d" }, function(msg) js.publish("s.again", msg.data) end)
      bus.subscribe("naps", function() for _ = 1, 1000000 do bus.sleep(0) end end)]], ["a_test.lua"] = [[
      it("is stopped", function() require "moonbus.test".load("a.lua"):deliver("s.x", "1") end)
      it("is stopped, too", function() require "moonbus.test".load("a.lua"):deliver "naps" end)
      it("goes on", function() end)]] }, "a_test.lua")
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("1 passed, 2 failed\n$", ended.stdout)
    assert.matches("a_test.lua:1: a.lua: it goes round and round, .*: does a handler publish", ended.stdout)
    assert.matches("a_test.lua:2: a.lua: it goes round and round, .*: does a handler wait .* bus.sleep%(0%)",
      ended.stdout)
  end)

  it("stops a handler that computes for ever", function()
    local ended = run({ ["a.lua"] = [[
      local bus = require "moonbus"
      bus.subscribe("burn", function() local t = {} while true do t[1] = tostring({}) end end)
      bus.subscribe("well", function() return "well" end)]], ["moonbus.lua"] = [[
      return { limits = { cpu = "50ms" } }]], ["a_test.lua"] = [[
      local s = require "moonbus.test".load "a.lua"
      it("is stopped", function()
        local r = s:deliver "burn"
        assert.same({ "failed", "cpu" }, { r.verdict, r.error.code })
        assert.equal("well", s:deliver("well").reply)
      end)]] }, "a_test.lua")
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
  end)

  it("says what a test did wrong, in its line", function()
    for body, said in pairs {
      ['s:deliver("nobody.takes")'] = 'no handler of orders.lua takes "nobody.takes"; it has: ORDERS/billing, ',
      ['s:deliver("echo", 5)'] = "deliver: data is a string or a table, not a number",
      ['s:deliver("echo", nil, { header = {} })'] = 'deliver: unknown option "header": here it is "headers"',
      ['s:deliver("echo", nil, { attempt = "2" })'] =
        'deliver: attempt: expected an integer from 1 to 2147483648, got "2"',
      ['s:stub("pay", 5)'] = "stub: the answer is a string, a table, a function or",
      ['s:stub("pay", "x", { delay = "soon" })'] = 'stub: delay: "soon" is not a duration: write',
      ['s:advance "soon"'] = 'advance: duration: "soon" is not a duration: write',
      ['s:stored "NONE"'] = 'orders.lua: there is no stream "NONE"; there are ',
      ['test.load "none.lua"'] = "load: there is no file none.lua here, nor handlers/none.lua",
      ['test.load("handlers/orders.lua", { stream = {} })'] = 'load: unknown option "stream": here it is "streams"',
      ['require "moonbus"'] = '"moonbus" is for handlers: a test has require "moonbus.test"',
      ['s:close(); s:deliver "echo"'] = "orders.lua: it has been closed: load it again",
      ['s:stub("pay", function() error "in the stub" end); s:deliver("orders.created", {})'] = "in the stub",
    } do
      local out = fails(body)
      assert.is_truthy(out:find("handlers/orders_test.lua:4: " .. said, 1, true), body .. "\n" .. out)
    end
  end)

  it("says which handlers take a subject, where several do", function()
    local ended = run({ ["a.lua"] = [[
      local bus = require "moonbus"
      bus.subscribe("a.*", function() return "star" end)
      bus.subscribe("a.b", { reply = false }, function() end)]], ["a_test.lua"] = [[
      local s = require "moonbus.test".load "a.lua"
      it("is told", function() assert.equal("star", s:deliver("a.b", nil, { handler = "a.*" }).reply) end)
      it("is not told", function() s:deliver "a.b" end)]] }, "a_test.lua")
    assert.equal(1, ended.status)
    assert.matches("1 passed, 1 failed", ended.stdout)
    assert.is_truthy(ended.stdout:find('several handlers of a.lua take "a.b": say which, as ' ..
      '{ handler = "..." }: a.*, a.b', 1, true), ended.stdout)
  end)

  it("says why a script does not load or cannot be served, and goes on", function()
    local ended = run({ ["syntax.lua"] = "local x = = 1\n", ["top.lua"] = "while true do local x = tostring {} end",
      ["start.lua"] = 'require "moonbus".on("start", function() error "boo" end)',
      ["bind.lua"] = [[local js = require "moonbus.jetstream"
        js.stream { name = "A", subjects = { "a" } }
        js.consume("A", { durable = "d", bind = true, dead_letter = false }, function() end)]],
      ["well.lua"] = "", ["moonbus.lua"] = 'return { limits = { cpu = "50ms" } }', ["a_test.lua"] = [[
      local test = require "moonbus.test"
      for _, name in ipairs { "syntax", "top", "start", "bind", "well" } do
        it(name, function() test.load(name .. ".lua"):start() end)
      end]] }, "a_test.lua")
    assert.equal(1, ended.status)
    for _, said in ipairs { "syntax.lua:1: unexpected symbol near '='", "top.lua:1: still loading after 50ms: ",
      "start.lua: on start failed: start.lua:1: boo",
      "bind.lua:3: A/d: there is no such consumer, and bind = true" } do
      assert.is_truthy(ended.stdout:find("a_test.lua:3: " .. said, 1, true), ended.stdout)
    end
    assert.matches("1 passed, 4 failed\n$", ended.stdout)
  end)

  it("has describe, it, before_each, after_each, setup, teardown and pending", function()
    local ended = run({ ["b_test.lua"] = [[
      local order = {}
      local function add(what) return function() order[#order + 1] = what end end
      describe("outer", function()
        setup(add "setup")
        before_each(add "before")
        after_each(add "after")
        describe("inner", function()
          before_each(add "inner before")
          after_each(add "inner after")
          it("first", add "first")
          it("fails", function() error "boo" end)
          pending("later", function() error "never" end)
          it("gives up", function() pending "not here" end)
          it "is to be written"
        end)
        teardown(add "teardown")
      end)
      it("is in order", function()
        assert.equal("setup before,inner before,first,inner after,after,before,inner before,inner after,after," ..
          "before,inner before,inner after,after,teardown", (table.concat(order, ","):gsub("setup,", "setup ")))
      end)]] }, "b_test.lua")
    assert.equal(1, ended.status, ended.stdout)
    assert.matches("2 passed, 1 failed, 3 pending\n$", ended.stdout)
    assert.matches("FAILED  outer inner fails\n    b_test.lua:11: boo\n", ended.stdout)
  end)

  it("shows with a failure what the script has logged", function()
    local out = fails [[
      s:stub("pay", { total = 9 })
      s:deliver("orders.created", { id = 1 })
      s:deliver("orders.created", { fail = "boo" })
      assert.equal(1, 2)]]
    assert.matches("\n    log: error orders.lua: boo; nak in [%d.]+m?s\n", out)
    assert.is_nil(out:find "charged")
  end)

  it("finds tests in the handlers' folders, test and tests, and runs each file by itself", function()
    local ended = run { ["handlers/deep/a_test.lua"] = 'leaked = 1 it("a", function() end)',
      ["handlers/b.lua"] = "", ["test/c_test.lua"] = 'it("c", function() assert.is_nil(rawget(_G, "leaked")) end)',
      ["tests/d_test.lua"] = 'it("d", function() end)', ["else/e_test.lua"] = 'it("e", function() end)' }
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.equal("handlers/deep/a_test.lua\n  ok      a\ntest/c_test.lua\n  ok      c\ntests/d_test.lua\n" ..
      "  ok      d\n3 passed, 0 failed\n", ended.stdout)
  end)

  it("ends with 2 when a file does not load, and runs the others", function()
    local ended = run({ ["a_test.lua"] = "local x = = 1\n", ["b_test.lua"] = 'it("b", function() end)',
      ["c_test.lua"] = 'error "at the top"' }, ".")
    assert.equal(2, ended.status)
    assert.matches("error: %./a_test.lua:1: unexpected symbol near '='\n", ended.stderr)
    assert.matches("error: %./c_test.lua:1: at the top\n", ended.stderr)
    assert.matches("1 passed, 0 failed; 2 not loaded\n$", ended.stdout)
  end)

  it("ends with 2 when there is nothing to run", function()
    local one = { ["a_test.lua"] = 'it("a", function() end)', ["none/x.lua"] = "", ["b_test.lua"] = "" }
    for said, arguments in pairs {
      ["no tests (*_test.lua) in handlers/, test, tests; name the files or folders"] = {},
      ["none: holds no tests (*_test.lua)"] = { "none" },
      ["nowhere: No such file or directory"] = { "nowhere" },
      ["no test's name matches zzz"] = { "--filter", "zzz", "a_test.lua" },
      ["there is no test in these files"] = { "b_test.lua" },
      ["--filter: ( is no Lua pattern: "] = { "--filter", "(", "a_test.lua" },
    } do
      local ended = run(one, unpack(arguments))
      assert.equal(2, ended.status, said)
      assert.is_truthy(ended.stderr:find("moonbus test: " .. said, 1, true), ended.stderr)
    end
  end)

  it("runs those that a pattern finds, and writes JUnit's XML", function()
    local ended = run({ ["a_test.lua"] = [[
      describe("one", function()
        it("is well", function() end)
        it("is <ill>", function() error "a < b" end)
        pending "comes"
      end)
      it("other", function() error "not run" end)]] }, "--filter", "^one", "--junit", "out.xml", "a_test.lua")
    assert.equal(1, ended.status)
    assert.matches("1 passed, 1 failed, 1 pending\n$", ended.stdout)
    local xml = temp.read(ended.folder .. "/out.xml")
    assert.matches('<testsuite name="a_test.lua" tests="3" failures="1" errors="0" skipped="1" time="%d+%.%d+">', xml)
    assert.matches('<testcase classname="a_test.lua" name="one is &lt;ill&gt;" time="%d+%.%d+">\n' ..
      '%s*<failure message="a_test.lua:3: a &lt; b">', xml)
    assert.matches("<skipped/>", xml)
  end)

  it("says before it runs anything that it cannot write there", function()
    local ended = run({ ["a_test.lua"] = 'it("is well", function() end)' }, "--junit", "none/out.xml", "a_test.lua")
    assert.equal(2, ended.status)
    assert.equal("", ended.stdout)
    assert.matches("^moonbus test: %-%-junit: none/out.xml: No such file or directory", ended.stderr)
  end)

  it("leaves no empty report where no tests are found", function()
    local ended = run({ ["a.lua"] = "" }, "--junit", "out.xml", "none_test.lua")
    assert.equal(2, ended.status)
    assert.is_nil(io.open(ended.folder .. "/out.xml"))
  end)

  it("wants luassert, and says where it is", function()
    local folder = w:folder()
    temp.write(folder, "a_test.lua", 'it("a", function() end)')
    local ended = w:moonbus({ "test", "a_test.lua" }, { folder = folder, env = { LUA_PATH = "./?.lua" } })
    assert.equal(2, ended.status)
    assert.matches("luassert, which tests assert with, was not found: it is in Debian's package lua%-luassert",
      ended.stderr)
  end)

  it("runs a thousand tests of handlers in a few steps each", function()
    local ended = run({ ["handlers/orders.lua"] = ORDERS, ["many_test.lua"] = [[
      local s = require "moonbus.test".load "handlers/orders.lua"
      s:stub("pay", { total = 9 })
      for i = 1, 1000 do
        it("is " .. i, function()
          local r = s:deliver("orders.created", { id = i })
          assert.equal(i, r.published[1].data.order)
        end)
      end
      it("took no time", function() assert.equal(0, #s:advance("1s").published) end)]] }, "many_test.lua")
    assert.equal(0, ended.status, ended.stdout)
    assert.matches("1001 passed, 0 failed\n$", ended.stdout)
  end)
end)
