-- What is sent and asked for over core NATS, and what is carried along.
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

  describe("bus.publish", function()
    it("sends a table as JSON that says so, and bytes and nothing without a content-type", function()
      local sub = w.client:subscribe "out.*"
      reply_of [[
        assert(bus.publish("out.text", "words") == true)
        bus.publish("out.json", { id = 1 })
        bus.publish("out.none")
        return ""
      ]]
      local text, json, none = unpack(sub:take(3))
      assert.same({ "words" }, { text.data, text:header "content-type" })
      assert.equal(1, json:json().id)
      assert.equal("application/json", json:header "content-type")
      assert.same({ "" }, { none.data, none:header "content-type" })
    end)

    it("sends headers, several values for one name, and a reply subject", function()
      local sub = w.client:subscribe "out"
      reply_of [[
        bus.publish("out", "x", { reply = "answers.here",
          headers = { One = "1", Many = { "a", "b" }, ["content-type"] = "image/png" } })
        return ""
      ]]
      local message = sub:next()
      assert.equal("answers.here", message.reply)
      assert.same({ "1" }, message.headers.One)
      assert.same({ "a", "b" }, message.headers.Many)
      assert.equal("image/png", message:header "content-type")
    end)

    it("raises when it is misused, by file and line", function()
      local reply = reply_of [[
local uses = {
  function() bus.publish() end, function() bus.publish("a..b", "x") end,
  function() bus.publish("a.*", "x") end, function() bus.publish("a b", "x") end,
  function() bus.publish("a", print) end, function() bus.publish("a", "x", "y") end,
  function() bus.publish("a", "x", { header = {} }) end,
  function() bus.publish("a", "x", { reply = "a..b" }) end,
  function() bus.publish("a", "x", { headers = { K = print } }) end,
}
local errors = {}
for index, use in ipairs(uses) do
  local ok, err = pcall(use)
  errors[index] = ok and "no error" or tostring(err)
end
return errors]]
      local errors = reply:json()
      assert.equal(9, #errors)
      for _, text in ipairs(errors) do
        assert.matches("handler%.lua:%d+", text)
      end
      assert.is_truthy(errors[2]:find("a..b", 1, true))
      assert.is_truthy(errors[3]:find("a.*", 1, true))
      assert.is_truthy(errors[7]:find("header", 1, true))
    end)

    it("refuses header names and values with line breaks", function()
      local sub = w.client:subscribe "out"
      local reply = reply_of [[
        return {
          (pcall(bus.publish, "out", "x", { headers = { K = "a\r\nEvil: 1" } })),
          (pcall(bus.publish, "out", "x", { headers = { K = "a\nb" } })),
          (pcall(bus.publish, "out", "x", { headers = { ["K\r\nEvil"] = "a" } })),
          (pcall(bus.publish, "out", "x", { headers = { ["K:"] = "a" } })),
          (pcall(bus.publish, "out", "x", { headers = { [""] = "a" } })),
        }
      ]]
      assert.same({ false, false, false, false, false }, reply:json())
      assert.same({}, sub:arrived())
    end)

    it("gives nil, err with too_large above the server's limit", function()
      local sub = w.client:subscribe "out"
      local reply = reply_of [[
        local ok, err = bus.publish("out", ("x"):rep(70000))
        bus.publish("out", "after")
        return { ok = tostring(ok), code = err.code, text = tostring(err) }
      ]]:json()
      assert.equal("nil", reply.ok)
      assert.equal("too_large", reply.code)
      assert.matches("too_large", reply.text)
      assert.equal("after", sub:next().data)
    end)

    it("works on a timer too, and keeps the order of one task", function()
      local sub = w.client:subscribe "out"
      w:run [[
        local bus = require "moonbus"
        bus.after("10ms", function()
          for index = 1, 500 do bus.publish("out", tostring(index)) end
        end)
      ]]
      for index, message in ipairs(sub:take(500)) do assert.equal(tostring(index), message.data) end
    end)
  end)

  describe("bus.request", function()
    it("gives the reply, a message", function()
      local reply = reply_of [[
        return { data = "unused" }
      ]]
      assert.is_table(reply:json())
      w:clear()
      w:run [[
        local bus = require "moonbus"
        bus.subscribe("price", function(msg) return { cents = #msg.data, k = msg.headers.K } end)
        bus.subscribe("ask", function()
          local answer = assert(bus.request("price", "four", { headers = { K = "v" } }))
          return answer:json()
        end)
      ]]
      assert.same({ cents = 4, k = "v" }, w.client:request("ask", ""):json())
    end)

    it("sends a table as JSON", function()
      w:run [[
        local bus = require "moonbus"
        bus.subscribe("double", function(msg) return { n = msg:json().n * 2 } end)
        bus.subscribe("ask", function() return bus.request("double", { n = 21 }):json() end)
      ]]
      assert.equal(42, w.client:request("ask", ""):json().n)
    end)

    it("gives nil, err with no_responders at once when nobody serves", function()
      local reply = reply_of [[
        local began = bus.now()
        local answer, err = bus.request("nobody.here", "x", { timeout = "30s" })
        return { answer = tostring(answer), code = err.code, text = tostring(err),
          quick = bus.now() - began < 10 }
      ]]:json()
      assert.same({ "nil", "no_responders", true }, { reply.answer, reply.code, reply.quick })
      assert.is_truthy(reply.text:find("nobody.here", 1, true))
    end)

    it("gives nil, err with timeout when nobody answers in time", function()
      w.client:subscribe "silent"
      local reply = reply_of [[
        local began = bus.now()
        local answer, err = bus.request("silent", "x", { timeout = "100ms" })
        return { answer = tostring(answer), code = err.code, late = bus.now() - began >= 0.1 }
      ]]:json()
      assert.same({ answer = "nil", code = "timeout", late = true }, reply)
    end)

    it("gives nil, err with service_error when the other side failed", function()
      w:run [[
        local bus = require "moonbus"
        bus.subscribe("broken", function() error "no paper" end)
        bus.subscribe("ask", function()
          local answer, err = bus.request("broken", "x")
          return { answer = tostring(answer), code = err.code, status = err.status,
            text = tostring(err) }
        end)
      ]]
      local reply = w.client:request("ask", ""):json()
      assert.same({ "nil", "service_error", 500 }, { reply.answer, reply.code, reply.status })
      assert.matches("no paper", reply.text)
    end)

    it("understands the error of any NATS service", function()
      local service = w.client:subscribe "elsewhere"
      local asked = w.client:subscribe "answered"
      w:run [[
        local bus = require "moonbus"
        bus.subscribe("ask", function()
          local _, err = bus.request("elsewhere", "x")
          bus.publish("answered", { code = err.code, status = err.status, message = err.message })
        end)
      ]]
      w.client:publish("ask", "")
      w.client:reply(service:next(), "", { ["Nats-Service-Error"] = "gone fishing",
        ["Nats-Service-Error-Code"] = "410" })
      local err = asked:next():json()
      assert.same({ "service_error", 410 }, { err.code, err.status })
      assert.matches("gone fishing", err.message)
    end)

    it("gives nil, err with too_large above the server's limit", function()
      assert.equal("too_large", reply_of([[
        local _, err = bus.request("spec.other", ("x"):rep(70000))
        return err.code
      ]]).data)
    end)

    it("raises when it is misused", function()
      local errors = reply_of([[
local uses = {
  function() bus.request() end, function() bus.request("a..b", "x") end,
  function() bus.request("a.>", "x") end, function() bus.request("a", "x", { timeot = 1 }) end,
  function() bus.request("a", "x", { timeout = "soon" }) end,
}
local errors = {}
for index, use in ipairs(uses) do
  local ok, err = pcall(use)
  errors[index] = ok and "no error" or tostring(err)
end
return errors]]):json()
      for _, text in ipairs(errors) do assert.matches("handler%.lua:%d+", text) end
      assert.is_truthy(errors[4]:find("timeot", 1, true))
      assert.is_truthy(errors[5]:find("soon", 1, true))
    end)

    it("gets an error when its handler is cancelled while it waits", function()
      w.client:subscribe "silent"
      local host = w:run [[
        local bus = require "moonbus"
        bus.subscribe("ask", { timeout = "100ms" }, function()
          bus.request("silent", "x", { timeout = "1m" })
          return "not reached"
        end)
      ]]
      assert.equal("500", w.client:request("ask", ""):header "Nats-Service-Error-Code")
      host:wait_log { level = "error", code = "timeout", handler = "ask" }
    end)

    it("may run many at a time", function()
      w:run [[
        local bus = require "moonbus"
        bus.subscribe("echo", function(msg) return msg.data end)
        bus.subscribe("ask.*", function(msg) return bus.request("echo", msg.subject).data end)
      ]]
      local inbox = w.client:subscribe "inbox"
      for index = 1, 200 do w.client:publish("ask." .. index, "", nil, "inbox") end
      local seen, count = {}, 0
      for _, reply in ipairs(inbox:take(200)) do
        if not seen[reply.data] then count = count + 1 end
        seen[reply.data] = true
      end
      assert.equal(200, count)
    end)
  end)

  describe("correlation_id", function()
    it("is carried from a request to its reply", function()
      local reply = reply_of([[ return "x" ]], "", { headers = { correlation_id = "c-17" } })
      assert.equal("c-17", reply:header "correlation_id")
    end)

    it("is carried to an error reply too", function()
      local reply = reply_of([[ error "x" ]], "", { headers = { correlation_id = "c-18" } })
      assert.equal("c-18", reply:header "correlation_id")
    end)
  end)
end)
