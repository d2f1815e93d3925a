-- moonbus test, what it has beside deliver and stub: offloaded functions, properties, coverage, and runs
-- that are repeated when a file changes.
local temp = require "spec.support.temp"
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
end)
