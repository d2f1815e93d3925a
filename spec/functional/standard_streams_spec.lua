-- Who starts moonbus may have closed its standard input, output or error: some supervisors do. What
-- is opened next must not get their place: a line of the log would go into a connection.
local host_binary = require("spec.support.host").binary
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("moonbus whose standard streams are closed", function()
  local w = world.new()
  local running
  setup(function() w:open() end)
  after_each(function()
    if running then running:close() end
    running = nil
    w:clear()
  end)
  teardown(function() w:close() end)

  local CLOSED = { "<&-", ">&-", "2>&-", "<&- >&- 2>&-" }

  local function start(closed, ...)
    local folder = w:folder()
    temp.write(folder, "handlers/echo.lua", [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) bus.log.info("line") return msg.data end)]])
    running = process.start {
      command = { "sh", "-c", 'exec "$0" "$@" ' .. closed, host_binary(), ... }, folder = folder,
    }
    return running
  end

  local function points_to(descriptor)
    local pipe = io.popen(("readlink /proc/%d/fd/%d"):format(running.pid, descriptor))
    local path = pipe:read "*l"
    pipe:close()
    return path
  end

  for _, closed in ipairs(CLOSED) do
    it(("serves and stops in order (%s)"):format(closed), function()
      start(closed, "run", "-s", w.server.url, "--admin", "off", "--log-level", "debug")
      wait.eventually(function() return w.client:request("echo", "x", { timeout = 0.5 }) end, 10)
      for descriptor, redirection in pairs { [0] = "<&-", [1] = ">&-", [2] = "2>&-" } do
        if (" " .. closed):find(" " .. redirection, 1, true) then
          assert.equal("/dev/null", points_to(descriptor))
        end
      end
      for _ = 1, 20 do assert.equal("x", w.client:request("echo", "x").data) end
      running:signal "TERM"
      assert.same({ 0 }, { running:wait(10) })
    end)
  end

  it("prints into no connection, and says that it cannot print", function()
    local sub = start("<&- >&-", "sub", "news", "-s", w.server.url)
    wait.eventually(function()
      w.client:publish("news", "PUB news 0\r\n\r\n")
      w.client:flush()
      return not sub:running()
    end, 10)
    assert.equal(1, sub.status)
    assert.matches("standard output: Bad file descriptor", sub:stderr())
  end)

  it("ends with 1 when what it prints cannot be written, whatever the command", function()
    w.client:stream("ORDERS", { "orders.>" })
    for _, command in ipairs {
      { "version" }, { "help", "pub" }, { "completion", "bash" }, { "check" },
      { "pub", "-J", "orders.new", "1", "-s", w.server.url },
      { "eval", "return ('x'):rep(100000)", "-s", w.server.url },
    } do
      local run = start(">/dev/full", unpack(command))
      assert.same({ command[1], 1 }, { command[1], run:wait(10) })
      assert.matches("moonbus: standard output: ", run:stderr())
      run:close()
    end
  end)

  it("end a status that is watched", function()
    local host = w:run { handlers = { ["a.lua"] = "" }, admin = true }
    for closed, status in pairs { [">/dev/full"] = 1, ["| true"] = 0 } do
      assert.equal(status, start(closed, "status", "--watch", "--admin", host.admin):wait(10))
      running:close()
    end
  end)

  it("says nothing of a reader who has had enough", function()
    local run = start("| true", "completion", "bash")
    run:wait(10)
    assert.equal("", run:stderr())
  end)

  it("takes no connection for its standard input", function()
    local pub = start("<&-", "pub", "news", "-s", w.server.url)
    assert.equal(1, pub:wait(10))
    assert.matches("standard input: Bad file descriptor", pub:stderr())
  end)
end)
