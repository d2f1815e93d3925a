-- The trace of a message goes along with all that its handler sends, and no script has to know of it.
local sim = require "spec.sim.sim"

local TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
local PARENT = ("00-%s-%s-01"):format(TRACE, SPAN)
local CAME = { traceparent = PARENT, tracestate = "rojo=1", correlation_id = "c-7" }

describe("The trace of a message", function()
  local world
  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function run(text) world:host { scripts = { ["a.lua"] = sim.script(text) } } end

  local TELL = [[
    local function tell(msg)
      return ("%s %s %s %s"):format(msg.subject, msg:header "traceparent", msg:header "tracestate",
        msg:header "correlation_id")
    end
    bus.subscribe("heard.>", { reply = false }, function(msg) sim.note(tell(msg)) end)
  ]]

  local function told(subject) return ("%s %s rojo=1 c-7"):format(subject, PARENT) end

  it("goes along with publishes, requests and replies of a core handler", function()
    run(TELL .. [[
      bus.subscribe("heard.request", function(msg) return tell(msg) end)
      bus.subscribe("go", function(msg)
        bus.publish("heard.publish", "")
        return bus.request("heard.request", "").data
      end)
    ]])
    local reply = world:request("go", "", { headers = CAME })
    assert.equal(told "heard.request", reply.data)
    assert.same({ PARENT, "rojo=1", "c-7" },
      { reply.headers.traceparent, reply.headers.tracestate, reply.headers.correlation_id })
    local said = world:said()
    table.sort(said)
    assert.same({ told "heard.publish", told "heard.request" }, said)
  end)

  it("goes along with an error's reply, and with msg:respond", function()
    run [[
      bus.subscribe("fails", function() error "no" end)
      bus.subscribe("responds", function(msg) msg:respond("yes", { headers = { k = "v" } }) end)
    ]]
    for _, subject in ipairs { "fails", "responds" } do
      assert.equal(PARENT, world:request(subject, "", { headers = CAME }).headers.traceparent, subject)
    end
  end)

  local DURABLE = [[
    js.stream { name = "IN", subjects = { "in.>" } }
    js.stream { name = "OUT", subjects = { "out.>" } }
    js.stream { name = "DEAD", subjects = { "dead.>" } }
  ]]

  local function headers_of(stream)
    local list = {}
    for _, message in ipairs(world:messages(stream)) do
      list[#list + 1] = ("%s %s %s %s"):format(message.subject, message.headers:match "traceparent: ([^\r]*)",
        message.headers:match "tracestate: ([^\r]*)", message.headers:match "correlation_id: ([^\r]*)")
    end
    table.sort(list)
    return list
  end

  it("goes along with stored publishes: also from what the handler spawns, gathers, and puts off", function()
    run(DURABLE .. [[
      js.consume("IN", { durable = "d" }, function()
        js.publish("out.plain", "")
        js.publish_async("out.async", "")
        bus.spawn(function() bus.sleep "1s"; js.publish("out.spawned", "") end):wait()
        bus.gather { function() js.publish("out.gathered", "") end }
        bus.after("1s", function() js.publish("out.after", "") end)
        bus.sleep "2s"
      end)
    ]])
    world:publish("in.a", "", { headers = CAME })
    world:advance "10s"
    assert.same({ told "out.after", told "out.async", told "out.gathered", told "out.plain", told "out.spawned" },
      headers_of "OUT")
  end)

  it("goes along with the next attempt, and with the dead letter", function()
    run(DURABLE .. [[
      js.consume("IN", { durable = "d", attempts = 2, dead_letter = "dead.d" }, function(msg)
        js.publish("out.attempt", tostring(msg.attempt), { id = tostring(msg.attempt) })
        error "no"
      end)
    ]])
    world:publish("in.a", "", { headers = CAME })
    world:advance "1m"
    assert.same({ told "out.attempt", told "out.attempt" }, headers_of "OUT")
    assert.same({ told "dead.d" }, headers_of "DEAD")
  end)

  it("in a batch is that of the message which the publish names, and no other's", function()
    run(DURABLE .. [[
      js.consume("IN", { durable = "d", batch = { size = 2, wait = "1s" } }, function(list)
        for i, msg in ipairs(list) do js.publish("out." .. i, "", { from = msg }) end
        js.publish("out.of_all", "", { id = "x" })
      end)
    ]])
    local other = PARENT:gsub("4736", "4737")
    world:publish("in.a", "", { headers = CAME })
    world:publish("in.b", "", { headers = { traceparent = other } })
    world:advance "10s"
    assert.same({ told "out.1", "out.2 " .. other .. " nil nil", "out.of_all nil nil nil" }, headers_of "OUT")
  end)

  it("is left out where the handler sets its own", function()
    run(DURABLE .. [[
      js.consume("IN", { durable = "d" }, function()
        js.publish("out.mine", "", { headers = { Traceparent = "mine", Correlation_ID = "mine" } })
      end)
    ]])
    world:publish("in.a", "", { headers = CAME })
    world:advance "1s"
    local headers = world:messages("OUT")[1].headers
    assert.matches("Traceparent: mine\r\n", headers)
    assert.matches("Correlation_ID: mine\r\n", headers)
    assert.is_nil(headers:find "4bf92f" or headers:find "tracestate" or headers:find "c%-7")
  end)

  it("stands in the log", function()
    run [[
      bus.subscribe("go", function()
        bus.log.info "here"
        bus.spawn(function() bus.log.info "there" end):wait()
        error "no"
      end)
    ]]
    world:publish("go", "", { headers = CAME })
    world:publish "go"
    world:settle()
    local lines = {}
    for _, event in ipairs(world:logged "info") do
      if event.handler == "go" then
        lines[#lines + 1] = ("%s %s %s"):format(event.msg, event.trace_id, event.span_id)
      end
    end
    table.sort(lines)
    local id = TRACE .. " " .. SPAN
    assert.same({ "here " .. id, "here nil nil", "no " .. id, "no nil nil", "there " .. id, "there nil nil" }, lines)
  end)

  it("of a stranger does no harm", function()
    run(TELL .. [[bus.subscribe("go", function(msg) bus.publish("heard." .. msg.data, "") end)]])
    local long = ("v"):rep(10000)
    for i, headers in ipairs {
      { traceparent = "nonsense", tracestate = "rojo=1" },
      { traceparent = PARENT, Traceparent = PARENT, tracestate = "rojo=1" },
      { traceparent = PARENT, tracestate = "x=" .. long, correlation_id = long },
      { traceparent = long, tracestate = long, correlation_id = "" },
      { tracestate = "rojo=1" },
    } do
      world:publish("go", tostring(i), { headers = headers })
    end
    world:settle()
    local said = world:said()
    table.sort(said)
    assert.same({ "heard.1 nil nil nil", "heard.2 nil nil nil", "heard.3 " .. PARENT .. " nil nil",
      "heard.4 nil nil ", "heard.5 nil nil nil" }, said)
  end)

  it("is left out where it would make a message too large", function()
    run [[
      bus.subscribe("go", function(msg)
        local ok, err = bus.publish("out", ("x"):rep(1024 * 1024))
        sim.note(ok and "sent" or err.message)
      end)
    ]]
    world:publish("go", "", { headers = CAME })
    world:settle()
    assert.same({ "sent" }, world:said())
  end)
end)

-- Where traces are recorded: a span for each run, with what it sends and its verdicts as children.
describe("The spans of a run", function()
  local world, host
  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function run(text, settings)
    settings = settings or {}
    settings["telemetry.endpoint"] = "http://nobody"
    host = world:host { settings = settings, scripts = { ["a.lua"] = sim.script([[
      js.stream { name = "IN", subjects = { "in.>" } }
      js.stream { name = "OUT", subjects = { "out.>" } }
      js.stream { name = "DEAD", subjects = { "dead.>" } }
    ]] .. text) } }
  end

  -- The trees as text, a line for each span, with what is told of it; also the spans.
  local function tree(tell)
    local spans, children, known = host:spans(), {}, {}
    for _, span in ipairs(spans) do known[span.spanId] = true end
    for _, span in ipairs(spans) do
      local parent = known[span.parentSpanId] and span.parentSpanId or "none"
      children[parent] = children[parent] or {}
      table.insert(children[parent], span)
    end
    local lines = {}
    local function walk(parent, depth)
      table.sort(children[parent] or {}, function(a, b)
        if a.startTimeUnixNano ~= b.startTimeUnixNano then return a.startTimeUnixNano < b.startTimeUnixNano end
        return a.name < b.name
      end)
      for _, span in ipairs(children[parent] or {}) do
        local more = tell and tell(span) or span.map["error.type"]
        lines[#lines + 1] = ("  "):rep(depth) .. span.name .. (more and " " .. more or "")
        walk(span.spanId, depth + 1)
      end
    end
    walk("none", 0)
    return lines, spans
  end

  local function seconds(span)
    return math.floor((tonumber(span.endTimeUnixNano) - tonumber(span.startTimeUnixNano)) / 1e8 + 0.5) / 10
  end

  it("last as long as what they tell of", function()
    run [[
      bus.subscribe("slow", function() bus.sleep "2s"; return "" end)
      js.consume("IN", { durable = "d", filter = "in.*" }, function(msg)
        bus.request("slow", "")
        bus.publish("nowhere", "")
        js.publish("out.a", "")
        bus.sleep "1s"
        msg:ack { sync = true }
      end)
    ]]
    world:publish("in.a", "")
    world:advance "10s"
    local lines = tree(function(span) return tostring(seconds(span)) end)
    assert.same({ "process in.* 3", "  request slow 2", "    process slow 2", "  publish nowhere 0",
      "  publish out.a 0", "  ack in.* 0" }, lines)
  end)

  it("are one for each attempt, with the same parent; a retry in order has no verdict", function()
    for order, verdicts in pairs { [""] = { "nak", "ack" }, ['order_by = "subject",'] = { "again", "ack" } } do
      world:close()
      world = sim.new()
      run(([[
        js.consume("IN", { durable = "d", %s backoff = { min = "1s" } }, function(msg)
          if msg.attempt == 1 then error "no" end
        end)
      ]]):format(order))
      world:publish("in.a", "", { headers = CAME })
      world:advance "1m"
      local list = {}
      for _, span in ipairs(host:spans()) do
        assert.equal(TRACE, span.traceId)
        if span.name:find "^process" then
          assert.equal(SPAN, span.parentSpanId)
          assert.same({ { traceId = TRACE, spanId = SPAN, flags = 0x301 } }, span.links)
          list[span.map["moonbus.attempt"]] = span.map["moonbus.verdict"]
        end
      end
      assert.same(verdicts, list)
    end
  end)

  it("of a batch are one, which links to the messages; an output links to the one it comes from", function()
    run [[
      js.consume("IN", { durable = "d", batch = { size = 3, wait = "1s" } }, function(list)
        js.publish("out.a", "", { from = list[1] })
        list[2]:term()
      end)
    ]]
    world:publish("in.a", "", { headers = CAME })
    world:publish("in.b", "", { headers = { traceparent = (PARENT:gsub("4736", "4737")) } })
    world:publish("in.c", "")
    world:advance "10s"
    local lines, spans = tree(function(span) return span.map["messaging.batch.message_count"] end)
    assert.same({ "process IN 3", "  ack IN 2", "  publish out.a", "  term IN" }, lines)
    for _, span in ipairs(spans) do
      assert.not_equal(TRACE, span.traceId)
      if span.name == "process IN" then assert.equal(2, #span.links) end
      if span.name == "publish out.a" then assert.equal(SPAN, span.links[1].spanId) end
    end
    assert.matches("traceparent: 00%-" .. spans[1].traceId .. ".*correlation_id: c%-7",
      world:messages("OUT")[1].headers)
  end)

  it("of timers begin a trace each, and so does each thing that a hook sends", function()
    run [[
      bus.every("10s", function() bus.publish("tick", "") end)
      bus.on("start", function() bus.publish("one", ""); bus.publish("two", "") end)
    ]]
    world:advance "25s"
    local lines, spans = tree()
    assert.same({ "publish one", "publish two", "every 10s", "  publish tick", "every 10s", "  publish tick" }, lines)
    local traces, count = {}, 0
    for _, span in ipairs(spans) do
      if not traces[span.traceId] then count = count + 1 end
      traces[span.traceId] = true
    end
    assert.equal(4, count)
  end)

  it("say what failed, and what was cancelled while it waited", function()
    run [[
      bus.subscribe("hangs", function() bus.sleep "1h" end)
      bus.subscribe("a.timeout", { timeout = "1s" }, function() bus.request("hangs", "", { timeout = "1m" }) end)
      bus.subscribe("b.nobody", function() bus.request("nobody", ""); js.publish("unknown", ""); return nil, "no" end)
      js.consume("IN", { durable = "d", dead_letter = "dead.d" }, function(msg) msg:reject "bad" end)
    ]]
    world:publish "a.timeout"
    world:advance "2s"
    world:publish "b.nobody"
    world:publish "in.c"
    world:advance "5s"
    assert.same({
      "process a.timeout timeout", "  request hangs cancelled",
      "process IN bad_payload", "  publish dead.d", "  term IN",
      "process b.nobody handler_error", "  publish unknown no_stream", "  request nobody no_responders",
    }, (tree()))
  end)

  it("are recorded as the sender says, or else by ratio; what goes along says so", function()
    run([[
      bus.subscribe("out.heard", { reply = false }, function(msg) sim.note(msg:header "traceparent") end)
      bus.subscribe("go", function() bus.publish("out.heard", "") end)
    ]], { ["telemetry.sample"] = "0" })
    world:publish("go", "", { headers = CAME })
    world:publish("go", "", { headers = { traceparent = PARENT:sub(1, -2) .. "0" } })
    world:publish "go"
    world:settle()
    local lines = tree()
    assert.same({ "process go", "  publish out.heard", "    process out.heard" }, lines)
    local flags = {}
    for i, parent in ipairs(world:said()) do flags[i] = parent:sub(-2) end
    table.sort(flags)
    assert.same({ "00", "01", "02" }, flags)
  end)

  it("end with a handler that is cancelled, because the host stops", function()
    run [[
      js.consume("IN", { durable = "d", timeout = "1h" }, function() bus.sleep "10m" end)
    ]]
    world:publish "in.a"
    world:advance "1s"
    host:stop "2s"
    world:advance "10s"
    local lines = tree(function(span) return span.map["error.type"] end)
    assert.same({ "process IN cancelled", "  nak IN" }, lines)
  end)
end)
