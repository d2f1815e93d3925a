-- A script whose top level is in a call of C that does not end is refused as one that loops for
-- ever: at its deadline, and nobody else notices.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- The jump out of LuaJIT is left out of sanitized builds: there such a thread is left to itself.
local escapes = not (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS")

local HOPELESS = [[local x = (("a"):rep(40000)):find((".-"):rep(20) .. "b")]]

local function echo(subject, answer)
  return ([[require "moonbus".subscribe(%q, function() return %q end)]]):format(subject, answer)
end

describe("a top level in C that does not end", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function run(options)
    options.admin = true
    options.handlers = { ["handler.lua"] = options.code or echo("version", "one"),
      ["other.lua"] = echo("other", "one") }
    return w:run(options)
  end

  local function save(host, name, text) temp.write(host.folder, "handlers/" .. name, text) end

  local function reload(host)
    return w:moonbus({ "reload", "--admin", host.admin }, { deadline = 40 })
  end

  local function asked(subject) return w.client:request(subject, "").data end

  -- Does it load something?
  local function loads(host)
    local pipe = io.popen("cat /proc/" .. host.pid .. "/task/*/comm")
    local names = pipe:read "*a"
    pipe:close()
    return names:find "load\n"
  end

  -- Both scripts can be reloaded, and are.
  local function works_on(host, number)
    save(host, "handler.lua", echo("version", "mended"))
    save(host, "other.lua", echo("other", "two"))
    local verdict = reload(host)
    assert.equal(0, verdict.status, verdict.stderr)
    assert.matches("handler%.lua: generation " .. number .. " live", verdict.stdout)
    assert.same({ "mended", "two" }, { asked "version", asked "other" })
  end

  it("is refused by a reload after 5 s, by name; what runs goes on, and later reloads work", function()
    local host = run { args = { "--watch" } }
    save(host, "handler.lua", HOPELESS)
    wait.eventually(function()
      assert.same({ "one", "one" }, { asked "version", asked "other" })
      return #host:logged "handler%.lua: refused" > 0
    end, 20)
    local event = host:wait_log "^handler%.lua: refused, generation 1 keeps running: .*still loading after 5s"
    assert.matches(escapes and "only ended with its Lua state" or "nothing interrupts", event.msg)
    save(host, "handler.lua", echo("version", "two"))
    host:wait_log "^handler%.lua: generation 2 live"
    save(host, "other.lua", echo("other", "two"))
    host:wait_log "^other%.lua: generation 2 live"
    assert.same({ "two", "two" }, { asked "version", asked "other" })
    assert.equal(0, host:stop(5))
  end)

  it("ends the host with status 2 at its start, by name", function()
    local result = w:fail { handlers = { ["handler.lua"] = HOPELESS, ["other.lua"] = echo("o", "x") } }
    assert.equal(2, result.status)
    assert.matches("handler%.lua", result.stderr)
    assert.matches("still loading after 5s", result.stderr)
  end)

  it("does not hold up a stop", function()
    local host = run { args = { "--watch", "--graceful-timeout", "3s" } }
    save(host, "new.lua", HOPELESS)
    wait.eventually(function() return loads(host) end, 5)
    local began = wait.now()
    assert.equal(0, host:stop(10))
    assert.is_true(wait.now() - began < wait.within(2.5), wait.now() - began .. " s")
  end)

  describe("and that nothing interrupts", function()
    -- A read that ends when somebody writes. What a load is that comes back late, and how many of
    -- them there may be, is in spec/sim/load_spec.lua.
    local function blocked()
      local folder = w:folder()
      local path = folder .. "/pipe"
      assert(os.execute("mkfifo " .. path) == 0)
      local host = run { config = "return { trust = true, limits = { max_stuck = 3 } }" }
      save(host, "handler.lua", ("io.open(%q):read()"):format(path))
      return host
    end

    it("keeps its thread until it returns, and nobody else notices; a stop waits for it no longer", function()
      local host = blocked()
      local verdict = reload(host)
      assert.equal(1, verdict.status)
      assert.matches("handler%.lua: refused, .*still loading after 5s, in a call that nothing " ..
        "interrupts: its thread is lost until it returns %(1 of at most 3%)", verdict.stderr)
      assert.same({ "one", "one" }, { asked "version", asked "other" })
      works_on(host, 2)
      local began = wait.now()
      assert.equal(0, host:stop(10))
      assert.is_true(wait.now() - began < wait.within(3), wait.now() - began .. " s")
    end)
  end)
end)
