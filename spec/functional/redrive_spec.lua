local posix = require "spec.support.posix"
local raw = require "spec.support.raw"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local WORKER = [[
local js = require "moonbus.jetstream"
js.stream { name = "ORDERS", subjects = { "orders.>" }, storage = "memory" }
js.stream { name = "DEAD", subjects = { "dead.>" }, storage = "memory" }
js.stream { name = "DONE", subjects = { "done.>" }, storage = "memory" }
js.consume("ORDERS", { durable = "billing", dead_letter = "dead.billing" }, function(msg)
  if msg.data == "broken" then msg:reject "no paper" return end
  js.publish("done.billing", msg.data)
end)
]]

describe("moonbus redrive", function()
  local w = world.new { config = "max_payload: 65536" }
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function streams()
    w.client:stream("ORDERS", { "orders.>" })
    w.client:stream("DEAD", { "dead.>" })
  end

  -- A dead letter as the host writes it.
  local function bury(subject, data, options)
    options = options or {}
    local headers = {
      ["Moonbus-Stream"] = options.stream or "ORDERS", ["Moonbus-Consumer"] = "billing",
      ["Moonbus-Sequence"] = tostring(options.sequence or 1), ["Moonbus-Subject"] = subject,
      ["Moonbus-Attempt"] = "5", ["Moonbus-Timestamp"] = options.timestamp or "1700000000000000000",
      ["Moonbus-Code"] = "handler_error", ["Moonbus-Error"] = "no paper",
      ["Nats-Msg-Id"] = options.id,
    }
    for name, value in pairs(options.headers or {}) do headers[name] = value end
    return w.client:store(options.dead or "dead.billing", data, headers).seq
  end

  local function redrive(...)
    return w:cli { "redrive", "DEAD", ... }
  end

  local function id_of(sequence)
    return ("DEAD:%s:%d"):format(w.client:stream_info("DEAD").created, sequence)
  end

  local function left(stream)
    return w.client:stream_info(stream or "DEAD").state.messages
  end

  local function data_of(stream)
    local list = {}
    for _, message in ipairs(w.client:messages(stream)) do list[#list + 1] = message.data end
    return table.concat(list, " ")
  end

  local function lines_of(run)
    local list = {}
    for line in run.stdout:gmatch "[^\n]+" do list[#list + 1] = line end
    return list
  end

  local function has(text, ...)
    for _, part in ipairs { ... } do
      assert.is_truthy(text:find(part, 1, true), part .. " in\n" .. text)
    end
  end

  describe("a dead letter", function()
    it("is handled again, when its handler can do it now", function()
      local host = w:run(WORKER)
      w.client:store("orders.created", "broken", { K = { "a", "b" }, ["Nats-Msg-Id"] = "order-1" })
      wait.eventually(function() return left() == 1 end)
      host:stop()
      local run = redrive()
      assert.equal(0, run.status, run.stdout .. run.stderr)
      assert.same({ "1 orders.created -> stored in ORDERS, sequence 2", "1 put back" },
        lines_of(run))
      assert.equal(0, left())
      w:run((WORKER:gsub("broken", "still broken")))
      wait.eventually(function() return left "DONE" == 1 end)
      assert.equal("broken", w.client:message("DONE", 1).data)
    end)

    it("is stored with the data and headers of the original, and none of the letter's", function()
      streams()
      bury("orders.created", "a\0b\255", { headers = {
        K = { "1", "2" }, ["content-type"] = "text/plain", ["Moonbus-Orig-Other"] = "x",
      } })
      assert.equal(0, redrive().status)
      local back = w.client:message("ORDERS", 1)
      assert.equal("orders.created", back.subject)
      assert.equal("a\0b\255", back.data)
      assert.same({ K = { "1", "2" }, ["content-type"] = { "text/plain" }, Other = { "x" },
        ["Nats-Msg-Id"] = { id_of(1) } }, back.headers)
    end)

    it("does not repeat what its headers did when the original was stored", function()
      w.client:stream("ORDERS", { "orders.>" }, { allow_rollup_hdrs = true })
      w.client:stream("DEAD", { "dead.>" })
      w.client:store("orders.created", "newer")
      bury("orders.created", "x", { id = "ORDERS:1:billing:1:dead", headers = {
        ["Moonbus-Orig-Nats-Msg-Id"] = "order-1", ["Moonbus-Orig-Nats-Rollup"] = "all",
        ["Moonbus-Orig-Nats-Expected-Last-Sequence"] = "77",
        ["Moonbus-Orig-Nats-Expected-Stream"] = "ELSEWHERE",
      } })
      local run = redrive()
      assert.equal(0, run.status, run.stdout)
      assert.equal("newer x", data_of "ORDERS")
      assert.same({ ["Nats-Msg-Id"] = { id_of(1) }, -- a rollup's own: no newer one may be in its place
        ["Nats-Expected-Last-Subject-Sequence"] = { "1" } }, w.client:message("ORDERS", 2).headers)
    end)

    it("is stored although the stream remembers the original's id", function()
      streams()
      w.client:store("orders.created", "first", { ["Nats-Msg-Id"] = "order-1" })
      bury("orders.created", "first", { headers = { ["Moonbus-Orig-Nats-Msg-Id"] = "order-1" } })
      assert.equal(0, redrive().status)
      assert.equal("first first", data_of "ORDERS")
    end)

    it("comes back empty, and as large as it may be", function()
      streams()
      bury("orders.created", "")
      local large = ("x"):rep(60000)
      bury("orders.created", large)
      assert.equal(0, redrive().status)
      assert.equal(" " .. large, data_of "ORDERS")
    end)

    it("of a stream that gathers others goes back to the one that it came from", function()
      streams()
      w.client:stream("ALL", nil, { sources = { { name = "ORDERS" } } })
      w.client:stream("DONE", { "done.>" })
      local host = w:run((WORKER:gsub('js.consume%("ORDERS"', 'js.consume("ALL"')))
      w.client:store("orders.created", "broken")
      wait.eventually(function() return left() == 1 end)
      host:stop()
      local run = redrive()
      assert.equal(0, run.status, run.stdout)
      assert.same({ ["Nats-Msg-Id"] = { id_of(1) } }, w.client:message("ORDERS", 2).headers)
      wait.eventually(function() return left "ALL" == 2 end)
    end)

    it("of a letter that died once more goes back to where it died last", function()
      streams()
      w.client:stream("GRAVES", { "graves.>" })
      bury("dead.billing", "x", { dead = "graves.x", id = "outer", headers = {
        ["Moonbus-Subject"] = { "orders.created", "dead.billing" },
        ["Moonbus-Stream"] = { "ORDERS", "DEAD" },
        ["Moonbus-Orig-Nats-Msg-Id"] = { "order-1", "inner" },
      } })
      local run = w:cli { "redrive", "GRAVES" }
      assert.equal(0, run.status, run.stdout)
      local letter = w.client:message("DEAD", 1)
      assert.same({ "orders.created" }, letter.headers["Moonbus-Subject"])
      assert.same({ "ORDERS" }, letter.headers["Moonbus-Stream"])
      assert.same({ "order-1" }, letter.headers["Moonbus-Orig-Nats-Msg-Id"])
      assert.equal(0, redrive().status)
      assert.equal("x", data_of "ORDERS")
    end)
  end)

  describe("what it takes", function()
    it("is every letter, in order, and each is said on a line of its own", function()
      streams()
      for _, data in ipairs { "a", "b", "c" } do bury("orders." .. data, data) end
      local run = redrive()
      assert.equal(0, run.status)
      assert.equal("", run.stderr)
      assert.same({
        "1 orders.a -> stored in ORDERS, sequence 1",
        "2 orders.b -> stored in ORDERS, sequence 2",
        "3 orders.c -> stored in ORDERS, sequence 3",
        "3 put back",
      }, lines_of(run))
      assert.same({ "0 put back" }, lines_of(redrive()))
    end)

    it("is the first ones with --count", function()
      streams()
      for _, data in ipairs { "a", "b", "c" } do bury("orders." .. data, data) end
      assert.same(0, redrive("--count", "2").status)
      assert.equal("a b", data_of "ORDERS")
      assert.equal("c", data_of "DEAD")
    end)

    it("is told by --subject: the letter's own, or the original's", function()
      streams()
      bury("orders.created", "a", { dead = "dead.billing" })
      bury("orders.created", "b", { dead = "dead.mail" })
      bury("orders.paid", "c", { dead = "dead.mail" })
      assert.equal(0, redrive("--subject", "dead.billing").status)
      assert.equal("a", data_of "ORDERS")
      assert.equal(0, redrive("--subject", "*.paid").status)
      assert.equal("a c", data_of "ORDERS")
      assert.same({ "0 put back" }, lines_of(redrive("--subject", "orders.other")))
      assert.equal(0, redrive("--subject", "orders.created").status)
      assert.equal("a c b", data_of "ORDERS")
    end)

    it("leaves alone, and counts, what is no dead letter", function()
      streams()
      w.client:store("dead.note", "a note", { K = "v" })
      bury("orders.created", "x")
      w.client:store("dead.note", "another")
      local run = redrive()
      assert.equal(0, run.status)
      assert.equal("1 put back, 2 skipped: no dead letters", lines_of(run)[2])
      assert.equal("a note another", data_of "DEAD")
    end)

    it("leaves alone what is no dead letter, whatever its headers; a letter that cannot be sent is kept", function()
      streams()
      raw.publish(w.server, "dead.note", { "Bad Name: x", "K: v" }, "a note")
      raw.publish(w.server, "dead.billing",
        { "Bad Name: x", "Moonbus-Subject: orders.created", "Moonbus-Stream: ORDERS" }, "a letter")
      w.client:await_stored("DEAD", 2)
      local run = redrive()
      assert.equal(1, run.status)
      assert.same({
        '2 dead.billing -> kept: invalid: the header name "Bad Name" cannot be sent',
        "0 put back, 1 kept, 1 skipped: no dead letter",
      }, lines_of(run))
      assert.equal("a note a letter", data_of "DEAD")
    end)

    it("ends at what was there when it began", function()
      -- The last of them becomes a dead letter in the same stream once more.
      w.client:stream("BOTH", { "orders.>", "dead.>" })
      bury("orders.created", "x")
      w.client:store("orders.created", "y")
      bury("dead.again", "z", { headers = { ["Moonbus-Orig-Moonbus-Subject"] = "dead.again" } })
      local run = w:cli { "redrive", "BOTH" }
      assert.equal(0, run.status)
      assert.equal("2 put back, 1 skipped: no dead letter", lines_of(run)[3])
    end)
  end)

  describe("with --dry-run", function()
    it("says what it would do, and does nothing", function()
      streams()
      bury("orders.created", "a")
      bury("lost.created", "b")
      local run = redrive "--dry-run"
      assert.equal(1, run.status)
      local lines = lines_of(run)
      assert.equal("1 orders.created -> would be stored in ORDERS "
        .. "(handler_error: no paper, attempt 5 of ORDERS/billing)", lines[1])
      has(lines[2], "2 lost.created -> would be kept: no_stream: ", '"lost.created"')
      assert.equal("1 would be put back, 1 would be kept", lines[3])
      assert.equal(2, left())
      assert.equal(0, left "ORDERS")
    end)
  end)

  describe("a letter that cannot be put back", function()
    local function kept(run, ...)
      assert.equal(1, run.status, run.stdout .. run.stderr)
      has(run.stdout, "kept", ...)
      has(run.stderr, "kept in DEAD")
    end

    it("is kept when no stream takes its subject; the others go on", function()
      streams()
      local heard = w.client:subscribe "lost.>" -- someone who listens is no stream
      bury("lost.created", "a")
      bury("orders.created", "b")
      local run = redrive()
      kept(run, "1 lost.created -> kept: no_stream: no stream takes \"lost.created\"",
        "2 orders.created -> stored in ORDERS, sequence 1", "1 put back, 1 kept")
      assert.equal("a", data_of "DEAD")
      assert.is_nil(heard:next(0.05))
    end)

    it("is kept when its stream refuses it", function()
      w.client:stream("ORDERS", { "orders.>" }, { max_msg_size = 100 })
      w.client:stream("DEAD", { "dead.>" })
      bury("orders.created", ("x"):rep(200))
      bury("orders.created", "")
      kept(redrive(), "1 orders.created -> kept: too_large: ", "1 put back, 1 kept")
      assert.equal(1, left())
    end)

    it("is kept when its stream stays full, and the next do not wait as long", function()
      w.client:stream("ORDERS", { "orders.>" }, { max_msgs = 1, discard = "new" })
      w.client:stream("DEAD", { "dead.>" })
      w.client:store("orders.created", "here already")
      for _ = 1, 3 do bury("orders.created", "x") end
      local run = w:cli({ "redrive", "DEAD" }, { env = { MOONBUS_PUBLISH_ATTEMPTS = "3",
        MOONBUS_PUBLISH_BACKOFF_MIN = "10ms" } })
      kept(run, "maximum messages exceeded", "0 put back, 3 kept")
      assert.equal(3, left())
    end)

    it("is kept when it does not say, or not well, where it came from", function()
      streams()
      bury("orders..created", "x")
      bury("orders.*", "x")
      kept(redrive(), "1 dead.billing -> kept: invalid: Moonbus-Subject: ", "0 put back, 2 kept")
    end)
  end)

  describe("a letter that is only a reference", function()
    local LARGE = ("x"):rep(65000)

    local function nanoseconds(time)
      local year, month, day, hour, minute, second, fraction =
        time:match "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.?(%d*)Z$"
      local offset = os.time(os.date("!*t", 86400)) - 86400
      local seconds = os.time { year = year, month = month, day = day, hour = hour, min = minute,
        sec = second, isdst = false } - offset
      return ("%d%s"):format(seconds, (fraction .. ("0"):rep(9)):sub(1, 9))
    end

    local function refer(sequence, changes)
      local options = { sequence = sequence, headers = { ["Moonbus-Reference"] = "true" },
        timestamp = nanoseconds(w.client:message("ORDERS", sequence).time) }
      for key, value in pairs(changes or {}) do options[key] = value end
      return bury("orders.large", "", options)
    end

    it("is put back with what lies in the original's place", function()
      streams()
      local sequence = w.client:store("orders.large", LARGE, { K = "v", ["Nats-Msg-Id"] = "one",
        ["Nats-Expected-Last-Sequence"] = "0" }).seq
      refer(sequence)
      local run = redrive()
      assert.equal(0, run.status, run.stdout)
      local back = w.client:message("ORDERS", 2)
      assert.equal(LARGE, back.data)
      assert.same({ K = { "v" }, ["Nats-Msg-Id"] = { id_of(1) } }, back.headers)
      assert.equal(0, left())
    end)

    it("is what the host writes for what is too large", function()
      local host = w:run((WORKER:gsub('msg.data == "broken"', "#msg.data > 60000")))
      local large = ("x"):rep(65300)
      w.client:store("orders.large", large)
      wait.eventually(function() return left() == 1 end)
      host:stop()
      assert.equal("true", w.client:message("DEAD", 1):header "Moonbus-Reference")
      local run = redrive()
      assert.equal(0, run.status, run.stdout)
      assert.equal(large, w.client:message("ORDERS", 2).data)
    end)

    it("is kept when the original is gone", function()
      streams()
      refer(w.client:store("orders.large", LARGE).seq)
      w.client:api("STREAM.MSG.DELETE.ORDERS", { seq = 1 })
      local run = redrive()
      assert.equal(1, run.status)
      has(run.stdout, "kept: not_found: it is only a reference to stream ORDERS, sequence 1")
      assert.equal(1, left())
    end)

    it("is kept when another message is in its place by now", function()
      streams()
      local sequence = w.client:store("orders.large", "another").seq
      refer(sequence, { timestamp = "1700000000000000001" })
      local run = redrive()
      assert.equal(1, run.status)
      has(run.stdout, "kept: not_found: ", "another message has that place by now")
      assert.equal("another", data_of "ORDERS")
    end)

    it("is kept when the original leaves no room for the id", function()
      streams()
      refer(w.client:store("orders.large", ("x"):rep(65536)).seq)
      local run = redrive()
      assert.equal(1, run.status)
      has(run.stdout, "kept: too_large: ", "65536")
      assert.equal(1, left())
    end)
  end)

  describe("once, and only once", function()
    it("is a letter stored that an earlier redrive has stored, but not deleted", function()
      streams()
      local sequence = bury("orders.created", "x")
      w.client:store("orders.created", "x", { ["Nats-Msg-Id"] = id_of(sequence) })
      local run = redrive()
      assert.equal(0, run.status, run.stdout)
      assert.equal("1 orders.created -> stored in ORDERS, sequence 1 by an earlier redrive",
        lines_of(run)[1])
      assert.same({ 1, 0 }, { left "ORDERS", left() })
    end)

    it("but a duplicate of another message is no success", function()
      streams()
      local sequence = bury("orders.created", "x")
      w.client:store("orders.created", "y", { ["Nats-Msg-Id"] = id_of(sequence) })
      local run = redrive()
      assert.equal(1, run.status)
      has(run.stdout, "kept", '"duplicate" of its sequence 1', "another message")
      assert.equal(1, left())
    end)

    it("nor is a duplicate of what is gone", function()
      streams()
      local sequence = bury("orders.created", "x")
      w.client:store("orders.created", "x", { ["Nats-Msg-Id"] = id_of(sequence) })
      w.client:purge "ORDERS"
      local run = redrive()
      assert.equal(1, run.status)
      has(run.stdout, "kept", '"duplicate" of its sequence 1', "duplicate window")
      assert.equal(1, left())
    end)

    it("is each letter stored by several that run at once", function()
      streams()
      for number = 1, 100 do bury("orders.n", tostring(number)) end
      local runs = {}
      for number = 1, 3 do
        runs[number] = w:start { command = "redrive", args = { "DEAD", "-s", w.server.url },
          server = false, level = false, format = false }
      end
      for _, run in ipairs(runs) do assert.equal(0, run:wait(), run:output()) end
      assert.same({ 100, 0 }, { left "ORDERS", left() })
    end)

    it("is each letter stored when it is killed in between, and run again", function()
      streams()
      for number = 1, 300 do bury("orders.n", tostring(number)) end
      for _, signal in ipairs { "KILL", "INT", "TERM" } do
        local run = w:start { command = "redrive", args = { "DEAD", "-s", w.server.url },
          server = false, level = false, format = false }
        wait.eventually(function() return run:stdout() ~= "" or not run:running() end)
        run:signal(signal)
        local status = run:wait()
        assert.is_true(signal == "KILL" or status == 1 or left() == 0)
      end
      assert.equal(0, redrive().status)
      assert.same({ 300, 0 }, { left "ORDERS", left() })
    end)

    it("is a letter stored while the server is started anew", function()
      w.client:stream("ORDERS", { "orders.>" }, { storage = "file" })
      w.client:stream("DEAD", { "dead.>" }, { storage = "file" })
      for number = 1, 300 do bury("orders.n", tostring(number)) end
      local run = w:start { command = "redrive", args = { "DEAD", "-s", w.server.url },
        server = false, level = false, format = false,
        env = { MOONBUS_REQUEST_TIMEOUT = "500ms", MOONBUS_PUBLISH_TIMEOUT = "500ms" } }
      wait.eventually(function() return run:stdout() ~= "" or not run:running() end)
      w.server:restart()
      assert.equal(0, run:wait(30), run:output())
      wait.eventually(function() return pcall(left) end)
      assert.same({ 300, 0 }, { left "ORDERS", left() })
    end)
  end)

  describe("wrong usage", function()
    local function wrong(arguments, ...)
      local run = w:cli(arguments)
      assert.equal(2, run.status, run.stdout .. run.stderr)
      has(run.stderr, ...)
    end

    it("names what is missing, too much or wrong, and exits 2", function()
      wrong({ "redrive" }, "STREAM", "help redrive")
      wrong({ "redrive", "A", "B" }, "B")
      wrong({ "redrive", "A.B" }, "A.B")
      wrong({ "redrive", "A", "--count", "none" }, "--count", "none")
      wrong({ "redrive", "A", "--count", "0" }, "--count")
      wrong({ "redrive", "A", "--subject", "a..b" }, "--subject", "a..b")
      wrong({ "redrive", "A", "--dry" , "--bogus" }, "--bogus")
    end)

    it("is explained by help", function()
      local run = w:moonbus { "help", "redrive" }
      assert.equal(0, run.status)
      has(run.stdout, "redrive STREAM", "--count", "--subject", "--dry-run", "--server")
    end)
  end)

  it("exits 1 when there is no such stream", function()
    local run = redrive()
    assert.equal(1, run.status)
    has(run.stderr, 'not_found: there is no stream "DEAD" on nats://', "; there ")
  end)

  it("exits 1, and puts nothing back, when nothing can be deleted from the stream", function()
    w.client:stream("ORDERS", { "orders.>" })
    w.client:stream("DEAD", { "dead.>" }, { deny_delete = true, storage = "file" })
    bury("orders.created", "x")
    local run = redrive()
    assert.equal(1, run.status)
    has(run.stderr, "deny_delete")
    assert.equal(0, left "ORDERS")
  end)

  it("exits 1 when no server is there", function()
    local run = w:moonbus { "redrive", "DEAD", "-s",
      "nats://127.0.0.1:" .. posix.free_port() }
    assert.equal(1, run.status)
    has(run.stderr, "disconnected")
  end)
end)

describe("moonbus redrive with few permissions", function()
  local w = world.new { login = { user = "root", password = "r" }, config = [[
    authorization { users = [
      { user: root, password: r }
      { user: ada, password: a, permissions: { subscribe: "_INBOX.>", publish: [ "orders.>",
        "$JS.API.STREAM.INFO.DEAD", "$JS.API.STREAM.MSG.GET.DEAD", "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.MSG.DELETE.DEAD" ] } }
      { user: bob, password: b, permissions: { subscribe: "_INBOX.>", publish: [ "$JS.API.>" ] } }
      { user: eve, password: e, permissions: { subscribe: "_INBOX.>", publish: [ "orders.>",
        "$JS.API.STREAM.INFO.DEAD", "$JS.API.STREAM.MSG.GET.DEAD", "$JS.API.STREAM.NAMES" ] } }
    ] } ]] }
  setup(function() w:open() end)
  before_each(function()
    w.client:stream("ORDERS", { "orders.>" })
    w.client:stream("DEAD", { "dead.>" })
    for _ = 1, 2 do
      w.client:store("dead.x", "x", { ["Moonbus-Subject"] = "orders.x",
        ["Moonbus-Stream"] = "ORDERS" })
    end
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function redrive(user, password)
    return w:cli({ "redrive", "DEAD", "--user", user, "--password", password },
      { env = { MOONBUS_PUBLISH_TIMEOUT = "300ms", MOONBUS_REQUEST_TIMEOUT = "300ms" } })
  end

  it("works with those that are documented", function()
    local run = redrive("ada", "a")
    assert.equal(0, run.status, run.stdout .. run.stderr)
    assert.equal(2, w.client:stream_info("ORDERS").state.messages)
  end)

  it("keeps what the user may not publish, and says so", function()
    local run = redrive("bob", "b")
    assert.equal(1, run.status)
    assert.matches("kept: permission: .*orders%.x", run.stdout)
    assert.equal(2, w.client:stream_info("DEAD").state.messages)
  end)

  it("stops at once when it may not delete", function()
    local run = redrive("eve", "e")
    assert.equal(1, run.status)
    assert.matches("not deleted from DEAD: permission: ", run.stdout)
    assert.equal(1, w.client:stream_info("ORDERS").state.messages)
  end)
end)
