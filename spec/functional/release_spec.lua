-- A release of several files is taken as a whole, or not at all.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("moonbus reload", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function echo(subject, answer, more)
    return ([[
local bus = require "moonbus"
bus.subscribe(%q, function() return %q end)
%s]]):format(subject, answer, more or "")
  end

  local function run(options)
    options = options or {}
    options.handlers = options.handlers or { ["a.lua"] = echo("a", "one"), ["b.lua"] = echo("b", "one") }
    options.admin = true
    return w:run(options)
  end

  local function save(host, name, text) temp.write(host.folder, "handlers/" .. name, text) end

  local function reload(host, ...)
    return w:moonbus({ "reload", "--admin", host.admin, ... }, { folder = host.folder })
  end

  local function ask(subject)
    local reply, why = w.client:request(subject, "")
    return reply and reply.data or why
  end

  local function status(host)
    local _, body = posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", "/status")
    return cjson.decode(body)
  end

  it("switches all scripts that have changed", function()
    local host = run()
    save(host, "a.lua", echo("a", "two"))
    save(host, "b.lua", echo("b", "two"))
    local result = reload(host)
    assert.equal(0, result.status)
    assert.matches("a%.lua: generation 2 live", result.stdout)
    assert.matches("b%.lua: generation 2 live", result.stdout)
    assert.same({ "two", "two" }, { ask "a", ask "b" })
  end)

  it("switches none when one does not load, and says what was held back", function()
    local host = run()
    save(host, "a.lua", echo("a", "two"))
    save(host, "b.lua", echo("b", "two", "local x = = 1"))
    local result = reload(host)
    assert.equal(1, result.status)
    assert.matches("b%.lua: refused, generation 1 keeps running: b%.lua:3: unexpected symbol", result.stderr)
    assert.matches("a%.lua: held back, generation 1 keeps running: another script", result.stderr)
    assert.equal("", result.stdout)
    assert.same({ "one", "one" }, { ask "a", ask "b" })
    assert.matches("held back", status(host).scripts[1].last_error)
  end)

  it("switches them together once that one is mended", function()
    local host = run()
    save(host, "a.lua", echo("a", "two"))
    save(host, "b.lua", "this is no Lua")
    assert.equal(1, reload(host).status)
    assert.equal(1, reload(host).status) -- and again
    save(host, "b.lua", echo("b", "two"))
    assert.equal(0, reload(host).status)
    assert.same({ "two", "two" }, { ask "a", ask "b" })
    assert.is_nil(status(host).scripts[1].last_error)
  end)

  it("switches none when the server refuses one, and changes consumers back", function()
    local function consumes(subject, answer, ack_wait, more)
      return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
js.consume("WORK", { durable = %q, filter = "work.x", dead_letter = "dead", ack_wait = %q }, function() end)
bus.subscribe(%q, function() return %q end)
%s]]):format(subject, ack_wait, subject, answer, more or "")
    end
    local host = run { handlers = { ["a.lua"] = consumes("a", "one", "30s"), ["b.lua"] = consumes("b", "one", "30s") } }
    save(host, "a.lua", consumes("a", "two", "40s"))
    save(host, "b.lua", consumes("b", "two", "40s",
      'js.consume("NOWHERE", { durable = "c", dead_letter = "dead" }, print)'))
    local result = reload(host)
    assert.equal(1, result.status)
    assert.matches("b%.lua: refused, generation 1 keeps running: .*NOWHERE", result.stderr)
    assert.same({ "one", "one" }, { ask "a", ask "b" })
    for _, durable in ipairs { "a", "b" } do
      assert.equal(30e9, w.client:consumer_info("WORK", durable).config.ack_wait)
    end
  end)

  it("neither adds a new file, nor unloads one that is gone, when another is refused", function()
    local host = run()
    save(host, "a.lua", "this is no Lua")
    save(host, "c.lua", echo("c", "one"))
    assert(os.remove(host.folder .. "/handlers/b.lua"))
    local result = reload(host)
    assert.equal(1, result.status)
    assert.matches("b%.lua: held back, generation 1 keeps running", result.stderr)
    assert.matches("c%.lua: held back, it does not serve", result.stderr)
    assert.same({ "one", "one", "no responders" }, { ask "a", ask "b", ask "c" })
    save(host, "a.lua", echo("a", "two"))
    assert.equal(0, reload(host).status)
    assert.same({ "two", "no responders", "one" }, { ask "a", ask "b", ask "c" })
  end)

  it("lets two scripts swap their durables", function()
    local function consumes(durable, answer)
      return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
js.consume("WORK", { durable = %q, filter = "work." .. %q, dead_letter = "dead" }, function(msg)
  bus.publish("seen", %q .. " " .. msg.subject)
end)]]):format(durable, durable, answer)
    end
    local host = run { handlers = { ["a.lua"] = consumes("x", "a"), ["b.lua"] = consumes("y", "b") } }
    save(host, "a.lua", consumes("y", "a"))
    save(host, "b.lua", consumes("x", "b"))
    assert.equal(0, reload(host).status)
    local seen = w.client:subscribe "seen"
    w.client:flush()
    w.client:store("work.x", "")
    assert.equal("b work.x", seen:next().data)
    w.client:store("work.y", "")
    assert.equal("a work.y", seen:next().data)
    w.client:await_settled("WORK", "x")
    w.client:await_settled("WORK", "y")
    for _, durable in ipairs { "x", "y" } do
      assert.equal(0, w.client:consumer_info("WORK", durable).num_redelivered)
    end
  end)

  it("takes what it can with --each", function()
    local host = run()
    save(host, "a.lua", echo("a", "two"))
    save(host, "b.lua", "this is no Lua")
    local result = reload(host, "--each")
    assert.equal(1, result.status)
    assert.matches("a%.lua: generation 2 live", result.stdout)
    assert.matches("b%.lua: refused", result.stderr)
    assert.same({ "two", "one" }, { ask "a", ask "b" })
  end)

  it("is what SIGHUP does", function()
    local host = run()
    save(host, "a.lua", echo("a", "two"))
    save(host, "b.lua", "this is no Lua")
    host:signal "HUP"
    host:wait_log { level = "warn", msg = "a%.lua: held back" }
    assert.same({ "one", "one" }, { ask "a", ask "b" })
  end)

  it("is tried again as a whole when the server that it needs is back", function()
    local more = [[
local js = require "moonbus.jetstream"
js.stream { name = "LATE", subjects = { "late" } }]]
    local host = run()
    w.server:down()
    save(host, "a.lua", echo("a", "two"))
    save(host, "b.lua", echo("b", "two", more))
    local result = reload(host)
    assert.equal(1, result.status)
    assert.matches("b%.lua: refused, generation 1 keeps running: .*not connected", result.stderr)
    assert.matches("a%.lua: held back", result.stderr)
    w.server:up()
    host:wait_log("a%.lua: generation 2 live", 30)
    host:wait_log("b%.lua: generation 2 live", 30)
  end)

  it("is not what the watch does: a file that is saved switches by itself", function()
    local host = run { args = { "--watch" } }
    save(host, "b.lua", "this is no Lua")
    host:wait_log "b%.lua: refused"
    save(host, "a.lua", echo("a", "two"))
    host:wait_log "a%.lua: generation 2 live"
    assert.same({ "two", "one" }, { ask "a", ask "b" })
  end)

  describe("of a file that loads without an end", function()
    local ENDLESS = "while true do end"

    it("gives that up when the file is mended, and takes what is there then", function()
      local host = run { args = { "--watch" } }
      save(host, "a.lua", ENDLESS)
      save(host, "b.lua", echo("b", "two"))
      wait.eventually(function() return ask "b" == "two" end) -- so the other one loads
      local began = wait.now()
      save(host, "a.lua", echo("a", "two"))
      host:wait_log("a%.lua: generation 2 live", 10)
      assert.is_true(wait.now() - began < wait.within(2), "it took " .. wait.now() - began .. " s")
      assert.equal("two", ask "a")
      assert.same({}, host:logged "still loading")
    end)

    it("delays no other file, however many there are", function()
      local handlers = { ["z.lua"] = echo("z", "one") }
      for i = 1, 12 do handlers["a" .. i .. ".lua"] = echo("a" .. i, "one") end
      local host = run { handlers = handlers, args = { "--watch" } }
      for i = 1, 12 do save(host, "a" .. i .. ".lua", ENDLESS) end
      local began = wait.now()
      save(host, "z.lua", echo("z", "two"))
      host:wait_log("z%.lua: generation 2 live", 10)
      assert.is_true(wait.now() - began < wait.within(3), "it took " .. wait.now() - began .. " s")
      assert.same({}, host:logged "refused")
    end)

    it("does not hold up the stop", function()
      local host = run { args = { "--watch" } }
      save(host, "a.lua", ENDLESS)
      save(host, "b.lua", echo("b", "two"))
      host:wait_log "b%.lua: generation 2 live"
      local began = wait.now()
      assert.equal(0, host:stop())
      assert.is_true(wait.now() - began < wait.within(3))
    end)
  end)
end)
