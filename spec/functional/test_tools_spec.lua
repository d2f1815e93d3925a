-- moonbus test, what it has beside deliver and stub: offloaded functions, properties, coverage, and runs
-- that are repeated when a file changes.
local host = require "spec.support.host"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

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

  it("has what streams hold before a script is served, for a start hook that reads it", function()
    local ended = run({ ["a.lua"] = [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.stream { name = "SUMS", subjects = { "sums.*" } }
      local sums = bus.shared "sums"
      bus.on("start", { required = true }, function()
        for msg in assert(js.messages "SUMS") do
          sums:set(msg.subject, msg.headers.unit and msg.data .. " " .. msg.headers.unit or msg:json().sum)
        end
      end)
      bus.subscribe("sum", function(msg) return tostring(sums:get(msg.data)) end)]], ["a_test.lua"] = [[
      local test = require "moonbus.test"
      it("knows them", function()
        local s = test.load("a.lua", { streams = { { name = "SUMS", subjects = { "sums.*" } } }, stored = {
          { subject = "sums.a", data = { sum = 7 } },
          { subject = "sums.b", data = "5", headers = { unit = "EUR" } } } })
        assert.equal("7", s:deliver("sum", "sums.a").reply)
        assert.equal("5 EUR", s:deliver("sum", "sums.b").reply)
        assert.equal("nil", test.load("a.lua"):deliver("sum", "sums.a").reply)
      end)]] }, "a_test.lua")
    assert.equal(0, ended.status, ended.stdout .. ended.stderr)
  end)

  it("answers calls of bus.offload, by function, value and error; without a stub the module runs", function()
    local ended = run({ ["img.lua"] = 'return { size = function(data) return #data end }', ["a.lua"] = [[
      local bus = require "moonbus"
      local img = bus.offload("img", { timeout = "2s" })
      bus.subscribe("resize", function(msg)
        local began = bus.now()
        local data, size = img.resize(msg.data, { width = 5 })
        if not data then return { code = size.code, message = size.message } end
        return { data = data, size = size, took = bus.now() - began }
      end)
      bus.subscribe("size", function(msg) return tostring(img.size(msg.data)) end)]], ["a_test.lua"] = [[
      local test = require "moonbus.test"
      local s
      before_each(function() s = test.load "a.lua" end)
      it("runs", function() assert.equal("3", s:deliver("size", "abc").reply) end)
      it("stubs", function()
        s:stub_offload("img", { resize = function(data, opts) return data .. "!", opts.width end }, { delay = "1s" })
        local r = s:deliver("resize", "x")
        assert.same({ "x!", 5 }, { r.reply.data, r.reply.size })
        assert.is_true(r.reply.took >= 0.999)
        assert.same({ "img", "resize", "x", 2 }, { r.offloaded[1].module, r.offloaded[1].name,
          r.offloaded[1].arguments[1], r.offloaded[1].arguments.n })
        s:stub_offload("img", { resize = "y", size = 7 })
        assert.equal("y", s:deliver("resize", "x").reply.data)
        assert.equal("7", s:deliver("size", "x").reply)
      end)
      it("fails", function()
        s:stub_offload("img", { resize = { error = "no such picture" } })
        assert.same({ code = "offload_error", message = "no such picture" }, s:deliver("resize", "x").reply)
        s:stub_offload("img", { resize = { error = "timeout" } })
        assert.equal("timeout", s:deliver("resize", "x").reply.code)
        s:stub_offload("img", { resize = { error = { code = "memory", message = "m" } } })
        assert.equal("memory", s:deliver("resize", "x").reply.code)
        s:stub_offload("img", { resize = "late" }, { delay = "3s" })
        assert.equal("timeout", s:deliver("resize", "x").reply.code)
      end)
      it("1", function() s:stub_offload("img", { rezize = "x" }) s:deliver("resize", "x") end)
      it("2", function() s:stub_offload("img", { resize = function() return print end }) s:deliver("resize", "x") end)
      it("3", function() s:stub_offload("img", {}) end)
      it("4", function() s:stub_offload("img", { resize = function() s:deliver "size" end }) s:deliver "resize" end)
      it("5", function() s:stub_offload("img", { resize = { error = "timeot" } }) end)]] }, "a_test.lua")
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("3 passed, 5 failed\n$", ended.stdout, nil, ended.stdout)
    for number, said in ipairs {
      'a_test.lua:26: a.lua: no stub answers img.resize: did you mean "rezize"?',
      "a_test.lua:27: the stub of img.resize: result 1: a function cannot be passed between threads",
      "a_test.lua:28: stub_offload: functions: expected a table, { resize = function(data) ... end }, got a table",
      "a_test.lua:29: deliver: not inside of a stub of the same script (the stub of img.resize)",
      'a_test.lua:30: stub_offload: resize: error: "timeot": did you mean "timeout"?',
    } do
      assert.is_truthy(ended.stdout:find(("FAILED  %d\n    %s"):format(number, said), 1, true), ended.stdout)
    end
  end)

  it("tries what holds for all values with many that fit, and tells of the smallest for which it does not", function()
    local files = { ["a_test.lua"] = [[
      local test = require "moonbus.test"
      local s = test.schema
      local function holds(definition, fits)
        test.property(definition, function(value) assert.is_true(fits(value)) end)
      end
      it("fits", function()
        holds(s.integer { min = 3, max = 9 }, function(n) return n >= 3 and n <= 9 and n % 1 == 0 end)
        holds(s.number { above = 0, below = 1 }, function(n) return n > 0 and n < 1 end)
        holds(s.string { min = 2, max = 4, pattern = "^%u%d*$" }, function(t)
          return t:find "^%u%d*$" ~= nil and #t >= 2 and #t <= 4
        end)
        holds(s.array("integer", { min = 1, max = 3 }), function(list) return #list >= 1 and #list <= 3 end)
        holds({ id = "integer", note = "string?", kind = s.enum { "a", "b" }, on = "boolean|null" }, function(v)
          return v.id % 1 == 0 and (v.note == nil or type(v.note) == "string") and (v.kind == "a" or v.kind == "b")
        end)
      end)
      test.property("sum", { list = { "integer" }, note = "string?" }, function(value)
        local most = 0
        for _, each in ipairs(value.list) do most = math.max(most, math.abs(each)) end
        assert.is_true(most < 150, "too much")
      end)
      it("1", function() test.property("string", function(t) if t:find "Z" then error "Z" end end, { runs = 2000 }) end)
      it("2", function() test.property("string", function() end, { rns = 5 }) end)
      it("3", function() test.property("strin", function() end) end)
      it("4", function() test.property(s.string { pattern = "^a$", min = 2 }, function() end) end)
      it("5", function() test.property() end)
      it("6", function() test.property("string", function() pending "later" end) end)
      it("7", function() test.property("o.json", function() end) end)]] }
    local ended = run(files, "a_test.lua")
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    local function says(text) assert.is_truthy(ended.stdout:find(text, 1, true), text .. "\n" .. ended.stdout) end
    says "  ok      fits\n"
    says "  FAILED  sum\n    a_test.lua:20: too much"
    says "      with {list = {150}}\n"
    says '  FAILED  1\n    a_test.lua:22: Z\n      with "Z"\n      in run '
    says 'a_test.lua:23: test.property: unknown option "rns": did you mean "runs"?'
    says 'a_test.lua:24: test.property: unknown type "strin": did you mean "string"?'
    says "a_test.lua:25: test.property: no value was found that is string of at least 2 characters"
    says "a_test.lua:26: test.property: a generator is missing: test.any { ... }"
    says "  pending 6 (later)\n"
    says "a_test.lua:28: test.property: o.json: files of JSON Schema are for handlers"
    -- Its seed finds it in the first run.
    local seed = ended.stdout:match "a_test.lua:22: Z\n.-moonbus test %-%-seed (%d+)\n"
    ended = run(files, "--seed", seed, "--filter", "^1$", "a_test.lua")
    says "in run 1 of 2000, made smaller"
    says("moonbus test --seed " .. seed)
    assert.equal(2, run({}, "--seed", "x").status)
  end)

  -- The first value fails; what smaller ones do is no word against it.
  local SHRINKS = [[
      local test = require "moonbus.test"
      local runs = 0
      local function check()
        runs = runs + 1
        if runs == 1 then error "too large" end
        %s
      end
      it("is small", function() test.property(test.schema.integer { min = 5, max = 900 }, check) end)]]

  it("fails a property whose smaller values end as pending", function()
    local ended = run({ ["a_test.lua"] = SHRINKS:format 'pending "later"' }, "--junit", "out.xml", "a_test.lua")
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("  FAILED  is small\n    a_test.lua:5: too large\n      with %d+\n      in run 1 of 100; again: ",
      ended.stdout)
    local file = assert(io.open(ended.folder .. "/out.xml"))
    local xml = file:read "*a"
    file:close()
    assert.matches("stack traceback:\n[^<]*a_test.lua:5: in function", xml)
  end)

  it("fails it beside a real server, too, where smaller values would take long", function()
    local ended = run({ ["a_test.lua"] = SHRINKS:format 'test.needs "virtual time"' }, "--server", "a_test.lua")
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("  FAILED  is small\n    a_test.lua:5: too large\n", ended.stdout)
  end)

  it("runs the tests again when a file changes, and ends with SIGINT", function()
    local folder = w:folder()
    temp.write(folder, "handlers/a.lua", 'require "moonbus".subscribe("a", function() return "1" end)')
    temp.write(folder, "handlers/a_test.lua",
      'it("a", function() assert.equal("1", require "moonbus.test".load("handlers/a.lua"):deliver("a").reply) end)')
    for _, name in ipairs { "up", "on", "at" } do -- rings of links end
      assert.is_true(os.execute(("ln -s . %s/handlers/%s"):format(folder, name)) == 0)
    end
    local running = process.start { command = { host.binary(), "test", "--watch" }, folder = folder }
    local function says(text)
      wait.eventually(function() return running:stdout():find(text, 1, true) ~= nil end, 20, text)
    end
    says "1 passed, 0 failed\nwatching 2 files; Ctrl-C ends it\n"
    temp.write(folder, "handlers/a.lua", 'require "moonbus".subscribe("a", function() return "22" end)')
    says "\nhandlers/a.lua has changed\nhandlers/a_test.lua\n  FAILED  a\n"
    says "0 passed, 1 failed\nwatching 2 files; Ctrl-C ends it\n"
    -- One that never ends is ended by the next change.
    temp.write(folder, "moonbus.lua", 'return { limits = { cpu = "5m" } }')
    temp.write(folder, "handlers/a_test.lua", 'it("b", function() print "begun" while true do end end)')
    says "begun\n"
    temp.write(folder, "handlers/a_test.lua", 'it("c", function() end)')
    says "  ok      c\n1 passed, 0 failed\nwatching 3 files; Ctrl-C ends it\n"
    running:signal "INT"
    assert.equal(0, running:wait())
    running:close()
  end)

  it("says once where there is more than it watches, and sees what scripts are made of", function()
    local folder = w:folder()
    temp.write(folder, "handlers/a.lua", 'require "moonbus".subscribe("a", function() return "1" end)')
    temp.write(folder, "handlers/a_test.lua", 'it("a", function() end)')
    os.execute(("cd %s && mkdir more && cd more && seq 1 4100 | xargs mkdir"):format(folder))
    local running = process.start { command = { host.binary(), "test", "--watch", "." }, folder = folder }
    local function says(text)
      wait.eventually(function() return running:stdout():find(text, 1, true) ~= nil end, 20, text)
    end
    says "1 passed, 0 failed\nwatching 2 files; Ctrl-C ends it\n"
    temp.write(folder, "handlers/a.lua", 'require "moonbus".subscribe("a", function() return "22" end)')
    says "\nhandlers/a.lua has changed\n"
    temp.write(folder, "handlers/a_test.lua", 'it("b", function() end)')
    says "  ok      b\n1 passed, 0 failed\nwatching "
    running:signal "INT"
    assert.equal(0, running:wait())
    local _, times = running:stderr():gsub("more than 20000 files or 4000 folders", "")
    assert.equal(1, times)
    running:close()
  end)

  it("counts which lines of the handlers, and of their modules, the tests have run", function()
    local files = {
      ["handlers/a.lua"] = [[
local bus = require "moonbus"
local util = require "util"
bus.subscribe("a", function(msg)
  if msg.data == "never" then
    return "said"
  else
    bus.sleep "1s"
  end
  return util.twice(msg.data), {
    more = 1,
  }
end)
]],
      ["handlers/util.lua"] = [[
return {
  twice = function(text) return text .. text end,
  never = function(text)
    if text then return 1 end
    return 2
  end,
}
]],
      ["handlers/b.lua"] = 'require "moonbus".subscribe("b", function() end)\n',
      ["handlers/a_test.lua"] = [[
        for i = 1, 2 do
          it(i .. "", function() assert.equal("xx", require "moonbus.test".load("a.lua"):deliver("a", "x").reply) end)
        end]],
      ["fake/luacov.lua"] = "",
    }
    local ended = run(files, "--coverage")
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("2 passed, 0 failed\ncoverage:\n" ..
      "  handlers/a.lua      85.7 %  6 of 7 lines; not run: 5\n" ..
      "  handlers/b.lua       0.0 %  0 of 1 lines; not run: all; no test loads it\n" ..
      "  handlers/util.lua   50.0 %  2 of 4 lines; not run: 4-5\n" ..
      "  all                 66.6 %  8 of 12 lines\n", ended.stdout, 1, true)
    assert.is_nil(temp.read(ended.folder .. "/luacov.stats.out"))
    local folder = w:folder()
    for name, text in pairs(files) do temp.write(folder, name, text) end
    local with = w:moonbus({ "test", "--coverage", "handlers/a_test.lua" }, { folder = folder,
      env = { LUA_PATH = "fake/?.lua;;" } })
    assert.same({ 0, "" }, { with.status, with.stderr })
    assert.equal("12:handlers/a.lua\n2 2 4 2 0 0 2 0 4 0 2 4\n7:handlers/util.lua\n2 4 0 0 0 2 2\n",
      temp.read(folder .. "/luacov.stats.out"))
  end)

  it("gives a script the settings that its test states, in place of the config's", function()
    local ended = run({ ["moonbus.lua"] = 'return { settings = { who = "config", more = 1 } }', ["a.lua"] = [[
      local bus = require "moonbus"
      local who = bus.settings.who
      bus.subscribe("who", function() return { who = who, more = bus.settings.more, list = bus.settings.list } end)]],
      ["a_test.lua"] = [[
      local test = require "moonbus.test"
      local function ask(options) return test.load("a.lua", options):deliver("who").reply end
      it("has none of the config's", function()
        assert.same({ who = "ada", list = { 1, 2 } }, ask { settings = { who = "ada", list = { 1, 2 } } })
      end)
      it("has the config's in the next test", function() assert.same({ who = "config", more = 1 }, ask()) end)
      it("1", function() ask { settings = { "a", "b" } } end)
      it("2", function() ask { settings = { who = print } } end)
      it("3", function() ask { settings = "who" } end)]] }, "a_test.lua")
    assert.same({ 1, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("2 passed, 3 failed", ended.stdout)
    for _, text in ipairs { "settings: a table with names, as in the config file, not a list",
      "settings: this table is no JSON", "settings: " } do
      assert.is_truthy(ended.stdout:find(text, 1, true), ended.stdout)
    end
  end)
end)
