-- moonbus status: what people see of a host, and what /status has of it.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local host_of = require "spec.support.host"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("moonbus status", function()
  local w = world.new()
  local host

  setup(function()
    w:open()
    w.client:stream("JOBS", { "jobs.>" }, { storage = "file" })
    for _, data in ipairs { "first", "bad", "slow", "1", "2" } do w.client:store("jobs.x", data) end
    host = w:run { admin = true, handlers = { ["jobs.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.consume("JOBS", { durable = "worker", concurrency = 1, attempts = 1, dead_letter = false }, function(msg)
  if msg.data == "bad" then error "what \27[31mcannot be" end
  if msg.data == "slow" then bus.sleep "1m" end
end)
bus.subscribe("hello", function() return "" end)]] } }
  end)
  teardown(function()
    w:clear()
    w:close()
  end)

  local function command(...) return w:moonbus { "status", "--admin", host.admin, ... } end
  local function status() return cjson.decode((posix.http_get(tonumber(host.admin:match "%d+$"), "/status"))) end
  local function worker() return status().scripts[1].handlers[1] end

  it("shows how far a durable is behind, and its last error, which steers no terminal", function()
    wait.eventually(function() return worker().lag.pending == 2 end, 10)
    local result = command()
    assert.equal(0, result.status, result.stderr)
    assert.matches("\n  JOBS/worker +running 1, queued 0, ack 1, term 1\n", result.stdout)
    assert.matches("\n    lag 2; delivered without a verdict 1\n", result.stdout)
    assert.matches("\n    last error %S+ ago: handler_error: what \\x1b%[31mcannot be\n", result.stdout)
    local error = worker().last_error
    assert.equal("handler_error", error.code)
    assert.matches("^%d+%-%d+%-%d+T%d+:%d+:%d+Z$", error.at)
  end)

  it("has the counts and the durations of each handler in its JSON", function()
    w.client:request("hello", "")
    wait.eventually(function() return status().scripts[1].handlers[2].ok == 1 end)
    local each = status().scripts[1].handlers[2]
    assert.equal(1, each.received)
    assert.equal(0, each.timeouts)
    assert.is_true(each.duration_ms.p99 < 1000 * wait.within(1))
    assert.is_nil(each.lag)
  end)

  it("says why the host is not ready, and ends with 1", function()
    w.server:down()
    local result
    wait.eventually(function()
      result = command()
      return result.status == 1
    end)
    assert.matches("\n  not ready: the consume connection is disconnected", result.stdout)
    assert.matches("^the consume connection is disconnected", status().reasons[1])
    w.server:up()
    wait.eventually(function() return command().status == 0 end)
  end)

  local function watch(...)
    local arguments = { host_of.binary(), "status", "--watch", "--admin", host.admin, ... }
    return process.start { command = arguments, folder = w:folder() }
  end

  it("--unserved lists durables that moonbus made and nobody pulls from", function()
    assert.matches("\neach durable that moonbus made is served", command("--unserved").stdout)
    w.client:consumer("JOBS", "others")
    local old = w:run { handlers = { ["old.lua"] = [[
local js = require "moonbus.jetstream"
js.consume("JOBS", { durable = "left", filter = "jobs.none", dead_letter = false }, function() end)]] } }
    wait.eventually(function()
      return command("--unserved").stdout:find "\neach durable that moonbus made is served"
    end)
    old:stop()
    local result
    wait.eventually(function()
      result = command("--unserved")
      return result.stdout:find "left"
    end)
    assert.matches("\ndurables that moonbus made and nobody pulls from:\n  JOBS/left of old%.lua: lag 0; "
      .. "no delivery since it was made, 20[%d:T-]+Z\n$",
      result.stdout)
    assert.equal(0, result.status)
    local unserved = cjson.decode(command("--unserved", "--json").stdout).unserved
    assert.matches("^20%d%d%-%d%d%-%d%dT", unserved[1].created)
    unserved[1].created, unserved[1].last_active = nil, nil
    assert.same({ { stream = "JOBS", durable = "left", script = "old.lua", pending = 0, ack_pending = 0 } }, unserved)
    assert.equal(2, command("--unserved", "--watch").status)
  end)

  it("--watch says it again and again, and ends with 0 by Ctrl-C", function()
    for _, json in ipairs { false, true } do
      local watching = watch(json and "--json" or nil)
      wait.eventually(function()
        return select(2, watching:stdout():gsub(json and '"state":"serving"' or "moonbus %S+, serving", "")) >= 2
      end)
      watching:signal "INT"
      assert.equal(0, watching:wait(5))
      for line in (json and watching:stdout() or ""):gmatch "[^\n]+" do assert.is_table(cjson.decode(line)) end
      watching:close()
    end
  end)

  it("--watch draws in place on a terminal, and gives it back as it was", function()
    local folder = w:folder()
    local line = ("sh -c 'echo $$ > pid; exec %s status --watch --admin %s'"):format(host_of.binary(), host.admin)
    local drawing = process.start { command = { "script", "-qec", line, "/dev/null" }, folder = folder }
    wait.eventually(function()
      return select(2, drawing:stdout():gsub("\27%[%?7l\27%[Hmoonbus ", "")) >= 2
    end, nil, function() return drawing:stdout() end)
    posix.C.kill(tonumber(temp.read(folder .. "/pid")), posix.signals.INT)
    drawing:wait()
    local result = { stdout = drawing:stdout() }
    drawing:close()
    assert.matches("\27%[J\27%[%?7h\r\n$", result.stdout)
  end)

  it("refuses --watch together with --health", function()
    local result = command("--watch", "--health")
    assert.equal(2, result.status)
    assert.matches("%-%-health asks once", result.stderr)
  end)
end)
