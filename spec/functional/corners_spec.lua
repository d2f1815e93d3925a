-- Errors in every corner of Lua: each fails its own handler, with a sentence, and nobody else.
local host = require "spec.support.host"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- The jump out of compiled code is left out of sanitized builds.
local escapes = not (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS")

describe("a handler", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local GOOD = [[
local bus = require "moonbus"
bus.subscribe("good", function(msg) return msg.data end)]]
  local CONFIG = 'return { workers = 2, limits = { cpu = "3s", memory = "16MB" } }'

  -- A script with this handler of SUBJECT, and one of after.SUBJECT beside it.
  local function script(subject, code, top)
    return ([[
local bus = require "moonbus"
%s
bus.subscribe("%s", { timeout = "50s" }, function(msg)
%s
end)
bus.subscribe("after.%s", function() return "still there" end)]]):format(top or "", subject, code, subject)
  end

  local function run(code, options)
    options = options or {}
    return w:run {
      handlers = { ["good.lua"] = GOOD, ["handler.lua"] = script("spec", code, options.top) },
      files = options.files, config = options.config or CONFIG, args = options.args,
    }
  end

  local function ask(subject, data)
    local reply, why = w.client:request(subject, data or "")
    if not reply then return nil, why end
    return reply.data, reply:header "Nats-Service-Error"
  end

  local function others_go_on(subject)
    assert.equal("still there", ask("after." .. subject))
    assert.equal("x", ask("good", "x"))
  end

  -- The error that the requester gets; everybody else goes on.
  local function fails(code, pattern, options)
    local one = run(code, options)
    local _, err = ask "spec"
    assert.matches(pattern, err)
    others_go_on "spec"
    assert.equal(0, one:stop())
  end

  -- The reply; everybody else goes on.
  local function answers(code, pattern, options)
    local one = run(code, options)
    local data, err = ask "spec"
    assert.is_nil(err)
    assert.matches(pattern, data)
    others_go_on "spec"
    assert.equal(0, one:stop())
  end

  -- One host for the cases of a table, each of which is a script of its own: { code, pattern of the error, top }
  -- by what is tried. Gives the function that tries one.
  local function together(cases, config)
    local shared, subjects = nil, {}
    setup(function()
      local handlers, count = { ["good.lua"] = GOOD }, 0
      for what, case in pairs(cases) do
        count = count + 1
        subjects[what] = "spec." .. count
        handlers[("case_%d.lua"):format(count)] = script(subjects[what], case[1], case[3])
      end
      shared = host.run { server = w.server, handlers = handlers, config = config or CONFIG }
    end)
    teardown(function()
      local status = shared:stop()
      shared:close()
      assert.equal(0, status)
    end)
    return function(what)
      local _, err = ask(subjects[what])
      assert.matches(cases[what][2], err)
      others_go_on(subjects[what])
    end
  end

  describe("that raises", function()
    local CASES = {
      ["nil"] = { "error()", "an error without a value %(nil%)" },
      ["false"] = { "error(false)", "error%(false%)" },
      ["a number"] = { "error(42)", "42" },
      ["NaN"] = { "error(0/0)", "nan" },
      ["an empty table"] = { "error({})", "an error of type table: {}$" },
      ["a table without a message"] = { "error { reason = 'x' }", '^an error of type table: {reason = "x"}$' },
      ["a list"] = { "error { 'a', 2, true, {}, print }",
        '{%[1%] = "a", %[2%] = 2, %[3%] = true, %[4%] = a table, %[5%] = a function}$' },
      ["a table with long texts"] = { "error { reason = ('\195\164'):rep(1e6) }",
        '^an error of type table: {reason = "' .. ("\195\164"):rep(30) .. '%.%.%."}$' },
      ["a table of 100000 keys"] = { "local t = {} for i = 1, 1e5 do t[i] = i end error(t)",
        "{%[1%] = 1, %[2%] = 2, .* = %d+, %.%.%.}$" },
      ["a table with a key of 1 MB"] = { "error { [('k'):rep(1e6)] = 1 }", '{%["kkk+%.%.%."%] = 1}$' },
      ["a table that only says what it is by its metatable"] = {
        "error(setmetatable({ reason = 'x' }, { __metatable = 'none', __index = error, __pairs = error }))",
        '{reason = "x"}$' },
      ["a table without a message, out of a gather"] = {
        "bus.gather { function() error { reason = 'x' } end }", '{reason = "x"}$' },
      ["a function"] = { "error(print)", "an error of type function" },
      ["a coroutine"] = { "error(coroutine.create(print))", "an error of type thread" },
      ["its message"] = { "error(msg)", 'message "spec%.%d+"' },
      ["bus.json.null"] = { "error(bus.json.null)", "an error of type userdata" },
      ["an empty string"] = { "error('', 0)", "an error without a text" },
      ["a text with line breaks and NUL"] = { "error('a\\nb\\0c', 0)", "^a b" },
      ["a text of 4 MB"] = { "error(('x'):rep(4e6), 0)", "^xxxx" },
      ["a table whose __tostring raises"] = {
        "error(setmetatable({}, { __tostring = function() error 'again' end }))",
        "whose __tostring fails" },
      ["a table whose __tostring gives a table"] = {
        "error(setmetatable({}, { __tostring = function() return {} end }))", "of type table" },
      ["a table whose __tostring is no function"] = {
        "error(setmetatable({}, { __tostring = 7 }))", "of type table" },
      ["a table whose __tostring hoards"] = {
        "error(setmetatable({}, { __tostring = function() return ('x'):rep(1e9) end }))",
        "whose __tostring fails" },
      ["a table whose __tostring never ends"] = {
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
        "whose __tostring fails" },
      ["a table whose __tostring recurses"] = {
        "local t = setmetatable({}, {}) getmetatable(t).__tostring = function() return tostring(t) .. 'x' end error(t)",
        "whose __tostring fails" },
      ["a table whose __index raises"] = {
        "error(setmetatable({}, { __index = function() error 'again' end }))", "of type table" },
      ["a table with a code and a message of other types"] = {
        "error({ code = {}, message = print, file = 7, line = 'x', traceback = {} })",
        "of type table" },
      ["a table with a code of its own"] = {
        "error({ code = 'no_stock', message = 'none left' })", "^no_stock: none left" },
      ["in xpcall's handler"] = {
        "error(select(2, xpcall(error, function() error 'in the handler' end)))", "^error in error handling$" },
      ["in a coroutine, in a coroutine"] = {
        "coroutine.wrap(function() coroutine.wrap(function() error 'inside' end)() end)()", "inside" },
    }
    local try = together(CASES)
    for what in pairs(CASES) do
      it(what .. " answers with a sentence", function() try(what) end)
    end

    it("a thousand times a second holds nobody up, and each is logged", function()
      local one = run [[error "again"]]
      local began = wait.now()
      local count = 2000
      for index = 1, count do
        w.client:publish("spec", "x")
        if index % 100 == 0 then
          local asked = wait.now()
          assert.equal("x", ask("good", "x"))
          assert.is_true(wait.now() - asked < wait.within(0.1))
        end
      end
      one:wait_log({ level = "error", handler = "spec" }, 10, count)
      assert.is_true(wait.now() - began < wait.within(2) * wait.slow, "not a thousand a second")
    end)

    it("of a place that is hundreds of levels deep is cut at the front", function()
      local one = run [[
local t = {}
for _ = 1, 100 do t = { a = t } end
t.a.a.a.fn = print
local ok, plain = pcall(bus.shared("s").set, bus.shared("s"), "k", t)
local _, json = pcall(bus.json.encode, t)
for _ = 1, 100 do t = { abc = t } end
_, json = pcall(bus.json.encode, t)
return { ok = ok, plain = tostring(plain), json = tostring(json) }]]
      local reply = w.client:request("spec", ""):json()
      assert.is_true(#reply.plain < 350 and #reply.json < 350, reply.plain .. "\n" .. reply.json)
      assert.matches("%.%.%.bc%.abc.*%.abc", (reply.json:gsub("%.%.%.a", "...")))
      assert.equal(0, one:stop())
    end)

    it("of a number that is none says nan, without a sign", function()
      fails("bus.sleep(0/0)", "bus%.sleep: [^-]*nan is not a duration")
    end)

    it("returned errors are described just so", function()
      fails("return nil, setmetatable({}, { __tostring = function() error 'again' end })",
        "whose __tostring fails")
      w:clear()
      fails("return nil, { reason = 'x' }", '^an error of type table: {reason = "x"}$')
      w:clear()
      fails("return false, setmetatable({}, { __tostring = function() while true do end end })",
        "whose __tostring fails")
    end)

    if escapes then
      it("what can only be left with its Lua state costs no thread", function()
        local one = run([[
error(setmetatable({}, { __tostring = function()
  return tostring((("a"):rep(40000)):find((".-"):rep(20) .. "b"))
end }))]], { config = 'return { limits = { cpu = "100ms", max_stuck = 1 } }' })
        for _ = 1, 3 do
          local _, err = ask "spec"
          assert.matches("limits%.cpu", err)
        end
        assert.equal("still there", ask "after.spec")
        assert.is_true(one:running())
        assert.same({}, one:logged "given up %(")
      end)
    end
  end)

  describe("that recurses without end", function()
    local OVERFLOW, C_OVERFLOW, MEMORY = "^stack overflow", "^stack overflow %(C functions or coroutines",
      "^not enough memory: the limit of 65536 KB"
    local LARGE = 'return { limits = { cpu = "1m", memory = "64MB" }, trust = %s }'
    local CASES = {
      ["in Lua"] = { "local function f() return 1 + f() end return f()", OVERFLOW },
      ["through pcall"] = { "local function f() local ok, e = pcall(f) error(e, 0) end f()", OVERFLOW },
      ["through string.gsub"] = {
        "local function f(s) return (s:gsub('.', f)) end f 'x'", C_OVERFLOW },
      ["through string.gsub with a table"] = {
        "local t = setmetatable({}, { __index = function(t, k) return (k:gsub('.', t)) end }) return t.x",
        C_OVERFLOW },
      ["through table.sort"] = {
        "local function f() table.sort({ 1, 2 }, function() f() return false end) end f()", OVERFLOW },
      ["through string.format"] = { [[local t = setmetatable({}, {})
        getmetatable(t).__tostring = function() return ("%s"):format(t) end return ("%s"):format(t)]],
        OVERFLOW },
      ["through coroutine.wrap"] = {
        "local function f() return coroutine.wrap(f)() end f()", MEMORY },
      ["through coroutine.resume"] = { [[local function f()
        local ok, e = coroutine.resume(coroutine.create(f)) error(e, 0) end f()]], C_OVERFLOW },
      ["through coroutines and string.gsub"] = { [[local function f()
        return coroutine.wrap(function() return (("x"):gsub(".", f)) end)() end f()]], C_OVERFLOW },
      ["through __index"] = {
        "local t = setmetatable({}, { __index = function(t, k) return t[k .. k] end }) return t.x",
        MEMORY },
      ["through __concat"] = {
        [[local t = setmetatable({}, { __concat = function(a, b) return a .. b end })
        return t .. "x"]], OVERFLOW },
      ["through __call"] = { [[local t = setmetatable({}, {})
        getmetatable(t).__call = function(self) return 1 + self() end return t()]], OVERFLOW },
      ["through load"] = {
        "local function f() return 1 + load('return ...')(f()) end f()", OVERFLOW },
    }
    local try = together(CASES, LARGE:format "false")
    for what in pairs(CASES) do
      it(what .. " gets an error", function() try(what) end)
    end

    it("through require, in a circle, is told the circle", function()
      fails('require "first"', "circular require: first %-> second %-> first", { files = {
        ["lib/first.lua"] = 'return { (require "second") }',
        ["lib/second.lua"] = 'return { (require "first") }',
      } })
    end)

    it("through require of ever other modules gets an error", function()
      local folder = w:folder()
      temp.write(folder, "any.lua", "return { require(... .. 'x') }")
      fails(("package.path = %q require 'x'"):format(folder .. "/any.lua"), OVERFLOW,
        { config = LARGE:format "true" })
    end)

    it("is an error that pcall catches; 10,000 coroutines inside each other are none", function()
      answers([[
local function f(n) if n == 0 then return "deep" end return coroutine.wrap(f)(n - 1) end
local function g(s) return (s:gsub(".", g)) end
local ok, err = pcall(g, "x")
return f(10000) .. " " .. tostring(err)]], "deep handler%.lua:%d+: stack overflow",
        { config = 'return { limits = { memory = "64MB" } }' })
    end)
  end)

  describe("is stopped", function()
    local CODE = {
      ["in xpcall's handler"] = "xpcall(error, function() while true do end end)",
      ["in a __tostring that bus.log calls"] =
        "bus.log.info(setmetatable({}, { __tostring = function() while true do end end }))",
      ["in a __tostring that print calls"] =
        "print(setmetatable({}, { __tostring = function() while true do end end }))",
      ["in a __concat with an error"] = [[local _, err = bus.request("nobody", "")
        return setmetatable({}, { __concat = function() while true do end end }) .. err]],
      ["in an __index of options"] = [[
        bus.publish("x", "y", setmetatable({}, { __index = function() while true do end end }))
        while true do end]],
      ["in a comparison of table.sort"] =
        "table.sort({ 3, 2, 1 }, function() while true do end end)",
      ["in a callback of string.gsub"] = "return (('x'):gsub('.', function() while true do end end))",
      ["in pcall, in coroutine.wrap, in a loop"] = [[while true do
        pcall(coroutine.wrap(function() pcall(function() while true do end end) end)) end]],
    }
    local cases = {}
    for what, code in pairs(CODE) do
      for _, jit in ipairs { "true", "false" } do
        if escapes or jit == "false" then
          cases[what .. ", jit = " .. jit] = { code, "limits%.cpu", ("bus.script { jit = %s }"):format(jit) }
        end
      end
    end
    local try = together(cases, 'return { limits = { cpu = "100ms", max_stuck = 1 } }')
    for what in pairs(cases) do it(what, function() try(what) end) end
  end)

  describe("that asks for too much", function()
    local CASES = {
      ["a string.rep"] = { "return #('x'):rep(1e9)", "not enough memory" },
      ["string.rep with a separator"] = { "return #('x'):rep(1e9, ', ')", "not enough memory" },
      ["string.format"] = { "return ('%99999d'):format(1)", "format" },
      ["unpack"] = { "return unpack({}, 1, 1e8)", "unpack" },
      ["table.concat of a large table"] = {
        "local t, s = {}, ('x'):rep(1e5) for i = 1, 1e4 do t[i] = s end return #table.concat(t)",
        "not enough memory" },
      ["string.char of many"] = { "return string.char(unpack({}, 1, 7000))", "number expected" },
      ["table.new"] = { "return #require('table.new')(2 ^ 27, 0)", "not enough memory" },
      ["JSON of one table many times"] = {
        "local t = {} for _ = 1, 60 do t = { t, t } end bus.publish('x', t)", "memory" },
      ["JSON of a large string many times"] = {
        "local t, s = {}, ('x'):rep(1e6) for i = 1, 1000 do t[i] = s end bus.publish('x', t)",
        "memory" },
      ["cjson, of a large string many times"] = {
        "local t, s = {}, ('x'):rep(1e6) for i = 1, 1000 do t[i] = s end require('cjson').encode(t)",
        "longer than 64MB" },
      ["cjson.new, of one table many times"] = { [[
        local cjson, t = require("cjson").new(), {}
        for _ = 1, 60 do t = { t, t } end
        cjson.encode(t)]], "longer than 64MB" },
      ["cjson, of what lies deeper than it writes by itself"] = { [[
        local cjson, t, s = require("cjson"), {}, ("x"):rep(1e5)
        cjson.encode_max_depth(5000)
        for i = 1, 5000 do t[i] = s end
        for _ = 1, 1500 do t = { t } end
        cjson.encode(t)]], "no deeper than 1000" },
      ["cjson, of an array that is all holes"] = { [[
        local cjson = require("cjson")
        cjson.encode_sparse_array(false, 0)
        cjson.encode { [3e8] = 1 }]], "longer than 64MB" },
      ["headers, of a large string many times"] = {
        "local t, s = {}, ('x'):rep(1e6) for i = 1, 1000 do t[i] = s end bus.publish('x', '', { headers = { a = t } })",
        "64MB" },
      ["JSON that is nested too deep"] = {
        "local t = {} for _ = 1, 1e4 do t = { t } end bus.publish('x', t)", "nested more than 128" },
      ["JSON of a table that contains itself"] = {
        "local t = {} t.t = t bus.publish('x', t)", "contains itself" },
      ["JSON to read that is nested too deep"] = {
        "return error(select(2, bus.json.decode(('['):rep(1e6))))", "nested" },
      ["cjson to read that is nested too deep, without its own bound"] = {
        "local c = require('cjson') c.decode_max_depth(1e9) c.decode(('['):rep(1e6))", "nested" },
      ["arguments for a spawned function, until memory is out"] = {
        "local t = {} for i = 1, 5000 do t[i] = i end while true do bus.spawn(bus.sleep, '1m', unpack(t)) end",
        "memory" },
      ["a reply"] = { "local t = {} for i = 1, 60 do t = { t, t } end return t", "memory" },
    }
    local try = together(CASES, 'return { limits = { cpu = "20s", memory = "16MB" } }')
    for what in pairs(CASES) do
      it(what .. " gets an error", function() try(what) end)
    end

    it("cjson writes what it may: large indexes as an object, nested 1000 deep", function()
      answers([[
local cjson = require "cjson"
local t = 1
for _ = 1, 1000 do t = { t } end
local deep = #cjson.encode(t)
local refused = pcall(cjson.encode, { t }) or pcall(cjson.encode, { [3e8] = 1 })
cjson.encode_sparse_array(true)
return ("%d %s %s %d"):format(deep, tostring(refused), cjson.encode { [3e8] = 1 }, cjson.encode_max_depth())]],
        '2001 false {"300000000":1} 1000')
    end)

    it("a JSON bomb in a payload is bad, or too much, for its handler alone", function()
      local one = run([[return #msg:json()]])
      local _, err = ask("spec", ("["):rep(900000))
      assert.matches("^not JSON", err)
      _, err = ask("spec", "[" .. ("{},"):rep(300000) .. "1]")
      assert.matches("not enough memory", err)
      assert.equal("still there", ask "after.spec")
      assert.equal("x", ask("good", "x"))
      assert.equal(0, one:stop())
    end)

    it("a line of the log is cut", function()
      local one = run [[
bus.log.info(("x"):rep(1e6))
local t = {} for i = 1, 1e4 do t[i] = ("y"):rep(100) end
bus.log.info("many fields", t)
local d = {} for _ = 1, 60 do d = { d, d } end
bus.log.info("one table many times", { d = d })
return ""]]
      assert.equal("", ask "spec")
      assert.matches("x %.%.%. %(1000000 bytes%)$", one:wait_log("^xxxx").msg)
      assert.is_truthy(one:wait_log("many fields").fields)
      assert.is_truthy(one:wait_log("one table many times").fields)
      assert.is_true(#one:stderr() < 400000)
    end)
  end)

  describe("that keeps its message", function()
    local KEEP = [[
local js = require "moonbus.jetstream"
bus.script { workers = 1 }
local kept = {}
local function keep(msg) kept[#kept + 1] = msg end
bus.subscribe("keep", function(msg) keep(msg) return "" end)
js.consume("IN", { durable = "d" }, keep)]]
    local USE = [[
local found = {}
for i, m in ipairs(kept) do
  local verdict, err
  if m.stream then verdict, err = m:ack() else verdict = m:respond("late") end
  local progress = not m.stream or select(2, m:progress()).code
  found[i] = { data = #m.data, subject = m.subject, header = m.headers.k, id = m.id, stream = m.stream,
    verdict = tostring(verdict), err = err and err.code, progress = progress, attempt = m.attempt, text = tostring(m) }
end
return found]]

    it("reads it all the same later; it has had its verdict, and may answer once more", function()
      w.client:stream("IN", { "in" }, { storage = "memory" })
      run(USE, { top = KEEP })
      local inbox = w.client:subscribe "inbox"
      local sizes = { 10, 100000 }
      for _, size in ipairs(sizes) do
        for _, headers in ipairs { {}, { k = "v" } } do
          w.client:publish("keep", ("x"):rep(size), headers, "inbox")
          w.client:store("in", ("y"):rep(size), headers)
          inbox:take(1)
          wait.eventually(function() return w.client:settled("IN", "d") end, 10)
        end
      end
      local found = w.client:request("spec", ""):json()
      assert.equal(8, #found)
      local core, stored = 0, 0
      for _, each in ipairs(found) do
        if each.stream then
          stored = stored + 1
          assert.equal("IN", each.stream)
          assert.equal("settled", each.err)
          assert.equal("settled", each.progress)
          assert.matches('message "in" %(IN #%d', each.text)
        else
          core = core + 1
          assert.equal("true", each.verdict)
          assert.equal("late", inbox:next().data)
        end
        assert.is_true(each.data == sizes[1] or each.data == sizes[2])
      end
      assert.same({ 4, 4 }, { core, stored })
      assert.equal("still there", ask "after.spec")
    end)

    it("uses it after its generation was replaced, as long as it runs", function()
      local one = run([[
bus.publish("begun", "")
bus.sleep("500ms")
msg:respond(msg.data .. " by generation 1")]], { args = { "--watch" } })
      local begun = w.client:subscribe "begun"
      local inbox = w.client:subscribe "inbox"
      w.client:publish("spec", "answered", nil, "inbox")
      begun:take(1)
      temp.write(one.folder, "handlers/handler.lua",
        [[require "moonbus".subscribe("spec", function() return "generation 2" end)]])
      one:wait_log("generation 2 live", 10)
      assert.equal("answered by generation 1", inbox:next().data)
      assert.equal("generation 2", ask "spec")
    end)

    it("may hand it to what it spawned, which loses it no sooner than itself", function()
      answers([[
local function read() bus.sleep("10ms") return msg.data .. msg.subject end
local a, b = bus.gather { read, read }
bus.spawn(function() bus.sleep("1m") msg:respond("never") end)
return a .. b]], "^specspec$")
    end)
  end)

  it("cannot wait where a yield would cross a C function, and is told so", function()
    for _, code in ipairs {
      "table.sort({ 2, 1 }, function(a, b) bus.sleep('1ms') return a < b end)",
      "('x'):gsub('.', function() bus.sleep('1ms') end)",
      "('%s'):format(setmetatable({}, { __tostring = function() bus.sleep('1ms') return 'x' end }))",
    } do
      fails(code, "cannot wait inside a function that a C function calls")
      w:clear()
    end
  end)
end)
