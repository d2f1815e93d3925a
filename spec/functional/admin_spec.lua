-- The admin endpoint, and the commands that talk to it.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("the admin endpoint", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local VERSION = [[
local bus = require "moonbus"
bus.subscribe("version", function() return %q end)]]

  local function port_of(host) return tonumber(host.admin:match ":(%d+)$") end

  local function http(host, method, path, header)
    local status, body = posix.http(port_of(host), method, path, header)
    local ok, json = pcall(cjson.decode, body)
    return status, ok and json or body
  end

  local function run(options)
    if type(options) == "string" then options = { handlers = { ["handler.lua"] = options } } end
    options.admin = true
    return w:run(options)
  end

  local function save(host, text, name)
    temp.write(host.folder, "handlers/" .. (name or "handler.lua"), text)
  end

  local function command(host, name, ...)
    return w:moonbus { name, "--admin", host.admin, ... }
  end

  describe("GET", function()
    it("/healthz says that the threads live, /readyz that everything is served", function()
      local host = run(VERSION:format "one")
      local status, body = http(host, "GET", "/healthz")
      assert.same({ 200, { ok = true } }, { status, body })
      status, body = http(host, "GET", "/readyz")
      assert.same({ 200, { ok = true } }, { status, body })
    end)

    it("/readyz is red while there is no server, and green when it is back", function()
      local host = run(VERSION:format "one")
      w.server:down()
      local reasons
      wait.eventually(function()
        local status, body = http(host, "GET", "/readyz")
        reasons = body.reasons
        return status == 503
      end)
      assert.matches("connection is disconnected", reasons[1])
      assert.equal(200, (http(host, "GET", "/healthz")))
      assert.equal(1, command(host, "status").status)
      local health = command(host, "status", "--health")
      assert.same({ 0, "healthy\n" }, { health.status, health.stdout })
      w.server:up()
      wait.eventually(function() return http(host, "GET", "/readyz") == 200 end)
    end)

    it("/readyz is red before the first connection", function()
      local host = w:start { handlers = { ["handler.lua"] = VERSION:format "one" }, admin = true,
        server = { url = "nats://127.0.0.1:" .. posix.free_port() } }
      local status, body
      wait.eventually(function()
        status, body = http(host, "GET", "/readyz")
        return status
      end)
      assert.equal(503, status)
      assert.matches("not everything is served yet", table.concat(body.reasons, "; "))
      assert.equal(503, (http(host, "POST", "/reload")))
      assert.equal(200, (http(host, "GET", "/healthz")))
    end)

    it("/status tells of scripts, generations, handlers and how their messages ended", function()
      local host = run [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>" } }
js.stream { name = "DEAD", subjects = { "dead" } }
js.consume("WORK", { durable = "a", filter = "work.a", dead_letter = "dead" }, function(msg)
  if msg.data == "term" then msg:term() end
  if msg.data == "nak" and msg.attempt == 1 then msg:nak() end
  if msg.data == "dead" then msg:reject "no" end
end)
bus.subscribe("good", function() return "" end)
bus.subscribe("bad", function() error "bad" end)
bus.subscribe("slow", function() bus.sleep("1m") end)]]
      for _, data in ipairs { "fine", "term", "nak", "dead" } do w.client:store("work.a", data) end
      w.client:request("good", "")
      w.client:request("bad", "")
      w.client:publish("slow", "")
      local function handler(status, name)
        for _, each in ipairs(status.scripts[1].handlers) do
          if each.handler == name then return each end
        end
      end
      local status
      wait.eventually(function()
        local _
        _, status = http(host, "GET", "/status")
        local work = handler(status, "WORK/a")
        return work.ack == 2 and work.nak == 1 and work.term == 1 and work.dead_letter == 1
          and handler(status, "slow").running == 1
      end, 5, function() return cjson.encode(status) end)
      assert.equal("serving", status.state)
      assert.equal(host.pid, status.pid)
      assert.same({ consume = "connected", publish = "connected" }, status.connections)
      local script = status.scripts[1]
      assert.same({ "handler.lua", 1, 1, true },
        { script.name, script.generation, script.live_generations, script.served })
      assert.equal(1, handler(status, "good").ok)
      assert.equal(1, handler(status, "bad").failed)
      wait.eventually(function()
        local _, now = http(host, "GET", "/status")
        return handler(now, "slow").oldest_running_ms > 0
      end)
      host:signal "KILL"
    end)

    it("/readyz is red while a consumer that only the server's owner makes is gone", function()
      w.client:stream("WORK", { "work.>" })
      w.client:consumer("WORK", "own", { ack_policy = "explicit" })
      local host = run [[
local js = require "moonbus.jetstream"
js.consume("WORK", { durable = "own", bind = true }, function() end)]]
      assert.equal(200, (http(host, "GET", "/readyz")))
      w.client:delete_consumer("WORK", "own")
      local body
      wait.eventually(function()
        local status
        status, body = http(host, "GET", "/readyz")
        return status == 503
      end, 20)
      assert.matches("^WORK/own: ", body.reasons[1])
      w.client:consumer("WORK", "own", { ack_policy = "explicit" })
      wait.eventually(function()
        local status
        status, body = http(host, "GET", "/readyz")
        return status == 200
      end, 20, function() return cjson.encode(body) .. "\n" .. host:explain() end)
    end)

    it("/readyz is red while the host drains, /healthz is not; a reload is refused then", function()
      local host = run [[
local bus = require "moonbus"
bus.subscribe("slow", function() bus.publish("begun", "") bus.request("gate", "", { timeout = "1m" }) end)]]
      local begun, gate = w.client:subscribe "begun", w.client:subscribe "gate"
      w.client:flush()
      w.client:publish("slow", "")
      begun:take(1)
      host:signal "TERM"
      local body
      wait.eventually(function()
        local status
        status, body = http(host, "GET", "/readyz")
        return status == 503
      end)
      assert.matches("draining", table.concat(body.reasons, "; "))
      assert.equal(200, (http(host, "GET", "/healthz")))
      assert.equal(503, (http(host, "POST", "/reload")))
      local result = command(host, "reload")
      assert.equal(1, result.status)
      assert.matches("the host is stopping", result.stderr)
      w.client:reply(gate:next(), "go")
      assert.equal(0, host:wait())
    end)

    it("and HEAD answer alike, but for the body", function()
      local host = run(VERSION:format "one")
      local status, body = posix.http(port_of(host), "HEAD", "/status")
      assert.same({ 200, "" }, { status, body })
    end)

    it("is there at an IPv6 address, too", function()
      local host = w:run { handlers = { ["handler.lua"] = VERSION:format "one" }, admin = false,
        args = { "--admin", "[::1]:" .. posix.free_port() } }
      host.admin = host.process.command[#host.process.command]
      assert.equal(0, command(host, "status").status)
      assert.equal(0, command(host, "reload").status)
    end)

    it("knows nothing else, and no other method", function()
      local host = run(VERSION:format "one")
      assert.equal(404, (http(host, "GET", "/favicon.ico")))
      assert.equal(405, (http(host, "GET", "/reload")))
      assert.equal(405, (http(host, "POST", "/status")))
      assert.equal(405, (http(host, "DELETE", "/drain")))
    end)
  end)

  describe("POST /reload", function()
    it("waits for the verdict, of every script that has changed", function()
      local host = run(VERSION:format "one")
      local status, body = http(host, "POST", "/reload")
      assert.same({ 200, true, {} }, { status, body.ok, body.scripts })
      save(host, VERSION:format "two")
      save(host, 'require "moonbus".subscribe("new", print)', "new.lua")
      status, body = http(host, "POST", "/reload")
      assert.equal(200, status)
      assert.equal(2, #body.scripts)
      assert.is_true(body.scripts[1].elapsed_ms > 0)
      assert.equal("two", w.client:request("version", "").data)
      save(host, "local = 1")
      status, body = http(host, "POST", "/reload")
      assert.equal(409, status)
      assert.matches("^handler%.lua: refused, generation 2 keeps running: handler%.lua:1: ",
        body.scripts[1].message)
      local _, report = http(host, "GET", "/status")
      local script = report.scripts[1]
      assert.matches("^handler%.lua:1: ", script.last_error)
      assert.same({ 2, 1, 1 }, { script.generation, script.reloads, script.refused })
      assert.equal(body.scripts[1].elapsed_ms > 0, script.reload_ms > 0)
      wait.eventually(function()
        _, report = http(host, "GET", "/status")
        return report.scripts[1].live_generations == 1
      end)
    end)

    it("answers each of those who ask at once", function()
      local host = run(VERSION:format "one")
      save(host, "local t = {} for i = 1, 1e6 do t[i % 100] = i end " .. VERSION:format "two")
      local fds = {}
      for i = 1, 20 do
        fds[i] = assert(posix.dial(port_of(host), "POST /reload HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"))
      end
      for _, fd in ipairs(fds) do
        local text = posix.read_all(fd, 15)
        posix.C.close(fd)
        assert.matches("^HTTP/%S+ 200", text)
        assert.matches("generation 2 live", text)
      end
      local _, report = http(host, "GET", "/status")
      assert.equal(2, report.scripts[1].generation)
    end)

    it("is refused without the admin_token, and from a page in a browser", function()
      local host = run { handlers = { ["handler.lua"] = VERSION:format "one" },
        env = { MOONBUS_ADMIN_TOKEN = "secret" } }
      assert.equal(401, (http(host, "POST", "/reload")))
      assert.equal(401, (http(host, "POST", "/reload", "Authorization: Bearer secre\r\n")))
      assert.equal(401, (http(host, "POST", "/reload", "Authorization: Bearer secrets\r\n")))
      assert.equal(200, (http(host, "POST", "/reload", "Authorization: Bearer secret\r\n")))
      assert.equal(403, (http(host, "POST", "/reload",
        "Authorization: Bearer secret\r\nOrigin: http://evil.example\r\n")))
      assert.equal(200, (http(host, "GET", "/status")))
      local refused = command(host, "reload")
      assert.equal(1, refused.status)
      assert.matches("admin_token", refused.stderr)
      assert.equal(0, w:moonbus({ "reload", "--admin", host.admin },
        { env = { MOONBUS_ADMIN_TOKEN = "secret" } }).status)
    end)

    it("is refused off loopback when there is no admin_token", function()
      local port = posix.free_port()
      local host = w:run { handlers = { ["handler.lua"] = VERSION:format "one" }, admin = false,
        args = { "--admin", "0.0.0.0:" .. port } }
      host.admin = "127.0.0.1:" .. port
      local status, body = http(host, "POST", "/drain")
      assert.equal(403, status)
      assert.matches("admin_token", body.error)
      assert.equal(200, (http(host, "GET", "/readyz")))
    end)
  end)

  describe("POST /drain", function()
    it("answers when everything has finished, and the host ends", function()
      local host = run [[
local bus = require "moonbus"
bus.subscribe("slow", function() bus.publish("begun", "") bus.sleep("300ms") return "done" end)]]
      local begun = w.client:subscribe "begun"
      w.client:flush()
      w.client:publish("slow", "")
      begun:take(1)
      local status, body = http(host, "POST", "/drain")
      assert.same({ 200, { ok = true, unfinished = 0, pid = host.pid } }, { status, body })
      assert.equal(0, host:wait())
    end)
  end)

  describe("a hostile client", function()
    it("that is slow holds up nobody, and is cut off", function()
      local host = run(VERSION:format "one")
      local slow = {}
      for i = 1, 20 do
        slow[i] = assert(posix.dial(port_of(host), "GET /status HTTP/1.1\r\nX-Slow: "))
      end
      local began = wait.now()
      for _ = 1, 20 do assert.equal(200, (http(host, "GET", "/healthz"))) end
      assert.equal("one", w.client:request("version", "").data)
      assert.is_true(wait.now() - began < wait.within(2))
      for _, fd in ipairs(slow) do
        local _, ended = posix.read_all(fd, 15)
        assert.is_true(ended)
        posix.C.close(fd)
      end
    end)

    it("that opens hundreds of connections and says nothing keeps out nobody", function()
      local host = run(VERSION:format "one")
      local silent = {}
      local before = host:memory_mb()
      for i = 1, 400 do silent[i] = posix.dial(port_of(host), i % 2 == 0 and "" or "GET /heal") end
      local began = wait.now()
      for _ = 1, 10 do
        assert.equal(200, (http(host, "GET", "/healthz")))
        assert.equal("one", w.client:request("version", "").data)
      end
      assert.is_true(wait.now() - began < wait.within(2))
      assert.is_true(wait.slow > 1 or host:memory_mb() < before + 16)
      for _, fd in pairs(silent) do posix.C.close(fd) end
      assert.equal(200, (http(host, "GET", "/healthz")))
    end)

    it("that sends a body without an end is not listened to", function()
      local host = run(VERSION:format "one")
      assert.equal(413, (http(host, "POST", "/reload", "Content-Length: 1000000000\r\n")))
      assert.equal(413, (http(host, "GET", "/status", "Transfer-Encoding: chunked\r\n")))
      assert.equal(200, (posix.http(port_of(host), "POST", "/reload", "Content-Length: 0\r\n")))
    end)

    it("that sends requests in a row gets one answer, and nothing of the rest is read", function()
      local host = run(VERSION:format "one")
      local fd = posix.dial(port_of(host), ("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):rep(50) .. "\0rubbish")
      local text = posix.read_all(fd, 10)
      posix.C.close(fd)
      assert.matches("^HTTP/1.1 200", text)
      assert.equal(1, select(2, text:gsub("HTTP/1%.1 %d", "")))
      assert.equal("one", w.client:request("version", "").data)
    end)

    it("that goes away while a reload is awaited is no loss", function()
      local host = run(VERSION:format "one")
      save(host, "local n = 0 while true do n = n + 1 end")
      for _ = 1, 5 do
        posix.C.close(posix.dial(port_of(host), "POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
      end
      host:wait_log("refused, generation 1 keeps running", 15)
      save(host, VERSION:format "two")
      assert.equal(200, (http(host, "POST", "/reload")))
      assert.equal("two", w.client:request("version", "").data)
    end)

    it("that sends rubbish or too much gets an error", function()
      local host = run(VERSION:format "one")
      local status = http(host, "GET", "/status", "X: " .. ("x"):rep(30000) .. "\r\n")
      assert.is_true(status == nil or status >= 400)
      local fd = posix.dial(port_of(host), "\0\1\2\255 rubbish\r\n\r\n")
      assert.equal(200, (http(host, "GET", "/healthz")))
      posix.C.close(fd)
    end)
  end)

  it("gets its port at once when the host is started again, also after a crash", function()
    local host = run(VERSION:format "one")
    local function again()
      return { handlers = { ["handler.lua"] = VERSION:format "two" }, admin = false,
        args = { "--admin", host.admin } }
    end
    -- Answered and closed by the host: its side of the connection lingers in the kernel.
    assert.equal(200, (http(host, "GET", "/status")))
    local refused = w:fail(again())
    assert.equal(2, refused.status)
    host:signal "KILL"
    host:wait()
    local next_one = w:run(again())
    local status, body = http(host, "GET", "/status")
    assert.same({ 200, next_one.pid }, { status, body.pid })
    refused = w:fail(again())
    assert.equal(2, refused.status)
    assert.matches("cannot listen", refused.output)
  end)

  describe("whose port is taken", function()
    it("ends run with status 2", function()
      local host = run(VERSION:format "one")
      local failed = w:fail { handlers = { ["handler.lua"] = VERSION:format "two" }, admin = false,
        args = { "--admin", host.admin } }
      assert.equal(2, failed.status)
      assert.matches(host.admin:gsub("%p", "%%%0"), failed.output)
      assert.matches("%-%-admin", failed.output)
    end)

    it("is a warning in dev", function()
      local host = run(VERSION:format "one")
      local dev = w:run { command = "dev", handlers = { ["handler.lua"] = VERSION:format "two" },
        admin = false, args = { "--admin", host.admin, "--nats-port", tostring(posix.free_port()) } }
      dev:wait_log "there is no admin endpoint"
    end)
  end)

  describe("moonbus", function()
    it("reload prints the verdict, and ends with 1 when something was refused", function()
      local host = run(VERSION:format "one")
      local result = command(host, "reload")
      assert.same({ 0, "nothing has changed\n" }, { result.status, result.stdout })
      save(host, VERSION:format "two")
      result = command(host, "reload")
      assert.equal(0, result.status)
      assert.matches("^handler%.lua: generation 2 live in %d+ ms\n$", result.stdout)
      save(host, "for")
      result = command(host, "reload")
      assert.equal(1, result.status)
      assert.matches("^handler%.lua: refused, generation 2 keeps running: handler%.lua:1: ",
        result.stderr)
    end)

    it("status prints what is served, and all of it with --json", function()
      local host = run(VERSION:format "one")
      local result = command(host, "status")
      assert.equal(0, result.status)
      assert.matches("serving, ready", result.stdout)
      assert.matches("handler%.lua: generation 1", result.stdout)
      assert.equal("serving", cjson.decode(command(host, "status", "--json").stdout).state)
    end)

    it("drain waits until the host has drained, and tells when it could not", function()
      local host = run(VERSION:format "one")
      local result = command(host, "drain")
      assert.same({ 0, ("drained: the host at %s, pid %d\n"):format(host.admin, host.pid) },
        { result.status, result.stdout })
      assert.equal(0, host:wait())
      host = run { handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("slow", function() bus.publish("begun", "") bus.sleep("1m") end)]] },
        args = { "--graceful-timeout", "500ms" } }
      local begun = w.client:subscribe "begun"
      w.client:flush()
      w.client:publish("slow", "")
      begun:take(1)
      result = command(host, "drain")
      assert.equal(3, result.status)
      assert.equal(("moonbus drain: the host at %s, pid %d: 1 handler was unfinished at the graceful "
        .. "deadline\n"):format(host.admin, host.pid), result.stderr)
      assert.equal(3, host:wait())
    end)

    it("says where it looked when no host is there", function()
      local result = w:moonbus { "status", "--admin", "127.0.0.1:" .. posix.free_port() }
      assert.equal(1, result.status)
      assert.matches("no host listens at 127%.0%.0%.1:%d+; %-%-admin ADDR:PORT says where", result.stderr)
      result = w:moonbus { "reload", "--admin", "off" }
      assert.equal(2, result.status)
    end)

    it("says of the default that it is one, and of off who says so", function()
      local folder = w:folder()
      temp.write(folder, "moonbus.lua", "return {}")
      local result = w:moonbus({ "status", "--timeout", "1s" }, { folder = folder }) -- whoever may be there
      assert.is_nil(result.stderr:find("the address in", 1, true))
      if result.status == 1 and result.stderr:find "no host listens" then
        assert.equal("moonbus status: no host listens at 127.0.0.1:8223, the default, as moonbus.lua states no admin; "
          .. "--admin ADDR:PORT says where\n", result.stderr)
      end
      result = w:moonbus({ "status", "--admin", "off" }, { folder = folder })
      assert.same({ 2, "moonbus status: --admin or MOONBUS_ADMIN is \"off\": such a host cannot be asked" },
        { result.status, result.stderr:match "^[^;]+" })
      temp.write(folder, "moonbus.lua", 'return { admin = "off" }')
      result = w:moonbus({ "status" }, { folder = folder })
      assert.same({ 2, "moonbus status: the config says admin = \"off\": such a host cannot be asked" },
        { result.status, result.stderr:match "^[^;]+" })
    end)

    it("says that it goes by the config file as it is now, when no host is there", function()
      local folder, port = w:folder(), posix.free_port()
      temp.write(folder, "moonbus.lua", ('return { admin = "127.0.0.1:%d" }'):format(port))
      local result = w:moonbus({ "status" }, { folder = folder })
      assert.equal(1, result.status)
      assert.equal(("moonbus status: no host listens at 127.0.0.1:%d, the address in moonbus.lua; a host "
        .. "that was started before that changed still listens at the old one; --admin ADDR:PORT says "
        .. "where\n"):format(port), result.stderr)
    end)

    it("says whom it asks where nothing tells of a host", function()
      local result = w:moonbus { "status", "--timeout", "1s" } -- whoever may be there
      assert.matches("moonbus status: there is no moonbus%.lua here: asking the host at 127%.0%.0%.1:8223\n",
        result.stderr)
    end)

    describe("beside a config file that is not good", function()
      local COMMANDS = { "reload", "status", "drain" }

      local function broken()
        local folder = w:folder()
        temp.write(folder, "moonbus.lua", "return {\n  workers = = 2 }")
        return folder
      end

      it("asks no host by guessing, which might be another one", function()
        local dangling = w:folder()
        os.execute("ln -s nowhere " .. dangling .. "/moonbus.lua")
        for _, name in ipairs(COMMANDS) do
          for _, case in ipairs {
            { { name }, broken(), "moonbus%.lua:2: unexpected symbol" },
            { { name, "-c", "moonbus.lua" }, broken(), "moonbus%.lua:2: unexpected symbol" },
            { { name, "-c", "nowhere.lua" }, w:folder(), "nowhere%.lua: No such file" },
            { { name }, dangling, "moonbus%.lua: No such file" },
          } do
            local result = w:moonbus(case[1], { folder = case[2] })
            assert.same({ 2, "" }, { result.status, result.stdout })
            assert.matches("^moonbus " .. name .. ": [^\n]*" .. case[3]
              .. "[^\n]*; [^\n]*%-%-admin ADDR:PORT says[^\n]*\n$", result.stderr)
          end
        end
      end)

      it("asks the one that --admin or MOONBUS_ADMIN names", function()
        local host = run(VERSION:format "one")
        for _, case in ipairs { { "--admin", host.admin }, { env = { MOONBUS_ADMIN = host.admin } } } do
          local result = w:moonbus({ "status", case[1], case[2] }, { folder = broken(), env = case.env })
          assert.equal(0, result.status, result.stderr)
          assert.matches("serving, ready", result.stdout)
          assert.matches("moonbus%.lua:2: unexpected symbol.*; without it, asking the host at "
            .. host.admin:gsub("%p", "%%%0"), result.stderr)
        end
        local result = command(host, "drain", "-c", "nowhere.lua")
        assert.equal(2, result.status)
        assert.matches("nowhere%.lua: No such file.*without %-c", result.stderr)
        result = w:moonbus({ "drain", "--admin", host.admin }, { folder = broken() })
        assert.same({ 0, ("drained: the host at %s, pid %d\n"):format(host.admin, host.pid) },
          { result.status, result.stdout })
        assert.equal(0, host:wait())
      end)

      it("says where the admin_token comes from, when the host wants one", function()
        local host = run { handlers = { ["handler.lua"] = VERSION:format "one" },
          env = { MOONBUS_ADMIN_TOKEN = "secret" } }
        local function reload(token)
          return w:moonbus({ "reload", "--admin", host.admin },
            { folder = broken(), env = { MOONBUS_ADMIN_TOKEN = token } })
        end
        local result = reload()
        assert.equal(1, result.status)
        assert.matches("wants its admin_token: MOONBUS_ADMIN_TOKEN, or", result.stderr)
        assert.matches("has another admin_token than the one that was shown", reload("secrets").stderr)
        assert.equal(0, reload("secret").status)
      end)
    end)
  end)
end)
