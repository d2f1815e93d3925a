-- moonbus test, with what is published later by a stream's schedules.
local temp = require "spec.support.temp"
local world = require "spec.support.world"

describe("moonbus test, later,", function()
  local w = world.new()
  after_each(function() w:clear() end)

  -- files: name -> text. Runs `moonbus test` there.
  local function run(files, ...)
    local folder = w:folder()
    for name, text in pairs(files) do temp.write(folder, name, text) end
    return w:moonbus({ "test", ... }, { folder = folder })
  end

  it("publishes what a stream's schedules are to publish, at its time, unless it was cancelled", function()
    local ended = run({ ["a.lua"] = [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.stream { name = "OUT", subjects = { "out.>", "moonbus.at.OUT.>" }, allow_msg_schedules = true,
        allow_rollup_hdrs = true }
      js.consume("OUT", { durable = "d", filter = "out.>" }, function(msg)
        bus.publish("seen", msg.data .. " " .. msg.headers.color)
      end)
      local kept
      bus.subscribe("park", function(msg)
        kept = assert(js.publish("out.a", msg.data, { after = "1h", headers = { color = "red" } }))
        return kept.stream
      end)
      bus.subscribe("drop", function() return tostring(js.cancel(kept)) end)
      bus.subscribe("raw", function(msg)
        local _, err = js.publish("moonbus.at.OUT.x", "x", { headers = {
          ["Nats-Schedule"] = msg:json().line, ["Nats-Schedule-Target"] = msg:json().target } })
        return err and err.message or "stored"
      end)]], ["a_test.lua"] = [[
      local test = require "moonbus.test"
      local s
      before_each(function() s = test.load "a.lua" end)
      it("comes", function()
        assert.equal("OUT", s:deliver("park", "x").reply)
        assert.equal(0, #s:advance("59m").published)
        assert.equal("x red", s:advance("2m").published[1].data)
        assert.equal(0, #s:advance("2h").published)
      end)
      it("does not come", function()
        s:deliver("park", "x")
        assert.equal("true", s:deliver("drop", "").reply)
        assert.equal(0, #s:advance("2h").published)
      end)
      it("is refused", function()
        for line, said in pairs { ["0 * * * * *"] = "pattern is invalid", ["@at noon"] = "pattern is invalid" } do
          assert.matches(said, s:deliver("raw", { line = line, target = "out.a" }).error.message)
        end
        assert.matches("target is invalid",
          s:deliver("raw", { line = "@at 2026-01-01T00:00:00Z", target = "elsewhere" }).error.message)
      end)]] }, "a_test.lua")
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
  end)
end)
