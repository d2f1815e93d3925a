-- What the host does when it is signalled, and how often.
local host_binary = require("spec.support.host").binary
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a signal", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local SLOW = [[
local bus = require "moonbus"
bus.subscribe("slow", function(msg)
  bus.publish("begun", "")
  bus.sleep(msg.data)
  return "finished"
end)]]

  -- A host with a handler that runs for so long.
  local function busy(pause, options)
    options = options or {}
    options.handlers = { ["slow.lua"] = SLOW }
    local host = w:run(options)
    local begun, inbox = w.client:subscribe "begun", w.client:subscribe "inbox"
    w.client:flush()
    w.client:publish("slow", pause, nil, "inbox")
    begun:take(1)
    return host, inbox
  end

  for _, second in ipairs { "TERM", "INT" } do
    it(("that comes twice at once is one: the handlers finish (SIGTERM, SIG%s)"):format(second), function()
      local host, inbox = busy "700ms"
      host:signal "TERM"
      host:signal(second)
      host:wait_log "draining"
      host:signal(second)
      assert.equal("finished", inbox:next().data)
      assert.equal(0, host:wait(5))
      assert.same({}, host:logged "stopping at once")
    end)
  end

  it("of GNU timeout, which is sent twice, drains", function()
    local folder = w:folder()
    temp.write(folder, "handlers/slow.lua", SLOW)
    local begun, inbox = w.client:subscribe "begun", w.client:subscribe "inbox"
    local run = process.start { folder = folder, command = { "timeout", "--preserve-status", "5", host_binary(),
      "run", "-s", w.server.url, "--admin", "off" } }
    wait.eventually(function() return w.client:request("slow", "0s", { timeout = 1 }) end)
    w.client:publish("slow", "5500ms", nil, "inbox")
    begun:take(2)
    local status = run:wait(10)
    local log = run:stderr()
    run:close()
    assert.equal(0, status, log)
    assert.equal("finished", inbox:next().data)
  end)

  it("that comes again later stops at once", function()
    local host = busy "30s"
    host:signal "TERM"
    host:wait_log "draining"
    local began = wait.now()
    wait.eventually(function() return wait.now() - began > 0.6 end)
    host:signal "TERM"
    assert.equal(3, host:wait(5))
    assert.is_true(wait.now() - began < wait.within(2.6))
  end)

  it("to one that was asked to drain is the first one: it hastens nothing", function()
    local host, inbox = busy("1s", { admin = true })
    local fd = posix.dial(tonumber(host.admin:match ":(%d+)$"), "POST /drain HTTP/1.0\r\n\r\n")
    host:wait_log "draining"
    host:signal "TERM"
    host:wait_log "draining already; another signal stops at once"
    assert.equal("finished", inbox:next().data)
    posix.C.close(fd)
    assert.equal(0, host:wait(5))
  end)

  it("SIGUSR2 logs the status, with or without an admin endpoint, and the host goes on", function()
    for _, admin in ipairs { true, false } do
      local host, inbox = busy("700ms", { admin = admin or nil })
      host:signal "USR2"
      local event = host:wait_log "^status: serving, ready$"
      assert.equal("info", event.level)
      assert.equal(1, event.fields.scripts[1].handlers[1].running)
      assert.equal(host.pid, event.fields.pid)
      assert.equal("finished", inbox:next().data)
      assert.equal(0, host:stop())
    end
  end)

  it("SIGALRM and others that mean nothing do nothing", function()
    local host, inbox = busy "300ms"
    host:signal "WINCH"
    host:signal "ALRM"
    assert.equal("finished", inbox:next().data)
    assert.equal(0, host:stop())
  end)

  it("SIGQUIT ends the process at once, whatever it does", function()
    local host = busy "30s"
    host:signal "QUIT"
    assert.same({ nil, posix.signals.QUIT }, { host:wait(5) })
  end)
end)
