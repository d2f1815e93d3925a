-- What a core handler replies, to whom, and when it keeps silent.
local server = require "spec.support.server"
local temp = require "spec.support.temp"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- A script that looks on at `subject`, with these options and this body.
local function onlooker(subject, options, body)
  return ([[
local bus = require "moonbus"
bus.subscribe(%q, { %s }, function(msg)
  bus.publish("_looked", msg.subject)
  %s
end)]]):format(subject, options or "", body or "")
end

describe("the reply of a core handler", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- What came to the reply subject of a message that a handler with this body has handled. The
  -- handler's last word is a message of its own, which overtakes no reply.
  local function replies_to(body, options)
    w:run(([[
local bus = require "moonbus"
bus.subscribe("spec", { concurrency = 1, %s }, function(msg)
  if msg.data == "end" then
    bus.publish(msg.headers.to, "the end")
    return
  end
  %s
end)]]):format(options or "", body))
    local inbox = w.client:subscribe "_answers"
    w.client:publish("spec", "x", nil, "_answers")
    w.client:publish("spec", "end", { to = "_answers" })
    local list = {}
    for index = 1, 10 do
      list[index] = inbox:next()
      if list[index].data == "the end" then
        list[index] = nil
        return list
      end
    end
  end

  it("is an error when its timeout is over, whatever it catches and returns", function()
    for _, body in ipairs { 'pcall(bus.sleep, "1m") return "in time"', 'bus.sleep "1m"' } do
      local replies = replies_to(body, 'timeout = "50ms"')
      assert.same({ 1, "500" }, { #replies, replies[1]:header "Nats-Service-Error-Code" })
      assert.matches("longer than its timeout of 50ms", replies[1]:header "Nats-Service-Error")
      w:clear()
    end
  end)

  it("is none when it returns nothing", function()
    assert.same({}, replies_to "return")
  end)

  it("is none when it returns nil", function()
    assert.same({}, replies_to "return nil")
  end)

  it("is an empty one when it returns an empty string", function()
    local list = replies_to [[ return "" ]]
    assert.equal(1, #list)
    assert.equal("", list[1].data)
  end)

  it("is an empty one when it says msg:respond \"\"", function()
    local list = replies_to [[ msg:respond "" ]]
    assert.equal(1, #list)
    assert.equal("", list[1].data)
  end)

  it("is the one that msg:respond gave, whatever it returns", function()
    local list = replies_to [[ msg:respond "once" return "twice" ]]
    assert.equal(1, #list)
    assert.equal("once", list[1].data)
  end)

  describe("with reply = false", function()
    local bodies = {
      ["a value"] = [[ return "mine" ]],
      ["an error"] = [[ error "not today" ]],
      ["nil, err"] = [[ return nil, "not today" ]],
      ["bad JSON"] = [[ return msg:json() ]],
      ["msg:reject"] = [[ msg:reject "not today" ]],
      ["a timeout"] = [[ bus.sleep "1m" ]],
    }
    it("is greeted as what it is", function()
      local host = w:run {
        command = "dev", format = false, args = { "--nats-port", tostring(posix.free_port()) },
        handlers = { ["handler.lua"] = [[
          require("moonbus").subscribe("seen.>", { reply = false }, function() end)]] },
      }
      assert.matches("handler%.lua +seen%.> +looks on\n", host:stdout())
    end)

    for what, body in pairs(bodies) do
      it("is none at " .. what, function()
        assert.same({}, replies_to(body, [[ reply = false, timeout = "50ms" ]]))
      end)
    end

    it("leaves its errors to the log", function()
      local host = w:run(onlooker("spec", "reply = false", [[ error "not today" ]]))
      w.client:publish("spec", "x", nil, "_answers")
      host:wait_log { level = "error", msg = "not today", handler = "spec" }
    end)

    it("makes msg:respond raise", function()
      local host = w:run(onlooker("spec", "reply = false", [[ msg:respond "mine" ]]))
      w.client:publish("spec", "x", nil, "_answers")
      host:wait_log { level = "error", msg = "msg:respond: .*reply = false", file = "handler.lua" }
    end)
  end)

  describe("never goes by itself to what begins with $:", function()
    local DELETE = "$JS.API.STREAM.DELETE.ORDERS"

    local function survives(body, options)
      w.client:stream("ORDERS", { "orders.>" })
      local looked = w.client:subscribe "_looked"
      local host = w:run(onlooker("svc.echo", options, body))
      for _ = 1, 20 do w.client:publish("svc.echo", "", nil, DELETE) end
      looked:take(20)
      assert.equal("x", (w:run(onlooker("svc.other", nil, [[ return "x" ]])) and
        w.client:request("svc.other", "")).data)
      assert.is_true(wait.holds(function() return w.client:stream_info "ORDERS" end, 0.1))
      return host
    end

    it("not a value: who may publish to a service deletes no stream", function()
      local host = survives [[ return "" ]]
      local told = host:wait_log { level = "warn", msg = "asks for its reply at", handler = "svc.echo" }
      assert.matches(DELETE, told.msg, 1, true)
      assert.equal(1, #host:logged "asks for its reply at")
    end)

    it("not an error", function()
      local host = survives [[ error "not today" ]]
      assert.equal(1, #host:logged "asks for its reply at")
    end)

    it("nor what msg:respond is given, which says so", function()
      local host = survives [[
        local ok, err = msg:respond ""
        print(tostring(ok), err.code)
      ]]
      host:wait_log("^nil\tpermission$", 5, 20)
      assert.equal(1, #host:logged "asks for its reply at")
    end)

    it("nor to JetStream's API under another prefix", function()
      local api = w.client:subscribe "hub.js.>"
      local looked = w.client:subscribe "_looked"
      local host = w:run {
        handlers = { ["handler.lua"] = onlooker("svc.echo", "concurrency = 1", [[ return "x" ]]) },
        config = [[ return { jetstream = { api_prefix = "hub.js" } } ]],
      }
      w.client:publish("svc.echo", "", nil, "hub.js.STREAM.DELETE.ORDERS")
      w.client:publish("svc.echo", "", nil, "hub.js2.fine")
      looked:take(2)
      host:wait_log "asks for its reply at"
      -- The host's own questions, for streams and what the server can do, are all that comes there.
      local own = { ["hub.js.STREAM.NAMES"] = true, ["hub.js.INFO"] = true }
      for _, message in ipairs(api:arrived()) do
        assert.is_true(own[message.subject], message.subject)
      end
    end)
  end)

  it("acknowledges no message of another's consumer", function()
    w.client:stream("ORDERS", { "orders.>" })
    w.client:consumer("ORDERS", "shop", { ack_wait = 60e9 })
    local looked = w.client:subscribe "_looked"
    local host = w:run(onlooker(">", [[ drop = "new" ]], [[
      if not (msg.reply or ""):find "^%$JS%.ACK" then return end
      if msg.data == "value" then return "seen" end
      if msg.data == "error" then error "seen" end
    ]]):gsub('bus.publish%("_looked", msg.subject%)',
      'if msg.subject:find "^orders" and msg.reply then bus.publish("_looked", msg.reply) end'))
    for _, data in ipairs { "nothing", "value", "error" } do w.client:store("orders.new", data) end
    local deliveries = w.client:subscribe "_deliver"
    w.client:publish("$JS.API.CONSUMER.MSG.NEXT.ORDERS.shop", '{"batch":3,"expires":2000000000}',
      nil, "_deliver")
    deliveries:take(3)
    -- Each was looked at twice: when it was stored, and when it was delivered.
    local acks = 0
    wait.eventually(function()
      for _, message in ipairs(looked:arrived()) do
        if message.data:find "^%$JS%.ACK" then acks = acks + 1 end
      end
      return acks == 3
    end)
    host:wait_log("asks for its reply at")
    assert.is_true(wait.holds(function()
      local info = w.client:consumer_info("ORDERS", "shop")
      return info.num_ack_pending == 3 and info.ack_floor.stream_seq == 0
    end, 0.15))
  end)

  it("takes no PubAck's place when the handler only looks on", function()
    w.client:stream("ORDERS", { "orders.>" })
    local looked = w.client:subscribe "_looked"
    w:run(onlooker("orders.>"))
    for index = 1, 100 do
      assert.equal(index, w.client:request("orders.new", "x"):json().seq)
    end
    looked:take(100)
  end)
end)

describe("a core handler that listens where a stream stores", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local WARNING = { level = "warn", msg = "the stream ORDERS stores these messages" }

  local function looks_at(subject, options) return onlooker(subject, options, [[ return "x" ]]) end

  for _, subject in ipairs { "orders.new", "orders.*", "*.new", "orders.>", ">" } do
    it("is warned of at the start: " .. subject, function()
      w.client:stream("ORDERS", { "orders.new", "orders.paid.*" })
      local event = w:run(looks_at(subject)):wait_log(WARNING)
      assert.same({ "handler.lua", subject, "handler.lua", 2 },
        { event.script, event.handler, event.file, event.line })
      assert.matches("reply = false", event.msg, 1, true)
    end)
  end

  it("does not answer what is asked of the server: that is warned of, once", function()
    local host = w:run { handlers = { ["handler.lua"] = looks_at ">" } }
    for _ = 1, 20 do
      local reply = w.client:request("$JS.API.INFO", "")
      assert.is_truthy(reply:json().limits, reply.data)
    end
    assert.matches("$JS.API.", host:wait_log("is the server's to answer").msg, 1, true)
    assert.equal("x", w.client:request("elsewhere", "").data)
    assert.equal(1, #host:logged "is the server's to answer")
  end)

  it("is warned of at a reload, too", function()
    w.client:stream("ORDERS", { "orders.>" })
    local host = w:run { handlers = { ["handler.lua"] = looks_at "other" }, args = { "--watch" } }
    temp.write(host.folder, "handlers/handler.lua", looks_at "orders.>")
    host:wait_log "generation 2 live"
    host:wait_log(WARNING)
  end)

  it("is not when it says reply = false, or listens elsewhere", function()
    w.client:stream("ORDERS", { "orders.new" })
    local host = w:run { handlers = {
      ["a.lua"] = looks_at("orders.>", "reply = false"), ["b.lua"] = looks_at "orders.old",
      ["c.lua"] = looks_at "orders.*.new", ["z.lua"] = looks_at "orders.new",
    } }
    assert.equal("z.lua", host:wait_log(WARNING).script)
    assert.is_true(wait.holds(function() return #host:logged(WARNING) == 1 end, 0.15))
  end)

  it("starts as fast without JetStream, and says nothing of it", function()
    local plain = server.start { jetstream = false }
    local client = plain:connect()
    finally(function() client:close() plain:close() end)
    local host = w:run { handlers = { ["handler.lua"] = looks_at "orders.>" }, server = plain }
    assert.is_true(host.ready_ms < 1000 * wait.within(1))
    assert.equal("x", client:request("orders.new", "").data)
    assert.same({}, host:logged { level = "warn" })
    assert.same({}, host:logged { level = "error" })
  end)

  it("starts for a user who may not ask, and says nothing of it", function()
    local strict = server.start { config = [[
      authorization { users = [
        { user: ada, password: a, permissions: { publish: ["_INBOX.>", "_looked"], subscribe: ">" } }
        { user: bob, password: b }
      ] } ]] }
    local client = strict:connect { user = "bob", password = "b" }
    finally(function() client:close() strict:close() end)
    client:stream("ORDERS", { "orders.>" }, { no_ack = true })
    local host = w:run { handlers = { ["handler.lua"] = looks_at "orders.>" }, server = strict,
      args = { "--user", "ada", "--password", "a" } }
    assert.equal("x", client:request("orders.new", "").data)
    host:wait_log { level = "debug", msg = "cannot tell what the server has" }
    assert.same({}, host:logged { level = "warn" })
    assert.same({}, host:logged { level = "error" })
  end)
end)
