-- moonbus shadow: new code on stored inputs, compared with what the old code has stored.
local cjson = require "cjson"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local STREAMS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "ORDERS", subjects = { "orders.>" }, storage = "memory" }
js.stream { name = "OUT", subjects = { "out.>" }, storage = "memory" }
js.stream { name = "OTHER", subjects = { "other.>" }, storage = "memory" }
js.stream { name = "DEAD", subjects = { "dead.>" }, storage = "memory" }
]]

local OPTIONS = [[{ durable = "billing", filter = "orders.created", attempts = 2, dead_letter = "dead.billing",
  backoff = { min = "50ms", max = "50ms", jitter = 0 } }]]

local function code(body)
  return STREAMS .. ('js.consume("ORDERS", %s, function(msg)\n%s\nend)\n'):format(OPTIONS, body)
end

local OLD = code [[
  local order = msg:json()
  if order.bad then error "bad order" end
  js.publish("out.invoices", { order = order.id, total = order.price * 2, lines = { { sku = "a", n = order.id } } },
    { headers = { Kind = "old" } })
  if order.id % 2 == 0 then js.publish("other.even", "even " .. order.id) end
  bus.publish("ticks", "tick")
]]

local function has(text, ...)
  for _, part in ipairs { ... } do
    assert.is_truthy(text:find(part, 1, true), part .. " in\n" .. text)
  end
end

describe("moonbus shadow", function()
  local w, folder = world.new()
  setup(function() w:open() end)
  before_each(function() folder = w:folder() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function settled(durable, last)
    wait.eventually(function() return w.client:consumer_info("ORDERS", durable).ack_floor.stream_seq == last end, 20)
  end

  -- The old code has handled orders 1 to `count`, and those that are given as text.
  local function handle(text, count, extra)
    local host = w:run(text)
    local last
    for id = 1, count do last = w.client:store("orders.created", ('{"id":%d,"price":%d}'):format(id, id * 10)).seq end
    for _, data in ipairs(extra or {}) do last = w.client:store("orders.created", data).seq end
    settled("billing", last)
    assert.equal(0, host:stop())
  end

  local function shadow(text, ...)
    temp.write(folder, "new.lua", text)
    return w:cli({ "shadow", "new.lua", "--stream", "ORDERS", ... }, { folder = folder })
  end

  local function ends(run, status)
    assert.equal(status, run.status, run.stdout .. run.stderr)
    return run.stdout, run.stderr
  end

  -- Another text of the old code.
  local function changed(pattern, by)
    local text, count = OLD:gsub(pattern, by)
    assert.is_true(count > 0, pattern)
    return text
  end

  it("finds that the same code does the same, also of what fails", function()
    handle(OLD, 10, { '{"id":11,"bad":true}', "no json" })
    has(ends(shadow(OLD), 0), "ORDERS #1 to #12, billing of new.lua, compared with DEAD, OTHER, OUT",
      "not compared: 10 messages to core NATS", "12 inputs: 12 equal, 0 differ\n")
    local counts = w.client:stream_info("OUT").state.messages
    assert.equal(10, counts)
  end)

  it("shows which fields and headers differ, by their paths", function()
    handle(OLD, 3)
    local new = changed("order.price %* 2", "order.id == 2 and 41 or order.price * 2"):gsub('n = order.id',
      'n = order.id == 2 and "2" or order.id'):gsub('Kind = "old"', 'Kind = order.id == 3 and "new" or "old"')
    local out = ends(shadow(new), 1)
    has(out, "#2 out.invoices: total: was 40, now 41", '#2 out.invoices: lines[1].n: was 2, now "2"',
      '#3 out.invoices: header kind: was "old", now "new"', "3 inputs: 1 equal, 2 differ\n")
  end)

  it("takes all subjects of a stream, where the durable has no filter", function()
    for _, option in ipairs { "", "batch = { size = 3 },", 'order_by = "subject",' } do
      local text = STREAMS .. ([[js.consume("ORDERS", { durable = "all", %s dead_letter = "dead.all" }, function(msg)
        for _, each in ipairs(msg.subject and { msg } or msg) do js.publish("out." .. each.subject, each.data) end
      end)]]):format(option)
      local host = w:run(text)
      local last
      for _, subject in ipairs { "orders.a", "orders.b", "orders.c", "orders.c", "orders.a" } do
        last = w.client:store(subject, "x").seq
      end
      settled("all", last)
      assert.equal(0, host:stop())
      has(ends(shadow(text, "--count", "5"), 0), "5 inputs: 5 equal, 0 differ\n")
      w:clear()
    end
  end)

  it("compares JSON by value, and all else by bytes", function()
    handle(OLD, 2)
    local made = '{ order = order.id, total = order.price %* 2, lines = { { sku = "a", n = order.id } } }'
    local other_order = changed(made, [[('{ "lines":[{"n":%%d, "sku":"\\u0061"}], "total":%%d,"order":%%d}'):format(
      order.id, order.price * 2, order.id)]])
      :gsub('Kind = "old"', 'Kind = "old", ["content-type"] = "application/json"')
    has(ends(shadow(other_order), 0), "2 inputs: 2 equal, 0 differ\n")
    has(ends(shadow(changed('"even "', '"Even "')), 1),
      "#2 other.even: data: was even 2 (6 bytes), now Even 2 (6 bytes; from byte 1 on)")
  end)

  it("does not compare expectations, whose sequences were those of then", function()
    local text = code [[
      local order = msg:json()
      local subject = "out.e" .. order.id
      local first = assert(js.publish(subject, "a", { expect = { last_subject_sequence = 0 } }))
      assert(js.publish(subject, "b", { expect = { last_subject_sequence = first.seq } }))
    ]]
    handle(text, 3)
    has(ends(shadow(text), 0), "3 inputs: 3 equal, 0 differ\n")
  end)

  it("shows what is missing and what is new", function()
    handle(OLD, 2)
    has(ends(shadow(changed("order.id %% 2 == 0", "false"), "--output", "OTHER"), 1),
      "#2 other.even: missing (OTHER #1): even 2", "2 inputs: 1 equal, 1 differ\n")
    has(ends(shadow(changed("order.id %% 2 == 0", "true")), 1), "#1 other.even: additional, to OTHER: even 1",
      "2 inputs: 1 equal, 1 differ\n")
    has(ends(shadow(changed('"out.invoices"', '"out.bills"')), 1), "#1 out.bills: additional, to OUT",
      "#1 out.invoices: missing (OUT #1)")
    has(ends(shadow(changed('"out.invoices"', '"nowhere"')), 1), "#1 nowhere: no stream takes it")
  end)

  it("shows which inputs would fail now, and which no longer", function()
    handle(OLD, 2, { '{"id":3,"price":1,"bad":true}' })
    has(ends(shadow(changed("if order.bad then", "if order.id == 1 then")), 1),
      "#1 verdict: was no dead letter, now nak: bad order", "#3 verdict: was a dead letter (DEAD #1), now ack",
      "3 inputs: 1 equal, 2 differ\n")
  end)

  it("counts what needs an answer, which --stub gives", function()
    local asking = code [[
      local reply, err = bus.request("rate", msg.data)
      if not reply then return nil, err end
      js.publish("out.rated", reply.data)
    ]]
    w:run [[require "moonbus".subscribe("rate", function(msg) return "r" .. msg.data end)]]
    handle(asking, 3)
    local out = ends(shadow(asking), 1)
    has(out, "not comparable: 3 inputs without an answer to rate: --stub FILE",
      "3 inputs: 0 equal, 0 differ, 3 not comparable\n")
    temp.write(folder, "stubs.lua", 'local script = ...\nscript:stub("rate", function(r) return "r" .. r.raw end)')
    has(ends(shadow(asking, "--stub", "stubs.lua"), 0), "3 inputs: 3 equal, 0 differ\n")
  end)

  it("takes inputs since a time, so many, and where the old code has got to", function()
    handle(OLD, 5)
    has(ends(shadow(OLD, "--count", "2"), 0), "ended after 2 inputs (--count)", "2 inputs: 2 equal")
    has(ends(shadow(OLD, "--since", "1h"), 0), "5 inputs: 5 equal")
    w.client:store("orders.created", '{"id":6,"price":1}')
    has(ends(shadow(OLD), 0), "ended at #5: the durable on the server has got no further", "5 inputs: 5 equal")
    local before = w.client:message("ORDERS", 1)
    assert.is_truthy(before)
    w.client:purge "ORDERS"
    has(ends(shadow(OLD), 1), "no input of ORDERS/billing since 1h ago: the stream is empty",
      "0 inputs: 0 equal, 0 differ")
    w.client:store("orders.created", '{"id":7,"price":1}')
    wait.eventually(function()
      local said = ends(shadow(OLD, "--since", "1ms"), 1)
      return said:find("no input of ORDERS/billing since 1ms ago: what the stream holds is older (--since)", 1, true)
    end, 20)
  end)

  it("leaves out what --ignore names", function()
    handle(OLD, 2)
    local new = changed("order.price %* 2", "7"):gsub('n = order.id', 'n = 0'):gsub('"old"', '"new"')
    ends(shadow(new), 1)
    has(ends(shadow(new, "--ignore", "total", "--ignore", "lines[*].n", "--ignore", "header:Kind"), 0), "2 equal")
    ends(shadow(new, "--ignore", "total", "--ignore", "lines[*].n"), 1)
  end)

  it("says which --ignore is none, and which name no output has", function()
    handle(OLD, 2)
    for _, name in ipairs { "items[", "items[x].n", "a..b", "", "header:", "header:a b", "items]" } do
      local _, said = ends(shadow(OLD, "--ignore", name), 2)
      assert.is_truthy(said:find('--ignore: "' .. name .. '": ', 1, true), said)
    end
    local _, said = ends(shadow(OLD, "--ignore", "totl", "--ignore", "total", "--ignore", "header:Kind",
      "--ignore", "lines[*].m", "--ignore", "lines[1]", "--ignore", "data.x"), 0)
    assert.is_truthy(said:find("--ignore data.x: no output that was compared has it\n.*" ..
      "--ignore lines%[%*%]%.m: no output that was compared has it\n.*" ..
      "--ignore totl: no output that was compared has it\n$"), said)
    assert.is_nil(said:find "total:")
    assert.is_nil(said:find "Kind:")
  end)

  it("finds outputs by ids that the handler has given", function()
    local named = code [[
      local order = msg:json()
      js.publish("out.named", msg.data, { id = "order-" .. order.id })
    ]]
    handle(named, 3)
    has(ends(shadow(named), 0), "3 inputs: 3 equal")
    has(ends(shadow((named:gsub("msg.data, {", 'msg.data .. "!", {'))), 1), "#1 out.named: data: was")
  end)

  it("does not take for missing what its stream keeps no longer", function()
    local text = code [[
      local order = msg:json()
      js.publish("kept.last", msg.data)
      js.publish("taken.all", msg.data)
    ]]
    w.client:stream("KEPT", { "kept.>" }, { max_msgs_per_subject = 1 })
    w.client:stream("TAKEN", { "taken.>" }, { retention = "workqueue" })
    handle(text, 3)
    w.client:purge "TAKEN"
    has(ends(shadow(text), 1), "not comparable: 2 outputs of KEPT, which keeps them no longer, if it has had them",
      "not comparable: 3 outputs of TAKEN", "3 inputs: 0 equal, 0 differ, 3 not comparable")
    w.client:delete_stream "TAKEN"
    local less = text:gsub('js.publish%("taken.all", msg.data%)', "")
    has(ends(shadow(less), 0), "3 inputs: 1 equal, 0 differ, 2 not comparable")
  end)

  it("does not compare what is published later", function()
    local text = code [[js.publish("out.later", msg.data, { after = "1h" })]]
    handle(text, 2)
    has(ends(shadow(text), 1), "2 inputs: 0 equal, 0 differ, 2 not comparable")
  end)

  it("knows which durable is meant", function()
    local two = OLD .. 'js.consume("ORDERS", { durable = "second" }, function() end)\n'
    handle(OLD, 1)
    has(select(2, ends(shadow(two), 2)), "has several durables of ORDERS: say which, with --durable: billing, second")
    has(ends(shadow(two, "--durable", "billing"), 0), "1 input: 1 equal")
    has(select(2, ends(shadow(two, "--durable", "third"), 2)),
      'no durable "third" of ORDERS: there are billing, second')
    has(select(2, ends(shadow('require "moonbus".subscribe("x", function() end)'), 2)),
      "no durable of new.lua is of the stream ORDERS")
  end)

  it("goes through thousands in little memory", function()
    handle(OLD, 0, { '{"id":1,"price":1}' })
    local host = w:run(OLD)
    w:cli { "pub", "-J", "orders.created", '{"id":{{n}},"price":{{n}}}', "--count", "1100" }
    settled("billing", 1101)
    assert.equal(0, host:stop())
    local run = shadow(OLD)
    has(ends(run, 0), "1,101 inputs: 1,101 equal, 0 differ\n")
    run = shadow(changed('Kind = "old"', 'Kind = "new"'))
    has(ends(run, 1), "and 1,051 differences; --json has the first 1,000", "1,101 inputs: 0 equal, 1,101 differ\n")
  end)

  it("is one JSON object with --json", function()
    handle(OLD, 2)
    local found = cjson.decode((ends(shadow(changed("order.price %* 2", "7"), "--json"), 1)))
    assert.same({ "ORDERS", "billing", "new.lua", 2, 0, 2, 0, 2 }, { found.stream, found.durable, found.script,
      found.inputs,
      found.equal, found.differ, found.not_comparable, #found.differences })
    assert.same({ sequence = 1, subject = "out.invoices", kind = "differs", what = "total: was 20, now 7" },
      found.differences[1])
    assert.same({ "DEAD", "OTHER", "OUT" }, found.outputs)
  end)

  it("says what is not there, and what makes no sense", function()
    handle(OLD, 1)
    has(select(2, ends(shadow("syntax error"), 2)), "new.lua does not load: ")
    has(select(2, ends(shadow(OLD, "--output", "NOPE"), 1)), 'there is no stream "NOPE"')
    has(select(2, ends(shadow(OLD, "--since", "soon"), 2)), "--since: ")
    has(select(2, ends(shadow(OLD, "--count", "0"), 2)), "--count: ")
    has(select(2, ends(shadow(OLD, "--output", "a.b"), 2)), "--output: ")
    local function cli(...) return w:cli({ "shadow", ... }, { folder = folder }) end
    has(select(2, ends(cli("new.lua"), 2)), "which inputs? --stream STREAM")
    has(select(2, ends(cli("--stream", "ORDERS"), 2)), "PATH is missing")
    has(select(2, ends(cli("nope.lua", "--stream", "ORDERS"), 2)), "nope.lua: No such file")
    has(select(2, ends(shadow('require "moonbus".subscribe("a", function() end)'), 2)),
      "no durable of new.lua is of the stream ORDERS: it has no durable")
    has(select(2, ends(shadow(STREAMS .. [[
      js.consume("OUT", { durable = "o" }, function() end)
      js.consume("OTHER", { durable = "p" }, function() end)]]), 2)),
      "no durable of new.lua is of the stream ORDERS: there are OTHER/p, OUT/o")
    temp.write(folder, "other.lua", 'require "moonbus.jetstream".consume("NOPE", { durable = "d" }, function() end)')
    has(select(2, ends(cli("other.lua", "--stream", "NOPE"), 1)), 'there is no stream "NOPE"',
      "DEAD, ORDERS, OTHER, OUT")
  end)
end)
