-- A module that is offloaded is looked for when its script loads, like any that is required.
local temp = require "spec.support.temp"
local world = require "spec.support.world"

describe("an offloaded module", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local SCRIPT = [[
local bus = require "moonbus"
local work = bus.offload "work"
bus.subscribe("answer", function() return work.answer() end)]]

  local function module(answer) return ("return { answer = function() return %q end }"):format(answer) end

  local function fails(files, pattern)
    local result = w:fail { handlers = { ["handler.lua"] = SCRIPT }, files = files }
    assert.equal(2, result.status)
    assert.matches(pattern, result.output)
  end

  local function answer() return w.client:request("answer", "").data end

  local function save(host, text) temp.write(host.folder, "lib/work.lua", text) end

  it("that is missing keeps the script from loading, and says where it was looked for", function()
    fails({}, 'module \\"work\\" not found; looked for handlers/work%.lua, .*lib/work%.lua')
  end)

  it("that cannot be compiled keeps it from loading, with file and line", function()
    fails({ ["lib/work.lua"] = "return {\n  x = = 1\n}" }, 'unexpected symbol.*"file":"lib/work%.lua","line":2')
  end)

  it("is not run while the script loads", function()
    w:run { handlers = { ["handler.lua"] = SCRIPT }, files = { ["lib/work.lua"] =
      "assert(io.open, 'not on its thread')\n" .. module "one" } }
    assert.equal("one", answer())
  end)

  it("that is installed, or the library's own, needs no file of ours", function()
    w:run { handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local os, cjson = bus.offload "os", bus.offload "cjson"
bus.subscribe("answer", function() return os and cjson and "yes" end)]] } }
    assert.equal("yes", answer())
  end)

  it("is watched: broken it is refused, mended it is taken", function()
    local host = w:run { handlers = { ["handler.lua"] = SCRIPT }, files = { ["lib/work.lua"] = module "one" },
      args = { "--watch" } }
    assert.equal("one", answer())
    save(host, "return {")
    host:wait_log { level = "error", msg = "handler%.lua: refused, generation 1 keeps running: lib/work%.lua:1" }
    assert.equal("one", answer())
    save(host, module "two")
    host:wait_log "handler%.lua: generation 2 live"
    assert.equal("two", answer())
  end)
end)
