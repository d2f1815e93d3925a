-- What a file of a context of the nats command line says, as settings of ours.
local cjson = require "cjson"
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "app/context.h"
local lib = units.lib
ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"

local function parse(text)
  local context, err = ffi.new "struct context", units.err()
  if type(text) == "table" then text = cjson.encode(text) end
  local code = lib.context_parse(text, #text, context, err)
  local values = {}
  for index = 0, context.count - 1 do
    values[ffi.string(context.values[index].key)] = ffi.string(context.values[index].text)
  end
  local unknown = context.unknown ~= nil and ffi.string(context.unknown) or nil
  lib.context_clear(context)
  if code ~= 0 then return nil, select(2, units.read_err(err)) end
  return values, unknown
end

describe("a context", function()
  it("becomes settings", function()
    assert.same({
      servers = "nats://a:4222,tls://b", ["tls.ca"] = "/ca", ["tls.cert"] = "/cert", ["tls.key"] = "/key",
      ["tls.first"] = "true", ["jetstream.domain"] = "hub", ["jetstream.api_prefix"] = "js.api",
      inbox_prefix = "_I", ["auth.user"] = "ada", ["auth.password"] = "secret",
    }, (parse { url = "nats://a:4222,tls://b", ca = "/ca", cert = "/cert", key = "/key", tls_first = true,
      jetstream_domain = "hub", jetstream_api_prefix = "js.api", inbox_prefix = "_I", user = "ada",
      password = "secret", description = "x", color_scheme = "red", jetstream_event_prefix = "e", nsc = "",
      socks_proxy = "", token = "", creds = cjson.null }))
  end)

  it("means the local server where it names none, and nothing that is empty or false", function()
    assert.same({ servers = "nats://127.0.0.1:4222" }, (parse { url = "", tls_first = false }))
  end)

  it("has one way to authenticate: user, creds, nkey, JWT, token", function()
    local all = { url = "nats://a", user = "u", password = "p", creds = "c", nkey = "n", user_jwt = "j",
      user_seed = "s", token = "t" }
    local function way()
      local values = parse(all)
      values.servers = nil
      return values
    end
    assert.same({ ["auth.user"] = "u", ["auth.password"] = "p" }, way())
    all.user = nil
    assert.same({ ["auth.creds"] = "c" }, way())
    all.creds = nil
    assert.same({ ["auth.nkey"] = "n" }, way())
    all.nkey = nil
    assert.same({ ["auth.jwt"] = "j", ["auth.seed"] = "s" }, way())
    all.user_jwt = nil
    assert.same({ ["auth.token"] = "t" }, way())
  end)

  it("expands ~ and variables in paths, and nowhere else", function()
    ffi.C.setenv("HOME", "/home/ada", 1)
    ffi.C.setenv("SPEC_DIR", "secrets", 1)
    local function creds(path) return parse({ url = "nats://a", creds = path })["auth.creds"] end
    assert.equal("/home/ada/x.creds", creds "~/x.creds")
    assert.equal("/secrets/x.creds", creds "/$SPEC_DIR/x.creds")
    assert.equal("/secretsx/$/${/$9", creds "/${SPEC_DIR}x/$/${/$9")
    assert.equal("/x", creds "/${SPEC_NOT_SET}x")
    assert.equal("$SPEC_DIR", parse({ url = "nats://a", token = "$SPEC_DIR" })["auth.token"])
  end)

  it("is refused where doing without what it says would be wrong", function()
    local _, err = parse { nsc = "nsc://op/acc/user" }
    assert.matches("^nsc: moonbus does not ask nsc", err)
    _, err = parse { url = "nats://a", socks_proxy = "socks5://p" }
    assert.matches("^socks_proxy: ", err)
  end)

  it("names fields that it does not know", function()
    local _, unknown = parse { url = "nats://a", windows_cert_store = "x", other = "" }
    assert.equal("windows_cert_store", unknown)
  end)

  it("is refused when it is no object of texts", function()
    for text, complaint in pairs {
      [""] = "is no JSON object", ["[]"] = "is no JSON object", ["{"] = "is no JSON object",
      ['{"url":1}'] = "url: must be a text", ['{"tls_first":"yes"}'] = "tls_first: must be true or false",
    } do
      local _, err = parse(text)
      assert.equal(complaint, err)
    end
  end)
end)
