-- Options may stand before the command as well as behind it: `moonbus -s URL pub greet.ada`.
local world = require "spec.support.world"

describe("options before the command", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function run(...) return w:moonbus({ ... }, { stdin = "" }) end

  it("count for each command that takes them", function()
    w.client:stream("ORDERS", { "orders.>" })
    local url = w.server.url
    assert.equal(0, run("-s", url, "pub", "orders.a", "1").status)
    assert.equal(0, run("--server=" .. url, "-J", "pub", "orders.a", "2").status)
    assert.equal(0, run("-s", url, "-H", "K: V", "pub", "-J", "orders.a", "3").status)
    assert.equal(3, w.client:stream_info "ORDERS".state.messages)
    assert.equal(0, run("-s", url, "redrive", "ORDERS", "--dry-run").status)
    local failed = run("--timeout", "50ms", "-s", url, "req", "nobody.there")
    assert.equal(1, failed.status)
    assert.matches("^moonbus req: no_responders", failed.stderr)
  end)

  it("may have a command's name as their value", function()
    local failed = run("-s", "nats://127.0.0.1:1", "--user", "run", "--password", "dev", "pub", "a", "b")
    assert.matches("^moonbus pub: ", failed.stderr)
  end)

  it("that the command does not take are named", function()
    local failed = run("--sever", w.server.url, "pub", "a", "b")
    assert.equal(2, failed.status)
    assert.matches("moonbus pub: unknown option %-%-sever %(did you mean %-%-server%?%)", failed.stderr)
    for option, command in pairs { ["-s"] = "run", ["--junit"] = "test", ["--jetstream"] = "pub" } do
      assert.equal(("moonbus status: unknown option %s: it is one of moonbus %s; see: moonbus help status\n")
        :format(option, command), run("status", option, "x").stderr)
    end
  end)

  it("want a command", function()
    local failed = run("-s", w.server.url)
    assert.equal(2, failed.status)
    assert.matches('a command is missing, before or behind "%-s"', failed.stderr)
  end)

  it("may ask for help", function()
    assert.matches("^moonbus pub SUBJECT", run("--help", "pub").stdout)
    assert.matches("^moonbus %d", run("--version").stdout)
  end)
end)
