-- Runs alone: it measures.
local world = require "spec.support.world"

describe("measures", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local HELLO = [[
require "moonbus".subscribe("greet.*", function(msg) return "hello " .. msg.subject end)]]

  it("start to ready, and idle memory, are printed", function()
    local best = math.huge
    local host
    for _ = 1, 5 do
      w:clear()
      host = w:run { handlers = { ["hello.lua"] = HELLO }, level = "info" }
      best = math.min(best, host.ready_ms)
      assert.is_truthy(w.client:request("greet.ada", ""))
    end
    print(("    start to ready: %.0f ms (the best of 5; wanted: below 100 ms)"):format(best))
    print(("    idle memory: %.1f MB resident (wanted: below 20 MB)"):format(host:memory_mb()))
  end)
end)
