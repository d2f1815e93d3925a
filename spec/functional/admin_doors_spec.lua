-- Who may ask the admin endpoint, under which name, and where it listens.
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

  local ECHO = [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)
bus.subscribe("fail", function() error "what Ann ordered" end)]]

  local function run(address, options)
    local started = options or {}
    started.handlers = { ["echo.lua"] = ECHO }
    local port = posix.free_port()
    started.admin, started.args = false, { "--admin", (address or "127.0.0.1:%d"):format(port) }
    local host = w:run(started)
    host.port, host.admin = port, started.args[2]
    return host
  end

  -- One request, as it is written; half: the client says that it sends no more.
  local function raw(host, text, half)
    local fd = assert(posix.dial(host.port, text))
    if half then posix.C.shutdown(fd, 1) end
    local answer = posix.read_all(fd, 8)
    posix.C.close(fd)
    local body = answer:match "\r\n\r\n(.*)$"
    local ok, json = pcall(cjson.decode, body)
    return tonumber(answer:match "^HTTP/%S+ (%d+)"), ok and json or body
  end

  local function ask(host, method, path, headers)
    return raw(host, ("%s %s HTTP/1.1\r\n%s\r\n"):format(method, path, headers or "Host: 127.0.0.1\r\n"))
  end

  describe("on loopback", function()
    it("is asked by an address or as localhost: a page whose name leads here reads nothing", function()
      local host = run()
      for _, name in ipairs { "127.0.0.1", "127.0.0.1:" .. host.port, "[::1]", "[::1]:8223", "10.1.2.3",
        "localhost", "LOCALHOST:8223" } do
        assert.equal(200, (ask(host, "GET", "/status", "Host: " .. name .. "\r\n")), name)
      end
      for _, name in ipairs { "evil.example", "evil.example:8223", "127.0.0.1.evil.example", "localhost.evil",
        "[::1].evil", "[evil]", "127.0.0.1:80.evil", "" } do
        for _, request in ipairs { { "GET", "/status" }, { "GET", "/healthz" }, { "POST", "/reload" } } do
          local status, body = ask(host, request[1], request[2], "Host: " .. name .. "\r\n")
          assert.equal(403, status, name)
          assert.matches("must be an address or localhost", body.error)
        end
      end
      assert.equal(400, (ask(host, "GET", "/status", "Host: 127.0.0.1\r\nHost: evil.example\r\n")))
      assert.equal(200, (raw(host, "GET /status HTTP/1.0\r\n\r\n"))) -- of before there was a Host
    end)

    it("is asked by the name that it was configured by, too", function()
      local host = run "localhost:%d"
      assert.equal(0, w:moonbus({ "status", "--admin", host.admin }).status)
      assert.equal(200, (ask(host, "GET", "/status")))
    end)
  end)

  it("takes no POST from a page in a browser, whatever else the page can add", function()
    local host = run(nil, { env = { MOONBUS_ADMIN_TOKEN = "secret" } })
    local token = "Host: 127.0.0.1\r\nAuthorization: Bearer secret\r\n"
    for _, header in ipairs { "Origin: http://127.0.0.1:8223", "Origin: null", "Sec-Fetch-Site: cross-site",
      "Sec-Fetch-Site: same-site" } do
      assert.equal(403, (ask(host, "POST", "/reload", token .. header .. "\r\n")), header)
    end
    assert.equal(200, (ask(host, "POST", "/reload", token)))
  end)

  it("believes no header that says who asks, or what is meant", function()
    local host = run "0.0.0.0:%d"
    local claims = "Host: 127.0.0.1\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n"
      .. "X-Real-IP: 127.0.0.1\r\nX-Forwarded-Host: localhost\r\n"
    assert.equal(403, (ask(host, "POST", "/drain", claims)))
    assert.equal(405, (ask(host, "GET", "/drain", claims .. "X-HTTP-Method-Override: POST\r\n")))
    assert.equal(404, (ask(host, "GET", "/x", claims .. "X-Original-URL: /status\r\n")))
    assert.equal("x", w.client:request("echo", "x").data)
  end)

  it("off loopback shows what may quote messages to this machine, and to who has the token", function()
    local host = run "0.0.0.0:%d"
    local foreign = "Host: evil.example\r\n"
    for _, path in ipairs { "/", "/recent" } do
      assert.equal(200, (ask(host, "GET", path)))
      local status, body = ask(host, "GET", path, foreign)
      assert.equal(403, status)
      assert.matches("set admin_token", body.error)
    end
    assert.equal(200, (ask(host, "GET", "/metrics", foreign)))
    for _, header in ipairs { "Host: 10.1.2.3\r\n", "Host: localhost\r\nX-Forwarded-For: 10.1.2.3\r\n",
      "Host: localhost\r\nForwarded: for=10.1.2.3\r\n" } do
      assert.equal(403, (ask(host, "GET", "/recent", header)), header) -- a proxy on this machine
    end

    local guarded = run("0.0.0.0:%d", { env = { MOONBUS_ADMIN_TOKEN = "secret" } })
    local function status_with(authorization)
      return (ask(guarded, "GET", "/recent", foreign .. "Authorization: " .. authorization .. "\r\n"))
    end
    assert.equal(401, (ask(guarded, "GET", "/recent", foreign)))
    assert.equal(401, (ask(guarded, "GET", "/recent"))) -- whoever asks
    assert.equal(200, status_with "Bearer secret")
    assert.equal(200, status_with "Basic YW55Ym9keTpzZWNyZXQ=") -- anybody:secret
    for _, wrong in ipairs { "Basic YW55Ym9keTp3cm9uZw==", "Basic", "Basic !", "Basic c2VjcmV0", "Bearer secre",
      "Bearer ", "Basic " .. ("QUFB"):rep(500) } do
      assert.equal(401, status_with(wrong), wrong)
    end
  end)

  it("off loopback leaves the texts of errors out of /status, which may quote messages", function()
    -- It is counted when the run is over, a moment after its reply.
    local function last_error(host, headers)
      local found
      wait.eventually(function()
        local status, body = ask(host, "GET", "/status", headers)
        assert.equal(200, status)
        for _, handler in ipairs(body.scripts[1].handlers) do found = found or handler.last_error end
        return found
      end)
      return found
    end
    local foreign = "Host: evil.example\r\n"
    local function hides(host, headers)
      local seen = last_error(host, headers)
      assert.equal("handler_error", seen.code)
      assert.is_nil(seen.message)
    end
    local open = run "0.0.0.0:%d"
    w.client:request("fail", "")
    assert.matches("what Ann ordered", last_error(open).message)
    hides(open, foreign)
    open:stop()

    local guarded = run("0.0.0.0:%d", { env = { MOONBUS_ADMIN_TOKEN = "secret" } })
    w.client:request("fail", "")
    hides(guarded, foreign)
    assert.matches("what Ann ordered", last_error(guarded, foreign .. "Authorization: Bearer secret\r\n").message)
  end)

  it("knows only the paths as they are written", function()
    local host = run()
    for _, path in ipairs { "/healthz%00", "/healthz%00x", "/health%7a", "//healthz", "/healthz/", "/./healthz",
      "/HEALTHZ", "/index.html", "*", "http://127.0.0.1/healthz" } do
      assert.equal(404, (ask(host, "GET", path)), path)
    end
    assert.equal(200, (ask(host, "GET", "/healthz?verbose=%00")))
    -- libmicrohttpd 1 does not even answer it.
    for _, path in ipairs { "/healthz\0", "/healthz\0x", "/healthz\0HTTP/1.1" } do
      assert.is_not.equal(200, (ask(host, "GET", path)))
    end
  end)

  it("answers who says that it sends no more", function()
    local host = run()
    for _, request in ipairs { "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "GET /status HTTP/1.0\r\n\r\n",
      "POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nabcde" } do
      for _ = 1, 10 do assert.equal(200, (raw(host, request, true))) end
    end
    -- A reload that takes a while by the clock on the wall, whoever else computes.
    temp.write(host.folder, "handlers/echo.lua",
      ECHO .. "\nlocal began = bus.now() repeat until bus.now() - began > 0.3")
    local status, body = raw(host, "POST /reload HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", true)
    assert.same({ 200, true }, { status, body.ok }, cjson.encode(body))
    assert.same({ 200, { ok = true, unfinished = 0, pid = host.pid } },
      { raw(host, "POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", true) })
  end)

  describe("listens", function()
    local with_ipv6 = (temp.read "/proc/net/if_inet6" or ""):find(("0"):rep(31) .. "1 ", 1, true) ~= nil
    local families = with_ipv6 and { "127.0.0.1", "[::1]" } or { "127.0.0.1" }

    local function reached(host, name)
      return w:moonbus({ "status", "--admin", name .. ":" .. host.port }).status == 0
    end

    for _, address in ipairs { "[::]:%d", ":%d", "localhost:%d" } do
      it("at both families at " .. address:format(8223), function()
        if not with_ipv6 and address:find "^%[" then return pending "there is no IPv6 here" end
        local host = run(address)
        for _, name in ipairs(address == "localhost:%d" and { "localhost", "127.0.0.1" } or families) do
          assert.is_true(reached(host, name), name)
        end
        assert.equal(0, w:moonbus({ "status", "--admin", host.admin }).status)
        local again = w:fail { handlers = { ["echo.lua"] = ECHO }, admin = false, args = { "--admin", host.admin } }
        assert.equal(2, again.status)
        assert.matches("cannot listen: Address already in use", again.output)
      end)
    end

    it("at one family at one address, and says that an address is none of ours", function()
      local host = run "0.0.0.0:%d"
      assert.is_true(reached(host, "127.0.0.1"))
      if with_ipv6 then assert.is_false(reached(host, "[::1]")) end
      local failed = w:fail { handlers = { ["echo.lua"] = ECHO }, admin = false,
        args = { "--admin", "192.0.2.1:" .. posix.free_port() } }
      assert.equal(2, failed.status)
      assert.matches("admin 192%.0%.2%.1:%d+: cannot listen: Cannot assign requested address", failed.output)
    end)
  end)
end)
