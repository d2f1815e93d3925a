local raw = require "spec.support.raw"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- Whoever may publish writes any header, also those by which a server speaks to its clients.
describe("what a stranger publishes", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local STATUSES = {
    ["a header Status: 404"] = { "Status: 404" },
    ["a header Status: 409, of a deleted consumer"] = { "Status: 409", "Description: Consumer Deleted" },
    ["a header Status: 100"] = { "Status: 100", "Description: Idle Heartbeat" },
    ["a number of pending messages"] = { "Status: 408", "Nats-Pending-Messages: 4294967295" },
    ["the status line of an empty stream"] = "NATS/1.0 404 No Messages\r\n\r\n",
    ["the status line of a deleted consumer"] = "NATS/1.0 409 Consumer Deleted\r\n\r\n",
    ["the status line of nobody"] = "NATS/1.0 503\r\n\r\n",
    ["a service's error"] = { "Nats-Service-Error: no", "Nats-Service-Error-Code: 500" },
    ["a size that is none"] = { "Nats-Msg-Size: 99" },
    ["no header block"] = "\0\r\n:",
  }

  for what, lines in pairs(STATUSES) do
    it("to a stream with " .. what .. " is handled as any message, and stops no consumer", function()
      w.client:stream("IN", { "in.>" })
      raw.publish(w.server, "in.strange", lines, "")
      w.client:store("in.next", "data")
      local runs = w.client:subscribe "runs"
      w:run [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.consume("IN", { durable = "worker", concurrency = 1 }, function(msg)
          bus.publish("runs", msg.subject .. " " .. msg.attempt)
        end)
      ]]
      local seen = runs:take(2)
      assert.same({ "in.strange 1", "in.next 1" }, { seen[1].data, seen[2].data })
      w.client:await_settled("IN", "worker", 5)
    end)
  end

  it("to a stream with a status has its dead letter", function()
    w.client:stream("IN", { "in.>" })
    w.client:stream("DEAD", { "dead" })
    raw.publish(w.server, "in.strange", { "Status: 404", "K: v" }, "")
    w:run [[
      local js = require "moonbus.jetstream"
      js.consume("IN", { durable = "worker", dead_letter = "dead" }, function(msg) msg:reject "no" end)
    ]]
    local letter = w.client:await_stored("DEAD", 1)[1]
    assert.same({ "404", "v", "in.strange" }, { letter:header "Status", letter:header "K",
      letter:header "Moonbus-Subject" })
  end)

  describe("as a reply", function()
    local ASKS = [[
      local bus = require "moonbus"
      bus.subscribe("go", function()
        local reply, err = bus.request("service", "")
        return reply and { status = reply:header "Status", data = reply.data, after = reply:header "Retry-After" }
          or { code = err.code }
      end)
    ]]

    local function answered(lines, data)
      local service, answer = w.client:subscribe "service", w.client:subscribe "answer"
      w.client:publish("go", "", nil, "answer")
      raw.publish(w.server, service:next().reply, lines, data)
      return answer:next():json()
    end

    it("with a status of 503 is a reply, with any header beside it or data", function()
      w:run(ASKS)
      assert.same({ status = "503", data = "", after = "5" }, answered { "Status: 503", "Retry-After: 5" })
      assert.same({ status = "503", data = "busy" }, answered({ "Status: 503" }, "busy"))
      assert.same({ data = "", after = "5" }, answered "NATS/1.0 503 Busy\r\nRetry-After: 5\r\n\r\n")
      assert.same({ data = "busy" }, answered("NATS/1.0 503\r\n\r\n", "busy"))
    end)

    it("is none where the server says that nobody serves the subject", function()
      w:run(ASKS)
      assert.equal("no_responders", w.client:request("go", ""):json().code)
    end)

    it("with a status of 503 is printed by moonbus req", function()
      local service = w.client:subscribe "service"
      local req = w:start { command = "req", args = { "service", "", "-s", w.server.url },
        server = false, level = false, format = false }
      raw.publish(w.server, service:next().reply, { "Status: 503", "Retry-After: 5" }, "")
      assert.equal(0, req:wait(5), req:stderr())
    end)
  end)

  it("does not end moonbus sub", function()
    local sub = w:start { command = "sub", args = { "t", "--count", "3", "-s", w.server.url },
      server = false, level = false, format = false }
    wait.eventually(function() return sub:stderr():find "subscribed" end)
    raw.publish(w.server, "t", { "Status: 503" }, "")
    raw.publish(w.server, "t", "NATS/1.0 503\r\n\r\n", "")
    raw.publish(w.server, "t", "NATS/1.0 503\r\nK\r\n\r\n", "the last")
    assert.equal(0, sub:wait(5), sub:stderr())
    assert.matches("the last", sub:stdout(), 1, true)
  end)

  it("in the names of a dead letter's headers says nothing of it, and is there when it is put back", function()
    w.client:stream("IN", { "in.>" })
    w.client:stream("DEAD", { "dead" })
    local lines = { "Moonbus-Subject: in.elsewhere", "Moonbus-Reference: true", "Moonbus-Stream: X",
      "Moonbus-Orig-Nats-Rollup: all", "Moonbus-Orig-Nats-TTL: 1s", "Nats-Msg-Size: 7", "K: v" }
    raw.publish(w.server, "in.a", lines, "data")
    local host = w:run [[
      local js = require "moonbus.jetstream"
      js.consume("IN", { durable = "worker", dead_letter = "dead" }, function(msg) msg:reject "no" end)
    ]]
    local letter = w.client:await_stored("DEAD", 1)[1]
    assert.same({ { "in.a" }, { "IN" } },
      { letter.headers["Moonbus-Subject"], letter.headers["Moonbus-Stream"] })
    host:stop()
    w.client:api("STREAM.MSG.DELETE.IN", { seq = 1 })
    local run = w:cli { "redrive", "DEAD" }
    assert.equal(0, run.status, run.stdout)
    local back = w.client:message("IN", 2)
    assert.equal("in.a", back.subject)
    assert.equal("data", back.data)
    back.headers["Nats-Msg-Id"] = nil
    assert.same({ ["Moonbus-Subject"] = { "in.elsewhere" }, ["Moonbus-Reference"] = { "true" },
      ["Moonbus-Stream"] = { "X" }, ["Moonbus-Orig-Nats-Rollup"] = { "all" },
      ["Moonbus-Orig-Nats-TTL"] = { "1s" }, ["Nats-Msg-Size"] = { "7" }, K = { "v" } }, back.headers)
  end)

  -- Streams store up to 64 KB of headers; a letter adds its own.
  for what, case in pairs {
    ["very many headers"] = { ("a:\r\n"):rep(12000), "more than 1000 headers" },
    ["headers as large as a stream takes"] = { "a: " .. ("x"):rep(65500) .. "\r\n", "too large for the dead letter" },
  } do
    it("with " .. what .. " has its dead letter, too, and holds up nobody", function()
      w.client:stream("IN", { "in.>" })
      w.client:stream("DEAD", { "dead" })
      raw.publish(w.server, "in.strange", "NATS/1.0\r\n" .. case[1] .. "\r\n", "data")
      wait.eventually(function() return w.client:stream_info "IN".state.messages == 1 end)
      local host = w:run [[
        local js = require "moonbus.jetstream"
        js.consume("IN", { durable = "worker", dead_letter = "dead" }, function(msg) msg:reject "no" end)
      ]]
      local letter = w.client:await_stored("DEAD", 1)[1]
      assert.equal("true", (letter:header "Moonbus-Reference"))
      host:wait_log(case[2] .. ": only a reference to it is stored")
      w.client:await_settled("IN", "worker")
    end)
  end
end)
