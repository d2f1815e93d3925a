-- Memory that runs out in compiled code: LuaJIT's own error for it would break the state.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- With SPEC_GC=aggressive each resume costs a collection: of a hundred thousand tasks, for ever.
local eager = os.getenv "SPEC_GC" ~= nil
-- Nothing of a bomb is left behind, so that one host can have them all; in a sanitized build, whose threads may
-- be lost, each has its own.
local each_has_a_host = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"

local BOMBS = [[
local bombs = {}
bombs.caught = function() -- again and again
  local kept = {}
  while true do pcall(function() for i = 1, 1e9 do kept[#kept + 1] = { i } end end) end
end
bombs.caught_and_freed = function()
  local kept = {}
  while true do
    local ok = pcall(function() for i = 1, 1e9 do kept[#kept + 1] = { i } end end)
    if not ok then kept = {} end
  end
end
bombs.tables = function() local kept = {} for i = 1, 1e9 do kept[i] = { i, { i } } end end
bombs.fields = function() local kept = {} for i = 1, 1e9 do kept["k" .. i] = { a = i } end end
bombs.chain = function() local kept while true do kept = { kept, {} } end end
bombs.calls = function() local function f(t) return f { t } end f() end
bombs.closures = function()
  local kept = {}
  local function f(i) kept[i] = function() return i end return f(i + 1) end
  f(1)
end
bombs.texts = function() local kept = {} for i = 1, 1e9 do kept[i] = tostring(i) .. i end end
bombs.one_text = function() local text = "x" for _ = 1, 1e9 do text = text .. text end end
bombs.repeated = function() local kept = {} for i = 1, 1e9 do kept[i] = ("x"):rep(i * 10) end end
bombs.large = function() local kept = {} for i = 1, 1e9 do kept[i] = ("x"):rep(i * 1e6) end end
bombs.wrapped = function()
  coroutine.wrap(function() local kept = {} for i = 1, 1e9 do kept[#kept + 1] = { i } end end)()
end
bombs.coroutines = function()
  local kept = {}
  local function f() local mine = {} coroutine.yield() for i = 1, 1e4 do mine[i] = { i } end return mine end
  for i = 1, 1e6 do kept[i] = coroutine.create(f) coroutine.resume(kept[i]) end
end
bombs.concat = function()
  local kept = {}
  for i = 1, 1e9 do kept[i] = table.concat({ i, i + 1, i + 2, i }, ",") end
end
bombs.metamethod = function()
  local kept = setmetatable({}, { __index = function(t, k) local v = { k } rawset(t, k, v) return v end })
  for i = 1, 1e9 do local _ = kept["k" .. i] end
end
bombs.none = function() return "none" end
return bombs]]

describe("memory that runs out in compiled code", function()
  local w = world.new()
  local host
  local function start()
    host = w:run {
      handlers = { ["bomb.lua"] = [[
local bus = require "moonbus"
local bombs = require "bombs"
local offloaded = bus.offload("bombs", { timeout = "2s" })
bus.script { cpu = "1s" }
bus.subscribe("bomb.*", { timeout = "20s" }, function(msg) return bombs[msg.subject:match "%.(.*)"]() end)
bus.subscribe("offload.*", { timeout = "20s" }, function(msg) return offloaded[msg.subject:match "%.(.*)"]() end)]],
        ["spawn.lua"] = [[
local bus = require "moonbus"
bus.script { cpu = "1s" }
bus.subscribe("spawn", { timeout = "20s" }, function()
  local function f() bus.spawn(f) bus.spawn(f) bus.sleep(0) end
  f()
  bus.sleep(5)
end)]], ["other.lua"] = [[require "moonbus".subscribe("other", function() return "well" end)]] },
      files = { ["lib/bombs.lua"] = BOMBS },
      config = 'return { workers = 2, limits = { memory = "16MB" } }',
    }
  end
  setup(function()
    w:open()
    if not each_has_a_host then start() end
  end)
  before_each(function() if each_has_a_host then start() end end)
  after_each(function() if each_has_a_host then w:clear() end end)
  teardown(function()
    w:clear()
    w:close()
  end)

  local function ask(subject)
    local reply, why = w.client:request(subject, "", { timeout = 25 * wait.slow })
    return assert(reply, why)
  end

  for name in BOMBS:gmatch "bombs%.([%w_]+) =" do
    for _, where in ipairs { "bomb", "offload" } do
      if name ~= "none" then
        it(("ends the run alone: %s, %s"):format(name, where == "bomb" and "a handler" or "offloaded"), function()
          for _ = 1, 2 do
            local code = ask(where .. "." .. name):header "Nats-Service-Error"
            -- On a slow machine the collector's haste may take the time that the call has.
            assert.is_truthy(code and (code:find "memory" or code:find "limits.cpu" or
              code:find "did not end within"), code)
            assert.equal("none", ask(where .. ".none").data)
            assert.equal("well", ask("other").data)
          end
          assert.is_true(host:running())
        end)
      end
    end
  end

  local it_now = eager and pending or it
  it_now("ends the run alone: a spawn of two, each of which spawns two", function()
    for _ = 1, 2 do
      assert.matches("memory", ask("spawn"):header "Nats-Service-Error")
      assert.equal("well", ask("other").data)
    end
    host:wait_log { level = "error", code = "memory", handler = "spawn" }
    assert.is_true(host:running())
  end)
end)
