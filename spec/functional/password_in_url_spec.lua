-- A password in a server's URL is shown to nobody, however malformed the URL is, and from wherever
-- it comes.
local world = require "spec.support.world"

local URLS = {
  "nats://ada:sesame", "ada:sesame", "nats://ada:sesame@", "nats://ada:sesame@ho st", "http://ada:sesame@host",
  "nats://ada:ses@sesame@host:port", "nats://ada:x/sesame@ho st", "nats://ada:x://sesame@ho st", "tls:sesame@host:1x",
  "nats://[::1:sesame", "nats://sesame:99999@a:b", "nats://host/sesame:x",
}

describe("a malformed URL", function()
  local w = world.new()
  after_each(function() w:clear() end)

  local function judged(run, url)
    assert.equal(2, run.status, url)
    local output = run.stderr .. (run.stdout or "")
    assert.matches("must be a URL", output, url)
    assert.is_nil(output:find("sesame", 1, true), output)
  end

  it("of a flag shows no password", function()
    for _, url in ipairs(URLS) do judged(w:moonbus { "pub", "a", "b", "-s", url }, url) end
  end)

  it("of the environment shows no password", function()
    for _, url in ipairs(URLS) do
      judged(w:moonbus({ "pub", "a", "b" }, { env = { NATS_URL = url } }), url)
    end
  end)

  it("of the config file shows no password", function()
    for _, url in ipairs(URLS) do
      judged(w:fail { handlers = { ["a.lua"] = "" }, server = false,
        config = ("return { servers = { %q } }"):format(url) }, url)
    end
  end)

  it("that is well-formed after all shows none either, when nobody answers there", function()
    local run = w:moonbus { "pub", "a", "b", "-s", "nats://ada:se@s/a me@127.0.0.1:1" }
    assert.equal(1, run.status)
    assert.matches("127%.0%.0%.1:1: nobody answers there", run.stderr)
    assert.is_nil(run.stderr:find("ada", 1, true))
  end)
end)
