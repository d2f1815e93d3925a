-- What commands say on standard error: in time, and as JSON where that is asked for.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- A sanitizer wants to be loaded before everything else.
local sanitized = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"

describe("what commands say", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- The lines of standard error, each an object.
  local function said(run)
    local lines = {}
    for line in run.stderr:gmatch "[^\n]+" do
      local ok, object = pcall(cjson.decode, line)
      assert.is_true(ok, "no JSON: " .. line)
      assert.is_string(object.time)
      lines[#lines + 1] = object
    end
    assert.is_true(#lines > 0, "nothing was said")
    return lines
  end

  local function nowhere() return "nats://127.0.0.1:" .. posix.free_port() end

  it("is JSON, one object for each error, with its code", function()
    for _, case in ipairs {
      { { "pub", "a", "x", "-s", nowhere() }, 1, "cannot connect to", "disconnected" },
      { { "pub", "nobody.stores", "x", "--jetstream", "-s", w.server.url }, 1, "no stream takes", "no_stream" },
      { { "req", "nobody.serves", "x", "-s", w.server.url }, 1, "nobody serves", "no_responders" },
      { { "sub", "a", "-s", nowhere() }, 1, "cannot connect to", "disconnected" },
      { { "sub", "--stream", "NO_SUCH", "-s", w.server.url }, 1, "NO_SUCH" },
      { { "redrive", "NO_SUCH", "-s", w.server.url }, 1, "NO_SUCH" },
      { { "pub", "a", "x", "--count", "no" }, 2, "must be a number" },
      { { "pub", "a b", "x" }, 2, "subject" },
      { { "eval", "error('went wrong')", "-s", w.server.url }, 1, "went wrong" },
      { { "eval", "return nil, '\255'", "-s", w.server.url }, 1, "\\xff" },
      { { "status", "--admin", "127.0.0.1:" .. posix.free_port() }, 1, "no host listens at" },
      { { "reload", "--admin", "127.0.0.1:" .. posix.free_port() }, 1, "no host listens at" },
    } do
      local arguments = { case[1][1], "--log-format", "json" }
      for index = 2, #case[1] do arguments[#arguments + 1] = case[1][index] end
      local run = w:moonbus(arguments)
      assert.equal(case[2], run.status, run.stderr)
      local lines = said(run)
      local last = lines[#lines]
      assert.equal("error", last.level)
      assert.is_truthy(last.msg:find(case[3], 1, true), last.msg)
      if case[4] then assert.equal(case[4], last.code) end
    end
  end)

  it("is JSON by the environment and by the config file, too", function()
    local run = w:moonbus({ "req", "nobody.serves", "x", "-s", w.server.url },
      { env = { MOONBUS_LOG_FORMAT = "json" } })
    assert.equal("no_responders", said(run)[1].code)
    local folder = w:folder()
    temp.write(folder, "moonbus.lua", 'return { log = { format = "json" } }')
    run = w:moonbus({ "req", "nobody.serves", "x", "-s", w.server.url }, { folder = folder })
    assert.equal("no_responders", said(run)[1].code)
    temp.write(folder, "moonbus.lua", 'return { log = { format = "json" }, no_such_key = 1 }')
    run = w:moonbus({ "pub", "a", "--log-format", "json" }, { folder = folder })
    assert.matches("no_such_key", said(run)[1].msg)
  end)

  it("is text where nothing says how, whatever standard error is", function()
    local run = w:moonbus { "req", "nobody.serves", "x", "-s", w.server.url }
    assert.equal('moonbus req: no_responders: nobody serves "nobody.serves"\n', run.stderr)
    run = w:moonbus { "status", "--admin", "127.0.0.1:" .. posix.free_port() }
    assert.matches("moonbus status: no host listens at", run.stderr)
  end)

  it("is an object on standard output of `check --json`, also when the server does not answer", function()
    local folder = w:folder()
    temp.write(folder, "handlers/a.lua", "require('moonbus').subscribe('a', function() end)")
    temp.write(folder, "moonbus.lua", 'return { connect_timeout = "100ms" }')
    for _, more in ipairs { false, "--strict" } do
      local arguments = { "check", "--json", "-s", nowhere() }
      arguments[#arguments + 1] = more or nil
      local run = w:moonbus(arguments, { folder = folder })
      assert.equal(1, run.status)
      local all = cjson.decode(run.stdout)
      assert.is_false(all.ok)
      assert.equal("not_checked", all.findings[1].name)
      assert.matches("the server does not answer", all.findings[1].text)
    end
  end)

  describe("of a name that the resolver does not answer for", function()
    local function run(arguments, servers)
      if sanitized then return pending "a sanitizer is preloaded" end
      local folder = w:folder()
      temp.write(folder, "moonbus.lua", ('return { connect_timeout = "300ms", servers = { %s } }'):format(servers))
      local began = wait.now()
      local ended = w:moonbus(arguments, { folder = folder,
        env = { LD_PRELOAD = os.getenv "MOONBUS_UNITS":gsub("units.so$", "slow_names.so") } })
      assert.is_true(wait.now() - began < 30, "it waited for the resolver")
      return ended
    end

    it("comes after connect_timeout, in pub, req, sub and redrive", function()
      for _, arguments in ipairs { { "pub", "a", "x" }, { "req", "a", "x" }, { "sub", "a" }, { "redrive", "A" } } do
        local ended = run(arguments, '"nats://nobody.slow:4222"')
        if not ended then return end
        assert.equal(1, ended.status)
        assert.equal(("moonbus %s: disconnected: cannot connect to nats://nobody.slow:4222: the resolver says "
          .. "nothing of its name within 0.3s (connect_timeout)\n"):format(arguments[1]), ended.stderr)
      end
    end)

    it("is nothing when another server answers", function()
      local ended = run({ "pub", "a", "x" }, ('"nats://nobody.slow:4222", "%s"'):format(w.server.url))
      if not ended then return end
      assert.equal(0, ended.status, ended.stderr)
    end)
  end)
end)
