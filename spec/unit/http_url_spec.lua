local ffi = require "ffi"
local units = require "spec.support.units"
local lib = require("spec.support.http_units").lib

local function read(text)
  local url, err = ffi.new "struct http_url", units.err()
  if lib.http_url_read(text, #text, url, err) ~= 0 then
    local code, message = units.read_err(err)
    return nil, code .. ": " .. message
  end
  local result = {
    text = ffi.string(url.text), origin = ffi.string(url.origin), plain = ffi.string(url.plain),
    shown = ffi.string(url.shown), tls = url.tls,
  }
  lib.http_url_clear(url)
  return result
end

local function resolve(base, location)
  local from, to, err = ffi.new "struct http_url", ffi.new "struct http_url", units.err()
  assert.equal(0, lib.http_url_read(base, #base, from, err))
  local code = lib.http_url_resolve(from, location, to, err)
  local text = code == 0 and ffi.string(to.text) or nil
  lib.http_url_clear(from)
  lib.http_url_clear(to)
  return text, code ~= 0 and select(2, units.read_err(err)) or nil
end

describe("A URL", function()
  it("is called without its fragment, and shown without what is secret in it", function()
    assert.same({
      text = "https://ada:pw@Api.example.com/v1/x?key=1", origin = "https://api.example.com:443",
      plain = "https://Api.example.com/v1/x?key=1", shown = "https://Api.example.com/v1/x", tls = true,
    }, read "https://ada:pw@Api.example.com/v1/x?key=1#part")
  end)

  it("has an origin with a port, its own or that of its scheme", function()
    assert.equal("http://[::1]:8080", read("http://[::1]:8080/").origin)
    assert.equal("http://localhost:80", read("HTTP://LOCALHOST").origin)
  end)

  it("is of http or https", function()
    for text, why in pairs {
      ["file:///etc/passwd"] = 'the URL "file:///etc/passwd" is neither http nor https',
      ["ftp://host/x"] = 'the URL "ftp://host/x" is neither http nor https',
      ["example.com/x"] = 'the URL "example.com/x" has no scheme: write "http://..." or "https://..."',
      ["http://"] = 'the URL "http://" names no host that can be called',
      ["http://host:99999/"] = 'the URL "http://host:99999/" has a port that is none',
      [""] = 'the URL has no scheme: write "http://..." or "https://..."',
    } do
      local _, message = read(text)
      assert.equal("invalid: " .. why, message)
    end
  end)

  it("carries no second line, no NUL and no space into the request", function()
    for _, byte in ipairs { "\r", "\n", "\0", " ", "\t", "\127" } do
      local _, message = read("http://host/a" .. byte .. "b")
      assert.matches("has a space or a control character: encode it", message)
    end
  end)

  it("does not show its password or query in what it is refused for", function()
    for _, text in ipairs { "ftp://ada:secret@host/", "http://host /?token=secret", "http://a:secret@h:x" } do
      local _, message = read(text)
      assert.is_nil(message:find "secret", message)
    end
  end)
end)

describe("A redirect", function()
  it("leads to a path, a host, or another scheme", function()
    assert.equal("http://a/x/z", resolve("http://a/x/y", "z"))
    assert.equal("http://a/z?q=1", resolve("http://a/x/y", "/z?q=1"))
    assert.equal("https://b/", resolve("http://a/x", "https://b/"))
    assert.equal("http://b/x", resolve("http://a/x", "//b/x"))
  end)

  it("takes user and password along to the same origin only", function()
    assert.equal("http://u:p@a/z", resolve("http://u:p@a/x", "/z"))
    assert.equal("http://u:p@a/z", resolve("http://u:p@a/x", "http://A:80/z"):gsub("A:80", "a"))
    assert.equal("http://b/z", resolve("http://u:p@a/x", "http://b/z"))
    assert.equal("https://a/z", resolve("http://u:p@a/x", "https://a/z"))
    assert.equal("http://a:81/z", resolve("http://u:p@a/x", "http://a:81/z"))
  end)

  it("leads to http and https only", function()
    for _, location in ipairs { "file:///etc/passwd", "gopher://x/", "ftp://x/", "dict://x/" } do
      local text, message = resolve("http://a/", location)
      assert.is_nil(text)
      assert.matches("is neither http nor https$", message)
    end
  end)
end)

describe("What a request says", function()
  local function check_header(name, value)
    local err = units.err()
    local header = ffi.new("struct http_header", { name, value, #name, #value })
    return lib.http_check_header(header, err) ~= 0 and select(2, units.read_err(err)) or nil
  end

  it("has no line breaks in the names and values of headers", function()
    assert.is_nil(check_header("X-Good_1", "any text, \t tabs and \200 bytes"))
    assert.is_nil(check_header("X-Empty", ""))
    for _, bad in ipairs { "a\r\nEvil: 1", "a\nb", "a\0b", "a\127" } do
      assert.equal('the header "X-A" has a line break or another control character in its value',
        check_header("X-A", bad))
    end
    for _, bad in ipairs { "", "A B", "A:", "A\r\nB", "A\0", "Ä" } do
      assert.matches("has a name that none can have", check_header(bad, "x"))
    end
  end)

  it("leaves to the host what says where a request ends", function()
    for _, name in ipairs { "Content-Length", "transfer-encoding", "Connection", "Upgrade", "Expect" } do
      assert.equal(('the header "%s" is the host\'s to set'):format(name), check_header(name, "1"))
    end
  end)

  it("has a method of letters, which is not CONNECT", function()
    local function check_method(method)
      return lib.http_check_method(method, #method, nil) == 0
    end
    assert.is_true(check_method "GET" and check_method "PROPFIND")
    for _, bad in ipairs { "", "GET /", "GET\r\n", "A\0", "connect", ("A"):rep(40) } do
      assert.is_false(check_method(bad), bad)
    end
  end)
end)
