-- What the log of a running host says: fields to alert on, each message at debug, storms counted.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("the log of a host", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function has(event, fields)
    for key, value in pairs(fields) do assert.equal(value, event[key], key) end
    return event
  end

  it("says in fields what became of each message, and why", function()
    w.client:stream("S", { "s.*" }, { storage = "memory" })
    w.client:stream("DEAD", { "dead.>" }, { storage = "memory" })
    local host = w:run { handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("S", { durable = "d", filter = "s.bad", dead_letter = "dead.d", attempts = 2,
  backoff = { min = "200ms", max = "1s", jitter = 0 } }, function(msg)
  if msg.data == "fine" then bus.sleep "20ms" return end
  if msg.data == "json" then msg:json() end
  return bus.request("nobody", "")
end)
js.consume("S", { durable = "t", filter = "s.term", dead_letter = false, attempts = 1 }, function() error "boom" end)
bus.subscribe("core", function(msg) if msg.data == "no" then error { code = "mine", message = "no" } end end)]] } }
    local message = { script = "handler.lua", handler = "S/d", generation = 1, stream = "S", consumer = "d",
      subject = "s.bad" }
    w.client:store("s.bad", "fine")
    local event = has(host:wait_log { level = "debug", handler = "S/d" }, message)
    has(event, { sequence = 1, attempt = 1, attempts = 2, verdict = "ack" })
    assert.matches("^handled in %d+%.%d%d%dms: ack$", event.msg)
    assert.is_true(event.duration_ms >= 20 and event.duration_ms < 1000 * wait.within(3), event.duration_ms)

    w.client:store("s.bad", "fail")
    event = has(host:wait_log { level = "error", sequence = 2, attempt = 1 }, message)
    has(event, { code = "no_responders", verdict = "nak", delay_ms = 200, attempts = 2, file = "handler.lua",
      line = 3 })
    assert.is_nil(event.dead_letter)
    has(host:wait_log { level = "debug", sequence = 2, attempt = 1 }, { verdict = "nak", code = "no_responders" })
    event = has(host:wait_log { level = "error", sequence = 2, attempt = 2 }, message)
    has(event, { code = "no_responders", verdict = "dead_letter", dead_letter = "dead.d" })
    assert.is_nil(event.delay_ms)
    has(host:wait_log { level = "debug", sequence = 2, attempt = 2 }, { verdict = "dead_letter" })

    w.client:store("s.bad", "json")
    has(host:wait_log { level = "error", sequence = 3 }, { code = "bad_payload", verdict = "dead_letter", attempt = 1 })
    w.client:store("s.term", "")
    has(host:wait_log { level = "error", handler = "S/t" }, { code = "handler_error", verdict = "term", line = 9 })
    has(host:wait_log { level = "debug", handler = "S/t" }, { verdict = "term" })

    w.client:request("core", "no")
    has(host:wait_log { level = "error", handler = "core" },
      { code = "handler_error", verdict = "failed", subject = "core" })
    w.client:publish("core", "yes")
    has(host:wait_log { level = "debug", handler = "core", verdict = "ok" }, { subject = "core", generation = 1 })
  end)

  it("counts a storm of equal errors, and loses no count when it stops", function()
    w.client:stream("S", { "s.*" }, { storage = "memory" })
    local host = w:run { level = "info", handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.consume("S", { durable = "kept", filter = "s.kept", backoff = { min = "1h", max = "1h" } }, function(msg)
  bus.log.info("seen " .. msg.sequence)
  error("no such order: " .. msg.sequence)
end)
js.consume("S", { durable = "dropped", filter = "s.dropped", attempts = 1, dead_letter = false }, function(msg)
  error("no such order: " .. msg.sequence)
end)]] } }
    for _ = 1, 300 do w.client:store("s.kept", "") end
    for _ = 1, 100 do w.client:store("s.dropped", "") end
    wait.eventually(function() return #host:logged "^seen" == 300 end, 10, function() return host:explain() end)
    wait.eventually(function() return w.client:settled("S", "dropped") end)
    assert.equal(10, #host:logged { level = "error", handler = "S/kept" })
    assert.equal(100, #host:logged { level = "error", handler = "S/dropped", verdict = "term" })
    assert.equal(0, host:stop())
    local counts = host:logged { level = "error", msg = "^290 more in %d+%S*s, the last: no such order: %d+; nak in" }
    local event = has(counts[1],
      { repeated = 290, handler = "S/kept", code = "handler_error", verdict = "nak", file = "handler.lua", line = 5 })
    assert.is_true(event.sequence >= 1 and event.attempt == 1)
    assert.equal("stopped", host:events()[#host:events()].msg)
  end)

  it("has the place of an error in fields, when a script is refused at a reload and at the start", function()
    local GOOD = [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)]]
    local BAD = "local bus = require 'moonbus'\n\nlocal function fail() error 'boom' end\nfail()"
    local host = w:run { handlers = { ["handler.lua"] = GOOD }, args = { "--watch" } }
    temp.write(host.folder, "handlers/handler.lua", BAD)
    local event = host:wait_log { level = "error" }
    assert.equal("handler.lua: refused, generation 1 keeps running: handler.lua:3: boom", event.msg)
    has(event, { script = "handler.lua", generation = 1, code = "handler_error", file = "handler.lua", line = 3 })
    assert.matches("handler%.lua:4: in", event.traceback)
    temp.write(host.folder, "handlers/handler.lua", GOOD .. "\n")
    has(host:wait_log "^handler%.lua: generation 2 live", { script = "handler.lua", generation = 2, level = "info" })

    temp.write(host.folder, "handlers/setup.lua", [[
local js = require "moonbus.jetstream"

js.consume("NOWHERE", { durable = "d", dead_letter = "dead.d" }, function() end)]])
    has(host:wait_log { level = "error", script = "setup.lua" }, { code = "no_stream", file = "setup.lua", line = 3 })
    -- Another file may mend it, so it is loaded again; but the same complaint is no news.
    temp.write(host.folder, "handlers/handler.lua", BAD)
    host:wait_log({ level = "error", script = "handler.lua" }, 5, 2)
    temp.write(host.folder, "handlers/other.lua", (GOOD:gsub("echo", "other")))
    host:wait_log { level = "debug", msg = "^handler%.lua: refused, generation 2 keeps running: handler%.lua:3: boom" }
    assert.equal(2, #host:logged { level = "error", script = "handler.lua" })

    host = w:start { handlers = { ["handler.lua"] = [[

require "moonbus.jetstream".consume("NOWHERE", { durable = "d", dead_letter = "dead.d" }, function() end)]] } }
    assert.equal(2, host:wait(5))
    has(host:logged({ level = "error" })[1], { code = "no_stream", file = "handler.lua", line = 2 })
    host = w:start { handlers = { ["handler.lua"] = BAD } }
    assert.equal(2, host:wait(5))
    has(host:logged({ level = "error" })[1],
      { script = "handler.lua", code = "handler_error", file = "handler.lua", line = 3, msg = "boom" })
    host = w:start { handlers = { ["handler.lua"] = BAD }, format = false, args = { "--log-format", "text" } }
    assert.equal(2, host:wait(5))
    assert.matches("ERROR handler%.lua handler%.lua:3: boom\n    stack traceback:", host:stderr())
  end)

  it("shows the lines of a function that failed beside its handler, and what ran it", function()
    local host = w:run { handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local function deep() error "boom" end
local function deeper() deep() return 1 end
bus.subscribe("gather", function()
  local a = bus.gather { function() bus.sleep "1ms" return 1 end,
    function() deeper() return 2 end }
  return a
end)
bus.subscribe("spawn", function()
  bus.spawn(function() deeper() return 2 end)
  bus.sleep "5ms"
end)
bus.subscribe("wait", function()
  local future = bus.spawn(function() bus.sleep "1ms" deeper() return 2 end)
  return (future:wait())
end)
local function each() return coroutine.wrap(function() coroutine.yield(1) deeper() return 2 end) end
bus.subscribe("wrap", function()
  for x in each() do bus.log.info(x) end
end)
bus.subscribe("nest", function()
  local a = bus.gather { function()
    local b = bus.gather { function() bus.sleep "1ms"
      error { code = "mine", message = "no" } end }
    return b
  end }
  return a
end)
bus.subscribe("again", function()
  pcall(bus.gather, { function() deeper() return 2 end })
  deeper()
  return 1
end)
bus.subscribe("after", function()
  bus.after("1ms", function() deeper() return 1 end)
  bus.sleep "20ms"
end)]] } }
    local DEEP = "\n\t[C]: in function 'error'\n\thandler.lua:2: in function 'deep'"
      .. "\n\thandler.lua:3: in function 'deeper'"
    local function fails(subject, line, expected)
      w.client:request(subject, "")
      local event = host:wait_log { level = "error", handler = subject }
      assert.equal("handler.lua:" .. line, event.file .. ":" .. event.line)
      assert.equal("stack traceback:" .. expected, event.traceback)
    end
    fails("gather", 2, DEEP .. "\n\thandler.lua:6: in function <handler.lua:6>"
      .. "\n\t(run by bus.gather)\n\thandler.lua:5: in function <handler.lua:4>")
    fails("spawn", 2, DEEP .. "\n\thandler.lua:10: in function <handler.lua:10>"
      .. "\n\t(run by bus.spawn at handler.lua:10)")
    fails("wait", 2, DEEP .. "\n\thandler.lua:14: in function <handler.lua:14>"
      .. "\n\t(run by bus.spawn at handler.lua:14)\n\thandler.lua:15: in function <handler.lua:13>")
    fails("wrap", 2, DEEP .. "\n\thandler.lua:17: in function <handler.lua:17>"
      .. "\n\t(run by coroutine.wrap)\n\thandler.lua:19: in function <handler.lua:18>")
    fails("nest", 24, "\n\t[C]: in function 'error'\n\thandler.lua:24: in function <handler.lua:23>"
      .. "\n\t(run by bus.gather)\n\thandler.lua:23: in function <handler.lua:22>"
      .. "\n\t(run by bus.gather)\n\thandler.lua:22: in function <handler.lua:21>")
    fails("again", 2, DEEP .. "\n\thandler.lua:31: in function <handler.lua:29>")
    fails("after", 2, DEEP .. "\n\thandler.lua:35: in function <handler.lua:35>"
      .. "\n\t(run by bus.after at handler.lua:35)")
  end)

  it("has the line of the innermost function, too, of what Lua itself has raised", function()
    local host = w:run { handlers = { ["handler.lua"] = [[
local bus = require "moonbus"
local function total_of(order)
  local customer = order.customer
  return customer.discount
end
bus.subscribe("index", function(msg) return total_of(msg:json()) .. "" end)
bus.subscribe("add", function(msg) return msg.data + 1 end)
bus.subscribe("call", function(msg) local none return none() end)]] } }
    for subject, expected in pairs {
      index = "\n\thandler.lua:4: in function 'total_of'\n\thandler.lua:6: in function <handler.lua:6>",
      add = "\n\thandler.lua:7: in function <handler.lua:7>",
      call = "\n\thandler.lua:8: in function <handler.lua:8>",
    } do
      w.client:request(subject, "{}")
      assert.equal("stack traceback:" .. expected,
        host:wait_log({ level = "error", handler = subject }).traceback)
    end
  end)

  it("is JSON from its first line on, that of a config which is refused", function()
    local function refused(config, options)
      options = options or {}
      options.config, options.handlers, options.format = config, { ["x.lua"] = "" }, false
      local host = w:start(options)
      assert.equal(2, host:wait(5))
      return host:events()[1]
    end
    local event = refused "return {\n  workers = 0 }"
    has(event, { level = "error", code = "invalid", file = "moonbus.lua",
      msg = "moonbus.lua: workers: must be an integer from 1 to 256, not 0" })
    has(refused "return {\n  workers = nothing.here }", { code = "invalid", file = "moonbus.lua", line = 2 })
    has(refused("return { log = { format = 'text' }, workers = 0 }"),
      { raw = "moonbus run: moonbus.lua: workers: must be an integer from 1 to 256, not 0" })
    has(refused("return { log = { format = 'text' }, workers = 0 }", { env = { MOONBUS_LOG_FORMAT = "json" } }),
      { level = "error", file = "moonbus.lua" })
    has(refused("return { workers = 0 }", { args = { "--log-format", "text" } }),
      { raw = "moonbus run: moonbus.lua: workers: must be an integer from 1 to 256, not 0" })

    local host = w:run { handlers = { ["x.lua"] = "" }, config = "return {}" }
    temp.write(host.folder, "moonbus.lua", "return {\n  workers = nothing.here }")
    host:signal "HUP"
    has(host:wait_log "^moonbus%.lua: refused, the settings stay as they are: moonbus%.lua:2: attempt",
      { level = "error", code = "invalid", file = "moonbus.lua", line = 2 })
  end)
end)
