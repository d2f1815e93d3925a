-- moonbus replay: the code on disk on one stored message; and the files of messages that it writes.
local cjson = require "cjson"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local web = require "spec.support.web"
local world = require "spec.support.world"

local ORDERS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "ORDERS", subjects = { "orders.>" }, storage = "memory" }
js.stream { name = "OUT", subjects = { "out.>" }, storage = "memory" }
js.stream { name = "DEAD", subjects = { "dead.>" }, storage = "memory" }

local function price(order)
  local key = bus.settings.key
  local items = order.items
  return items.count * 2
end

js.consume("ORDERS", { durable = "billing", filter = "orders.created", attempts = 2, dead_letter = "dead.billing",
  backoff = { min = "100ms", max = "100ms", jitter = 0 } }, function(msg)
  local order = msg:json()
  bus.log.info("billing", { id = order.id })
  js.publish("out.invoices", ("%d: %d"):format(order.id, price(order)), { headers = { Kind = "new" } })
  bus.publish("ticks", "tick")
end)

js.consume("ORDERS", { durable = "shipping", filter = "orders.shipped", timeout = "1m" }, function(msg)
  bus.sleep("10s")
  local reply, err = bus.request("carrier.book", msg:json())
  if not reply then return nil, err end
  return true
end)

js.consume("ORDERS", { durable = "calling", filter = "orders.called" }, function(msg)
  local answer, err = bus.http.get(msg.data)
  if not answer then return nil, err end
  js.publish("out.called", answer.body)
end)

bus.subscribe("orders.asked", function(msg) return { got = msg.data } end)
]]

local function has(text, ...)
  for _, part in ipairs { ... } do
    assert.is_truthy(text:find(part, 1, true), part .. " in\n" .. text)
  end
end

local function lacks(text, part)
  assert.is_nil(text:find(part, 1, true), part .. " in\n" .. text)
end

describe("moonbus replay", function()
  local w, folder = world.new()
  setup(function() w:open() end)
  before_each(function()
    w.client:stream("ORDERS", { "orders.>" })
    w.client:stream("OUT", { "out.>" })
    w.client:stream("DEAD", { "dead.>" })
    folder = w:folder()
    temp.write(folder, "handlers/orders.lua", ORDERS)
    temp.write(folder, "moonbus.lua", 'return { settings = { key = secret "KEY" } }')
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local ENV = { KEY = "sesame-4711" }

  local function replay(...)
    return w:cli({ "replay", ... }, { folder = folder, env = ENV })
  end

  local function replay_without_server(...)
    return w:moonbus({ "replay", ... }, { folder = folder, env = ENV })
  end

  local function write(name, text) temp.write(folder, name, text) end

  local function ends(run, status)
    assert.equal(status, run.status, run.stdout .. run.stderr)
    return run.stdout, run.stderr
  end

  local function outcome(run)
    local decoded = cjson.decode(run.stdout)
    return decoded.handlers[1], decoded
  end

  local function count(stream) return w.client:stream_info(stream).state.messages end

  -- What a real host stored and buried of these messages.
  local function handle(...)
    local host = w:run { handlers = { ["orders.lua"] = ORDERS }, config = 'return { settings = { key = "k" } }' }
    local last
    for _, data in ipairs { ... } do last = w.client:store("orders.created", data).seq end
    wait.eventually(function() return w.client:consumer_info("ORDERS", "billing").ack_floor.stream_seq == last end)
    assert.equal(0, host:stop())
  end

  describe("a message of a stream", function()
    it("says what its handler would do, and does nothing of it", function()
      local sequence = w.client:store("orders.created", '{"id":7,"items":{"count":3}}').seq
      local heard = w.client:subscribe "ticks"
      local out = ends(replay("ORDERS", tostring(sequence)), 0)
      has(out, "ORDERS #1 orders.created, stored 20", "orders.lua ORDERS/billing, attempt 1: ack",
        "log info: billing", "would publish out.invoices (JetStream to OUT)", ":billing:1:0.1:out.invoices",
        "Kind: new", "7: 6", "would publish ticks (core NATS)",
        "it would succeed; nothing was published or acknowledged")
      assert.same({ 0, 0 }, { count "OUT", count "DEAD" })
      assert.is_nil(heard:next(0))
      assert.equal(0, w.client:api("CONSUMER.NAMES.ORDERS").total)
    end)

    it("would publish under the ids that the real run has used", function()
      handle '{"id":1,"items":{"count":3}}'
      local run = outcome(replay("ORDERS", "1", "--json"))
      local stored = w.client:message("OUT", 1)
      assert.same({ stored.headers["Nats-Msg-Id"][1], stored.data },
        { run.published[1].id, run.published[1].data })
    end)

    it("shows an error with its traceback and the values of locals, but no secret", function()
      w.client:store("orders.created", '{"id":8}')
      local run = replay("ORDERS", "1")
      local out = ends(run, 1)
      has(out, "attempt 1: nak in 100ms", "attempt to index local 'items' (a nil value)",
        "orders.lua:9: in function 'price'",
        "order = {id = 8}", "items = nil", 'key = "(secret)"', "it would not succeed")
      lacks(out .. run.stderr, "sesame")
      lacks(replay("ORDERS", "1", "--json").stdout, "sesame")
    end)

    it("hides what secret() gave in data, logs and where it was cut", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "d" }, function(msg)
          local long = ("x"):rep(195) .. bus.settings.key
          bus.log.info("it is " .. bus.settings.key)
          js.publish("out.x", ("y"):rep(295) .. bus.settings.key, { headers = { Token = bus.settings.key } })
          error("not " .. bus.settings.key)
        end)]])
      w.client:store("orders.created", "x")
      for _, each in ipairs { replay("ORDERS", "1"), replay("ORDERS", "1", "--json") } do
        lacks(each.stdout, "sesa")
        has(each.stdout, "(secret)")
      end
    end)

    it("hides a secret of several lines in each form that it is printed in", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "d" }, function(msg)
          local kept = bus.settings.key
          bus.log.info("it is " .. kept, { key = kept })
          js.publish("out.x", { key = kept })
          js.publish("out.x", kept)
          error("not " .. kept)
        end)]])
      w.client:store("orders.created", "x")
      for _, more in ipairs { {}, { "--json" } } do
        local out = w:cli({ "replay", "ORDERS", "1", unpack(more) }, { folder = folder,
          env = { KEY = '-----BEGIN "KEY"-----\nses/ame\t\1+4711==\n-----END-----\n' } }).stdout
        lacks(out, "ses/")
        lacks(out, "ses\\/")
        has(out, "(secret)")
      end
    end)

    it("shows the locals of the innermost function, over gather and a coroutine", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        local function inner(depth)
          local mine = { depth = depth }
          bus.sleep("1s")
          error("deep")
        end
        js.consume("ORDERS", { durable = "d" }, function(msg)
          bus.gather {
            function()
              inner(3)
            end,
          }
        end)]])
      w.client:store("orders.created", "x")
      has(ends(replay("ORDERS", "1"), 1), "mine = {depth = 3}", "depth = 3")
    end)

    it("waits in simulated time, and ends a handler by its timeout", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "d", filter = "orders.a" }, function() bus.sleep("4m") end)
        js.consume("ORDERS", { durable = "long", filter = "orders.c", timeout = "30h" }, function()
          bus.sleep("24h")
        end)
        js.consume("ORDERS", { durable = "late", filter = "orders.b" }, function()
          local before = "it sleeps"
          bus.sleep("24h")
        end)]])
      w.client:store("orders.a", "x")
      w.client:store("orders.b", "x")
      local run = replay("ORDERS", "1")
      has(ends(run, 0), "ack, after 4m (")
      run = replay("ORDERS", "2")
      has(ends(run, 1), "timeout, nak in", "the handler ran longer than its timeout of 5m", 'before = "it sleeps"')
      w.client:store("orders.c", "x")
      has(ends(replay("ORDERS", "3"), 0), "ack, after 24h (")
      assert.is_true(run.seconds < 60)
    end)

    it("tells each verdict", function()
      local verdicts = {
        { "msg:term('old')", "term", "term (dropped on purpose)" }, { "msg:nak('7s')", "nak", "nak in 7s" },
        { "msg:reject('bad')", "dead_letter", "dead letter to dead.x" }, { "return nil, 'why'", "nak", "why" },
        { "msg:ack() error 'late'", "ack", "ack" },
      }
      w.client:store("orders.created", "x")
      for _, each in ipairs(verdicts) do
        write("handlers/orders.lua", ([[
          require "moonbus.jetstream".consume("ORDERS", { durable = "d", dead_letter = "dead.x" }, function(msg)
            %s
          end)]]):format(each[1]))
        has(replay("ORDERS", "1").stdout, each[3])
        assert.equal(each[2], outcome(replay("ORDERS", "1", "--json")).verdict)
      end
    end)

    it("has the handler run alone, after its start hooks, and none of its timers", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        local ready = "not ready"
        bus.on("start", function() ready = "ready" end)
        bus.every("1s", function() js.publish("out.tick", "t") end)
        js.stream { name = "ELSEWHERE", subjects = { "else.>" }, mirror = nil }
        js.consume("NOT_THERE", { durable = "other" }, function() end)
        js.consume("ORDERS", { durable = "d" }, function() bus.sleep("10s") js.publish("out.x", ready) end)]])
      w.client:store("orders.created", "x")
      local run = outcome(replay("ORDERS", "1", "--json"))
      assert.same({ "ack", 1, "ready" }, { run.verdict, #run.published, run.published[1].data })
    end)

    it("says that a start hook failed, and goes on", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        bus.on("start", function() assert(bus.request("prices.all", "")) end)
        js.consume("ORDERS", { durable = "d" }, function() end)]])
      w.client:store("orders.created", "x")
      has(ends(replay("ORDERS", "1"), 0), "ORDERS/d, attempt 1: ack", "start hook failed: nobody is asked in a replay",
        "not answered: prices.all")
      write("stubs.lua", 'local script = ...\nscript:stub("prices.all", "{}")')
      lacks(ends(replay("ORDERS", "1", "--stub", "stubs.lua"), 0), "failed")
    end)

    it("runs each handler that takes it, or the one that is named", function()
      write("handlers/more.lua", [[
        local js = require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "audit" }, function(msg) error "audit" end)]])
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}')
      has(ends(replay("ORDERS", "1"), 1), "ORDERS/billing, attempt 1: ack", "ORDERS/audit, attempt 1: nak",
        "1 of 2 handlers would not succeed")
      lacks(ends(replay("ORDERS", "1", "--handler", "billing"), 0), "audit")
      ends(replay("ORDERS", "1", "--handler", "ORDERS/audit"), 1)
    end)

    it("is replied to, where its subject is that of a subscription", function()
      w.client:store("orders.asked", "hey")
      has(ends(replay("ORDERS", "1"), 0), 'orders.asked, attempt 1: ok', 'replies: {"got":"hey"}')
    end)

    it("is a request to the endpoint of a service, too", function()
      write("handlers/orders.lua", [[
        local bus = require "moonbus"
        local prices = bus.service { name = "prices", version = "1.0.0" }
        prices:endpoint("ask", { subject = "orders.priced" }, function(msg) return "9 for " .. msg.data end)]])
      w.client:store("orders.priced", "tea")
      has(ends(replay("ORDERS", "1"), 0), "attempt 1: ok", "replies: 9 for tea")
    end)

    it("is run by other code with --against, which need not be in the config", function()
      write("new/handler.lua", ORDERS:gsub("%* 2", "* 3"))
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}')
      has(ends(replay("ORDERS", "1", "--against", "new"), 0), '7: 9')
      has(ends(replay("ORDERS", "1", "--against", "new/handler.lua"), 0), '7: 9')
    end)

    it("comes as the delivery that is asked for", function()
      w.client:store("orders.created", '{"id":8}')
      has(ends(replay("ORDERS", "1", "--attempt", "2"), 1), "attempt 2: dead letter to dead.billing",
        "would bury it in dead.billing (JetStream to DEAD)")
      assert.equal(0, count "DEAD")
    end)

    it("keeps its bytes, and has its headers", function()
      write("handlers/orders.lua", [[
        require "moonbus.jetstream".consume("ORDERS", { durable = "d" }, function(msg)
          if msg.data ~= "\0\255\r\n" then error "data" end
          if msg.headers.kind ~= "a" or #msg:header_values "Kind" ~= 2 then error "other" end
          if msg.sequence ~= 1 or msg.stream ~= "ORDERS" or msg.consumer ~= "d" then error "elsewhere" end
        end)]])
      w.client:store("orders.created", "\0\255\r\n", { Kind = { "a", "b" } })
      ends(replay("ORDERS", "1"), 0)
    end)

    it("may lie far behind the beginning of its stream", function()
      w.client:api("STREAM.PURGE.ORDERS", { seq = 900000 })
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}')
      local sequence = w.client:stream_info("ORDERS").state.last_seq
      has(ends(replay("ORDERS", tostring(sequence)), 0), ":billing:" .. sequence .. ":")
    end)

    it("is taken by a durable that begins elsewhere, or that others make", function()
      write("handlers/orders.lua", [[
        local js = require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "new", deliver = "new" }, function() end)
        js.consume("ORDERS", { durable = "late", deliver = { sequence = 1000 } }, function() end)
        js.consume("ORDERS", { durable = "last", deliver = "last_per_subject" }, function() end)
        js.consume("ORDERS", { durable = "theirs", bind = true }, function() end)
        js.consume("ORDERS", { durable = "batches", batch = { size = 10, wait = "1s" } }, function(list) end)
        js.consume("ORDERS", { durable = "ordered", order_by = "subject" }, function() end)]])
      w.client:store("orders.created", "x")
      has(ends(replay("ORDERS", "1"), 0), "ORDERS/new, attempt 1: ack", "ORDERS/late, attempt 1: ack",
        "ORDERS/last, attempt 1: ack", "ORDERS/theirs, attempt 1: ack", "ORDERS/batches, attempt 1: ack",
        "ORDERS/ordered, attempt 1: ack", "6 of 6 handlers would succeed")
    end)

    it("does not mind where JetStream's API is, nor where replies come", function()
      write("moonbus.lua", [[
        return { jetstream = { api_prefix = "$JS.API" }, inbox_prefix = "_MINE", settings = { key = "k" } }]])
      w.client:store("orders.shipped", '{"id":1}')
      has(ends(replay("ORDERS", "1"), 1), "not answered: carrier.book")
      write("moonbus.lua", 'return { jetstream = { domain = "hub" }, settings = { key = "k" } }')
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}')
      write("order.json", w:cli { "sub", "--stream", "ORDERS", "--last", "--json" }.stdout)
      ends(replay_without_server("--file", "order.json"), 0)
    end)

    it("is read around by js.get, in the real streams", function()
      write("handlers/orders.lua", [[
        local js = require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "d" }, function(msg)
          local found, err = js.get("OUT", { last = "out.before" })
          js.publish("out.after", found and found.data or err)
        end)]])
      w.client:store("out.before", "it was")
      w.client:store("orders.created", "x")
      has(ends(replay("ORDERS", "1"), 0), "would publish out.after", "it was")
    end)

    it("is not read around by js.messages, which would make a consumer", function()
      write("handlers/orders.lua", [[
        local js = require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "d" }, function(msg)
          for each in assert(js.messages("OUT")) do print(each.data) end
        end)]])
      w.client:store("out.before", "it was")
      w.client:store("orders.created", "x")
      has(ends(replay("ORDERS", "1"), 1), "js.messages and the like read nothing in a replay",
        "not answered: reading in order (js.messages and the like) of OUT\n")
      assert.equal(0, w.client:api("CONSUMER.NAMES.OUT").total)
    end)

    it("reads what it has put into buckets, which only it sees", function()
      write("handlers/orders.lua", [[
        local js, kv, objects = require "moonbus.jetstream", require "moonbus.kv", require "moonbus.objects"
        local prices, files = kv.bucket { name = "prices" }, objects.bucket { name = "files" }
        js.consume("ORDERS", { durable = "d" }, function(msg)
          local before = prices:get "tea"
          assert(prices:put("tea", "9"))
          assert(files:put("list", ("x"):rep(200000)))
          js.publish("out.x", (before and before.value or "none") .. " " .. prices:get("tea").value)
        end)]])
      w.client:store("orders.created", "x")
      replay("ORDERS", "1", "--save", "x.json")
      has(ends(replay_without_server("--file", "x.json"), 0), "none 9")
      w.client:stream("KV_prices", { "$KV.prices.>" }, { max_msgs_per_subject = 1 })
      w.client:stream("OBJ_files", { "$O.files.>" })
      w.client:store("$KV.prices.tea", "8")
      has(ends(replay("ORDERS", "1"), 0), "8 9", "would publish $KV.prices.tea (JetStream to KV_prices)")
      assert.equal("8", w.client:message("KV_prices", 1).data)
      assert.equal(0, count "OBJ_files")
    end)

    it("ends a handler that computes for ever", function()
      write("moonbus.lua", 'return { limits = { cpu = "200ms" } }')
      write("handlers/orders.lua", [[
        require "moonbus.jetstream".consume("ORDERS", { durable = "d" }, function()
          local t = {}
          while true do t[1] = tostring {} end
        end)]])
      w.client:store("orders.created", "x")
      has(ends(replay("ORDERS", "1"), 1), "cpu: ran for more than 200ms without waiting")
    end)

    it("is told that no stream takes what its handler publishes", function()
      w.client:delete_stream "OUT"
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}')
      has(ends(replay("ORDERS", "1"), 1), "no_stream", "would publish out.invoices (no stream takes it)")
    end)
  end)

  describe("requests and HTTP calls", function()
    it("are answered by an error that says how to answer them", function()
      w.client:store("orders.shipped", '{"id":1}')
      local asked = w.client:subscribe "carrier.book"
      has(ends(replay("ORDERS", "1"), 1), "asks carrier.book: {\"id\":1}", "nobody is asked in a replay",
        "not answered: carrier.book: by --stub FILE, or for real with --for-real")
      assert.is_nil(asked:next(0))
      w.client:store("orders.called", "http://127.0.0.1:9/x")
      has(ends(replay("ORDERS", "2"), 1), "refused: GET http://127.0.0.1:9/x: nothing is called in a replay")
    end)

    it("are answered by --stub, as in tests", function()
      write("stubs.lua", [[
        local script = ...
        script:stub("carrier.*", function(request) return { booked = request.data.id } end)
        script:stub_http("http://127.0.0.1:9/*", "hello")]])
      w.client:store("orders.shipped", '{"id":1}')
      w.client:store("orders.called", "http://127.0.0.1:9/x")
      ends(replay("ORDERS", "1", "--stub", "stubs.lua"), 0)
      has(ends(replay("ORDERS", "2", "--stub", "stubs.lua"), 0), "calls GET http://127.0.0.1:9/x", "hello")
    end)

    it("end the command, where what --stub gives never ends", function()
      w.client:store("orders.shipped", '{"id":1}')
      local env = { MOONBUS_LUA_DIR = folder .. "/lua" }
      for name, value in pairs(ENV) do env[name] = value end
      -- 5 s of the CPU are long on a busy machine; and once is enough of them.
      local given = temp.read("lua/moonbus/replay/given.lua"):gsub("BLOCKS = 60", "BLOCKS = 600")
      write("lua/moonbus/replay/given.lua", given)
      for _, case in ipairs {
        { 'local script = ...\nscript:stub("carrier.*", function()\n while true do pcall(error) end end)',
          "5s (stubs.lua:3)" },
        { "while true do end", "1s (stubs.lua:1)" },
      } do
        write("stubs.lua", case[1])
        local run = w:cli({ "replay", "ORDERS", "1", "--stub", "stubs.lua" },
          { folder = folder, env = env, deadline = 120 })
        has(select(2, ends(run, 1)), "--stub: ", "it computed for more than " .. case[2])
        write("lua/moonbus/replay/given.lua", (given:gsub("EACH = 5,", "EACH = 1,")))
      end
    end)

    it("end the command, where what --stub gives waits for ever", function()
      w.client:store("orders.shipped", '{"id":1}')
      -- The host's own Lua, with a limit of a second.
      local lua = w:folder()
      assert(os.execute(("cp -r lua/. '%s'"):format(lua)))
      local given = temp.read(lua .. "/moonbus/replay/given.lua")
      temp.write(lua, "moonbus/replay/given.lua", (given:gsub("local BLOCKS = 60", "local BLOCKS = 1")))
      local env = { MOONBUS_LUA_DIR = lua }
      for name, value in pairs(ENV or {}) do env[name] = value end
      write("stubs.lua", 'local script = ...\nscript:stub("carrier.*", function() os.execute "sleep 100" end)')
      local run = w:cli({ "replay", "ORDERS", "1", "--stub", "stubs.lua" }, { folder = folder, env = env })
      has(select(2, ends(run, 1)), 'moonbus replay: --stub: the stub of "carrier.*": it blocks, as by io.read or ' ..
        "os.execute, for more than 1s")
    end)

    it("say what is wrong with the file of --stub", function()
      w.client:store("orders.shipped", "{}")
      local _, said = ends(replay("ORDERS", "1", "--stub", "nope.lua"), 2)
      has(said, "--stub: cannot open nope.lua")
      write("stubs.lua", 'local script = ...\nscript:stub(7, "x")')
      has(ends(replay("ORDERS", "1", "--stub", "stubs.lua"), 1),
        "--stub: stubs.lua:2: stub: subject: expected a subject, got 7")
    end)
  end)

  describe("--for-real", function()
    it("publishes under the ids of the real run, so that nothing is stored twice", function()
      handle '{"id":1,"items":{"count":3}}'
      local heard = w.client:subscribe "ticks"
      w.client:flush()
      has(ends(replay("ORDERS", "1", "--for-real"), 0),
        "publishes out.invoices (stored in OUT, sequence 1 (it was there already))",
        "it succeeded; what was published was sent for real, the message itself stays as it was")
      assert.equal("tick", heard:next(5).data)
      assert.equal(1, count "OUT")
      w.client:store("orders.created", '{"id":2,"items":{"count":1}}')
      has(ends(replay("ORDERS", "2", "--for-real"), 0), "stored in OUT, sequence 2")
      assert.same({ "2: 2", { "new" } }, { w.client:message("OUT", 2).data, w.client:message("OUT", 2).headers.Kind })
    end)

    it("takes no lock of the real cluster, and runs what is under it", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        bus.subscribe("locked", function(msg)
          return bus.lock("door", { cluster = true }, function(lock) return "in " .. tostring(lock.token > 0) end)
        end)]])
      write("locked.json", '{"subject":"locked","data":"x"}')
      for _, more in ipairs { {}, { "--for-real" } } do
        local out = ends(w:cli({ "replay", "--file", "locked.json", unpack(more) }, { folder = folder, env = ENV }), 0)
        has(out, "replies: in true", more[1] and "there was nothing to send" or "nothing was published")
        assert.is_nil(out:find("moonbus_locks", 1, true), out)
      end
      assert.is_nil(w.client:api("STREAM.INFO.KV_moonbus_locks").config)
    end)

    it("does not say that something was sent, where nothing was", function()
      write("handlers/orders.lua", [[
        require "moonbus".subscribe("quiet", function(msg) return "yes" end)]])
      write("quiet.json", '{"subject":"quiet","data":"x"}')
      has(ends(w:cli({ "replay", "--file", "quiet.json", "--for-real" }, { folder = folder, env = ENV }), 0),
        "it succeeded; there was nothing to send, the message itself stays as it was")
    end)

    it("has other random ids in each run, of which none is a duplicate", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        bus.subscribe("rolled", function(msg) js.publish("out.rolled", tostring(math.random(2 ^ 30))) end)]])
      write("rolled.json", '{"subject":"rolled","data":"x"}')
      local function published(run)
        ends(run, 0)
        return outcome(run).published[1]
      end
      local first = published(replay_without_server("--file", "rolled.json", "--json"))
      local second = published(replay_without_server("--file", "rolled.json", "--json"))
      assert.not_equal(first.id, second.id)
      assert.not_equal(first.data, second.data)
      for sequence = 1, 2 do
        local sent = published(replay("--file", "rolled.json", "--for-real", "--json"))
        assert.same({ sequence, false }, { sent.sequence, sent.duplicate or false })
      end
    end)

    it("publishes with the reply subject that the handler gives", function()
      write("handlers/orders.lua", [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "d" }, function() bus.publish("ticks", "tick", { reply = "answers" }) end)]])
      local heard = w.client:subscribe "ticks"
      w.client:flush()
      w.client:store("orders.created", "x")
      ends(replay("ORDERS", "1", "--for-real"), 0)
      assert.equal("answers", heard:next(5).reply)
    end)

    it("sends what has the headers of a dead letter, where the handler publishes it", function()
      write("handlers/orders.lua", [[
        local js = require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "d" }, function(msg)
          js.publish("out.again", msg.data, { headers = { ["Moonbus-Stream"] = "A", ["Moonbus-Code"] = "timeout" } })
        end)]])
      w.client:store("orders.created", "x")
      has(ends(replay("ORDERS", "1", "--for-real"), 0), "publishes out.again (stored in OUT, sequence 1)")
      assert.equal(1, count "OUT")
    end)

    it("of a file names its server", function()
      write("order.json", '{"subject":"orders.created","data":"x"}')
      has(select(2, ends(replay_without_server("--file", "order.json", "--for-real"), 2)),
        "--file with --for-real: to which server?")
    end)

    it("buries nothing", function()
      w.client:store("orders.created", '{"id":8}')
      ends(replay("ORDERS", "1", "--for-real", "--attempt", "2"), 1)
      assert.equal(0, count "DEAD")
    end)

    it("asks and calls for real", function()
      local site = web.start()
      finally(function() site:close() end)
      w.client:store("orders.called", site:url "/slow/1")
      has(ends(replay("ORDERS", "1", "--for-real"), 0), "stored in OUT, sequence 1")
      w.client:store("orders.shipped", '{"id":1}')
      has(ends(replay("ORDERS", "2", "--for-real"), 1), 'no_responders: nobody serves "carrier.book"')
      w:run [[require "moonbus".subscribe("carrier.book", function() return { ok = true } end)]]
      ends(replay("ORDERS", "2", "--for-real"), 0)
    end)
  end)

  describe("a dead letter", function()
    it("is followed to its message and its handler", function()
      handle('{"id":1}') -- one after the other: letters of one moment come in any order
      handle('{"id":2,"items":{"count":1}}', '{"id":3}')
      has(ends(replay("--dead", "DEAD", "1"), 1), "ORDERS #1 orders.created, stored 20",
        "dead letter DEAD #1: handler_error: attempt to index local 'items' (a nil value), attempt 2 of billing",
        "ORDERS/billing, attempt 2: dead letter to dead.billing")
      has(ends(replay("--dead", "DEAD"), 1), "ORDERS #3 orders.created", "order = {id = 3}")
      has(ends(replay("--dead", "DEAD", "--last"), 1), "ORDERS #3 orders.created")
      write("handlers/orders.lua", ORDERS:gsub("items.count %* 2", "items and 1 or 0"))
      ends(replay("--dead", "DEAD", "1"), 0)
      assert.equal(2, count "DEAD")
    end)

    it("has its message, when that is gone from its stream", function()
      handle('{"id":1}')
      w.client:purge "ORDERS"
      has(ends(replay("--dead", "DEAD"), 1), "ORDERS #1 orders.created, stored 20", "note: the original is gone",
        "order = {id = 1}")
    end)

    it("that is only a reference has its message as long as that is there", function()
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}')
      local stamp = outcome(replay("ORDERS", "1", "--json")).published[1].id:match "^ORDERS:(%d+):"
      w.client:store("dead.billing", "", {
        ["Moonbus-Stream"] = "ORDERS", ["Moonbus-Sequence"] = "1", ["Moonbus-Timestamp"] = stamp,
        ["Moonbus-Subject"] = "orders.created", ["Moonbus-Consumer"] = "billing", ["Moonbus-Attempt"] = "1",
        ["Moonbus-Code"] = "handler_error", ["Moonbus-Reference"] = "1",
      })
      has(ends(replay("--dead", "DEAD"), 0), "ORDERS #1 orders.created", "7: 6")
      w.client:purge "ORDERS"
      has(select(2, ends(replay("--dead", "DEAD"), 1)),
        "the letter is only a reference to stream ORDERS, sequence 1, and the original is gone from there")
    end)

    it("names the handler that is there no more", function()
      handle('{"id":1}')
      write("handlers/orders.lua", ORDERS:gsub('"billing"', '"invoicing"', 1))
      local _, said = ends(replay("--dead", "DEAD"), 1)
      has(said, 'no handler "billing" takes "orders.created" of stream ORDERS', "ORDERS/invoicing of orders.lua")
      ends(replay("--dead", "DEAD", "--handler", "invoicing"), 1)
    end)

    it("is one, else that is said", function()
      w.client:store("orders.created", "x")
      local _, said = ends(replay("--dead", "ORDERS", "1"), 1)
      has(said, "ORDERS: its sequence 1 is no dead letter")
      _, said = ends(replay("--dead", "DEAD"), 1)
      has(said, "stream DEAD is empty")
    end)
  end)

  describe("a file", function()
    it("has the message, for a replay without a server", function()
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}', { Kind = { "a", "b" } })
      local saved = outcome(replay("ORDERS", "1", "--save", "order.json", "--json"))
      local message = cjson.decode(temp.read(folder .. "/order.json"))
      assert.same({ "orders.created", "ORDERS", 1, { "a", "b" } },
        { message.subject, message.stream, message.sequence, message.headers.Kind })
      local run = replay_without_server("--file", "order.json", "--json")
      ends(run, 0)
      assert.same(saved.published[1].id, outcome(run).published[1].id)
    end)

    it("is safe for any bytes, in data and headers", function()
      local all = {}
      for byte = 0, 255 do all[#all + 1] = string.char(byte) end
      write("handlers/orders.lua", [[
        require "moonbus.jetstream".consume("ORDERS", { durable = "d" }, function(msg)
          if #msg.data ~= 256 or msg.data:byte(256) ~= 255 or msg.headers.odd ~= "\255\254" then error "other" end
        end)]])
      w.client:store("orders.created", table.concat(all), { Odd = "\255\254" })
      ends(replay("ORDERS", "1", "--save", "bytes.json"), 0)
      ends(replay_without_server("--file", "bytes.json"), 0)
    end)

    it("is what `moonbus sub --json` prints, too", function()
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}')
      write("order.json", w:cli { "sub", "--stream", "ORDERS", "--json" }.stdout)
      has(ends(replay_without_server("--file", "order.json"), 0), "ORDERS #1", ":billing:1:0.1:out.invoices")
    end)

    it("of a dead letter has its handler and its attempt", function()
      handle('{"id":1}')
      ends(replay("--dead", "DEAD", "--save", "dead.json"), 1)
      has(ends(replay_without_server("--file", "dead.json"), 1), "ORDERS/billing, attempt 2: dead letter")
    end)

    it("is a fixture of tests, where the message lies in its place", function()
      w.client:store("orders.asked", "first")
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}', { Kind = "old" })
      local id = outcome(replay("ORDERS", "2", "--save", "handlers/order.json", "--json")).published[1].id
      write("handlers/orders_test.lua", ([[
        local test = require "moonbus.test"
        local orders = test.load "handlers/orders.lua"
        it("bills it", function()
          local r = orders:deliver(test.fixture "order.json")
          assert.same({ "ack", 2, "orders.created" }, { r.verdict, r.sequence, r.runs[1].subject })
          assert.equal(%q, r.published[1].id)
          assert.equal("ack", orders:deliver("orders.created", { id = 9, items = { count = 1 } }).verdict)
        end)
        it("wants a file that is there", function()
          assert.has_error(function() test.fixture "nope.json" end)
        end)]]):format(id))
      local run = w:moonbus({ "test" }, { folder = folder, env = ENV })
      ends(run, 0)
    end)

    it("that is none is refused, with what is wrong", function()
      for text, wrong in pairs {
        ["no json"] = "it is no message", ["[1]"] = 'it has no "subject"',
        ['{"subject":"a b"}'] = "is none to publish to",
        ['{"subject":"a","data":1}'] = '"data" is not a string', ['{"subject":"a","data_base64":"%"}'] = "is no base64",
        ['{"subject":"a","headers":{"a:b":"c"}}'] = "a bad name",
        ['{"subject":"a","headers":{"a":["x\\n"]}}'] = "line breaks",
        ['{"subject":"a","sequence":0.5}'] = "whole numbers",
        ['{"subject":"a","time":"yesterday"}'] = '"time": yesterday is none',
        ['{"subject":"a","dead_letter":{}}'] = "--dead STREAM SEQ",
      } do
        write("bad.json", text)
        local _, said = ends(replay_without_server("--file", "bad.json"), 2)
        has(said, "bad.json: ", wrong)
      end
      local _, said = ends(replay_without_server("--file", "nope.json"), 2)
      has(said, "nope.json: No such file")
    end)
  end)

  describe("what is not there", function()
    it("is named, with what is there", function()
      w.client:store("orders.created", "1")
      w.client:store("orders.created", "2")
      w.client:api("STREAM.MSG.DELETE.ORDERS", { seq = 1 })
      w.client:store("orders.created", "3")
      for arguments, said in pairs {
        ["NOPE 1"] = 'there is no stream "NOPE" on nats://127.0.0.1',
        ["ORDERS 9"] = "stream ORDERS has no sequence 9: it holds 2 to 3",
        ["ORDERS 1"] = "stream ORDERS has no sequence 1: it holds 2 to 3",
        ["DEAD 1"] = "stream DEAD is empty",
        ["ORDERS 2 --handler nope"] = 'no handler "nope" takes "orders.created" of stream ORDERS',
      } do
        local list = { "replay" }
        for word in arguments:gmatch "%S+" do list[#list + 1] = word end
        local run = w:cli(list, { folder = folder, env = ENV })
        assert.equal(1, run.status, arguments)
        has(run.stderr, said)
      end
    end)

    it("is a handler for the subject", function()
      w.client:store("orders.nobody", "1")
      local _, said = ends(replay("ORDERS", "1"), 1)
      has(said, 'no handler takes "orders.nobody" of stream ORDERS', "ORDERS/billing of orders.lua (orders.created)",
        "--against PATH")
    end)

    it("is a script that loads", function()
      write("handlers/broken.lua", "syntax error here")
      w.client:store("orders.nobody", "1")
      w.client:store("orders.created", '{"id":7,"items":{"count":3}}')
      local _, said = ends(replay("ORDERS", "1"), 1)
      has(said, "broken.lua does not load: ")
      _, said = ends(replay("ORDERS", "2"), 0)
      has(said, "note: handlers/broken.lua does not load: ")
    end)

    it("is said as JSON, where the log is that", function()
      local _, said = ends(replay("ORDERS", "9", "--log-format", "json"), 1)
      assert.same({ "error", "stream ORDERS is empty: it has no sequence 9" },
        { cjson.decode(said).level, cjson.decode(said).msg })
    end)

    it("is a server", function()
      local run = w:moonbus({ "replay", "ORDERS", "1", "-s", "nats://127.0.0.1:1" }, { folder = folder, env = ENV })
      has(select(2, ends(run, 1)), "cannot connect to nats://127.0.0.1:1")
    end)
  end)

  it("refuses what makes no sense, with status 2", function()
    for arguments, said in pairs {
      [""] = "which message?", ["ORDERS"] = "SEQ is missing", ["ORDERS x"] = 'SEQ: must be a number from 1',
      ["ORDERS 0"] = "SEQ: must be a number from 1", ["OR.DERS 1"] = "stream name",
      ["ORDERS 1 2"] = "too many arguments",
      ["--last"] = "--dead STREAM --last", ["--dead D 1 --last"] = "exclude each other",
      ["--dead D --file f"] = "exclude each other", ["--file f ORDERS 1"] = "exclude each other",
      ["ORDERS 1 --attempt 0"] = "--attempt: must be", ["ORDERS 1 --against nope"] = "nope: No such file",
    } do
      w.client:store("orders.created", "x")
      local list = { "replay" }
      for word in arguments:gmatch "%S+" do list[#list + 1] = word end
      local run = w:cli(list, { folder = folder, env = ENV })
      assert.equal(2, run.status, arguments .. "\n" .. run.stdout .. run.stderr)
      has(run.stderr, said)
    end
  end)
end)

describe("moonbus replay of large messages", function()
  local w = world.new { config = "max_payload: 4194304" }
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("lets through what the server does", function()
    local folder = w:folder()
    temp.write(folder, "handlers/orders.lua", [[
      local js = require "moonbus.jetstream"
      js.consume("ORDERS", { durable = "d" }, function(msg)
        assert(js.publish("out.a", msg.data:sub(1, 2000000)))
        local stored, err = js.publish("out.a", msg.data .. msg.data)
        assert(not stored and err.code == "too_large", err)
        msg:ack()
      end)]])
    w.client:stream("ORDERS", { "orders.>" })
    w.client:stream("OUT", { "out.>" })
    w.client:store("orders.a", ("x"):rep(3000000))
    local run = w:cli({ "replay", "ORDERS", "1", "--save", "large.json" }, { folder = folder })
    assert.equal(0, run.status, run.stdout .. run.stderr)
    assert.is_truthy(run.stdout:find("3,000,000 bytes", 1, true))
    assert.is_true(#run.stdout < 4000)
    run = w:moonbus({ "replay", "--file", "large.json" }, { folder = folder })
    assert.is_truthy(run.stdout:find("too_large", 1, true), run.stdout)
  end)
end)
