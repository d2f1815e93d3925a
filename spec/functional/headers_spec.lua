local cjson = require "cjson"
local raw = require "spec.support.raw"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- Headers as other clients send them: OpenTelemetry and FastStream send empty values all the time,
-- and whoever may publish may send any bytes at all. nats.c before 3.11 takes an empty value for the
-- beginning of the next line.
describe("headers of a message", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local EMPTY_BEFORE = { "tracestate:", "traceparent: 00-1-2-01", "blank:  ", "K: v", "last:" }

  local TELLS = [[
    local bus, js = require "moonbus", require "moonbus.jetstream"
    local function told(msg)
      local all = {}
      for name, value in pairs(msg.headers) do all[name] = value end
      return { all = all, tracestate = msg.headers.tracestate, last = msg:header "LAST",
        traceparent = msg:header "Traceparent", blanks = msg:header_values "blank" }
    end
  ]]

  local EXPECTED = {
    all = { tracestate = "", traceparent = "00-1-2-01", blank = "", K = "v", last = "" },
    tracestate = "", last = "", traceparent = "00-1-2-01", blanks = { "" },
  }

  describe("with empty values", function()
    it("are all there in a core handler", function()
      w:run(TELLS .. [[bus.subscribe("ask", function(msg) return told(msg) end)]])
      local inbox = w.client:subscribe "answers"
      raw.publish(w.server, "ask", EMPTY_BEFORE, "", "answers")
      assert.same(EXPECTED, inbox:next():json())
      -- The object that keeps its message, as a large one does, reads the same.
      raw.publish(w.server, "ask", EMPTY_BEFORE, ("x"):rep(9000), "answers")
      assert.same(EXPECTED, inbox:next():json())
    end)

    it("are all there in a handler of a stream, and in a batch", function()
      w.client:stream("IN", { "in.>" })
      w:run(TELLS .. [[
        js.consume("IN", { durable = "one" }, function(msg) bus.publish("one", told(msg)) end)
        js.consume("IN", { durable = "many", batch = { size = 2, wait = "10ms" } }, function(list)
          for _, msg in ipairs(list) do bus.publish("many", told(msg)) end
        end)
      ]])
      local one, many = w.client:subscribe "one", w.client:subscribe "many"
      raw.publish(w.server, "in.a", EMPTY_BEFORE, "data")
      assert.same(EXPECTED, one:next():json())
      assert.same(EXPECTED, many:next():json())
    end)

    it("are all there in what a request brings", function()
      w:run(TELLS .. [[
        bus.subscribe("go", function()
          local reply, err = bus.request("service", "")
          return reply and told(reply) or { err = tostring(err) }
        end)
      ]])
      local service, answer = w.client:subscribe "service", w.client:subscribe "answer"
      w.client:publish("go", "", nil, "answer")
      raw.publish(w.server, service:next().reply, EMPTY_BEFORE, "")
      assert.same(EXPECTED, answer:next():json())
    end)

    it("do not hide a service's error, with and without data", function()
      w:run(TELLS .. [[
        bus.subscribe("go", function()
          local _, err = bus.request("service", "")
          return { code = err and err.code, status = err and err.status, text = err and err.message }
        end)
      ]])
      local service, answer = w.client:subscribe "service", w.client:subscribe "answer"
      for _, data in ipairs { "", "data" } do
        w.client:publish("go", "", nil, "answer")
        raw.publish(w.server, service:next().reply, { "tracestate:", "Nats-Service-Error: no paper",
          "empty:", "Nats-Service-Error-Code: 404" }, data)
        assert.same({ code = "service_error", status = 404, text = "no paper" }, answer:next():json())
      end
    end)

    it("do not take the order of a key away", function()
      w.client:stream("IN", { "in.>" })
      w.client:stream("DONE", { "done" })
      for number = 1, 6 do
        raw.publish(w.server, "in.a", { "empty:", "Account: " .. number % 2 }, tostring(number))
      end
      w:run(TELLS .. [[
        js.consume("IN", { durable = "worker", order_by = "header:account" }, function(msg)
          bus.sleep(msg.data == "1" and 0.2 or 0)
          js.publish("done", msg.data)
        end)
      ]])
      local order = {}
      for _, message in ipairs(w.client:await_stored("DONE", 6)) do order[#order + 1] = message.data end
      assert.equal("2 4 6 1 3 5", table.concat(order, " "))
    end)

    it("are all there in a dead letter, and when it is put back", function()
      w.client:stream("IN", { "in.>" })
      w.client:stream("DEAD", { "dead" })
      local host = w:run [[
        local js = require "moonbus.jetstream"
        js.consume("IN", { durable = "worker", dead_letter = "dead" }, function(msg) msg:reject "no" end)
      ]]
      raw.publish(w.server, "in.a", EMPTY_BEFORE, "data")
      local letter = w.client:await_stored("DEAD", 1)[1]
      for name, value in pairs(EXPECTED.all) do assert.equal(value, letter:header(name), name) end
      host:stop()
      assert.equal(0, w:cli { "redrive", "DEAD" }.status)
      local back = w.client:message("IN", 2)
      for name, value in pairs(EXPECTED.all) do assert.equal(value, back:header(name), name) end
    end)

    local function subscribe(...)
      local sub = w:start { command = "sub", args = { "t", "-s", w.server.url, ... }, server = false,
        level = false, format = false }
      wait.eventually(function() return sub:stderr():find "subscribed" end)
      return sub
    end

    for what, data in pairs { ["with data"] = "data", ["without data"] = "" } do
      it("are all shown by moonbus sub, of a message " .. what, function()
        local json, plain = subscribe("--json", "--count", "1"), subscribe("--count", "1")
        raw.publish(w.server, "t", { "tracestate:", "K: 1", "k: 2", "K: 3", "last:" }, data)
        assert.equal(0, json:wait(5))
        assert.same({ tracestate = { "" }, K = { "1", "3" }, k = { "2" }, last = { "" } },
          cjson.decode(json:stdout()).headers)
        assert.equal(0, plain:wait(5))
        assert.matches("tracestate: \nK: 1\nk: 2\nK: 3\nlast: \n", plain:stdout(), 1, true)
      end)

      it("do not hide a service's error from moonbus req, " .. what, function()
        local service = w.client:subscribe "service"
        local req = w:start { command = "req", args = { "service", "", "-s", w.server.url },
          server = false, level = false, format = false }
        raw.publish(w.server, service:next().reply, { "tracestate:", "Nats-Service-Error: no paper",
          "empty:", "Nats-Service-Error-Code: 404" }, data)
        assert.equal(1, req:wait(5))
        assert.matches("service_error: 404: no paper", req:stderr(), 1, true)
      end)
    end
  end)

  describe("of any bytes", function()
    it("give the first of several values, whatever the case of the names", function()
      w:run(TELLS .. [[bus.subscribe("ask", function(msg)
        return { msg.headers["x-case"], msg.headers["X-CASE"], msg:header "x-Case",
          msg:header_values "x-case", told(msg).all }
      end)]])
      local inbox = w.client:subscribe "answers"
      raw.publish(w.server, "ask", { "X-Case: first", "x-case: second", "X-CASE: third" }, "", "answers")
      assert.same({ "first", "first", "first", { "first", "second", "third" }, { ["X-Case"] = "first" } },
        inbox:next():json())
    end)

    it("keep a CR, an LF and a NUL within a value", function()
      w:run(TELLS .. [[bus.subscribe("ask", function(msg) return msg.headers.a end)]])
      local inbox = w.client:subscribe "answers"
      raw.publish(w.server, "ask", { "A: a\rb\nc\0d" }, "", "answers")
      assert.equal("a\rb\nc\0d", inbox:next().data)
    end)

    it("that are no block at all are none, and the message is handled", function()
      w:run(TELLS .. [[bus.subscribe("ask", function(msg) return { n = #msg.data, all = told(msg).all } end)]])
      local inbox = w.client:subscribe "answers"
      for _, block in ipairs { "x", "NATS/1.0", "NATS/1.0\r\n", "NATS/1.0\r\nK", "::::\r\n\r\n",
        "NATS/1.0\r\nK\r\n\r\n", "NATS/1.0\r\n\r\n", "\0\0\0" } do
        raw.publish(w.server, "ask", block, "data", "answers")
        local answer = inbox:next():json()
        assert.equal(4, answer.n)
        assert.is_nil(next(answer.all), block)
      end
    end)

    it("and very many of them, keep no worker busy for long", function()
      w:run(TELLS .. [[bus.subscribe("ask", function(msg)
        local count = 0
        for _ in pairs(msg.headers) do count = count + 1 end
        return { count = count, last = msg.headers["k59999"], values = #msg:header_values "same" }
      end)]])
      local inbox, lines = w.client:subscribe "answers", {}
      for number = 1, 60000 do lines[number] = ("K%d:"):format(number) end
      for _ = 1, 10000 do lines[#lines + 1] = "same: 1" end
      local began = wait.now()
      raw.publish(w.server, "ask", lines, "", "answers")
      assert.same({ count = 60001, last = "", values = 10000 }, inbox:next():json())
      assert.is_true(wait.now() - began < wait.within(2))
    end)

    it("do not keep a reply from its requester", function()
      w:run(TELLS .. [[bus.subscribe("ask", function() return "here" end)]])
      local inbox = w.client:subscribe "answers"
      raw.publish(w.server, "ask", { "correlation_id: a\rb" }, "", "answers")
      assert.equal("here", inbox:next().data)
      raw.publish(w.server, "ask", { "empty:", "correlation_id: 7" }, "", "answers")
      assert.equal("7", inbox:next():header "correlation_id")
    end)
  end)
end)
