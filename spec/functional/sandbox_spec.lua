-- What a script may reach: its own copies of the library, none of the host's, nothing that ends the
-- process or blocks it; each wall names the way through it.
local world = require "spec.support.world"

describe("a script", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function run(code, options)
    options = options or {}
    return w:run {
      handlers = {
        ["handler.lua"] = ([[
local bus = require "moonbus"
bus.subscribe("spec", function(msg)
%s
end)
bus.subscribe("echo", function(msg) return msg.data end)]]):format(code),
      },
      files = options.files, config = options.config,
    }
  end

  local function ask(subject)
    local reply, why = w.client:request(subject or "spec", "x")
    assert(reply, why)
    return reply.data, reply:header "Nats-Service-Error"
  end

  describe("meets a wall, with the way through it,", function()
    for what, code in pairs {
      ["io.open"] = "io.open('x')",
      ["io.write"] = "io.write('x')",
      ["os.execute"] = "os.execute('true')",
      ["os.exit"] = "os.exit(0)",
      ["os.remove"] = "os.remove('x')",
      ["os.rename"] = "os.rename('x', 'y')",
      ["os.tmpname"] = "os.tmpname()",
      ["os.setlocale"] = "os.setlocale('C')",
      ["debug.sethook"] = "debug.sethook()",
      ["debug.getregistry"] = "debug.getregistry()",
      ["debug.getupvalue"] = "debug.getupvalue(print, 1)",
      ["debug.setmetatable"] = "debug.setmetatable('', {})",
      ["package"] = "package.loaded.x = 1",
      ["dofile"] = "dofile('x')",
      ["loadfile"] = "loadfile('x')",
      ["string.dump"] = "string.dump(print)",
      ['require "ffi"'] = "require('ffi')",
      ['require "jit.util"'] = "require('jit.util')",
      ['collectgarbage%("stop"%)'] = "collectgarbage('stop')",
      ['collectgarbage%("setpause"%)'] = "collectgarbage('setpause', 1000)",
    } do
      it(what, function()
        local host = run(code)
        local _, err = ask()
        assert.matches("^" .. what, err)
        assert.matches("trust = true in the config", err)
        host:wait_log { level = "error", file = "handler.lua", line = 3 }
      end)
    end
  end)

  it("loads no bytecode, from wherever", function()
    run [[
local code = "\27LJ\2\0\0"
local found = {
  tostring(load(code)), tostring(loadstring(code)), tostring(load(code, "x", "b")),
  tostring(load(function() local c = code code = nil return c end)), tostring((pcall(("x").dump, print))),
}
return table.concat(found, " ")]]
    assert.equal("nil nil nil nil false", ask())
  end)

  it("cannot change how strings, or the host's own Lua, work", function()
    local host = run [[
local tried, set, raise = {}, rawset, error
local function try(f, ...) tried[#tried + 1] = tostring((pcall(f, ...))) end
try(function() getmetatable("").__index = {} end)
try(function() setmetatable("", {}) end)
for _, library in ipairs { "string", "table", "math", "coroutine", "bit", "os" } do
  for name in pairs(_G[library]) do _G[library][name] = function() raise "mine" end end
end
for _, name in ipairs { "pairs", "ipairs", "type", "tostring", "error", "pcall", "select", "next",
  "rawget", "rawset", "unpack", "setmetatable", "getmetatable", "require", "load", "print" } do
  set(_G, name, function() raise "mine" end)
end
local late = bus.after("1m", function() end)
late:cancel()
bus.log.info("still", { a = { 1, "x" } })
local reply, err = bus.request("echo", { ("x"):rep(3):upper() }, { headers = { k = "v" } })
local future = bus.spawn(function() bus.sleep("1ms") return reply.data end)
return future:wait() .. tried[1] .. tried[2] ]]
    local data, err = ask()
    assert.is_nil(err)
    assert.equal('["XXX"]falsefalse', data)
    host:wait_log("still")
  end)

  it("that overwrites what it got breaks no other script, nor its own next instance", function()
    w:run {
      handlers = {
        ["a.lua"] = [[
local bus = require "moonbus"
string.format, table.concat, math.floor, bus.publish = nil, nil, nil, nil
getmetatable = nil
bus.subscribe("a", function(msg) return tostring(string.format) end)]],
        ["b.lua"] = [[
local bus = require "moonbus"
bus.subscribe("b", function(msg)
  return table.concat({ string.format("%d", 7), type(bus.publish), math.floor(1.5) }, " ")
end)]],
      },
    }
    assert.equal("nil", ask "a")
    assert.equal("7 function 1", ask "b")
  end)

  it("has getfenv and setfenv for its own functions, and none of the host's", function()
    run [[
local mine = function() return x end
local found = { tostring(getfenv() == _G), tostring(getfenv(0) == _G), tostring(getfenv(bus.sleep) == _G) }
setfenv(mine, { x = "own" })
found[#found + 1] = mine()
for _, target in ipairs { bus.sleep, print, string.format } do
  found[#found + 1] = tostring((pcall(setfenv, target, {})))
end
found[#found + 1] = tostring((pcall(setfenv, 0, {})))
found[#found + 1] = tostring(getmetatable(_G)) .. tostring((pcall(setmetatable, _G, {})))
return table.concat(found, " ")]]
    assert.equal("true true true own false false false false falsefalse", ask())
  end)

  it("cannot reach the host's modules, nor the objects that it hands out", function()
    run [[
local found = {}
for _, name in ipairs { "moonbus.core", "moonbus.loader", "moonbus.task", "moonbus.stack", "moonbus.nothing" } do
  local ok, err = pcall(require, name)
  found[#found + 1] = tostring(ok) .. (tostring(err):find("internal", 1, true) and "" or tostring(err))
end
local _, err = bus.request("nobody.there", "")
for _, object in ipairs { msg, err, bus.spawn(function() end), bus.after("1s", function() end), msg.headers } do
  found[#found + 1] = type(getmetatable(object)) .. tostring((pcall(setmetatable, object, nil)))
end
return table.concat(found, " ")]]
    assert.equal("false false false false false stringfalse stringfalse stringfalse stringfalse stringfalse", ask())
  end)

  describe("with trust = true in the config", function()
    local TRUST = { config = "return { trust = true }", files = { ["data.txt"] = "from a file" } }

    it("has all of LuaJIT", function()
      run([[
local ffi = require "ffi"
local file = assert(io.open("data.txt"))
local text = file:read "*a"
file:close()
local chunk = load(string.dump(function() return "bytecode" end))
return table.concat({ text, tostring(ffi.C ~= nil), tostring(os.execute("true") == 0),
  type(debug.sethook), type(package.loaded), chunk(), type(require "jit") }, " ")]], TRUST)
      assert.equal("from a file true true function table bytecode table", ask())
    end)

    it("finds what is installed where package.path leads, and so does that", function()
      run([[
package.path = "installed/?.lua;" .. package.path
return require("one").say()]], { config = TRUST.config, files = {
        ["installed/one.lua"] = 'local two = require "two" return { say = function() return "one " .. two end }',
        ["installed/two.lua"] = 'return "two"',
      } })
      assert.equal("one two", ask())
    end)

    it("has what is installed print to the log, as the script does", function()
      local host = run([[
package.path = "installed/?.lua;" .. package.path
require("one").say("from a module", 1)
print "from the script"
return "said"]], { config = TRUST.config, files = {
        ["installed/one.lua"] = 'print "at load" return { say = function(...) print(...) end }',
      } })
      assert.equal("said", ask())
      for _, msg in ipairs { "^at load$", "^from a module\t1$", "^from the script$" } do
        host:wait_log { level = "info", script = "handler.lua", msg = msg }
      end
      assert.equal("", host:stdout())
    end)

    it("is judged as any key", function()
      local failed = w:fail { handlers = { ["handler.lua"] = "" }, config = "return { trust = 'yes' }" }
      assert.equal(2, failed.status)
      assert.matches("trust", failed.output)
      run("return io and io.open('x') or 'none'", { config = "return { trust = false }" })
      local _, err = ask()
      assert.matches("trust = true", err)
    end)

    it("an error in a finalizer is logged", function()
      local host = run([[
local ffi = require "ffi"
for _ = 1, 1000 do ffi.gc(ffi.new "int[1]", function() error "in a finalizer" end) end
collectgarbage() collectgarbage()
return "collected"]], TRUST)
      for _ = 1, 20 do
        ask()
        ask "echo"
      end
      host:wait_log { level = "error", script = "handler.lua", msg = "an error in a finalizer: .*in a finalizer" }
      assert.equal(0, host:stop())
    end)
  end)
end)
