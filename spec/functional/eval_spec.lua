-- moonbus eval: a chunk of Lua with the bindings, against a server.
local temp = require "spec.support.temp"
local world = require "spec.support.world"

-- Sanitized, compiled code is not left.
local escapes = not (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS")

describe("moonbus eval", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function eval(chunk, ...) return w:cli { "eval", chunk, ... } end

  local function gives(expected, chunk, ...)
    local run = eval(chunk, ...)
    assert.same({ 0, expected, "" }, { run.status, run.stdout, run.stderr })
  end

  it("prints what the chunk returns: a table as JSON, a message as its data", function()
    w:run [[require "moonbus".subscribe("echo", function(msg) return msg.data end)]]
    gives("", "local x = 1")
    gives('2\n{"a":[1,2]}\nnil\n', "return 1 + 1, { a = { 1, 2 } }, nil")
    gives("hello\n", 'return bus.request("echo", "hello")')
  end)

  it("has the bindings, and waits for what it sends as a handler does", function()
    w.client:stream("ORDERS", { "orders.>" })
    gives("ORDERS 1\n", [[
      local receipt = js.publish("orders.created", { id = 1 })
      return receipt.stream .. " " .. receipt.seq
    ]])
    gives("", 'js.publish_async("orders.created", "2")')
    assert.equal("2", w.client:message("ORDERS", 2).data)
    local sub = w.client:subscribe "core"
    gives("spawned\n", [[
      bus.publish("core", "x")
      return bus.spawn(function() bus.sleep("10ms") return "spawned" end):wait()
    ]])
    assert.equal("x", sub:next().data)
  end)

  it("opens a bucket that is there, by its name alone", function()
    w:run [[require "moonbus.kv".bucket { name = "b" } require "moonbus.objects".bucket { name = "o" }]]
    gives('["a"]\n1\n', [[
      local b = require "moonbus.kv".bucket { name = "b" }
      assert(b:put("a", "1"))
      return b:keys(), b:get("a").value
    ]])
    gives("5\n", [[
      local o = require "moonbus.objects".bucket { name = "o" }
      assert(o:put("x", "hello"))
      return o:info("x").size
    ]])
  end)

  it("has the whole Lua library, arguments, print, and globals of its own", function()
    gives("a\tb 2\n3\n", [[
      x = select("#", ...)
      print((...), select(2, ...) .. " " .. x)
      return io.popen("echo 3"):read "*n"
    ]], "a", "b")
  end)

  it("takes a file, or standard input", function()
    local folder = w:folder()
    temp.write(folder, "chunk.lua", "#!/usr/bin/env -S moonbus eval\nreturn 'of a file',\n  1")
    local options = { folder = folder }
    assert.equal("of a file\n1\n", w:cli({ "eval", "chunk.lua" }, options).stdout)
    assert.equal("of a pipe\n", w:cli({ "eval", "-" }, { stdin = "return 'of a pipe'" }).stdout)
    temp.write(folder, "broken.lua", "\nlocal x\nx.y = 1")
    local failed = w:cli({ "eval", "broken.lua" }, options)
    assert.equal(1, failed.status)
    assert.matches("^moonbus eval: broken.lua:3: attempt to index local 'x'", failed.stderr)
  end)

  it("exits 1 on an error, with its place and the traceback", function()
    for chunk, complaint in pairs {
      ["local f = function() error 'oh' end\nf()"] =
        "^moonbus eval: eval:1: oh\nstack traceback:\n\t%[C%]: in function 'error'\n\teval:1: in function 'f'\n"
        .. "\teval:2: in main chunk\n$",
      ["return ="] = "^moonbus eval: eval:1: unexpected symbol near '='\n$",
      ['bus.subscribe("x", print)'] = "^moonbus eval: eval:1: bus.subscribe: only while the script loads",
      ['return nil, "no luck"'] = "^moonbus eval: no luck\n$",
      ['return bus.request("nobody", "x")'] = '^moonbus eval: no_responders: nobody serves "nobody"\n$',
    } do
      local failed = eval(chunk)
      assert.equal(1, failed.status)
      assert.matches(complaint, failed.stderr)
    end
  end)

  it("exits 1 when something fails that it did not look at", function()
    for chunk, complaint in pairs {
      ['js.publish("nowhere", "1")'] = "a publish was not stored: no stream takes",
      ['js.publish_async("nowhere", "1")'] = "a publish was not stored: no stream takes",
      ['bus.spawn(function() error "oh" end) bus.sleep "10ms"'] = "eval:1: oh",
    } do
      local failed = eval(chunk)
      assert.equal(1, failed.status, chunk)
      assert.matches(complaint, failed.stderr)
    end
  end)

  it("ends when its chunk is ended: by its time, or for want of memory", function()
    for chunk, complaint in pairs {
      ["while true do end"] = escapes and "timeout: the handler ran longer than its timeout of 300ms"
        or "cannot be interrupted: its thread is lost",
      ["local t = {} for i = 1, 1e9 do t[i] = {} end"] = "not enough memory",
      ["return ('x'):rep(1e8)"] = "^moonbus eval: not enough memory",
    } do
      -- A busy machine may need longer for as much memory than is the default of limits.cpu.
      local failed = w:cli({ "eval", chunk, "--timeout", chunk:find "while" and "300ms" or "50s" },
        { env = { MOONBUS_LIMITS_CPU = "50s" }, deadline = 60 })
      assert.equal(1, failed.status, chunk)
      assert.matches(complaint, failed.stderr)
    end
  end)

  it("says what JSON cannot hold, what an error table means, and which file is not there", function()
    gives("null\n", "return bus.json.null")
    for chunk, complaint in pairs {
      ["return 1, { print }"] = "^moonbus eval: bus.json.encode: %[1%]: JSON cannot hold a function\n$",
      ['error { code = "x", message = "y" }'] = "^moonbus eval: x: y\nstack",
      ['return nil, { code = "x", message = "y" }'] = "^moonbus eval: x: y\n$",
      ["no/such.lua"] = "^moonbus eval: no/such.lua: No such file or directory\n$",
    } do
      local failed = eval(chunk)
      assert.same({ 1, "" }, { failed.status, failed.stdout }, chunk)
      assert.matches(complaint, failed.stderr)
    end
  end)

  it("ends after --timeout", function()
    local failed = eval('bus.sleep("1m")', "--timeout", "100ms")
    assert.equal(1, failed.status)
    assert.matches("ran longer than its timeout", failed.stderr)
  end)

  it("needs no server for what asks none, and leaves nothing behind", function()
    local tmp = w:folder()
    local run = w:moonbus({ "eval", "-s", "nats://127.0.0.1:1", "return bus.json.decode '[1]'[1]" },
      { env = { TMPDIR = tmp } })
    assert.same({ 0, "1\n" }, { run.status, run.stdout })
    local list = io.popen("ls -A '" .. tmp .. "'"):read "*a"
    assert.equal("", list)
  end)

  it("has config and libraries of the project, but neither its admin endpoint nor its handlers", function()
    local folder = w:folder()
    temp.write(folder, "moonbus.lua", 'return { settings = { colour = "red" }, admin = "127.0.0.1:1" }')
    temp.write(folder, "lib/paint.lua", "return function(x) return 'painted ' .. x end")
    temp.write(folder, "handlers/broken.lua", "does not load")
    local run = w:cli({ "eval", "return require 'paint'(bus.settings.colour)" }, { folder = folder })
    assert.same({ 0, "painted red\n" }, { run.status, run.stdout })
  end)
end)
