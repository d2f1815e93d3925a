-- Who reads the log holds nobody up.
local host_binary = require("spec.support.host").binary
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a log that is not read", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- Standard error is a pipe, whose reader begins when the file "go" is there.
  local SHELL = [[
mkfifo pipe
(while [ ! -e go ]; do sleep 0.05; done; cat >seen) <pipe &
exec "$@" 2>pipe]]

  it("stops no handler; lines are kept up to a bound, and those that are lost are counted", function()
    local folder = w:folder()
    temp.write(folder, "handlers/handler.lua", [[
local bus = require "moonbus"
bus.subscribe("flood", function(msg)
  for index = 1, 1000 do bus.log.info(msg.data .. "." .. index .. (" x"):rep(200)) end
end)
bus.subscribe("good", function(msg) return msg.data end)]])
    local running = process.start {
      command = { "sh", "-c", SHELL, "sh", host_binary(), "run", "-s", w.server.url, "--admin", "off",
        "--log-format", "json" },
      folder = folder,
    }
    local ok, reason = pcall(function()
      wait.eventually(function() return w.client:request("good", "x", { timeout = 0.5 }) end, 10)
      for round = 1, 20 do
        w.client:publish("flood", tostring(round))
        local asked = wait.now()
        local reply, why = w.client:request("good", "x", { timeout = 5 * wait.slow })
        assert.equal("x", reply and reply.data, why)
        assert.is_true(wait.now() - asked < wait.within(0.5), "the log holds a handler up")
      end
      temp.write(folder, "go", "")
      local function seen() return temp.read(folder .. "/seen") or "" end
      wait.eventually(function() return seen():find '"msg":"1%.1 x' end, 10)
      -- What comes next is there again, after the count of what is not.
      wait.eventually(function()
        w.client:publish("flood", "later")
        return seen():find "events are missing here" and seen():find '"msg":"later%.1 x'
      end, 10)
      running:signal "TERM"
      assert.equal(0, running:wait(10))
      for line in seen():gmatch "[^\n]+" do assert.matches("^{.*}$", line) end
    end)
    running:close()
    if not ok then error(reason, 0) end
  end)
end)
