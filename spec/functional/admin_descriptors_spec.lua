-- A host whose descriptors are all in use (by its scripts, mostly) is still asked for its health, and
-- is well again when some are free.
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("the admin endpoint of a host without a free descriptor", function()
  local w = world.new()
  local dialled = {}
  setup(function() w:open() end)
  local function hang_up()
    for fd in pairs(dialled) do posix.C.close(fd) end
    dialled = {}
  end
  after_each(function()
    hang_up()
    w:clear()
  end)
  teardown(function() w:close() end)

  local HUNGRY = [[
local bus = require "moonbus"
local kept = {}
bus.script { workers = 1 }
bus.subscribe("eat", function()
  repeat
    local file = io.open "/dev/null"
    kept[#kept + 1] = file
  until not file
  return tostring(#kept)
end)
bus.subscribe("free", function()
  for _, file in ipairs(kept) do file:close() end
  kept = {}
  return "freed"
end)]]

  local function run()
    local host = w:run { handlers = { ["hungry.lua"] = HUNGRY }, admin = true,
      config = "return { trust = true }" }
    host.port = tonumber(host.admin:match ":(%d+)$")
    os.execute(("prlimit --pid %d --nofile=200:200"):format(host.pid))
    return host
  end

  local function healthz(host) return (posix.http(host.port, "GET", "/healthz")) end

  local function dial(host, text)
    local fd = assert(posix.dial(host.port, text or "GET /healthz HTTP/1.1\r\n"))
    dialled[fd] = true
  end

  -- Of all its threads so far, in seconds.
  local function cpu(host)
    local fields = temp.read("/proc/" .. host.pid .. "/stat"):match "^.*%) (.*)$"
    local user, system = fields:match(("%S+ "):rep(11) .. "(%d+) (%d+)")
    return (user + system) / 100
  end

  it("answers one visitor after the other, says once why, and does not spin", function()
    local host = run()
    assert.is_true(tonumber(w.client:request("eat", "").data) > 100)
    for _ = 1, 5 do assert.equal(200, healthz(host)) end
    -- Who is silent there has a moment only, and the next ones their turn.
    dial(host)
    local before, began = cpu(host), wait.now()
    assert.equal(200, healthz(host))
    assert.is_true(wait.now() - began < wait.within(3))
    assert.is_true(cpu(host) - before < 0.3 * (wait.now() - began), "it spins")
    assert.equal(1, #host:logged { level = "warn", msg = "no room for a connection: Too many open files" })
    assert.equal("freed", w.client:request("free", "").data)
    assert.equal(200, healthz(host))
  end)

  it("takes connections again when some are free, whoever came and went meanwhile", function()
    local host = run()
    for _ = 1, 3 do
      dial(host)
      assert.equal(200, healthz(host))
      w.client:request("eat", "")
      for _ = 1, 3 do dial(host) end
      host:wait_log "no room for a connection"
      w.client:request("free", "")
      hang_up()
      for _ = 1, 3 do assert.equal(200, healthz(host)) end
    end
  end)
end)
