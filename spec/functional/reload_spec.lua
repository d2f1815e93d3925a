-- A reload loses nothing and duplicates nothing; code that does not load never replaces code that
-- works.
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("reload", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function watching(options)
    if type(options) == "string" then options = { handlers = { ["handler.lua"] = options } } end
    options.args = options.args or {}
    table.insert(options.args, "--watch")
    return w:run(options)
  end

  local function save(host, text, name)
    temp.write(host.folder, "handlers/" .. (name or "handler.lua"), text)
  end

  local function live(host, number, name)
    return host:wait_log("^" .. (name or "handler"):gsub("%p", "%%%0") ..
      "%.lua: generation " .. number .. " live in %d+ ms")
  end

  local function echo(answer, more)
    return ([[
local bus = require "moonbus"
%s
bus.subscribe("version", function() return %q end)]]):format(more or "", answer)
  end

  local function version() return w.client:request("version", "").data end

  describe("of code that does not load", function()
    local function refused(text, pattern, more)
      local host = watching(echo "one")
      save(host, text)
      local event = host:wait_log("refused, generation 1 keeps running", 10)
      assert.matches(pattern, event.msg)
      assert.equal("one", version())
      if more then more(host) end
      save(host, echo "two")
      live(host, 2)
      assert.equal("two", version())
    end

    it("refuses a syntax error, with file and line", function()
      refused("local bus = require 'moonbus'\nlocal x = = 1\n", "handler%.lua:2: unexpected symbol")
    end)

    it("refuses an error at the top level, with file and line", function()
      refused("\n\nerror 'not today'", "handler%.lua:3: not today")
    end)

    it("refuses a module that is missing, and says where it was looked for", function()
      refused("require 'helpers.nowhere'", "handler%.lua:1: .*helpers[./]nowhere")
    end)

    it("refuses a bad subject, with file and line", function()
      refused([[local bus = require "moonbus"
bus.subscribe("a..b", function() end)]], 'handler%.lua:2: .*"a%.%.b"')
    end)

    it("refuses bus.request while it loads", function()
      refused([[local bus = require "moonbus"
bus.request("version", "")]], "handler%.lua:2: .*bus%.request")
    end)

    it("refuses code that loads for ever, and delays no message meanwhile", function()
      local host = watching { args = { "--workers", "1" }, handlers = {
        ["handler.lua"] = echo "one",
        ["other.lua"] = 'require "moonbus".subscribe("other", function() return "here" end)',
      } }
      save(host, "local n = 0\nwhile true do pcall(function() while true do n = n + 1 end end) end")
      local longest, count, late = 0, 0, 0
      repeat
        local began = wait.now()
        assert.equal("one", version())
        assert.equal("here", w.client:request("other", "").data)
        local took = wait.now() - began
        longest, count = math.max(longest, took), count + 1
        if took > wait.within(0.05, 0.05) then late = late + 1 end
        posix.C.poll(nil, 0, 5) -- the rest of the suite computes, too
      until #host:logged "refused" > 0 or wait.now() - host.began > 30 * wait.slow
      local event = host:wait_log "refused, generation 1 keeps running"
      assert.matches("handler%.lua:2: .*still loading after 5s", event.msg)
      print(("\nan endless load: %d pairs of requests meanwhile, the longest took %.1f ms")
        :format(count, longest * 1000))
      -- The machine may be busy with others for a moment; the load took five seconds.
      assert.is_true(late < count / 4 and longest < wait.within(2), late .. " waited, one of them " .. longest .. " s")
      save(host, echo "two")
      live(host, 2)
    end)

    it("refuses what the server refuses, and takes back what was changed before", function()
      local stream = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
]]
      local host = watching(stream ..
        [[js.consume("WORK", { durable = "a", filter = "work.a", dead_letter = "dead", ack_wait = "30s" },
          function() end)]])
      save(host, stream .. [[
js.consume("WORK", { durable = "a", filter = "work.a", dead_letter = "dead", ack_wait = "40s" },
  function() end)
js.consume("NOWHERE", { durable = "b", dead_letter = "dead" }, function() end)]])
      local event = host:wait_log "refused, generation 1 keeps running"
      assert.matches("handler%.lua:5: .*NOWHERE", event.msg)
      assert.equal(30e9, w.client:consumer_info("WORK", "a").config.ack_wait)
    end)
  end)

  describe("of settings of a consumer", function()
    it("updates those that the server can update, and keeps the pull loop", function()
      local function text(setting)
        return ([[
local js = require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
js.consume("WORK", { durable = "a", dead_letter = "dead", filter = "work.a", %s }, function() end)]])
          :format(setting)
      end
      local host = watching(text 'ack_wait = "30s"')
      local created = w.client:consumer_info("WORK", "a").created
      save(host, text 'ack_wait = "45s", concurrency = 3')
      live(host, 2)
      local info = w.client:consumer_info("WORK", "a")
      assert.equal(45e9, info.config.ack_wait)
      assert.equal(created, info.created)
      w.client:store("work.a", "1")
      w.client:await_settled("WORK", "a")
    end)

    it("refuses one that the server cannot update", function()
      local function text(extra)
        return ([[
local js = require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
js.consume("WORK", { durable = "a", dead_letter = "dead", filter = "work.a"%s }, function() end)]])
          :format(extra)
      end
      local host = watching(text "")
      save(host, text ', consumer = { replay_policy = "original" }')
      local event = host:wait_log "refused, generation 1 keeps running"
      assert.matches("handler%.lua:3: WORK/a: cannot be updated: .*replay policy", event.msg)
    end)
  end)

  describe("of a handler that runs", function()
    local function text(answer, body, timeout)
      return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
js.consume("WORK", { durable = "a", dead_letter = "dead", filter = "work.a", timeout = %q,
  backoff = { min = "10ms", max = "10ms" } }, function(msg)
  bus.publish("runs", %q .. msg.attempt)
  %s
end)]]):format(timeout or "1m", answer, body)
    end

    local function begin()
      local runs = w.client:subscribe "runs"
      w.client:flush()
      w.client:store("work.a", "x")
      assert.equal("old1", runs:next().data)
      return runs
    end

    it("lets it end, however long that takes: graceful_timeout is the stop's", function()
      local host = watching { args = { "--graceful-timeout", "200ms" }, handlers = { ["handler.lua"] =
        text("old", 'assert(bus.request("gate", "", { timeout = "1m" })) bus.publish("runs", "old ends")') } }
      local gate = w.client:subscribe "gate"
      local runs = begin()
      local at_gate = gate:next()
      save(host, text("new", ""))
      live(host, 2)
      assert.is_nil((runs:next(1))) -- five times what would have been granted
      w.client:reply(at_gate, "go")
      assert.equal("old ends", runs:next().data)
      w.client:await_settled("WORK", "a")
      host:wait_log "handler%.lua: generation 1 closed"
      assert.same({}, host:logged { level = "error" })
    end)

    it("cuts it at its own timeout, as ever", function()
      local host = watching(text("old", 'bus.sleep("1m")', "700ms"))
      local runs = begin()
      save(host, text("new", ""))
      live(host, 2)
      assert.equal("new2", runs:next().data)
      w.client:await_settled("WORK", "a")
      host:wait_log { level = "error", msg = "ran longer than its timeout" }
    end)

    it("cancels the oldest beyond limits.generations, says so, and gives its message to the new code", function()
      local host = watching { handlers = { ["handler.lua"] = text("old", 'bus.sleep("1m")') },
        config = "return { limits = { generations = 3 } }" }
      local runs = begin()
      for number = 2, 4 do -- of which each has a handler that waits
        save(host, text("v" .. number, 'bus.sleep("1m")'))
        live(host, number)
        if number < 4 then
          w.client:store("work.a", "y")
          assert.equal("v" .. number .. "1", runs:next().data)
        end
      end
      assert.equal("v41", runs:next().data)
      local event = host:wait_log { level = "warn", script = "handler.lua", msg = "is cancelled: more" }
      assert.matches("generation 1 is cancelled: more than 3 generations .*limits%.generations", event.msg)
      host:wait_log "handler%.lua: generation 1 closed"
      assert.equal(0, w.client:consumer_info("WORK", "a").num_redelivered)
      assert.equal(1, #host:logged { level = "warn", msg = "is cancelled: more" })
      assert.same({}, host:logged "generation 2 closed")
    end)
  end)

  describe("while the server is down", function()
    local function text(answer, more)
      return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
%s
js.consume("WORK", { durable = "a", filter = "work.>", dead_letter = "dead" }, function(msg)
  bus.publish("seen", %q)
end)
bus.every("20ms", function() bus.log.info(%q) end)]]):format(more or "", answer, "tick " .. answer)
    end

    it("takes code that states nothing new", function()
      local host = watching(text "one")
      w.server:down()
      save(host, text "two")
      live(host, 2)
      host:wait_log "tick two"
      w.server:up()
      local seen
      wait.eventually(function()
        seen = seen or w.client:subscribe "seen"
        w.client:store("work.a", "x")
        return seen:next(0.2).data == "two"
      end, 10)
    end)

    it("takes such code also when it has a connection, but no answer, and asks it once", function()
      local many = {}
      for index = 1, 20 do
        many[index] = ('js.stream { name = "S%d", subjects = { "s%d" } }'):format(index, index)
      end
      local host = watching(text("one", table.concat(many, "\n")))
      w.server:freeze()
      save(host, text("two", table.concat(many, "\n")))
      local ok, reason = pcall(host.wait_log, host, "handler%.lua: generation 2 live", 10)
      w.server:thaw()
      assert.is_true(ok, reason)
    end)

    it("refuses code that needs it, and takes that when it is back", function()
      local host = watching(text "one")
      w.server:down()
      save(host, text("two", 'js.stream { name = "MORE", subjects = { "more" } }'))
      host:wait_log("refused, generation 1 keeps running: handler%.lua:3: .*not connected to the server", 10)
      host:wait_log "tick one"
      w.server:up()
      host:wait_log("generation 2 live", 15)
      assert.same({ "more" }, w.client:stream_info("MORE").config.subjects)
    end)
  end)

  describe("of a file that is added while the server is down", function()
    local NEEDS = [[
local js = require "moonbus.jetstream"
js.stream { name = "MORE", subjects = { "more.>", "dead" } }
js.consume("MORE", { durable = "m", filter = "more.>", dead_letter = "dead" }, function()
  require "moonbus".publish("got", "x")
end)]]
    local PLAIN = 'require "moonbus".subscribe("plain", function() return "here" end)'

    it("refuses what needs it in time, holds up no other, and takes it when it is back", function()
      local host = watching(echo "one")
      w.server:down()
      save(host, NEEDS, "added.lua")
      host:wait_log("^added%.lua: refused, it does not serve: added%.lua:2: .*not connected to the server", 10)
      save(host, echo "two")
      live(host, 2)
      w.server:up()
      host:wait_log("^added%.lua: generation %d live", 15)
      assert.equal(1, #host:logged "^added%.lua: refused")
      local got = w.client:subscribe "got"
      w.client:store("more.a", "x")
      assert.equal("x", got:next(10).data)
      assert.equal("two", version())
      save(host, NEEDS .. "\n", "added.lua")
      host:wait_log "^added%.lua: generation 3 live"
    end)

    it("serves what does not need it, as soon as it is back", function()
      local host = watching(echo "one")
      w.server:down()
      save(host, PLAIN, "plain.lua")
      live(host, 1, "plain")
      save(host, echo "two")
      live(host, 2)
      w.server:up()
      wait.eventually(function()
        local reply = w.client:request("plain", "", { timeout = 1 })
        return reply and reply.data == "here"
      end, 10)
    end)
  end)

  it("makes a stream that was deleted meanwhile, and its consumer goes on", function()
    local function text(answer)
      return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
js.consume("WORK", { durable = "a", dead_letter = "dead", filter = "work.a" }, function(msg)
  bus.publish("seen", %q .. msg.data)
end)]]):format(answer)
    end
    local host = watching(text "one")
    local seen = w.client:subscribe "seen"
    w.client:delete_stream "WORK"
    save(host, text "two")
    live(host, 2)
    assert.same({ "work.>", "dead" }, w.client:stream_info("WORK").config.subjects)
    w.client:store("work.a", "x")
    assert.equal("twox", seen:next(30).data)
  end)

  it("refuses other settings of a stream that is there, and shows both values", function()
    local function text(most)
      return ([[
local js = require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>" }, max_msgs = %s }
require "moonbus".subscribe("version", function() return "%s" end)]]):format(most, most)
    end
    local host = watching(text "100")
    save(host, text "200")
    local event = host:wait_log "refused, generation 1 keeps running: handler%.lua:2: WORK: "
    assert.matches("max_msgs: here 200, on the server 100", event.msg)
    assert.equal("100", version())
    assert.equal(100, w.client:stream_info("WORK").config.max_msgs)
  end)

  it("ends a consumer's handler that is registered no more, and takes it up again where it was", function()
    local function text(more)
      return [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
bus.subscribe("version", function() return "here" end)
]] .. more
    end
    local consume = [[js.consume("WORK", { durable = "a", dead_letter = "dead", filter = "work.a" }, function(msg)
      bus.publish("seen", msg.data)
    end)]]
    local host = watching(text(consume))
    local seen = w.client:subscribe "seen"
    w.client:flush()
    w.client:store("work.a", "1")
    assert.equal("1", seen:next().data)
    w.client:await_settled("WORK", "a")
    save(host, text "")
    live(host, 2)
    host:wait_log "handler%.lua: generation 1 closed"
    w.client:store("work.a", "2")
    assert.equal("here", version())
    assert.same({}, seen:arrived())
    save(host, text(consume))
    live(host, 3)
    assert.equal("2", seen:next().data)
    w.client:await_settled("WORK", "a")
    assert.same({}, seen:arrived())
  end)

  describe("of the life of a generation", function()
    it("stops the timers of the old one at the switch", function()
      local function text(answer)
        return ([[
local bus = require "moonbus"
bus.every("10ms", function() bus.publish("ticks", %q) end)]]):format(answer)
      end
      local host = watching(text "one")
      local ticks = w.client:subscribe "ticks"
      w.client:flush()
      assert.equal("one", ticks:next().data)
      save(host, text "two")
      wait.eventually(function() return ticks:next(1).data == "two" end)
      for _ = 1, 20 do assert.equal("two", ticks:next().data) end
      host:wait_log "handler%.lua: generation 1 closed"
    end)

    it("runs start and stop once for each", function()
      local function text(answer)
        return echo(answer, ([[
bus.on("start", function() bus.publish("life", "start %s") end)
bus.on("stop", function() bus.publish("life", "stop %s") end)]]):format(answer, answer))
      end
      local life = w.client:subscribe "life"
      w.client:flush()
      local host = watching(text "one")
      save(host, text "two")
      live(host, 2)
      host:wait_log "handler%.lua: generation 1 closed"
      host:stop()
      local seen = {}
      for _ = 1, 4 do table.insert(seen, life:next().data) end
      table.sort(seen)
      assert.same({ "start one", "start two", "stop one", "stop two" }, seen)
      assert.same({}, life:arrived())
    end)

    it("keeps two handlers of one subject two", function()
      local text = [[
local bus = require "moonbus"
bus.subscribe("both", function() bus.publish("seen", "a") end)
bus.subscribe("both", function() bus.publish("seen", "b") end)]]
      local host = watching(text)
      save(host, text .. "\n")
      live(host, 2)
      local seen = w.client:subscribe "seen"
      w.client:flush()
      w.client:publish("both", "")
      local both = { seen:next().data, seen:next().data }
      table.sort(both)
      assert.same({ "a", "b" }, both)
    end)

    it("answers what came for a handler that is gone, on the old code", function()
      local host = watching { args = { "--workers", "1" }, handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
bus.subscribe("old", { concurrency = 1 }, function(msg) bus.sleep("5ms") bus.publish("old.done", msg.data) end)]] } }
      local done = w.client:subscribe "old.done"
      w.client:flush()
      for i = 1, 50 do w.client:publish("old", tostring(i)) end
      w.client:flush()
      save(host, echo "two")
      live(host, 2)
      for i = 1, 50 do assert.equal(tostring(i), done:next().data) end
      host:wait_log "handler%.lua: generation 1 closed"
    end)
  end)

  describe("of files", function()
    it("reloads exactly the scripts that use a module, at any depth", function()
      local host = watching { handlers = {
        ["deep.lua"] = [[local bus, m = require "moonbus", require "outer"
          bus.subscribe("deep", function() return m end)]],
        ["flat.lua"] = [[local bus, m = require "moonbus", require "inner"
          bus.subscribe("flat", function() return m end)]],
        ["alone.lua"] = [[require "moonbus".subscribe("alone", function() return "alone" end)]],
      }, files = {
        ["lib/outer.lua"] = "return 'outer ' .. require 'inner'",
        ["lib/inner.lua"] = "return 'one'",
      } }
      temp.write(host.folder, "lib/inner.lua", "return 'two'")
      live(host, 2, "deep")
      live(host, 2, "flat")
      assert.equal("outer two", w.client:request("deep", "").data)
      assert.equal("two", w.client:request("flat", "").data)
      temp.write(host.folder, "lib/outer.lua", "return 'new ' .. require 'inner'")
      live(host, 3, "deep")
      assert.equal(0, #host:logged "flat%.lua: generation 3")
      assert.equal(0, #host:logged "alone%.lua: generation")
    end)

    it("serves a file that is added, unloads one that is removed, and serves it again", function()
      local host = watching(echo "one")
      save(host, [[
local bus = require "moonbus"
bus.on("stop", function() bus.publish("bye", "") end)
bus.subscribe("added", function() return "here" end)]], "added.lua")
      live(host, 1, "added")
      assert.equal("here", w.client:request("added", "").data)
      local bye = w.client:subscribe "bye"
      w.client:flush()
      assert(os.remove(host.folder .. "/handlers/added.lua"))
      host:wait_log "added%.lua: the file is gone; it is no longer served"
      bye:take(1)
      assert.equal("one", version())
      assert.is_nil((w.client:request("added", "")))
      save(host, 'require "moonbus".subscribe("added", function() return "back" end)', "added.lua")
      live(host, 2, "added")
      assert.equal("back", w.client:request("added", "").data)
    end)

    it("takes what an editor writes by renaming as a change, not as a removal", function()
      local host = watching(echo "one")
      local path = host.folder .. "/handlers/handler.lua"
      os.rename(path, path .. "~")
      temp.write(host.folder, "handlers/.handler.swp", echo "two")
      os.rename(host.folder .. "/handlers/.handler.swp", path)
      live(host, 2)
      assert.equal("two", version())
      assert.equal(0, #host:logged "the file is gone")
    end)

    it("makes one reload of a burst of 50 changes", function()
      local host = watching(echo "0")
      for i = 1, 50 do
        local file = assert(io.open(host.folder .. "/handlers/handler.lua", "w"))
        file:write(echo(tostring(i)))
        file:close()
      end
      wait.eventually(function() return version() == "50" end)
      assert.is_true(#host:logged "generation %d+ live" <= 2, "a reload for each change")
    end)

    it("follows a folder that is replaced as a whole by a symbolic link", function()
      local folder = w:folder()
      temp.write(folder, "v1/handler.lua", echo "one")
      temp.write(folder, "v2/handler.lua", echo "two")
      os.execute(("ln -s v1 %s/handlers"):format(folder))
      local host = w:run { folder = folder, args = { "--watch" }, handlers = {} }
      assert.equal("one", version())
      os.execute(("ln -s v2 %s/next && mv -T %s/next %s/handlers"):format(folder, folder, folder))
      live(host, 2)
      assert.equal("two", version())
    end)
  end)
end)

describe("a reload of handlers", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function watched(text)
    return w:run { handlers = { ["handler.lua"] = text }, args = { "--watch" } }
  end

  local function change(host, text, generation)
    temp.write(host.folder, "handlers/handler.lua", text)
    host:wait_log(("generation %d live"):format(generation or 2))
  end

  -- A script whose handlers of "spec", one for each word, publish their word to "out".
  local function saying(...)
    local text = 'local bus = require "moonbus"\n'
    for _, word in ipairs { ... } do
      text = text .. ('bus.subscribe("spec", function() bus.publish("out", %q) end)\n'):format(word)
    end
    return text
  end

  -- What one message to "spec" makes them say: so many words, sorted, and no more than that.
  local function said(count)
    local out = w.client:subscribe "out"
    w.client:publish("spec", "")
    local words = {}
    for index, message in ipairs(out:take(count)) do words[index] = message.data end
    assert.is_nil(out:next(0.05))
    table.sort(words)
    out:close()
    return words
  end

  it("goes on with every handler, also with those that are registered alike", function()
    local host = watched(saying("a", "b"))
    assert.same({ "a", "b" }, said(2))
    change(host, saying("c", "d"))
    assert.same({ "c", "d" }, said(2))
    change(host, saying("e", "f", "g"), 3)
    assert.same({ "e", "f", "g" }, said(3))
  end)

  it("drains a subscription that is gone: what has come is handled by the old version", function()
    local host = watched [[
      local bus = require "moonbus"
      bus.subscribe("slow", { concurrency = 1 }, function(msg)
        bus.sleep("10ms")
        bus.publish("out", msg.data)
      end)
      bus.on("stop", function() bus.publish("out", "stop") end)
    ]]
    local out = w.client:subscribe "out"
    local expected = {}
    for number = 1, 20 do
      w.client:publish("slow", tostring(number))
      expected[number] = tostring(number)
    end
    expected[21] = "stop"
    change(host, saying("a"))
    local words = {}
    for index, message in ipairs(out:take(21)) do words[index] = message.data end
    assert.same(expected, words)
    local _, reason = w.client:request("slow", "", { timeout = 1 })
    assert.equal("no responders", reason)
    assert.equal(0, host:stop())
  end)
end)
