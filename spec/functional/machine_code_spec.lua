-- What LuaJIT compiled in a state that was given up goes with it.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- The jump out of compiled code is left out of sanitized builds: there such a thread is lost.
local escapes = not (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS")

describe("the machine code of a state that is given up", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- Executable memory without a file, in KB.
  local function compiled_kb(host)
    local sum = 0
    for from, to, inode in temp.read("/proc/" .. host.pid .. "/maps")
      :gmatch "(%x+)%-(%x+) r.xp %x+ %x+:%x+ (%d+)" do
      if inode == "0" then sum = sum + (tonumber(to, 16) - tonumber(from, 16)) / 1024 end
    end
    return sum
  end

  if not escapes then
    pending "does not stay mapped: in a sanitized build no state is given up"
    return
  end

  it("does not stay mapped, however many there are", function()
    local host = w:run {
      admin = true,
      config = 'return { workers = 1, limits = { cpu = "50ms" } }',
      handlers = { ["handler.lua"] = [[
        require("moonbus").subscribe("burn", function()
          local n = 0
          while true do n = n + 1 end
        end)]] },
    }
    local function given_up() return #host:logged "its Lua state was given up" end
    local function burn(times)
      for _ = 1, times do
        local before = given_up()
        w.client:publish("burn", "")
        wait.eventually(function() return given_up() > before end, 20)
      end
    end
    burn(3)
    local before = compiled_kb(host)
    assert.is_true(before < 1024, before .. " KB")
    burn(20)
    local after = compiled_kb(host)
    assert.is_true(after <= before + 128, ("%d KB, then %d KB"):format(before, after))
    local status = cjson.decode(posix.http_get(tonumber(host.admin:match ":(%d+)$"), "/status"))
    assert.equal(0, status.stuck.machine_code_left)
  end)
end)
