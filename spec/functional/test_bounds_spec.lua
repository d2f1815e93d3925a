-- moonbus test, misused: what never ends is stopped, nothing a test does reaches another, and each
-- wrong value is named in the test's line.
local ffi = require "ffi"
local temp = require "spec.support.temp"
local world = require "spec.support.world"

ffi.cdef "int mkfifo(const char *path, unsigned int mode); int symlink(const char *target, const char *path);"

local HANDLERS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "S", subjects = { "s.*" } }
bus.subscribe("echo", function(msg) return msg.data end)
bus.subscribe("ask", function()
  local reply, err = bus.request("pay", "x")
  if not reply then return nil, err end
  return reply.data
end)
bus.subscribe("fail", function() error "broken" end)
bus.subscribe("log", function() bus.log.info "said" end)
bus.subscribe("get", function() return tostring(bus.http.get "http://a.b/") end)
js.consume("S", { durable = "d", filter = "s.in", dead_letter = false }, function() end)
]]

describe("moonbus test, misused,", function()
  local w = world.new()
  after_each(function() w:clear() end)

  -- files: name -> text of tests, beside the handlers above. Runs `moonbus test` there.
  local function run(files, ...)
    local folder = w:folder()
    temp.write(folder, "a.lua", HANDLERS)
    for name, text in pairs(files) do temp.write(folder, name, text) end
    local ended = w:moonbus({ "test", ... }, { folder = folder })
    ended.folder = folder
    return ended
  end

  local function has(text, said)
    assert.is_truthy(text:find(said, 1, true), "missing: " .. said .. "\nin:\n" .. text)
  end

  -- cases: { body of a test, what is said in its line }.
  local function all_say(cases, ...)
    local lines = { 'local test = require "moonbus.test" local s = test.load "a.lua"' }
    for index, case in ipairs(cases) do
      lines[#lines + 1] = ('it("%d", function() %s end)'):format(index, case[1])
    end
    local ended = run({ ["a_test.lua"] = table.concat(lines, "\n") }, "a_test.lua", ...)
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    for index, case in ipairs(cases) do
      has(ended.stdout, ("  FAILED  %d\n    a_test.lua:%d: %s"):format(index, index + 1, case[2]))
    end
    return ended.stdout
  end

  it("tells an error with its line and all of its text: of a stack that is full, and with a NUL", function()
    all_say {
      { "local function deep(n) return 1 + deep(n + 1) end deep(1)", "stack overflow" },
      { 's:stub("pay", function() local function deep() return 1 + deep() end return deep() end) s:deliver "ask"',
        "stack overflow" },
    }
    local ended = run({ ["b.lua"] = [[
      local bus = require "moonbus"
      bus.subscribe("raise", function() error "one\0two" end)
      bus.subscribe("return", function() return nil, { message = "one\0two" } end)
      bus.subscribe("log", function() bus.log.info "one\0two" return "" end)]], ["b_test.lua"] = [[
      local s = require "moonbus.test".load "b.lua"
      it("all", function()
        assert.equal("one\\0two", s:deliver "raise".error.message)
        assert.equal("one\\0two", s:deliver "return".error.message)
        assert.equal("one\\0two", s:deliver "log".logged[1].message)
      end)]] }, "b_test.lua")
    assert.equal(0, ended.status, ended.stdout)
  end)

  it("stops what computes for ever: a test, its stub, a hook, a coroutine, through any pcall", function()
    local said = "it computed for more than 300ms (--timeout)"
    local out = all_say({
      { "while true do end", said },
      { "while true do pcall(function() while true do end end) end", said },
      { 's:stub("pay", function() while true do end end) s:deliver "ask"', said },
      { "coroutine.wrap(function() while true do end end)()", said },
      { 'while true do s:deliver "echo" end', said },
      { 's:stub("pay", "y") assert.equal("y", s:deliver("ask").reply) error "goes on"', "goes on" },
    }, "--timeout", "300ms")
    has(out, "0 passed, 6 failed\n")
    local ended = run({ ["a_test.lua"] = 'it("ok", function() end)\n' ..
      'describe("b", function() before_each(function() while true do end end) it("c", function() end) end)' },
      "a_test.lua", "--timeout", "300ms")
    has(ended.stdout, "  FAILED  b c\n    a_test.lua:2: " .. said)
    has(ended.stdout, "1 passed, 1 failed\n")
  end)

  it("stops a file's top level that never ends, and runs the others", function()
    local ended = run({ ["a_test.lua"] = "\nwhile true do end", ["b_test.lua"] = 'it("b", function() end)' }, ".",
      "--timeout", "300ms")
    assert.equal(2, ended.status)
    has(ended.stderr, "error: ./a_test.lua:2: it computed for more than 300ms (--timeout)\n")
    has(ended.stdout, "1 passed, 0 failed; 1 not loaded\n")
  end)

  -- Where a jump is not to be had the run ends as it does for what blocks.
  it("leaves a C function that never comes back, with its file", function()
    local pattern = '(("a"):rep(5000)):find(("a*"):rep(50) .. "b")'
    local ended = run({ ["a_test.lua"] = 'it("in C", function() local _ = ' .. pattern .. ' end)\n' ..
      'it("more", function() end)', ["b_test.lua"] = 'it("b", function() end)' }, ".", "--timeout", "300ms")
    assert.equal(1, ended.status)
    if ended.stderr ~= "" then
      return assert.matches("^moonbus test: in C: it .* %(%-%-timeout%); the run ends here\n", ended.stderr)
    end
    has(ended.stdout, "  FAILED  in C\n    ./a_test.lua: it computed for more than 300ms (--timeout), in a function " ..
      "written in C; 1 more of this file did not run\n")
    has(ended.stdout, "  ok      b\n1 passed, 1 failed\n")
  end)

  it("ends the run when a test blocks", function()
    local ended = run({ ["a_test.lua"] = 'it("reads", function() io.popen("exec sleep 100"):read() end)' },
      "a_test.lua", "--timeout", "10ms")
    assert.equal(1, ended.status)
    has(ended.stderr, "moonbus test: reads: it blocks, as by io.read or os.execute (--timeout); the run ends here\n")
  end)

  it("writes what there is as JUnit's XML when a test ends the run", function()
    local ended = run({ ["a_test.lua"] = 'it("a", function() end)', ["b_test.lua"] = 'it("b", function() end)\n' ..
      'it("reads <", function() io.popen("exec sleep 100"):read() end)' }, ".", "--timeout", "10ms", "--junit", "r.xml")
    assert.equal(1, ended.status)
    local file = assert(io.open(ended.folder .. "/r.xml"))
    local text = file:read "*a"
    file:close()
    has(text, '<testcase classname="./a_test.lua" name="a"')
    has(text, '<testsuite name="./b_test.lua" tests="2" failures="0" errors="1"')
    has(text, 'name="reads &lt;" time="0.000">\n      <error message="it blocks, as by io.read or os.execute"/>\n')
    assert.matches("</testsuite>\n</testsuites>\n$", text)
  end)

  it("stops a test that fills the memory", function()
    local ended = run({ ["a_test.lua"] = 'it("fills", function() local x = ("x"):rep(2 ^ 29) x = x .. x .. x end)\n' ..
      'it("goes on", function() end)' }, "a_test.lua")
    assert.equal(1, ended.status)
    has(ended.stdout, "  FAILED  fills\n    the tests of this file use more than 1024 MB of memory\n")
    has(ended.stdout, "1 passed, 1 failed\n")
  end)

  it("keeps what a test does to metatables and libraries from all that comes after", function()
    local ended = run({ ["a_test.lua"] = [[
      local s = require "moonbus.test".load "a.lua"
      it("1", function() debug.setmetatable("", nil) end)
      it("2", function() getmetatable("").__index = nil end)
      it("3", function() debug.setmetatable(nil, { __index = function() end }) debug.setmetatable(1, {}) end)
      it("4", function() for name in pairs(string) do string[name] = nil end table.concat = nil end)
      it("5", function() for name in pairs(_G) do _G[name] = nil end end)
      it("6", function() package.loaded["moonbus.test"] = nil package.loaded.luassert = nil package.loaders = {} end)
      it("7", function() require("cjson").encode = nil end)
      it("8", function() debug.setmetatable("", nil) error "told" end)
      it("9", function() assert.equal("x", s:deliver("echo", ("x"):rep(1)).reply) end)
      describe("set by a hook", function()
        setup(function() getmetatable("").__call = function(text) return text .. "!" end end)
        it("10", function() assert.equal("x!", ("x")()) end)
      end)]], ["b_test.lua"] = 'it("11", function() assert.is_nil(getmetatable("").__call) end)' }, ".")
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    has(ended.stdout, "  FAILED  8\n    ./a_test.lua:9: told\n")
    has(ended.stdout, "10 passed, 1 failed\n")
  end)

  it("does not let a test end the process", function()
    all_say { { "os.exit(0)", "os.exit: a test does not end the process: use error, or pending" } }
  end)

  it("shows what was raised, of any type", function()
    all_say {
      { "error({ 1, x = 2 })", "raised a table: {1, x = 2}" },
      { "error()", "raised nil" },
      { "error(true)", "raised true" },
      { "error(print)", "raised a function" },
      { "error(setmetatable({}, { __tostring = function() return 'of itself' end }))", "of itself" },
      { "error(setmetatable({}, { __tostring = error }))", "raised a table: {}" },
      { 's:stub("pay", function() error({ 1 }) end) s:deliver "ask"', "raised a table: {1}" },
      { 's:stub("pay", function() return 5 end) s:deliver "ask"',
        'the stub of "pay": the answer is a string, a table, a function or { error = ... }, not a number' },
      { 's:stub("pay", function() end) s:deliver "ask"', 'the stub of "pay": the answer is a string, a table' },
      { 's:stub_http("*", function() return { statu = 1 } end) s:deliver "get"',
        'the stub of "*": unknown option "statu": did you mean "status"?' },
    }
  end)

  it("refuses to go on inside of a stub", function()
    local said = 'not inside of a stub of the same script (the stub of "pay"): its handler waits there'
    all_say {
      { 's:stub("pay", function() s:deliver "echo" end) s:deliver "ask"', "deliver: " .. said },
      { 's:stub("pay", function() test.advance "1s" end) s:deliver "ask"', "advance: " .. said },
      { 's:stub("pay", function() s:run() end) s:deliver "ask"', "run: " .. said },
      { 's:stub("pay", function() s:stored "S" end) s:deliver "ask"', "stored: " .. said },
    }
  end)

  it("names wrong values of deliver and send, and what is allowed", function()
    all_say {
      { 's.deliver("echo")', "script.deliver(...): write script:deliver(...), with a colon" },
      { 'assert.equal("x", s:deliver("echo").repli)', 'a result has no "repli": did you mean "reply"?' },
      { 'assert.equal("ok", s:send("echo"):run().verdict)',
        'the result of run and advance is of all runs: "verdict" is of one of them: r.runs[1].verdict' },
      { 'assert.is_nil(s:advance("1s").reply)', 'the result of run and advance is of all runs: deliver gives "reply"' },
      { 'assert.is_nil(test.advance("1s").delay)',
        'the result of run and advance is of all runs: "delay" is of one of them: r.runs[1].delay' },
      { 's:delivr "echo"', 'a script has no "delivr": did you mean "deliver"?' },
      { 's.stage:close()', 'a script has no "stage": there are advance, close, deliver' },
      { 'test.lod "a.lua"', 'moonbus.test has no "lod": did you mean "load"?' },
      { 's:deliver()', "deliver: subject: expected a subject, got nothing" },
      { 's:deliver "a b"', 'deliver: subject: "a b" is not a valid subject: it holds white space' },
      { 's:deliver("echo", { 0 / 0 })', "deliver: this table is no JSON: [1]: JSON has no NaN" },
      { 's:deliver("echo", ("x"):rep(2e6))', "deliver: the message has 2000000 bytes with its headers, and a server " ..
        "takes 1048576 (max_payload)" },
      { 's:deliver("echo", "", 5)', "deliver: expected a table of options, got a number" },
      { 's:deliver("echo", "", { handlr = 1 })', 'deliver: unknown option "handlr": did you mean "handler"?' },
      { 's:deliver("echo", "", { durable = "d" })', 'deliver: unknown option "durable": here it is "consumer"' },
      { 's:deliver("s.in", "", { attempt = 0 })',
        "deliver: attempt: expected an integer from 1 to 2147483648, got 0" },
      { 's:deliver("s.in", "", { attempt = 1.5 })', "deliver: attempt: expected an integer from 1 to" },
      { 's:deliver("echo", "", { attempt = 2 })', "deliver: attempt: echo is no durable: its messages come once" },
      { 's:deliver("echo", "", { reply = 5 })',
        "deliver: reply: expected false (none is asked for), or a subject, got 5" },
      { 's:deliver("echo", "", { reply = "a b" })', 'deliver: reply: "a b" is not a valid subject' },
      { 's:deliver("s.in", "", { reply = "x" })', "deliver: reply: S/d is a durable: nobody waits for a reply" },
      { 's:deliver("echo", "", { headers = 5 })', "deliver: headers: headers must be a table, got number" },
      { 's:deliver("echo", "", { headers = { ["a b"] = "" } })',
        'deliver: headers: header name "a b": want printable' },
      { 's:deliver("echo", "", { headers = { a = {} } })', 'deliver: headers: the header "a" has an empty list' },
      { 's:deliver("echo", "", { handler = "ech" })',
        'deliver: handler: no handler of a.lua has the handler "ech": did you mean "echo"?' },
      { 's:deliver("s.in", "", { stream = "TASKS" })',
        'deliver: stream: no handler of a.lua has the stream "TASKS": there are S' },
      { 's:deliver("echo", "", { handler = "ask" })', 'ask does not take "echo"; a.lua has: echo, ask' },
      { 's:send("echo", "", { attempt = 1 })', 'send: unknown option "attempt": there are headers, reply' },
    }
  end)

  it("names what a run, a message, a call, a line, an error or an entry does not have", function()
    all_say {
      { 'return s:deliver("echo").runs[1].verdit', 'a run has no "verdit": did you mean "verdict"?' },
      { 'return s:send("echo"):run().runs[1].reply', 'a run has no "reply": there are attempt, consumer, delay, ' },
      { 's:stub("pay", "") return s:deliver("ask").requests[1].bdy',
        'a message has no "bdy": there are data, headers' },
      { 's:stub("pay", function(request) return request.subjct end) s:deliver "ask"',
        'a message has no "subjct": did you mean "subject"?' },
      { 's:stub_http("*", "x") return s:deliver("get").http[1].mthod',
        'a call has no "mthod": did you mean "method"?' },
      { 's:stub_http("*", function(call) return call.ur end) s:deliver "get"',
        'a call has no "ur": did you mean "url"?' },
      { 'return s:deliver("log").logged[1].messge', 'a line of the log has no "messge": did you mean "message"?' },
      { 'return s:deliver("fail").error.cod', 'an error has no "cod": did you mean "code"?' },
      { 'return s:deliver("fail").runs[1].error.cod', 'an error has no "cod": did you mean "code"?' },
    }
  end)

  it("names wrong values of stubs, load, advance and stored", function()
    all_say {
      { 's:stub("a b", "x")', 'stub: subject: "a b" is not a valid subject' },
      { 's:stub("pay", { error = 5 })', "stub: error: expected a text, or { message = ..., status = ... }, got 5" },
      { 's:stub("pay", { replies = { x = 1 } })', "stub: replies: a list of answers, not a table with names" },
      { 's:stub("pay", { replies = { "a", { error = "timeout" } } })', "stub: replies[2]: a string, a table or" },
      { 's:stub("pay", { replies = { "a", 5 } })', "stub: replies[2]: the answer is a string, a table" },
      { 's:stub("pay", { error = "no_responder" })', 'stub: error: "no_responder": did you mean "no_responders"?' },
      { 's:stub("pay", { error = { mesage = "x" } })', "stub: error: it has no message: " },
      { 's:stub("pay", "x", { dela = 1 })', 'stub: unknown option "dela": did you mean "delay"?' },
      { 's:stub("pay", "x", { delay = -1 })', "stub: delay: -1: a duration cannot be negative" },
      { 's:stub_http("api.com", "x")',
        'stub_http: "api.com": expected a whole URL ("https://api.com"), or one that begins with a *' },
      { 's:stub_http("*", { error = "refsed" })', "stub_http: error: expected a code of bus.http: closed, dns, " },
      { 's:stub_http("*", { status = 20 })', "stub_http: status: expected an integer from 100 to 599, got 20" },
      { 's:stub_http("*", { body = "", json = {} })', "stub_http: body and json: one of them" },
      { 's:stub_http("*", "x", { method = 5 })', 'stub_http: method: expected a method ("GET"), got 5' },
      { 'test:load "a.lua"', "test.load(...): with a dot, not a colon" },
      { "test.load()", "load: path: expected the path of a handler file, got nothing" },
      { 'test.load("a.lua", { seed = "x" })', 'load: seed: expected an integer from 0 to 9007199254740992, got "x"' },
      { 'test.load("a.lua", { streams = 5 })', 'load: streams: expected a list, { { name = "ORDERS", ' },
      { 'test.load("a.lua", { streams = { 5 } })', 'load: streams[1]: expected { name = "ORDERS", ' },
      { 'test.load("a.lua", { streams = { name = "A" } })', "load: streams: expected a list, " },
      { 'test.load("a.lua", { streams = { { name = "a b" } } })', 'load: streams[1]: "a b" is not a valid stream' },
      { 'test.load("a.lua", { streams = { { name = "A", subjcts = {} } } })',
        'load: streams[1]: unknown setting "subjcts": did you mean "subjects"?' },
      { 'test.load("a.lua", { streams = { { name = "A", max_age = "soon" } } })', "load: streams[1]: max_age: " },
      { 'test.load("a.lua", { stored = { "x" } })', 'load: stored[1]: a message is { subject = "orders.created"' },
      { 'test.load("a.lua", { stored = { { data = "x" } } })', "load: stored[1]: subject is required" },
      { 'test.load("a.lua", { stored = { { subject = "a", body = 1 } } })',
        'load: stored[1]: unknown option "body": here it is "data"' },
      { 'test.load("a.lua", { stored = { subject = "a" } })', 'load: stored: it is a list: { { subject = "a", ' },
      { 'test.load("a.lua", { stored = { { subject = "a" } } })',
        'load: stored: the message to "a" was not stored: no stream takes it' },
      { 's:advance(-1)', "advance: duration: -1: a duration cannot be negative" },
      { "test.advance()", "test.advance: duration: must be a duration" },
      { "s:stored(5)", "stored: stream: expected a name, got 5" },
    }
  end)

  it("reads regular files alone, and waits for no other", function()
    local folder = w:folder()
    assert.equal(0, ffi.C.mkfifo(folder .. "/fifo", tonumber("600", 8)))
    temp.write(folder, "a_test.lua", 'local test = require "moonbus.test"\n' ..
      'for _, path in ipairs { "fifo", "/dev/zero", "/tmp" } do it(path, function() test.load(path) end) end')
    local ended = w:moonbus({ "test", "a_test.lua" }, { folder = folder })
    assert.same({ 1, "" }, { ended.status, ended.stderr })
    has(ended.stdout, "a_test.lua:2: load: fifo: not a regular file\n")
    has(ended.stdout, "a_test.lua:2: load: /dev/zero: not a regular file\n")
    has(ended.stdout, "a_test.lua:2: load: /tmp: Is a directory\n")
    ended = w:moonbus({ "test", "fifo" }, { folder = folder })
    assert.same({ 2, "moonbus test: fifo: not a regular file\n" }, { ended.status, ended.stderr })
  end)

  it("says of what does not load that it does not look like Lua, as every command does", function()
    local said = "x.json:1: unexpected symbol near '{' (handlers are written in Lua: its name does not end in .lua)\n"
    local ended = run({ ["x.json"] = "{}", ["a_test.lua"] = 'require "moonbus.test".load "x.json"' }, "a_test.lua")
    assert.equal(2, ended.status)
    has(ended.stderr, "error: a_test.lua:1: " .. said)
    local checked = w:moonbus({ "check", "x.json" }, { folder = ended.folder })
    assert.equal(2, checked.status)
    has(checked.stdout .. checked.stderr, said)
  end)

  it("runs each file once, however many links lead there", function()
    local folder = w:folder()
    temp.write(folder, "tests/in/a_test.lua", 'it("a", function() end)')
    for from, to in pairs { ["in/up"] = "..", ring = "ring", again = "in", ["b_test.lua"] = "in/a_test.lua" } do
      assert.equal(0, ffi.C.symlink(to, folder .. "/tests/" .. from))
    end
    local ended = w:moonbus({ "test" }, { folder = folder })
    assert.same({ 0, "" }, { ended.status, ended.stderr })
    has(ended.stdout, "1 passed, 0 failed\n")
  end)

  it("writes XML that is UTF-8 whatever a test raises, and says when it cannot be written", function()
    local ended = run({ ["a_test.lua"] = [[
      it("\255 \237\160\128 \0 ü <>", function() error "\192\175 \239\191\191 \244\144\128\128 & ü" end)]] },
      "--junit", "out.xml", "a_test.lua")
    assert.equal(1, ended.status)
    local xml = temp.read(ended.folder .. "/out.xml")
    has(xml, 'name="? ??? ? ü &lt;&gt;"')
    has(xml, 'message="a_test.lua:1: ?? ??? ???? &amp; ü"')
    ended = run({ ["a_test.lua"] = 'it("a", function() end)' }, "--junit", "/dev/full", "a_test.lua")
    assert.same({ 2, "moonbus test: --junit: /dev/full: No space left on device\n" }, { ended.status, ended.stderr })
  end)

  it("says what is wrong with --timeout", function()
    local ended = run({}, "--timeout", "soon")
    assert.equal(2, ended.status)
    has(ended.stderr, '--timeout: "soon" is not a duration')
  end)
end)
