-- A script may register its handlers in any order, as pairs() gives them: each Lua state has another. That timers
-- tick with their own function is counted in virtual time: spec/sim/timers_spec.lua.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("handlers that are registered through pairs()", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local SCRIPT = [[
local bus = require "moonbus"
local hoard = {}
local handlers = {}
for i = 1, 12 do
  local name = "pairs." .. i
  handlers[name] = function() return name end
end
handlers["pairs.hoard"] = function()
  while true do hoard[#hoard + 1] = ("x"):rep(1000) .. #hoard end
end
handlers["pairs.busy"] = function()
  local till = bus.now() + 0.1
  while bus.now() < till do end
  return "pairs.busy"
end
for subject, fn in pairs(handlers) do bus.subscribe(subject, fn) end]]

  local function run(options)
    local settings = { workers = 3, limits = { memory = "8MB" } }
    return w:run {
      handlers = { ["handler.lua"] = options.script },
      config = ("return { workers = %d, limits = { memory = %q } }"):format(settings.workers,
        settings.limits.memory),
      admin = true,
    }
  end

  local function get(host, path)
    local status, body = posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", path)
    return status, cjson.decode(body)
  end

  -- Until there are as many states as there may be: all are wanted at the same time.
  local function grow(host, count)
    local answers = w.client:subscribe "answers"
    wait.eventually(function()
      for _ = 1, count do w.client:publish("pairs.busy", "", nil, "answers") end
      answers:take(count)
      return select(2, get(host, "/status")).scripts[1].instances == count
    end, 20)
  end

  local function ask(subject)
    local reply, why = w.client:request(subject, "", { timeout = 5 * wait.slow })
    return reply and reply.data or why
  end

  it("answer with their own function, in every state", function()
    local host = run { script = SCRIPT }
    grow(host, 3)
    for _ = 1, 5 do
      for _ = 1, 2 do w.client:publish("pairs.busy", "") end -- the others have to take what comes
      for i = 1, 12 do assert.equal("pairs." .. i, ask("pairs." .. i)) end
    end
    assert.same({}, host:logged { level = "error" })
  end)

  it("answer at once after a state was given up", function()
    local host = run { script = SCRIPT }
    for times = 1, 3 do
      ask "pairs.hoard"
      host:wait_log({ level = "warn", code = "memory", msg = "a new one takes its place" }, 10, times)
      for i = 1, 12 do assert.equal("pairs." .. i, ask("pairs." .. i)) end
    end
    assert.same({}, host:logged { level = "error", msg = "did not load" })
    wait.eventually(function() return get(host, "/readyz") == 200 end)
  end)

  it("cancel their own timer, whichever state does it", function()
    local host = run { script = SCRIPT .. [[

for _, name in pairs { "one", "two", "three", "four", "five" } do
  local timer = bus.every("20ms", function() bus.publish("tick." .. name, "") end)
  bus.subscribe("cancel." .. name, function() timer:cancel() return "cancelled" end)
end]] }
    grow(host, 3)
    local two, four = w.client:subscribe "tick.two", w.client:subscribe "tick.four"
    w.client:flush()
    for _, name in ipairs { "one", "two", "three" } do
      for _ = 1, 2 do w.client:publish("pairs.busy", "") end
      assert.equal("cancelled", ask("cancel." .. name))
    end
    wait.eventually(function() return not two:next(0.2) end)
    assert.is_truthy(four:next())
  end)
end)

describe("a script that registers something else each time it loads", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("is said once, by name, and /readyz is red while it has no state", function()
    local host = w:run {
      handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local hoard = {}
bus.script { workers = 1 }
bus.subscribe("hoard", function() while true do hoard[#hoard + 1] = ("x"):rep(1000) .. #hoard end end)
bus.subscribe("random." .. math.random(1e9), function() end)]] },
      config = 'return { limits = { memory = "8MB" } }',
      admin = true,
    }
    local port = tonumber(host.admin:match ":(%d+)$")
    assert.equal(200, (posix.http(port, "GET", "/readyz")))
    w.client:request("hoard", "", { timeout = 5 * wait.slow })
    local event = host:wait_log { level = "error", msg = "a further instance did not load" }
    assert.matches("random%.%d+ %(handler%.lua:5%) is registered by", event.msg)
    local status, body = posix.http(port, "GET", "/readyz")
    assert.equal(503, status)
    assert.matches("handler%.lua: generation 1 has no Lua state: .*handler%.lua:5", cjson.decode(body).reasons[1])
    host:wait_log({ level = "debug", msg = "a further instance did not load" }, 10)
    assert.equal(1, #host:logged { level = "error", msg = "did not load" })
  end)
end)
