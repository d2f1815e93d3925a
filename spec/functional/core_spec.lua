local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("core NATS", function()
  local w = world.new { config = "max_payload: 65536" }
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- What a handler that runs `body` replies; the message is `msg`.
  local function reply_of(body, data, options)
    w:run(([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
bus.subscribe("spec", function(msg)
%s
end)]]):format(body))
    return assert(w.client:request("spec", data or "", options))
  end

  describe("bus.subscribe", function()
    it("takes what its subject matches", function()
      w:run [[
        local bus = require "moonbus"
        bus.subscribe("greet.*", function(msg) return "hello " .. msg.subject end)
        bus.subscribe("all.>", function(msg) return "all " .. msg.subject end)
      ]]
      assert.equal("hello greet.ada", w.client:request("greet.ada", "").data)
      assert.equal("all all.a.b.c", w.client:request("all.a.b.c", "").data)
      assert.same({ nil, "no responders" }, { w.client:request("greet.ada.bob", "") })
    end)

    it("gives each message to one member of a queue group, over two hosts", function()
      local served = w.client:subscribe "served"
      local handler = [[
        local bus = require "moonbus"
        bus.subscribe("job", { queue = "crew" }, function(msg) bus.publish("served", msg.data) end)
      ]]
      w:run(handler)
      w:run(handler)
      for index = 1, 40 do w.client:publish("job", tostring(index)) end
      local seen = {}
      for _, message in ipairs(served:take(40)) do seen[message.data] = true end
      for index = 1, 40 do assert.is_true(seen[tostring(index)]) end
      assert.is_nil(served:next(0.1))
    end)

    it("gives each message to every host without a queue group", function()
      local served = w.client:subscribe "served"
      local handler = [[
        local bus = require "moonbus"
        bus.subscribe("news", function(msg) bus.publish("served", msg.data) end)
      ]]
      w:run(handler)
      w:run(handler)
      w.client:publish("news", "x")
      assert.equal(2, #served:take(2))
    end)

    it("gives one process a message once, however many workers it has", function()
      local served = w.client:subscribe "served"
      w:run { handlers = { ["handler.lua"] = [[
        local bus = require "moonbus"
        bus.subscribe("news", function(msg) bus.publish("served", msg.data) end)
      ]] }, args = { "--workers", "4" } }
      for index = 1, 50 do w.client:publish("news", tostring(index)) end
      assert.equal(50, #served:take(50))
      assert.is_nil(served:next(0.1))
    end)

    it("runs as many handlers at a time as concurrency says", function()
      local trace = w.client:subscribe "trace"
      w:run { handlers = { ["handler.lua"] = [[
        local bus = require "moonbus"
        bus.subscribe("job", { concurrency = 2 }, function(msg)
          bus.publish("trace", "in")
          bus.sleep("30ms")
          bus.publish("trace", "out")
        end)
      ]] }, args = { "--workers", "4" } }
      for _ = 1, 10 do w.client:publish("job", "") end
      local now, most = 0, 0
      for _, message in ipairs(trace:take(20)) do
        now = now + (message.data == "in" and 1 or -1)
        most = math.max(most, now)
      end
      assert.equal(2, most)
    end)

    it("handles many messages at a time, each in its own coroutine", function()
      w:run [[
        local bus = require "moonbus"
        bus.subscribe("slow", function(msg)
          bus.sleep("300ms")
          bus.publish("done", msg.data)
        end)
      ]]
      local done = w.client:subscribe "done"
      local began = wait.now()
      for index = 1, 20 do w.client:publish("slow", tostring(index)) end
      assert.equal(20, #done:take(20))
      assert.is_true(wait.now() - began < wait.within(3))
    end)

    it("ends a handler at its timeout, with an error at what it waits for", function()
      local leaks = w.client:subscribe "leak"
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("slow", { timeout = "150ms" }, function(msg)
          pcall(bus.sleep, "1m")
          bus.publish("leak", "still here")
          return "late"
        end)
      ]]
      local reply = w.client:request("slow", "")
      assert.equal("500", reply:header "Nats-Service-Error-Code")
      assert.matches("timeout", reply:header "Nats-Service-Error")
      host:wait_log { level = "error", code = "timeout", handler = "slow", script = "handler.lua" }
      assert.same({}, leaks:arrived())
    end)

    it("ends a handler that does not wait at the first function that it calls after its timeout", function()
      local leaks = w.client:subscribe "leak"
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("slow", { timeout = "150ms" }, function(msg)
          local began = os.clock()
          repeat until os.clock() - began > 0.3
          bus.publish("leak", "still here")
          return "late"
        end)
      ]]
      assert.matches("timeout", w.client:request("slow", ""):header "Nats-Service-Error")
      host:wait_log { level = "error", code = "timeout", handler = "slow" }
      assert.same({}, leaks:arrived())
    end)

    it("does not send to a reply subject that would end its connection", function()
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("a", function(msg) return msg.data end)
      ]]
      w.client:publish("a", "x", nil, ("r"):rep(4091))
      host:wait_log { level = "error", code = "too_large", handler = "a" }
      assert.equal("y", w.client:request("a", "y").data)
      assert.same({}, host:logged { msg = "connection to .* lost" })
    end)
  end)

  describe("what a handler returns", function()
    it("is the reply, as bytes without a content-type", function()
      local reply = reply_of [[ return "text" ]]
      assert.equal("text", reply.data)
      assert.is_nil(reply:header "content-type")
    end)

    it("is JSON when it is a table", function()
      local reply = reply_of [[ return { total = 42, items = { "a", "b" } } ]]
      assert.same({ total = 42, items = { "a", "b" } }, reply:json())
      assert.equal("application/json", reply:header "content-type")
    end)

    it("is bytes as they are", function()
      assert.equal("\0\255\n\r\128", reply_of([[ return "\0\255\n\r\128" ]]).data)
    end)

    it("is not sent when msg:respond was called", function()
      w:run [[
        require "moonbus".subscribe("spec", function(msg)
          msg:respond("first", { headers = { Kind = "own" } })
          return "second"
        end)
      ]]
      local inbox = w.client:subscribe "inbox"
      w.client:publish("spec", "", nil, "inbox")
      local reply = inbox:next()
      assert.equal("first", reply.data)
      assert.same({ "own" }, reply.headers.Kind)
      assert.is_nil(inbox:next(0.1))
    end)

    it("goes nowhere when nobody asked", function()
      local host = w:run [[
        require "moonbus".subscribe("spec", function(msg)
          print("reply to", tostring(msg.reply))
          return "unheard"
        end)
      ]]
      w.client:publish("spec", "")
      host:wait_log "reply to\tnil"
      assert.same({}, host:logged { level = "error" })
    end)

    it("is an error when it cannot be sent, which stops nobody", function()
      local host = w:run [[
local bus = require "moonbus"
bus.subscribe("nonsense", function() return print end)
bus.subscribe("loop", function() local t = {} t.t = t return t end)
bus.subscribe("fine", function() return "fine" end)]]
      for _, subject in ipairs { "nonsense", "loop" } do
        local reply = w.client:request(subject, "")
        assert.equal("500", reply:header "Nats-Service-Error-Code", subject)
        local event = host:wait_log { level = "error", handler = subject }
        assert.equal("handler.lua", event.file)
      end
      assert.equal("fine", w.client:request("fine", "").data)
    end)
  end)

  describe("a handler that fails", function()
    local FAILING = [[
local bus = require "moonbus"
bus.subscribe("raise", function()
  error "out of paper"
end)
bus.subscribe("give_up", function() return nil, "out of ink" end)
bus.subscribe("false", function() return false, "out of luck" end)
bus.subscribe("bug", function(msg)
  local nothing
  return nothing.field
end)
bus.subscribe("bad_json", function(msg) return msg:json() end)
bus.subscribe("reject", function(msg) msg:reject("not for us") end)
bus.subscribe("fine", function() return "fine" end)]]

    it("answers with an error, logs one line with file and line, and stops nobody", function()
      local host = w:run(FAILING)
      for subject, expected in pairs {
        raise = { "500", "out of paper", 3 }, give_up = { "500", "out of ink" },
        ["false"] = { "500", "out of luck" }, bug = { "500", "nothing", 9 },
        bad_json = { "400", "" }, reject = { "400", "not for us" },
      } do
        local reply = w.client:request(subject, "no { JSON")
        assert.equal(expected[1], reply:header "Nats-Service-Error-Code", subject)
        assert.is_truthy(reply:header("Nats-Service-Error"):find(expected[2], 1, true), subject)
        local event = host:wait_log { level = "error", handler = subject }
        assert.equal("handler.lua", event.file, subject)
        if expected[3] then assert.equal(expected[3], event.line, subject) end
        assert.equal(1, #host:logged { level = "error", handler = subject })
      end
      assert.equal("fine", w.client:request("fine", "").data)
    end)

    it("has its traceback in the log", function()
      local host = w:run(FAILING)
      w.client:request("raise", "")
      local event = host:wait_log { level = "error", handler = "raise" }
      assert.matches("handler%.lua:3", event.traceback)
    end)

    it("may raise anything", function()
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("table", function() error { code = "odd", message = "a table" } end)
        bus.subscribe("nil", function() error(nil) end)
        bus.subscribe("evil", function()
          error(setmetatable({}, { __tostring = function() error "again" end }))
        end)
        bus.subscribe("fine", function() return "fine" end)
      ]]
      for _, subject in ipairs { "table", "nil", "evil" } do
        local reply = w.client:request(subject, "")
        assert.equal("500", reply:header "Nats-Service-Error-Code", subject)
        host:wait_log { level = "error", handler = subject }
      end
      assert.equal("fine", w.client:request("fine", "").data)
    end)

    it("cannot forge a line of the log", function()
      local host = w:run {
        handlers = { ["handler.lua"] = [[
          require "moonbus".subscribe("forge", function(msg) error(msg.data) end)
        ]] }, format = false, args = { "--log-format", "text" },
      }
      w.client:request("forge", "x\n14:02:07.123 ERROR forged")
      wait.eventually(function() return host:stderr():find "forged" end)
      assert.is_nil(host:stderr():find "\n14:02:07%.123 ERROR forged")
    end)
  end)

  describe("a message", function()
    it("has its subject, data and headers, found in any case", function()
      local reply = reply_of([[
        return { subject = msg.subject, data = msg.data, one = msg.headers["x-one"],
          again = msg:header("X-ONE"), none = tostring(msg.headers.none),
          values = msg:header_values("X-Many"), first = msg.headers["X-Many"] }
      ]], "data", { headers = { ["X-One"] = "1", ["X-Many"] = { "a", "b", "c" } } }):json()
      assert.same({ subject = "spec", data = "data", one = "1", again = "1", none = "nil",
        values = { "a", "b", "c" }, first = "a" }, reply)
    end)

    it("has data of any bytes", function()
      local bytes = {}
      for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
      bytes = table.concat(bytes)
      assert.equal(bytes, reply_of([[ return msg.data ]], bytes).data)
    end)

    it("is no JetStream message", function()
      local reply = reply_of [[ return { s = tostring(msg.stream), n = tostring(msg.sequence) } ]]
      assert.same({ s = "nil", n = "nil" }, reply:json())
    end)

    it("reads its JSON, integers to 2^53 exactly", function()
      local reply = reply_of([[ return msg:json() ]],
        '{"big":9007199254740992,"small":-9007199254740991,"pi":3.25,"text":"\\u00e4"}')
      assert.is_truthy(reply.data:find("9007199254740992", 1, true), reply.data)
      assert.is_truthy(reply.data:find("-9007199254740991", 1, true), reply.data)
      assert.is_truthy(reply.data:find("3.25", 1, true), reply.data)
    end)

    it("gives nil, err for bad JSON when it is asked not to raise", function()
      local reply = reply_of([[
        local value, err = msg:json { strict = false }
        return { value = tostring(value), code = err.code, text = tostring(err) }
      ]], "{ no"):json()
      assert.equal("nil", reply.value)
      assert.equal("bad_payload", reply.code)
      assert.matches("bad_payload", reply.text)
    end)

    it("has no JSON in bytes that are not UTF-8", function()
      local reply = reply_of([[
        local value, err = msg:json { strict = false }
        return { value = tostring(value), code = err and err.code }
      ]], '{"a":"\255\254"}'):json()
      assert.same({ value = "nil", code = "bad_payload" }, reply)
    end)

    it("has no JSON in what only begins like it, nor with an array for a key", function()
      for _, text in ipairs { '{"a":1}\0{"a":2}', "\0", "{[]:1}", '{"a":[],[ ] :1}' } do
        local reply = reply_of([[
          local value, err = msg:json { strict = false }
          return { value = tostring(value), code = err and err.code }
        ]], text):json()
        assert.same({ value = "nil", code = "bad_payload" }, reply)
      end
    end)

    it("has empty arrays as such, whatever strings are beside them", function()
      local reply = reply_of([[ return bus.json.encode(msg:json()) ]],
        '{"a":["\\u007fmoonbus empty array\\u007f",[],"[]",{}]}')
      assert.equal('{"a":["\127moonbus empty array\127",[],"[]",{}]}', reply.data)
    end)

    it("is named when it is misused", function()
      local reply = reply_of [[
        local ok, err = pcall(msg.header, msg)
        local ok2, err2 = pcall(function() return msg:header_values(7, 8) and msg.nosuch() end)
        return { ok = ok, ok2 = ok2, err = tostring(err) }
      ]]:json()
      assert.is_false(reply.ok)
      assert.is_false(reply.ok2)
      assert.matches("header", reply.err)
    end)

    it("can be read, and answered, after its handler has ended", function()
      w:run [[
        local bus = require "moonbus"
        bus.script { workers = 1 }
        local kept
        bus.subscribe("keep", function(msg) kept = msg return "kept" end)
        bus.subscribe("say", function()
          collectgarbage()
          kept:respond("late")
          return { kept.subject, kept.data, kept.reply, tostring(kept.sequence) }
        end)
      ]]
      local late = w.client:subscribe "late"
      w.client:publish("keep", "a word", nil, "late")
      assert.equal("kept", late:next().data)
      assert.same({ "keep", "a word", "late", "nil" }, w.client:request("say", ""):json())
      assert.equal("late", late:next().data)
    end)

    it("settles nothing when it is no JetStream message", function()
      local reply = reply_of [[
        local ok, err = pcall(msg.ack, msg)
        return { ok = ok }
      ]]
      assert.is_nil(reply:header "Nats-Service-Error")
    end)
  end)

  describe("bus.json", function()
    it("decodes null in an object to nil", function()
      local reply = reply_of([[
        local body = msg:json()
        return { type = type(body.gone), kept = body.kept }
      ]], '{"gone":null,"kept":1}'):json()
      assert.same({ type = "nil", kept = 1 }, reply)
    end)

    it("has null and array for when it matters", function()
      local reply = reply_of [[
        return bus.json.encode { a = bus.json.null, b = bus.json.array {}, c = {} }
      ]]
      local text = reply.data:gsub("%s", "")
      assert.is_truthy(text:find('"a":null', 1, true), text)
      assert.is_truthy(text:find('"b":[]', 1, true), text)
      assert.is_truthy(text:find('"c":{}', 1, true), text)
    end)

    it("decodes what it encoded", function()
      local reply = reply_of [[
        local value = { n = 9007199254740991, list = { 1, 2, 3 }, nested = { deep = { "x" } } }
        local back = bus.json.decode(bus.json.encode(value))
        return back
      ]]
      assert.is_truthy(reply.data:find("9007199254740991", 1, true))
      assert.same({ 1, 2, 3 }, reply:json().list)
      assert.same({ deep = { "x" } }, reply:json().nested)
    end)

    it("raises for what JSON cannot hold", function()
      local reply = reply_of [[
        local bad = { f = pcall(bus.json.encode, { f = print }),
          nan = pcall(bus.json.encode, { n = 0/0 }), inf = pcall(bus.json.encode, 1/0) }
        local cycle = {}
        cycle.self = cycle
        bad.cycle = pcall(bus.json.encode, cycle)
        return bad
      ]]:json()
      assert.same({ f = false, nan = false, inf = false, cycle = false }, reply)
    end)
  end)

  describe("bus.log", function()
    it("logs with level, script and the user's fields", function()
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("talk", function()
          bus.log.debug("one")
          bus.log.info("two", { order = 7, who = "ada" })
          bus.log.warn("three")
          bus.log.error("four")
          return ""
        end)
      ]]
      w.client:request("talk", "")
      for text, level in pairs { one = "debug", two = "info", three = "warn", four = "error" } do
        local event = host:wait_log("^" .. text .. "$")
        assert.equal(level, event.level)
        assert.equal("handler.lua", event.script)
      end
      local fields = host:wait_log("^two$").fields
      assert.same({ order = 7, who = "ada" }, fields)
    end)

    it("raises when it is misused", function()
      local reply = reply_of [[ return tostring(pcall(bus.log.info, "x", "y")) ]]
      assert.equal("false", reply.data)
    end)
  end)

  it("tells the version and the settings", function()
    local reply = reply_of [[ return { version = bus.version, settings = type(bus.settings) } ]]:json()
    assert.matches("^%d+%.%d+%.%d+", reply.version)
    assert.equal("table", reply.settings)
  end)
end)
