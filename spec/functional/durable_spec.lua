-- One durable of a stream has one handler in a process, whichever scripts ask for it: of two, each
-- would miss what the other one got.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a durable", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A script that handles these durables of WORK, each with its subject, and tells who got what.
  local function consumes(who, ...)
    local text = {
      'local bus, js = require "moonbus", require "moonbus.jetstream"',
      'js.stream { name = "WORK", subjects = { "work.>" } }',
      ('bus.subscribe("who.%s", function() return "%s" end)'):format(who, who),
    }
    for _, durable in ipairs { ... } do
      text[#text + 1] = ([[js.consume("WORK", { durable = %q, filter = "work.%s" }, function(msg)
  bus.publish("got", "%s " .. msg.data)
end)]]):format(durable, durable, who)
    end
    return table.concat(text, "\n")
  end

  local function save(host, name, text) temp.write(host.folder, "handlers/" .. name, text) end

  local function reload(host, ...) return w:moonbus { "reload", "--admin", host.admin, ... } end

  local function run(handlers, ...)
    return w:run { handlers = handlers, admin = true, args = { ... } }
  end

  -- Each of these is handled once, by that script.
  local function handled_by(who, durable)
    local got = w.client:subscribe "got"
    w.client:flush()
    for i = 1, 6 do w.client:store("work." .. durable, who .. i) end
    local list = {}
    for i = 1, 6 do
      local message = assert(got:next(5 * wait.slow), "it was not handled: " .. i)
      list[i] = message.data
    end
    table.sort(list)
    for i = 1, 6 do assert.equal(("%s %s%d"):format(who, who, i), list[i]) end
    got:close()
  end

  it("of two scripts is an error at start, which names both places", function()
    local failed = w:fail { handlers = { ["a.lua"] = consumes("a", "x"), ["b.lua"] = consumes("b", "y", "x") } }
    assert.equal(2, failed.status, failed.output)
    local event
    for _, each in ipairs(failed.events) do
      if each.level == "error" then event = each end
    end
    assert.same({ "b.lua", "b.lua", 7 }, { event.script, event.file, event.line })
    assert.equal("WORK/x: this durable has a handler in another script already (a.lua:4), and each would get " ..
      "some of the messages: give this one a durable of its own", event.msg)
  end)

  it("of two processes is shared by them", function()
    local one, two = run { ["a.lua"] = consumes("a", "x") }, run { ["a.lua"] = consumes("a", "x") }
    handled_by("a", "x")
    assert.same({}, one:logged { level = "error" })
    assert.same({}, two:logged { level = "error" })
  end)

  it("of the same name in another stream is another one", function()
    run { ["a.lua"] = consumes("a", "x"),
      ["b.lua"] = (consumes("b", "x"):gsub("WORK", "OTHER"):gsub("work%.", "other.")) }
    handled_by("a", "x")
  end)

  it("that another script handles is refused to one that is added, and to one that is reloaded", function()
    local host = run { ["a.lua"] = consumes("a", "x"), ["c.lua"] = consumes("c", "z") }
    save(host, "b.lua", consumes("b", "x"))
    save(host, "c.lua", consumes("c", "z", "x"))
    local result = reload(host, "--each")
    assert.equal(1, result.status)
    assert.matches("b%.lua: refused, it does not serve: b%.lua:4: WORK/x: .*another script already %(a%.lua:4%)",
      result.stderr)
    assert.matches("c%.lua: refused, generation 1 keeps running: c%.lua:7: WORK/x: .*another script already " ..
      "%(a%.lua:4%)", result.stderr)
    handled_by("a", "x")
    handled_by("c", "z")
  end)

  it("that somebody else made otherwise is changed by no script that never served it, however often it is saved",
    function()
      w.client:stream("WORK", { "work.>" })
      w.client:consumer("WORK", "theirs", { ack_wait = 7e9, filter_subject = "work.theirs" })
      local host = run { ["a.lua"] = consumes("a", "x") }
      for version = 1, 3 do
        save(host, "b.lua", ("-- %d\n%s"):format(version,
          (consumes("b", "theirs"):gsub("filter", 'ack_wait = "9s", filter'))))
        local result = reload(host)
        assert.equal(1, result.status)
        assert.matches("b%.lua: refused, .*allow update = true", result.stderr)
        assert.equal(7e9, w.client:consumer_info("WORK", "theirs").config.ack_wait)
      end
      save(host, "b.lua", consumes("b", "theirs"):gsub("filter", 'ack_wait = "9s", update = true, filter'))
      assert.equal(0, reload(host).status)
      assert.equal(9e9, w.client:consumer_info("WORK", "theirs").config.ack_wait)
    end)

  it("goes on with a new version of its own script", function()
    local host = run { ["a.lua"] = consumes("a", "x") }
    save(host, "a.lua", consumes("new", "x"))
    assert.equal(0, reload(host).status)
    handled_by("new", "x")
  end)

  -- Scripts are loaded in the order of their names.
  for _, names in ipairs { { "a", "b" }, { "b", "a" } } do
    local from, to = names[1], names[2]
    it(("moves from %s.lua to %s.lua in one reload of both, and nobody complains"):format(from, to), function()
      local host = run { [from .. ".lua"] = consumes(from, "x", "y"), [to .. ".lua"] = consumes(to, "z") }
      save(host, from .. ".lua", consumes(from, "y"))
      save(host, to .. ".lua", consumes(to, "z", "x"))
      local result = reload(host)
      assert.equal(0, result.status, result.stdout .. result.stderr)
      assert.same({}, host:logged "refused")
      handled_by(to, "x")
      handled_by(from, "y")
      handled_by(to, "z")
    end)

    it(("moves from %s.lua to %s.lua, which is new, as the file is renamed"):format(from, to), function()
      local host = run { [from .. ".lua"] = consumes("it", "x") }
      assert(os.rename(host.folder .. "/handlers/" .. from .. ".lua", host.folder .. "/handlers/" .. to .. ".lua"))
      local result = reload(host)
      assert.equal(0, result.status, result.stdout .. result.stderr)
      assert.same({}, host:logged "refused")
      handled_by("it", "x")
    end)
  end

  it("moves along a chain of scripts in one reload", function()
    local host = run { ["a.lua"] = consumes("a", "x"), ["b.lua"] = consumes("b", "y"), ["c.lua"] = consumes("c", "z") }
    save(host, "a.lua", consumes("a", "y"))
    save(host, "b.lua", consumes("b", "z"))
    save(host, "c.lua", consumes("c", "w"))
    local result = reload(host)
    assert.equal(0, result.status, result.stdout .. result.stderr)
    handled_by("a", "y")
    handled_by("b", "z")
    handled_by("c", "w")
  end)

  it("that two scripts want to swap, each by itself, is refused to both, and both go on", function()
    local host = run { ["a.lua"] = consumes("a", "x"), ["b.lua"] = consumes("b", "y") }
    save(host, "a.lua", consumes("a", "y"))
    save(host, "b.lua", consumes("b", "x"))
    local result = reload(host, "--each")
    assert.equal(1, result.status)
    assert.matches("a%.lua: refused, generation 1 keeps running", result.stderr)
    assert.matches("b%.lua: refused, generation 1 keeps running", result.stderr)
    handled_by("a", "x")
    handled_by("b", "y")
  end)

  it("that was refused is taken by itself as soon as the other script gives it up", function()
    local host = run({ ["a.lua"] = consumes("a", "x", "y") }, "--watch")
    save(host, "b.lua", consumes("b", "x"))
    host:wait_log "b%.lua: refused, it does not serve"
    save(host, "a.lua", consumes("a", "y"))
    host:wait_log "b%.lua: generation %d+ live"
    handled_by("b", "x")
    assert.equal(1, #host:logged { msg = "refused", level = "error" })
  end)

  it("is free when its file has been removed, and not when that is back", function()
    local host = run({ ["a.lua"] = consumes("a", "x"), ["b.lua"] = consumes("b", "y") }, "--watch")
    save(host, "b.lua", consumes("b", "y", "x"))
    host:wait_log "b%.lua: refused, generation 1 keeps running"
    os.remove(host.folder .. "/handlers/a.lua")
    host:wait_log "b%.lua: generation %d+ live"
    handled_by("b", "x")
    save(host, "a.lua", consumes("a", "x"))
    host:wait_log "a%.lua: refused, it does not serve: a%.lua:4: WORK/x: .*b%.lua:7"
    handled_by("b", "x")
  end)
end)
