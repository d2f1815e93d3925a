-- bus.http: what a handler asks of HTTP servers, and gets.
local credentials = require "spec.support.credentials"
local temp = require "spec.support.temp"
local web = require "spec.support.web"
local world = require "spec.support.world"
local wait = require "spec.support.wait"

describe("bus.http", function()
  local w, server = world.new(), nil
  setup(function()
    w:open()
    server = web.start()
  end)
  after_each(function() w:clear() end)
  teardown(function()
    server:close()
    w:close()
  end)

  -- A host whose core handler "go" runs `body`, which has bus, http, url(path) and the message.
  local function handler(body, top)
    return ([[
local bus = require "moonbus"
local http = bus.http
local function url(path) return %q .. (path or "") end
local function told(answer, err) return answer or { code = err.code, message = err.message, status = err.status } end
%s
bus.subscribe("go", function(msg)
%s
end)]]):format(server.base, top or "", body)
  end

  local function go(body, top)
    w:run(handler(body, top))
    local reply, why = w.client:request("go", "in", { timeout = 30 * wait.slow })
    return assert(reply, why):json()
  end

  describe("a call", function()
    it("gives status, headers and body, whatever the status", function()
      local got = go [[
        local answer = http.get(url "/json")
        local missing = http.get(url "/status/404")
        return { answer.status, answer.headers["Content-Type"], answer.headers["content-type"],
          answer:json().name, missing.status, missing.body, answer.url }]]
      assert.same({ 200, "application/json", "application/json", "ada", 404, "it is 404",
        server:url "/json" }, got)
    end)

    it("sends a body as it is, as JSON, or as a form", function()
      local got = go [[
        return {
          http.post(url "/echo", { body = "plain", headers = { ["content-type"] = "text/x" } }).body,
          http.put(url "/echo", { json = { a = { 1, 2 } } }).body,
          http.patch(url "/echo", { form = { b = "x y", a = { 1, "2&" } } }).body,
        }]]
      assert.matches("^POST /echo.*content%-type: text/x\r\n.*\r\n\r\nplain$", got[1])
      assert.matches("^PUT /echo.*Content%-Type: application/json\r\n.*\r\n\r\n{\"a\":%[1,2%]}$", got[2])
      assert.matches("x%-www%-form%-urlencoded\r\n.*\r\n\r\na=1&a=2%%26&b=x%%20y$", got[3])
    end)

    it("has a method, a query and headers", function()
      local got = go [[
        return {
          http.delete(url "/echo").body,
          http.request { url = url "/echo", method = "propfind" }.body,
          http.get(url "/echo?a=1#part", { query = { b = "ü &", c = { 1, true } } }).body,
          http.get(url "/echo", { headers = { ["X-List"] = { "a", "b" }, ["X-Number"] = 12345678901234567 } }).body,
          http.head(url "/bytes/70").headers["content-length"],
          http.request { url = url "/echo", body = "x" }.body,
        }]]
      assert.matches("^DELETE /echo ", got[1])
      assert.matches("^PROPFIND /echo ", got[2])
      assert.matches("^GET /echo%?a=1&b=%%C3%%BC%%20%%26&c=1&c=true ", got[3])
      assert.matches("\r\nX%-List: a\r\nX%-List: b\r\nX%-Number: 12345678901234568\r\n", got[4])
      assert.equal("70", got[5])
      assert.matches("^POST /echo ", got[6])
    end)

    it("tells all values of a header, those of cookies apart", function()
      local got = go [[
        local answer = http.get(url "/cookies")
        return { answer.headers["set-cookie"], answer:header_values("Set-Cookie"), answer:header_values("none") }]]
      assert.same({ "a=1", { "a=1", "b=2" }, {} }, got)
    end)

    it("suspends its handler, not the worker", function()
      w:run { handlers = { ["a.lua"] = handler 'return http.get(url "/slow/400").body',
        ["b.lua"] = 'require "moonbus".subscribe("now", function() return "now" end)' },
        config = "return { workers = 1 }" }
      local inbox = w.client:subscribe "answer"
      w.client:publish("go", "", nil, "answer")
      assert.equal("now", w.client:request("now", "").data)
      assert.is_nil(inbox:next(0))
      assert.equal("late", inbox:next(5).data)
    end)
  end)

  describe("what fails", function()
    it("is nil and an error with a code", function()
      local got = go [[
        return {
          told(http.get("http://127.0.0.1:1/")).code,
          told(http.get("http://no-such-host.invalid/")).code,
          told(http.get(url "/hang", { timeout = "100ms" })).code,
          told(http.get(url "/cut")).code,
          told(http.get(url "/nothing")).code,
          told(http.get(url "/bytes/2000", { max = "1KB" })).code,
          told(http.get(url "/bomb")).code,
          told(http.get(url "/loop")).code,
          told(http.get(url "/to/302?file:///etc/passwd")).code,
          told(http.get((url "/":gsub("http:", "https:")))).code,
          told(http.get(url "/status/200"):json()).code,
          told(http.get(url "/number"):json()).message,
        }]]
      assert.matches("^the answer of http://[%d.:]+/number: items%[1%].id: 1234%d+ is beyond 2%^53", table.remove(got))
      assert.same({ "refused", "dns", "timeout", "closed", "closed", "too_large", "too_large", "protocol",
        "protocol", "tls", "protocol" }, got)
    end)

    it("names what was called, without its secrets", function()
      local got = go 'return told(http.get("http://ada:secret@127.0.0.1:1/x?key=secret"))'
      assert.matches("^GET http://127.0.0.1:1/x: ", got.message)
      assert.is_nil(got.message:find "secret")
    end)

    it("in the request is raised, at the script's line", function()
      local got = go [[
        local function raised(...)
          local ok, err = pcall(...)
          return ok and "it passed" or err
        end
        return {
          raised(http.get, "ftp://x/"),
          raised(http.get, "http://x/\r\nEvil: 1"),
          raised(http.get, "http://x/", { headers = { ["X"] = "a\r\nEvil: 1" } }),
          raised(http.get, "http://x/", { headers = { ["X\n"] = "a" } }),
          raised(http.get, "http://x/", { headers = { ["Content-Length"] = "7" } }),
          raised(http.request, { url = "http://x/", method = "GET /\r\n" }),
          raised(http.get, "http://x/", { timout = 1 }),
          raised(http.get, "http://x/", { data = "x" }),
          raised(http.post, "http://x/", { json = 1, body = "x" }),
          raised(http.get, "http://127.0.0.1:80\\@evil/"),
          raised(http.get, "http://x/", { query = { a = { b = 1 } } }),
          raised(http.get, "http://x/", { headers = { a = { 1, nil, 3 } } }),
          raised(http.post, "http://x/", { form = { a = { 1, x = 2 } } }),
          raised(http.get, "http://x/", { timeout = "soon" }),
          raised(http.get, "http://x/", { max = "much" }),
          raised(http.post, "http://x/", { json = { items = { print } } }),
          raised(http.get, 7),
          raised(http.request, { method = "GET" }),
          raised(http.head, "http://x/", { body = "x" }),
          raised(http.get, "http://x/", { tls = { key = "k" } }),
          raised(http.client, { base = "api.example.com" }),
          raised(http.client, { retry = 1 }),
          raised(http.client { base = "http://x" }.get, "/"),
          raised(function() return http.get(url "/json").text end),
          raised(http.get, "http://x/", { unix = "/" .. ("x"):rep(107) }),
          raised(http.get, "http://x/", { unix = "" }),
          raised(http.get, "http://x/", { tls = { ca = "" } }),
        }]]
      local wanted = {
        'bus.http.get: the URL "ftp://x/" is neither http nor https',
        "bus.http.get: the URL \"http://x/\\r\\nEvil:.*has a space or a control character",
        'bus.http.get: the header "X" has a line break',
        'bus.http.get: the header "X\\n" has a name that none can have',
        'bus.http.get: the header "Content%-Length" is the host\'s to set',
        'bus.http.request: the method "GET /\\r\\n" is none',
        'bus.http.get: unknown option "timout": did you mean "timeout"%?',
        'bus.http.get: unknown option "data": here it is "body"',
        "bus.http.post: body and json exclude each other",
        "bus.http.get: the URL has a backslash: encode it %(%%5C%)",
        "bus.http.get: query.a: expected a text, or a list of texts, got a table",
        "bus.http.get: headers.a: expected a text, or a list of texts, got a table",
        "bus.http.post: form.a: expected a text, or a list of texts, got a table",
        "bus.http.get: timeout: ",
        "bus.http.get: max: ",
        "bus.http.post: json: items%[1%]: JSON cannot hold a function",
        "bus.http.get: the URL must be a string, got number",
        "bus.http.request: url is required",
        "bus.http.head: a HEAD request has no body",
        "bus.http.get: tls: a key needs its cert",
        "bus.http.client: base: expected where all its URLs begin",
        'bus.http.client: unknown option "retry": here it is "retries"',
        "client:get: call it with a colon",
        "answer.text: an answer has no such field: did you mean \"body\"%?",
        "bus.http.get: unix: the path of a socket has at most 107 bytes, got 108",
        "bus.http.get: unix is empty: leave it out, or state a path",
        "bus.http.get: ca is empty: leave it out, or state a path",
      }
      for i, each in ipairs(wanted) do
        assert.matches("^handler%.lua:%d+: " .. each, got[i])
      end
    end)

    it("is to call while the script loads", function()
      local failed = w:fail 'require "moonbus".http.get("http://127.0.0.1:1/")'
      assert.equal(2, failed.status)
      assert.matches("bus.http.get: not while the script loads", failed.output)
    end)
  end)

  describe("a connection that was kept and ends before the answer", function()
    it("is made anew for what may be done twice, and not for what must be done once", function()
      local got = go [[
        local function call(method, name, key)
          http.get(url "/echo")
          local opts = { url = url("/read/" .. name), method = method, body = method ~= "GET" and "x" or nil,
            headers = { ["Idempotency-Key"] = key } }
          return told(http.request(opts)).code
        end
        return { call("GET", "m"), call("POST", "n"), call("PATCH", "o"), call("POST", "p", "key") }]]
      assert.same({ "closed", "closed", "closed", "closed" }, got)
      local stats = server:stats()
      assert.same({ 2, 1, 1, 2 }, { stats.m, stats.n, stats.o, stats.p })
    end)

    it("is not taken for one that was refused, whatever becomes of the next", function()
      local other = web.start()
      local got = go(([[
        local base = %q
        http.get(base .. "echo")
        local answer, err = http.post(base .. "exit", { body = "x" })
        return { err.code }]]):format(other:url "/"))
      assert.same({ "closed" }, got)
      other:close()
    end)
  end)

  describe("a redirect", function()
    it("is followed, or is the answer", function()
      local got = go [[
        local far = http.get(url "/redirect/3")
        local near = http.get(url "/redirect/3", { follow = false })
        return { far.status, far.redirects, far.url, near.status, near.headers.location,
          told(http.get(url "/redirect/3", { follow = 2 })).message }]]
      assert.same({ 200, 3, server:url "/echo", 302, "/redirect/2",
        ("GET %s: redirected more than 2 times (follow)"):format(server:url "/redirect/1") }, got)
    end)
  end)

  describe("on its way", function()
    it("goes through the proxy that the environment names, but for what it excepts", function()
      w:run { handlers = { ["handler.lua"] = handler [[
        return { http.get("http://no-such-host.invalid/echo").body, http.get(url "/echo").body }]] },
        env = { http_proxy = server.base, no_proxy = "127.0.0.1" } }
      local got = assert(w.client:request("go", "")):json()
      assert.matches("^GET http://no%-such%-host.invalid/echo HTTP/1.1\r\n", got[1])
      assert.matches("^GET /echo HTTP/1.1\r\n", got[2])
    end)

    it("goes through a unix socket", function()
      local folder = w:folder()
      local other = web.start { unix = folder .. "/web.sock" }
      local got = go(('return { http.get("http://docker/echo", { unix = %q }).body }'):format(folder .. "/web.sock"))
      assert.matches("\r\nHost: docker\r\n", got[1])
      other:close()
    end)

    it("believes who the system, SSL_CERT_FILE or the call believes", function()
      local folder = credentials.tls(temp.folder())
      local other = web.start { tls = { cert = folder .. "/server.pem", key = folder .. "/server-key.pem" } }
      local body = ([[
        return {
          outcome(http.get(%q)),
          outcome(http.get(%q, { tls = { ca = %q } })),
          outcome(http.get(%q, { tls = { verify = false } })),
        }]]):format(other:url "/echo", other:url "/echo", folder .. "/ca.pem", other:url "/echo")
      local top = 'local function outcome(answer, err) return answer and "fine" or err.code end'
      assert.same({ "tls", "fine", "fine" }, go(body, top))
      w:clear()
      w:run { handlers = { ["handler.lua"] = handler(body, top) }, env = { SSL_CERT_FILE = folder .. "/ca.pem" } }
      assert.same({ "fine", "fine", "fine" }, assert(w.client:request("go", "")):json())
      other:close()
      temp.remove(folder)
    end)

    it("leads from https to http where that is asked for, by a call or its client", function()
      local folder = credentials.tls(temp.folder())
      local other = web.start { tls = { cert = folder .. "/server.pem", key = folder .. "/server-key.pem" } }
      local got = go(([[
        local tls, to = { verify = false }, %q
        local client = http.client { downgrade = true, tls = tls }
        return { told(http.get(to, { tls = tls })).code, http.get(to, { tls = tls, downgrade = true }).status,
          client:get(to).status, told(client:get(to, { downgrade = false })).code }]])
        :format(other:url("/to/302?" .. server:url "/echo")))
      assert.same({ "protocol", 200, 200, "protocol" }, got)
      other:close()
      temp.remove(folder)
    end)

    it("is inherited by no program that a script starts", function()
      w:run { handlers = { ["handler.lua"] = handler [[
        assert(http.get(url "/echo"))
        local pipe = io.popen "ls -l /proc/self/fd"
        local text = pipe:read "*a"
        pipe:close()
        return text]] }, config = "return { trust = true }" }
      local text = assert(w.client:request("go", "")).data
      assert.is_nil(text:find("socket:", 1, true), text)
      assert.is_nil(text:find("anon_inode", 1, true), text)
    end)
  end)

  describe("a sink", function()
    it("gets the body piece by piece, and may wait", function()
      local got = go [[
        local pieces = {}
        local answer = http.get(url "/stream/4", { sink = function(piece)
          pieces[#pieces + 1] = piece
          bus.sleep("20ms")
        end })
        return { answer.status, answer.body, table.concat(pieces) == ("s"):rep(4 * 65536), #pieces >= 4 }]]
      assert.same({ 200, "", true, true }, got)
    end)

    it("takes more than a script has memory for", function()
      w:run { handlers = { ["handler.lua"] = handler [[
        local size = 0
        local answer, err = http.get(url "/stream/800", { sink = function(piece) size = size + #piece end })
        return { size = size, code = err and err.code }]] },
        config = 'return { limits = { memory = "8MB" } }' }
      local reply = assert(w.client:request("go", "", { timeout = 20 * wait.slow }))
      assert.same({ size = 800 * 65536 }, reply:json())
    end)

    it("does not get what is no success", function()
      local got = go [[
        local count = 0
        local answer = http.get(url "/status/503", { sink = function() count = count + 1 end })
        return { answer.status, answer.body, count }]]
      assert.same({ 503, "it is 503", 0 }, got)
    end)

    it("ends the call when it fails", function()
      local other = web.start()
      local got = go(([[
        local ok, err = pcall(http.get, %q, { sink = function() error("enough") end })
        return { ok, err }]]):format(other:url "/endless"))
      assert.is_false(got[1])
      assert.matches("enough", got[2])
      wait.eventually(function() return other:stats().running == 1 end)
      other:close()
    end)
  end)

  describe("a client", function()
    it("has a base, headers and options for all its calls", function()
      local got = go([[
        return {
          api:get("/echo").body,
          api:post("echo", { json = { a = 1 }, headers = { ["x-key"] = "other" } }).body,
          api:get(url "/echo").body,
          api:request({ url = "?q=1", method = "GET" }).status,
          told(api:get("/hang")).code,
          tostring(api),
        }]], 'local api = http.client { base = url "/", headers = { ["X-Key"] = "k" }, timeout = "2s" }')
      assert.matches("^GET /echo .*X%-Key: k\r\n", got[1])
      assert.matches("^POST /echo .*x%-key: other\r\n", got[2])
      assert.is_nil(got[2]:find("X%-Key: k\r\n"))
      assert.matches("^GET /echo ", got[3])
      assert.equal(404, got[4])
      assert.equal("timeout", got[5])
      assert.equal("client " .. server:url "/", got[6])
    end)

    it("tells its headers to its own server alone", function()
      local other = web.start()
      local got = go(([[
        return { api:get(%q).body, api:get(url "/echo").body, api:get(url():upper() .. "/echo").body }]])
        :format(other:url "/echo"), 'local api = http.client { base = url "/", headers = { ["X-Key"] = "k" } }')
      assert.is_nil(got[1]:find("X-Key", 1, true))
      assert.matches("X%-Key: k\r\n", got[2])
      assert.matches("X%-Key: k\r\n", got[3])
      other:close()
    end)

    local RETRIES = 'local api = http.client { base = url(), retries = { attempts = 3, backoff = "10ms" } }'

    it("tries again what may be done twice", function()
      local got = go([[
        return {
          api:get("/flaky/2/a").status, api:get("/flaky/3/b").status,
          api:post("/flaky/1/c").status, api:post("/flaky/1/d", { idempotency_key = "mine" }).body,
          api:get("/busy/e").status, told(api:get("http://127.0.0.1:1/")).code,
        }]], RETRIES)
      assert.same({ 200, 503, 503, "mine", 200, "refused" }, got)
      assert.same({ 3, 3, 1, 2, 2 }, { server:stats().a, server:stats().b, server:stats().c,
        server:stats().d, server:stats().e })
    end)

    it("does not send a POST again that was redirected after it was done", function()
      local other = web.start()
      local gone = other:url "/gone"
      other:close()
      local got = go(([[return { told(api:post("/counted/h?" .. %q)).code }]]):format(gone), RETRIES)
      assert.same({ "refused" }, got)
      assert.equal(1, server:stats().h)
    end)

    it("sends an Idempotency-Key that is the same in each run of a message", function()
      local other = web.start()
      w.client:stream("ORDERS", { "orders.>" })
      w:run(([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("ORDERS", { durable = "billing", backoff = { min = "10ms", max = "10ms" } }, function(msg)
  local first = bus.http.post(%q, { idempotency_key = true })
  local second = bus.http.post(%q, { idempotency_key = true })
  bus.publish("seen", { first.body, second.body })
  if msg.attempt < 3 then return nil, "again" end
end)]]):format(other:url "/flaky/0/f", other:url "/flaky/0/g"))
      local seen = w.client:subscribe "seen"
      w.client:store("orders.created", "x")
      local first = seen:next(5):json()
      assert.matches("^ORDERS:%d+:billing:1:0%.1:http$", first[1])
      assert.matches("^ORDERS:%d+:billing:1:0%.2:http$", first[2])
      assert.same(first, seen:next(5):json())
      assert.same(first, seen:next(5):json())
      other:close()
    end)

    it("sends a key for each message of a batch, whichever batch it is in", function()
      local other = web.start()
      w.client:stream("ORDERS", { "orders.>" })
      for i = 1, 2 do w.client:store("orders." .. i, "x") end
      local seen = w.client:subscribe "seen"
      w:run(([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("ORDERS", { durable = "batch", batch = { size = 2, wait = "1s" } }, function(messages)
  local keys = {}
  for i = #messages, 1, -1 do
    keys[i] = bus.http.post(%q, { idempotency_key = messages[i] }).body
  end
  bus.publish("seen", keys)
end)]]):format(other:url "/flaky/0/k"))
      local keys = seen:next(5):json()
      assert.matches("^ORDERS:%d+:batch:1:0%.1:http$", keys[1])
      assert.matches("^ORDERS:%d+:batch:2:0%.1:http$", keys[2])
      other:close()
    end)

    it("has no key of its own where there is no message of a stream", function()
      local got = go 'local ok, err = pcall(http.post, url "/echo", { idempotency_key = true }) return { ok, err }'
      assert.matches("idempotency_key: there is no message of a stream that it could come from", got[2])
    end)
  end)
end)
