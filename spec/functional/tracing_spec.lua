-- Spans: what was done with a message, on its way through hosts, as a collector of OpenTelemetry gets it.
local metrics = require "spec.support.metrics"
local wait = require "spec.support.wait"
local web = require "spec.support.web"
local world = require "spec.support.world"

local TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
local PARENT = ("00-%s-%s-01"):format(TRACE, SPAN)

describe("Traces", function()
  local w, collector = world.new(), nil
  local number = 0
  setup(function()
    w:open()
    collector = web.start()
  end)
  after_each(function() w:clear() end)
  teardown(function()
    collector:close()
    w:close()
  end)

  it("end with their run: a message without one has none, whatever the log told of the message before it", function()
    local handler = [[
      local bus = require "moonbus"
      local seen = 0
      bus.subscribe("quiet", { reply = false }, function() seen = seen + 1 end)
      bus.subscribe("seen", function() return tostring(seen) end)
    ]]
    w:run { config = "return { workers = 1 }", handlers = { ["handler.lua"] = handler } }
    for count = 1, 3 do
      w.client:publish("quiet", "", { traceparent = PARENT })
      local reply
      wait.eventually(function()
        reply = w.client:request("seen", "")
        return tonumber(reply.data) == count
      end)
      assert.is_nil(reply.headers.traceparent)
    end
  end)

  -- The endpoint of a collector that does so, and its name.
  local function endpoint(how)
    number = number + 1
    return collector:url("/collect/" .. how .. "/c" .. number), "c" .. number
  end

  local function attributes_of(span)
    local map = {}
    for _, attribute in ipairs(span.attributes) do
      map[attribute.key] = attribute.value.stringValue or tonumber(attribute.value.intValue)
    end
    return map
  end

  -- All spans that came to these collectors, by id; each with its attributes as a map, and its service.
  local function spans_of(...)
    local by_id = {}
    for _, name in ipairs { ... } do
      for _, request in ipairs(collector:collected(name)) do
        for _, span in ipairs(request.spans) do
          assert.is_nil(by_id[span.spanId])
          span.map, span.service = attributes_of(span), attributes_of(request.resource)["service.name"]
          by_id[span.spanId] = span
        end
      end
    end
    return by_id
  end

  -- The tree as text, a line for each span, children under their parents in the order of their names.
  local function tree_of(by_id)
    local children = {}
    for _, span in pairs(by_id) do
      local parent = span.parentSpanId or "none"
      children[parent] = children[parent] or {}
      table.insert(children[parent], span)
    end
    local lines = {}
    local function walk(parent, depth)
      local list = children[parent] or {}
      table.sort(list, function(a, b) return a.name < b.name end)
      for _, span in ipairs(list) do
        lines[#lines + 1] = ("%s%s: %s"):format(("  "):rep(depth), span.service, span.name)
        walk(span.spanId, depth + 1)
      end
    end
    walk(SPAN, 0)
    walk("none", 0)
    return lines
  end

  local function span_named(by_id, name)
    for _, span in pairs(by_id) do
      if span.name == name then return span end
    end
    error("no span " .. name)
  end

  describe("of an input that goes through two hosts", function()
    local spans, letter, reply

    -- Once for all that is asserted of it.
    local function run()
      if spans then return end
      local url_a, a = endpoint "take"
      local url_b, b = endpoint "take"
      w.client:stream("DEAD", { "dead.>" })
      local host_a = w:run { handlers = { ["a.lua"] = [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.stream { name = "ORDERS", subjects = { "orders.>" } }
        bus.subscribe("go", { queue = "front" }, function()
          js.publish("orders.created.7", { id = 7 })
          return "done"
        end)
        bus.subscribe("price.*", function() return "9" end)
      ]] }, env = { OTEL_EXPORTER_OTLP_ENDPOINT = url_a, OTEL_SERVICE_NAME = "shop",
        OTEL_RESOURCE_ATTRIBUTES = "deployment.environment=test,team=a%20b" } }
      local host_b = w:run { handlers = { ["b.lua"] = [[
        local bus, js = require "moonbus", require "moonbus.jetstream"
        js.consume("ORDERS", { durable = "billing", filter = "orders.created.*", attempts = 1,
          dead_letter = "dead.billing" }, function(msg)
          bus.log.info "billing"
          bus.spawn(function() bus.request("price.get", "") end):wait()
          error "broke"
        end)
      ]] }, config = ([[return { telemetry = { endpoint = %q, service = "billing" } }]]):format(url_b) }
      reply = assert(w.client:request("go", "", { timeout = 10,
        headers = { traceparent = PARENT, tracestate = "rojo=1", correlation_id = "c-7" } }))
      letter = w.client:await_stored("DEAD", 1)[1]
      local logged = host_b:wait_log "^billing$"
      host_a:stop()
      host_b:stop()
      spans = spans_of(a, b)
      spans.logged, spans.request = logged, collector:collected(a)[1]
    end

    local function all()
      run()
      local map = {}
      for id, span in pairs(spans) do
        if #id == 16 then map[id] = span end
      end
      return map
    end

    it("are one tree: receive, process, publish, request, the dead letter and its end", function()
      assert.same({
        "shop: process go",
        "  shop: publish orders.created.7",
        "    billing: process orders.created.*",
        "      billing: publish dead.billing",
        "      billing: request price.get",
        "        shop: process price.*",
        "      billing: term orders.created.*",
      }, tree_of(all()))
    end)

    it("have the kinds, links, times and ids that OpenTelemetry wants", function()
      for _, span in pairs(all()) do
        assert.equal(TRACE, span.traceId)
        assert.equal("rojo=1", span.traceState or "rojo=1")
        local operation = span.name:match "^%a+"
        assert.equal(({ process = 5, publish = 4, request = 4, term = 3 })[operation], span.kind)
        assert.equal(operation == "process" and span.parentSpanId or nil, span.links and span.links[1].spanId)
        assert.is_true(tonumber(span.endTimeUnixNano) >= tonumber(span.startTimeUnixNano))
        assert.is_true(math.abs(tonumber(span.startTimeUnixNano) / 1e9 - os.time()) < 120)
      end
    end)

    it("have the attributes of messaging", function()
      local process = span_named(all(), "process orders.created.*")
      local port = process.map["server.port"]
      assert.equal(w.server.port, port)
      local publish = span_named(all(), "publish orders.created.7")
      assert.same({
        ["messaging.system"] = "nats", ["messaging.operation.name"] = "process",
        ["messaging.operation.type"] = "process",
        ["messaging.destination.name"] = "orders.created.7", ["messaging.destination.template"] = "orders.created.*",
        ["messaging.consumer.group.name"] = "billing", ["messaging.message.conversation_id"] = "c-7",
        ["messaging.message.id"] = publish.map["messaging.message.id"], ["error.type"] = "handler_error",
        ["moonbus.script"] = "b.lua", ["moonbus.stream"] = "ORDERS", ["moonbus.sequence"] = 1, ["moonbus.attempt"] = 1,
        ["moonbus.queued_ms"] = process.map["moonbus.queued_ms"],
        ["moonbus.verdict"] = "dead_letter", ["server.address"] = "127.0.0.1", ["server.port"] = port,
      }, process.map)
      assert.equal(2, process.status.code)
      assert.matches("broke", process.status.message)
      assert.same({
        ["messaging.system"] = "nats", ["messaging.operation.name"] = "publish", ["messaging.operation.type"] = "send",
        ["messaging.destination.name"] = "orders.created.7", ["messaging.message.body.size"] = 8,
        ["messaging.message.id"] = publish.map["messaging.message.id"], ["messaging.message.conversation_id"] = "c-7",
        ["server.address"] = "127.0.0.1", ["server.port"] = port,
      }, publish.map)
      assert.equal(22, #publish.map["messaging.message.id"])
      assert.equal("front", span_named(all(), "process go").map["messaging.consumer.group.name"])
      assert.equal("settle", span_named(all(), "term orders.created.*").map["messaging.operation.type"])
    end)

    it("are what goes along, and what stands in the log", function()
      local letters = span_named(all(), "publish dead.billing")
      assert.equal(("00-%s-%s-01"):format(TRACE, letters.spanId), letter:header "traceparent")
      assert.equal(("00-%s-%s-01"):format(TRACE, span_named(all(), "process go").spanId), reply:header "traceparent")
      assert.equal("rojo=1", letter:header "tracestate")
      local process = span_named(all(), "process orders.created.*")
      assert.same({ TRACE, process.spanId }, { spans.logged.trace_id, spans.logged.span_id })
    end)

    it("say whose they are", function()
      run()
      local map = attributes_of(spans.request.resource)
      assert.equal("shop", map["service.name"])
      assert.equal("a b", map.team)
      assert.equal("test", map["deployment.environment"])
      assert.matches("^%x+%-%x+%-4%x+%-%x+%-%x+$", map["service.instance.id"])
      assert.is_number(map["process.pid"])
      assert.matches("^POST /collect/take/c%d+/v1/traces HTTP/1.1\r\n", spans.request.head)
      assert.matches("\r\n[Cc]ontent%-[Tt]ype: application/json\r\n", spans.request.head)
    end)
  end)

  -- A host with one core handler "go" that sends nothing; so many requests, then it stops.
  local function run_requests(options, count, headers)
    options.handlers = { ["a.lua"] = 'require "moonbus".subscribe("go", function() return "" end)' }
    local host = w:run(options)
    for _ = 1, count do assert(w.client:request("go", "", { headers = headers, timeout = 10 })) end
    return host
  end

  local function telemetry(url, more)
    return ("return { telemetry = { endpoint = %q, %s } }"):format(url, more or "")
  end

  local function count_of(by_id)
    local count = 0
    for _ in pairs(by_id) do count = count + 1 end
    return count
  end

  it("have one name for what is sent to inboxes, those of the configured prefix too", function()
    local url, name = endpoint "take"
    local host = w:run { handlers = { ["a.lua"] = [[
      local bus = require "moonbus"
      bus.subscribe("go", function()
        for _, subject in ipairs { "_INBOX.one", "_SPEC.one.two", "_SPECIAL.one" } do bus.publish(subject, "") end
        return ""
      end)
    ]] }, config = ("return { inbox_prefix = '_SPEC', telemetry = { endpoint = %q } }"):format(url) }
    assert(w.client:request("go", "", { timeout = 10 }))
    host:stop()
    local names = {}
    for _, span in pairs(spans_of(name)) do
      if span.map["messaging.operation.name"] == "publish" then names[#names + 1] = span.name end
    end
    table.sort(names)
    assert.same({ "publish (temporary)", "publish (temporary)", "publish _SPECIAL.one" }, names)
  end)

  it("begin with a message that brings none", function()
    local url, name = endpoint "take"
    run_requests({ config = telemetry(url) }, 2):stop()
    local spans, traces = spans_of(name), {}
    for _, span in pairs(spans) do
      assert.is_nil(span.parentSpanId or span.links)
      traces[span.traceId] = true
    end
    assert.equal(2, count_of(traces))
  end)

  it("are recorded as whoever began them says, and else by ratio", function()
    local url, name = endpoint "take"
    local config = telemetry(url, "sample = 0.5, headers = { authorization = 'secret 1' }")
    local host = run_requests({ config = config }, 200)
    for _ = 1, 20 do w.client:request("go", "", { headers = { traceparent = (PARENT:gsub("01$", "00")) } }) end
    for _ = 1, 20 do w.client:request("go", "", { headers = { traceparent = PARENT } }) end
    host:stop()
    local ours = { came = 0, made = 0 }
    for _, span in pairs(spans_of(name)) do
      local kind = span.traceId == TRACE and "came" or "made"
      ours[kind] = ours[kind] + 1
    end
    assert.equal(20, ours.came)
    assert.is_true(ours.made > 60 and ours.made < 140, ours.made)
    assert.matches("\r\nauthorization: secret 1\r\n", collector:collected(name)[1].head)
    assert.is_nil(host:output():find "secret")
  end)

  it("are sent again when the collector is busy, after as long as it says, and only then", function()
    local url, name = endpoint "busy2"
    local began = wait.now()
    local host = run_requests({ config = telemetry(url) }, 3)
    host:stop()
    assert.equal(3, #collector:collected(name))
    assert.is_true(wait.now() - began >= 2)
    assert.equal(collector:collected(name)[1].body, collector:collected(name)[3].body)
    host:wait_log "traces cannot be sent: .* answered 429; tried again"
    host:wait_log "traces are sent to .* again"
    assert.same({}, host:logged "dropped")
  end)

  it("that the collector refuses are counted, and not sent again", function()
    for how, why in pairs { part = "traces: 2 spans dropped: 2 were refused: .* refused them: too old",
      no = "traces: 3 spans dropped: 3 were refused: .* answered 400" } do
      local url, name = endpoint(how)
      local secret = url:gsub("//", "//ada:hidden@") .. "/v1/traces?api-key=hidden"
      local host = run_requests({ config = ("return { telemetry = { traces_endpoint = %q } }"):format(secret) }, 3)
      host:stop()
      host:wait_log(why)
      assert.equal(1, #collector:collected(name))
      assert.matches("traces%?api%-key=hidden HTTP", collector:collected(name)[1].head)
      assert.is_nil(host:output():find "hidden")
    end
  end)

  it("delay neither a message nor the stop when nobody takes them", function()
    for _, url in ipairs { "http://127.0.0.1:1", (endpoint "hang") } do
      local host = run_requests({ config = ([[return { graceful_timeout = "2s", telemetry = { endpoint = %q } }]])
        :format(url) }, 50)
      local began = wait.now()
      assert.equal(0, host:stop())
      assert.is_true(wait.now() - began < wait.within(5), wait.now() - began)
      host:wait_log "traces: 50 spans dropped: 50 were not sent before the end: "
    end
  end)

  it("fill a bounded queue, and what finds no room is counted", function()
    local url = endpoint "hang"
    local host = w:run { handlers = { ["a.lua"] = [[
      local bus = require "moonbus"
      bus.subscribe("go", function() for _ = 1, 6000 do bus.publish("x", "") end return "" end)
    ]] }, config = telemetry(url, "timeout = '200ms'") }
    assert(w.client:request("go", "", { timeout = 20 }))
    local said = host:wait_log("spans dropped", 20).msg
    assert.matches("traces: (%d+) spans dropped: %d+ found no room in the queue: .* not done within 200ms", said)
    -- Of 6000 and the handler's own the queue is kept, and a batch, if it was under way in time; some may come
    -- after the line.
    local dropped = tonumber(said:match "(%d+) spans")
    assert.is_true(dropped > 0 and dropped <= 6001 - 4096, said)
  end)

  it("go along to HTTP servers, where the handler sets none of its own", function()
    w:run(([[
      local bus = require "moonbus"
      bus.subscribe("go", function()
        return { bus.http.get(%q).body, bus.http.get(%q, { headers = { Traceparent = "mine" } }).body }
      end)
    ]]):format(collector:url "/echo", collector:url "/echo"))
    local headers = { traceparent = PARENT, tracestate = "rojo=1", correlation_id = "c-7" }
    local got = w.client:request("go", "", { headers = headers }):json()
    assert.matches("\r\ntraceparent: " .. PARENT:gsub("%-", "%%-") .. "\r\ntracestate: rojo=1\r\n", got[1])
    assert.matches("\r\nTraceparent: mine\r\n", got[2])
    assert.is_nil(got[2]:find(TRACE, 1, true) or got[2]:find "tracestate" or got[1]:find "c%-7")
    assert.is_nil(w.client:request("go", ""):json()[1]:find "trace")
  end)

  it("stand in what an offloaded function logs", function()
    local host = w:run { handlers = { ["a.lua"] = [[
      local bus = require "moonbus"
      local lib = bus.offload "blocks"
      bus.subscribe("go", function() return (lib.say()) end)
    ]] }, files = {
      ["lib/blocks.lua"] = 'return { say = function() print "from aside"; return "said" end }' } }
    assert.equal("said", w.client:request("go", "", { headers = { traceparent = PARENT } }).data)
    local event = host:wait_log "^from aside$"
    assert.same({ TRACE, SPAN }, { event.trace_id, event.span_id })
  end)

  it("have one span for each publish, however often it had to wait for room; counts are alike", function()
    w.client:stream("LARGE", { "large" }, { max_msgs = 1 })
    local url, name = endpoint "take"
    local host = w:run { admin = true, config = telemetry(url), handlers = { ["large.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
local data = ("x"):rep(1000000)
bus.subscribe("store", { timeout = "60s" }, function(msg)
  msg:respond()
  bus.sleep "200ms"
  local all = {}
  for i = 1, 100 do all[i] = js.publish_async("large", data) end
  for i = 1, 100 do assert(all[i]:wait()) end
end)]] } }
    w.client:request("store", "")
    w.server:freeze()
    wait.eventually(function() return metrics.value(host, "moonbus_outbox_pending") >= 60 end)
    -- Those that wait look for room again and again.
    wait.holds(function() return metrics.value(host, "moonbus_outbox_pending") >= 60 end, 0.2)
    w.server:thaw()
    wait.eventually(function()
      return metrics.value(host, "moonbus_publishes_total", { script = "large.lua", result = "stored" }) == 100
    end, 20)
    for _, sample in ipairs(metrics.of(host).moonbus_publishes_total.samples) do
      assert.equal(sample.labels.result == "stored" and 100 or 0, sample.value, sample.labels.result)
    end
    host:stop()
    local publishes = 0
    for _, span in pairs(spans_of(name)) do
      assert.are_not.equal(2, span.status and span.status.code, span.name)
      if span.name:find "large" then publishes = publishes + 1 end
    end
    assert.equal(100, publishes)
  end)

  it("are not recorded when nobody says where they go, or when OpenTelemetry is switched off", function()
    local url, name = endpoint "take"
    local host = run_requests({ env = { OTEL_EXPORTER_OTLP_ENDPOINT = url, OTEL_SDK_DISABLED = "true" } }, 1)
    local reply = w.client:request("go", "", { headers = { traceparent = PARENT } })
    assert.equal(PARENT, reply:header "traceparent")
    host:stop()
    assert.same({}, collector:collected(name))
  end)
end)
