local credentials = require "spec.support.credentials"
local http = require "spec.support.http_units"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

describe("HTTP over TLS:", function()
  local folder, other_folder, server, client

  local function files(of, name)
    return { cert = of .. "/" .. name .. ".pem", key = of .. "/" .. name .. "-key.pem" }
  end

  setup(function()
    folder = credentials.tls(temp.folder())
    other_folder = credentials.tls(temp.folder(), { server = 0 })
    server = web.start { tls = files(folder, "server") }
  end)
  teardown(function()
    server:close()
    temp.remove(folder)
    temp.remove(other_folder)
  end)
  before_each(function() client = http.client() end)
  after_each(function() client:close() end)

  local function get(from, more)
    local request = { url = from:url "/echo" }
    for name, value in pairs(more or {}) do request[name] = value end
    return client:call(request)
  end

  it("a server is believed when its certificate is of a stated authority", function()
    local answer = get(server, { ca = folder .. "/ca.pem" })
    assert.same({ "none", 200 }, { answer.code, answer.status }, answer.message)
    assert.equal(200, get(server, { ca = folder .. "/ca.pem" }).status)
    assert.equal(1, tonumber(client:counts().connections))
  end)

  it("nobody else is, nor does a connection that was believed serve who believes others", function()
    assert.equal(200, get(server, { ca = folder .. "/ca.pem" }).status)
    for _, ca in ipairs { false, other_folder .. "/ca.pem" } do
      local answer = get(server, { ca = ca or nil })
      assert.equal("tls", answer.code)
      assert.matches("certificate", answer.message)
      assert.equal(0, answer.status)
    end
  end)

  it("no redirect leads from it to http, unless that is asked for", function()
    local plain = web.start()
    local request = { url = server:url("/to/302?" .. plain:url "/echo"), ca = folder .. "/ca.pem" }
    local answer = client:call(request)
    assert.equal("protocol", answer.code)
    assert.matches("it redirects from https to http, http://127.0.0.1:%d+/echo: downgrade = true follows that",
      answer.message)
    assert.equal(0, plain:stats().requests)
    request.downgrade = true
    assert.equal(200, client:call(request).status)
    plain:close()
  end)

  it("a certificate is for a name, and ends", function()
    local port = server.port
    local wrong = client:call { url = ("https://127.0.0.2:%d/"):format(port), ca = folder .. "/ca.pem" }
    assert.equal("refused", wrong.code) -- it listens on 127.0.0.1 alone
    local expired = web.start { tls = files(other_folder, "server") }
    local answer = get(expired, { ca = other_folder .. "/ca.pem" })
    assert.equal("tls", answer.code)
    assert.matches("expired", answer.message)
    expired:close()
    local named = web.start { tls = files(folder, "client") } -- for nobody's name
    answer = get(named, { ca = folder .. "/ca.pem" })
    assert.equal("tls", answer.code, answer.message)
    assert.equal(200, get(named, { unverified = true }).status)
    named:close()
  end)

  it("a server may want a certificate", function()
    local strict = web.start { tls = { cert = folder .. "/server.pem", key = folder .. "/server-key.pem",
      client_ca = folder .. "/ca.pem" } }
    local ca = folder .. "/ca.pem"
    assert.equal(200, get(strict, { ca = ca, cert = folder .. "/client.pem",
      key = folder .. "/client-key.pem" }).status)
    -- With TLS 1.3 the request is on its way by then, so that the server's end may be a reset, which takes
    -- the alert with it.
    wait.eventually(function()
      local without = get(strict, { ca = ca })
      assert.equal("tls", without.code, without.message)
      assert.matches("certificate", without.message)
      return true
    end)
    strict:close()
  end)

  it("a certificate that is not there is told", function()
    local answer = get(server, { ca = folder .. "/none.pem" })
    assert.equal("tls", answer.code)
  end)

  it("who speaks no TLS is told apart", function()
    local plain = web.start()
    local answer = client:call { url = ("https://127.0.0.1:%d/"):format(plain.port) }
    assert.equal("tls", answer.code)
    plain:close()
  end)

  describe("HTTP/2", function()
    local port, nghttpd

    setup(function()
      port = posix.free_port()
      temp.write(folder, "www/hello.txt", "hello over h2")
      temp.write(folder, "www/big.txt", ("0123456789"):rep(100000))
      nghttpd = process.start { command = { "nghttpd", "-d",
        folder .. "/www", tostring(port), folder .. "/server-key.pem", folder .. "/server.pem" } }
      wait.eventually(function() return posix.dial(port, "") end, 10, function()
        return nghttpd:stderr()
      end)
    end)
    teardown(function() nghttpd:close() end)

    local function url(path) return ("https://127.0.0.1:%d%s"):format(port, path) end

    it("is spoken where TLS agrees on it", function()
      local answer = client:call { url = url "/hello.txt", ca = folder .. "/ca.pem" }
      assert.same({ "none", 200, 20, "hello over h2" },
        { answer.code, answer.status, answer.version, answer.body })
      assert.equal("text/plain", answer.headers["content-type"])
    end)

    it("carries a hundred calls on one connection", function()
      local calls = {}
      for i = 1, 100 do
        calls[i] = client:new { url = url "/hello.txt", ca = folder .. "/ca.pem" }
        calls[i]:ask()
      end
      for i = 1, 100 do assert.equal("hello over h2", calls[i]:result().body) end
      assert.equal(1, tonumber(client:counts().connections))
    end)

    it("brings a body in pieces", function()
      local call = client:new { url = url "/big.txt", ca = folder .. "/ca.pem", pieces = true, max = 0 }
      local pieces = {}
      for piece in function() return call:piece() end do pieces[#pieces + 1] = piece end
      assert.equal(("0123456789"):rep(100000), table.concat(pieces))
      assert.is_true(#pieces > 10)
    end)

    it("goes on for the others when one is cancelled", function()
      local calls = {}
      for i = 1, 20 do
        calls[i] = client:new { url = url(i % 2 == 0 and "/big.txt" or "/hello.txt"), ca = folder .. "/ca.pem",
          pieces = i % 2 == 0 }
        calls[i]:ask()
      end
      for i = 2, 20, 2 do calls[i]:cancel() end
      for i = 1, 19, 2 do assert.equal("hello over h2", calls[i]:result().body) end
    end)
  end)
end)
