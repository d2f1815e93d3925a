local sim = require "spec.sim.sim"

describe("bus.use, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function run(text, more)
    local scripts = { ["s.lua"] = sim.script(text) }
    for name, other in pairs(more or {}) do scripts[name] = other end
    return world:host { scripts = scripts }
  end

  it("is around each handler of the script in the order of registration, whichever came first", function()
    run [[
      bus.subscribe("before", function(msg) sim.note("handler " .. msg.data); return "reply" end)
      bus.use(function(msg, next)
        sim.note "first"
        local r = next(msg)
        sim.note("first got " .. r)
        return r .. "!"
      end)
      bus.use(function(msg, next) sim.note "second"; return next(msg) end)
      bus.subscribe("after", function(msg) sim.note "other"; return "other" end)
    ]]
    assert.equal("reply!", world:request("before", "x").data)
    assert.equal("other!", world:request("after").data)
    assert.same({ "first", "second", "handler x", "first got reply", "first", "second", "other",
      "first got other" }, world:said())
  end)

  it("is around durables, batches, timers and hooks, and its verdict is the handler's", function()
    run [[
      js.stream { name = "IN", subjects = { "in.>" } }
      bus.use(function(msg, next)
        sim.note(type(msg) == "table" and "list of " .. #msg or type(msg))
        return next(msg)
      end)
      bus.on("start", function() sim.note "hook" end)
      bus.after("1s", function(...) sim.note("timer " .. select("#", ...)) end)
      js.consume("IN", { durable = "one", filter = "in.one", timeout = "5s", attempts = 3,
        backoff = { min = "1s", max = "1s" } },
        function(msg) sim.note("one " .. msg.attempt); if msg.attempt == 1 then return nil, "again" end end)
      js.consume("IN", { durable = "many", filter = "in.many", timeout = "5s",
        batch = { size = 2, wait = "1s" } }, function(list) sim.note("many " .. #list) end)
    ]]
    world:advance "2s"
    assert.same({ "nil", "hook", "nil", "timer 1" }, world:said())
    world:publish("in.one", "x")
    world:advance "5s"
    world:publish("in.many", "x")
    world:publish("in.many", "x")
    world:advance "5s"
    local said = world:said()
    assert.same({ "userdata", "one 1", "userdata", "one 2", "list of 2", "many 2" }, { unpack(said, 5) })
  end)

  it("gives a next to each run, which runs nothing in another one", function()
    run [[
      local kept
      bus.use(function(msg, next)
        if msg.data == "keep" then
          kept = next
          error "boo"
        end
        return (kept or next)(msg)
      end)
      bus.subscribe("in", function(msg) sim.note("ran " .. msg.data) return "" end)
    ]]
    world:request("in", "keep")
    local reply = world:request("in", "later")
    assert.matches("next: it belongs to a run that has ended: each run of a middleware of bus.use gets its own",
      reply.headers["Nats-Service-Error"], 1, true)
    assert.same({}, world:said())
  end)

  it("may answer by itself, and then the handler does not run", function()
    run [[
      bus.use(function(msg, next)
        if msg:header "token" ~= "secret" then return nil, "who are you?" end
        return next(msg)
      end)
      bus.subscribe("open", function() return "come in" end)
    ]]
    assert.equal("come in", world:request("open", "", { headers = { Token = "secret" } }).data)
    local refused = world:request "open"
    assert.equal("who are you?", refused.headers["Nats-Service-Error"])
  end)

  it("hands on what else the handler is given, and what the middleware puts there", function()
    run [[
      bus.use(function(msg, next) return next() end)
      bus.use(function(msg, next) return next(msg, "extra") end)
      bus.use(function(msg, next, extra) return next({ data = msg.data .. extra }) end)
      bus.subscribe("s", function(msg, extra) return msg.data .. " " .. extra end)
    ]]
    assert.equal("xextra extra", world:request("s", "x").data)
  end)

  it("raises when next is called twice, when it is no function, and after load", function()
    run [[
      for _, wrong in ipairs { 1, "x", {} } do sim.note(select(2, pcall(bus.use, wrong))) end
      sim.note(select(2, pcall(bus.use)))
      bus.use(function(msg, next)
        if msg.subject == "twice" then next(msg) end
        local reply = next(msg)
        return reply
      end)
      bus.subscribe("twice", function() sim.note "ran" end)
      bus.subscribe("late", function() return select(2, pcall(bus.use, function() end)) end)
    ]]
    assert.matches("next: called a second time", world:request("twice").headers["Nats-Service-Error"])
    assert.equal("s.lua:9: bus.use: only while the script loads (register at the top level)",
      world:request("late").data)
    local said = world:said()
    assert.equal("s.lua:1: bus.use: expected a function as the middleware, got a number", said[1])
    assert.equal("s.lua:2: bus.use: expected a function as the middleware, got nothing", said[4])
    assert.equal("ran", said[5])
    assert.is_nil(said[6])
    assert.equal(5, world:logged("error")[1].line)
  end)

  it("leaves an error its place in the handler, and the log knows no line of the host", function()
    run [[
      bus.use(function(msg, next)
        return next(msg)
      end)
      bus.use(function(msg, next)
        local r = next(msg)
        return r
      end)
      bus.subscribe("fails", function()
        error "broken"
      end)
    ]]
    world:request "fails"
    local event = world:logged("error")[1]
    assert.same({ "s.lua", 9 }, { event.file, event.line })
    assert.matches("s.lua:9: in function", event.traceback)
    assert.matches("s.lua:5: in function", event.traceback)
    assert.is_nil(event.traceback:find("moonbus", 1, true))
  end)

  it("sees a cancelled handler's error, and can clean up", function()
    run [[
      bus.use(function(msg, next)
        local ok, err = pcall(next, msg)
        sim.note(tostring(ok) .. " " .. err.code)
        error(err, 0)
      end)
      bus.subscribe("wait", { timeout = "2s" }, function() bus.sleep "1h" end)
    ]]
    world:publish "wait"
    world:advance "10s"
    assert.same({ "2000 false cancelled" }, world:said { at = true })
  end)

  it("goes with its version: what runs ends with the old one", function()
    local text = [[
      bus.use(function(msg, next) local r = next(msg); sim.note "%s"; return r end)
      bus.subscribe("wait", function() bus.sleep "2s" end)]]
    local host = run(text:format "old")
    world:publish "wait"
    world:advance "1s"
    host:reload("s.lua", sim.script(text:format "new"), true)
    world:publish "wait"
    world:advance "5s"
    assert.same({ "old", "new" }, world:said())
  end)
end)
