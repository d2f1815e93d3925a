-- What a service manager is told, and by what it knows that the host is alive: the protocol of
-- systemd's notify-reload services, heard by a manager of the spec's own.
local manager = require "spec.support.manager"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a service manager", function()
  local w, m = world.new(), nil
  setup(function() w:open() end)
  before_each(function() m = manager.listen(w:folder() .. "/notify") end)
  after_each(function()
    w:clear()
    m:close()
  end)
  teardown(function() w:close() end)

  local SLOW = [[
local bus = require "moonbus"
bus.subscribe("slow", function(msg)
  bus.publish("begun", "")
  bus.sleep(msg.data)
end)]]

  local function save(host, text) temp.write(host.folder, "handlers/handler.lua", text) end

  it("hears of the whole life of a host: ready, reloads and how they ended, the drain, its end", function()
    local host = w:run { handlers = { ["handler.lua"] = SLOW }, env = m:env(0.4) }
    assert.equal("loading", m:heard()[1].STATUS)
    local ready = m:wait "READY"
    assert.equal("ready: 1 script, 1 handler", ready.STATUS)
    m:wait("WATCHDOG", "^1$", m:wait("WATCHDOG", "^1$", ready))

    local before = wait.now()
    save(host, SLOW .. "-- changed")
    host:signal "HUP"
    local reloading = m:wait("RELOADING", "^1$", ready)
    local since = tonumber(reloading.MONOTONIC_USEC) / 1e6
    assert.is_true(before - 0.001 <= since and since <= reloading.at, "the time of the reload")
    ready = m:wait("READY", "^1$", reloading)
    assert.equal(1, #host:logged "generation 2 live")

    local function reload()
      host:signal "HUP"
      ready = m:wait("READY", "^1$", m:wait("RELOADING", "^1$", ready))
      return ready.STATUS
    end
    temp.write(host.folder, "handlers/more.lua", [[require "moonbus".subscribe("more", function() end)]])
    assert.equal("ready: 2 scripts, 2 handlers", reload())
    assert(os.remove(host.folder .. "/handlers/more.lua"))
    assert.equal("ready: 1 script, 1 handler", reload())

    save(host, "this is no Lua")
    reload()
    assert.matches("^ready: 1 script, 1 handler; handler.lua refused: handler.lua:1: ", ready.STATUS)

    local begun = w.client:subscribe "begun"
    w.client:flush()
    w.client:publish("slow", "1500ms")
    begun:take(1)
    host:signal "TERM"
    local stopping = m:wait("STOPPING", "^1$", ready)
    assert.equal("draining: 1 handler running", stopping.STATUS)
    local longer = m:wait("EXTEND_TIMEOUT_USEC", "^%d+$", stopping)
    assert.is_true(tonumber(longer.EXTEND_TIMEOUT_USEC) >= 5e6)
    assert.equal(0, host:wait(10))
    assert.is_nil(m:find("READY", "", stopping))
  end)

  it("may listen at an abstract socket, and need not watch", function()
    m:close()
    m = manager.listen(("@moonbus-spec-%d-%s"):format(posix.C.getpid(), w:folder()))
    local host = w:run { handlers = { ["handler.lua"] = SLOW }, env = m:env() }
    m:wait "READY"
    host:stop()
    m:wait "STOPPING"
    assert.is_nil(m:find "WATCHDOG")
  end)

  it("waits for a start up to 5 s; then a server that is away is told, and is no failure", function()
    local port = posix.free_port()
    local host = w:start { server = { url = "nats://127.0.0.1:" .. port }, env = m:env(0.4), handlers = {
      ["handler.lua"] = SLOW } }
    local began = wait.now()
    m:wait("STATUS", "^not ready: the consume connection is %w+, waiting for .*127.0.0.1:" .. port)
    host:signal "HUP" -- whose end would be taken for that of the start
    host:wait_log "reloading as soon as the host serves"
    local ready = m:wait("READY", "^1$", nil, 10)
    assert.is_true(wait.now() - began > 4.5)
    assert.is_nil(m:find "RELOADING")
    host:signal "HUP" -- and this one is not left waiting
    ready = m:wait("READY", "^1$", m:wait("RELOADING", "^1$", ready))
    m:wait("WATCHDOG", "^1$", ready)
  end)

  it("hears no WATCHDOG any more when no worker takes work, though the host could still speak", function()
    local BURNS = [[
require "moonbus".subscribe("burn", { timeout = "1m" }, function()
  local began = os.time()
  while os.time() - began < 60 do end
end)]]
    -- One worker and one in reserve, and work for a third.
    local host = w:run { handlers = { ["a.lua"] = BURNS, ["b.lua"] = BURNS, ["c.lua"] = BURNS }, env = m:env(0.4),
      admin = true,
      config = 'return { workers = 1, limits = { cpu = "1m" } }' }
    m:wait "WATCHDOG"
    posix.C.setpriority(1, host.pid, 10) -- all its threads: others run beside
    w.client:publish("burn", "")
    local unhealthy = m:wait("STATUS", "^unhealthy: no worker takes work", nil, 20)
    -- From now on silence, for longer than the watchdog allows.
    wait.holds(function() return not m:find("WATCHDOG", "", unhealthy) end, 1)
    local health = w:moonbus { "status", "--health", "--admin", host.admin }
    assert.same({ 1, "not healthy\n  no worker takes work: all are stuck\n" }, { health.status, health.stdout })
    host:signal "KILL"
  end)

  it("that does not read what it is told delays nothing, and finds it in order when it does", function()
    local host = w:run { handlers = { ["handler.lua"] = SLOW }, env = m:env(0.04) }
    -- The kernel keeps some datagrams of each socket; that long nobody reads.
    local silent = wait.now() + 1
    wait.eventually(function() return wait.now() > silent end)
    save(host, SLOW .. "-- changed")
    host:signal "HUP"
    host:wait_log "generation 2 live"
    m:wait("READY", "^1$", m:wait("RELOADING", "^1$"))
  end)

  it("that has not read for long hears the last states, whatever else it has missed", function()
    local host = w:run { handlers = { ["handler.lua"] = SLOW }, env = m:env() }
    local begun = w.client:subscribe "begun"
    for generation = 2, 14 do -- 26 datagrams; the kernel keeps some ten, the host eight
      save(host, SLOW .. "-- change " .. generation)
      host:signal "HUP"
      host:wait_log(("generation %d live"):format(generation))
    end
    w.client:publish("slow", "1500ms")
    begun:take(1)
    host:signal "TERM"
    host:wait_log "draining"
    local stopping = m:wait "STOPPING"
    assert.equal("draining: 1 handler running", stopping.STATUS)
    assert.equal("1", m.list[stopping.place - 1].READY, "the end of the last reload")
    assert.equal("1", m.list[stopping.place - 2].RELOADING)
    assert.equal(0, host:wait(10))
  end)

  it("is the host's own: what a script starts does not find it", function()
    local host = w:run { env = m:env(10), handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local child = bus.offload "child"
bus.subscribe("child", function() return child.environment() end)]] }, files = { ["lib/child.lua"] = [[
return { environment = function()
  local pipe = io.popen "echo ${NOTIFY_SOCKET-none} ${WATCHDOG_USEC-none} ${WATCHDOG_PID-none}"
  local said = pipe:read "*a"
  pipe:close()
  return said
end }]] } }
    assert.equal("none none none\n", w.client:request("child", "").data)
    assert.same({}, host:logged { level = "error" })
  end)

  it("that cannot be reached is warned of, and the host serves all the same", function()
    local host = w:run { handlers = { ["handler.lua"] = SLOW }, env = { NOTIFY_SOCKET = "vsock:2:1234" } }
    assert.matches('NOTIFY_SOCKET is "vsock:2:1234"', host:wait_log("service manager").msg)
    assert.equal(0, host:stop())
    host = w:run { handlers = { ["handler.lua"] = SLOW }, env = { NOTIFY_SOCKET = w:folder() .. "/gone" } }
    assert.equal(0, host:stop())
  end)
end)
