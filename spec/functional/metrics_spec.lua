-- GET /metrics: what docs/METRICS.md says, in the formats that Prometheus reads.
local metrics = require "spec.support.metrics"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- By the name of a sample: its type and its labels, as the page has them.
local function documented()
  local list = {}
  for line in io.lines "docs/METRICS.md" do
    local name, kind, labels = line:match "^| `([%w_]+)` | (%w+) | ([^|]*) |"
    if name then
      local names = {}
      for label in labels:gmatch "`([%w_]+)`" do names[#names + 1] = label end
      list[name] = { type = kind, labels = table.concat(names, ",") }
    end
  end
  return list
end

local function keys(labels)
  local names = {}
  for name in pairs(labels) do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ",")
end

local function sorted(text)
  local names = {}
  for name in text:gmatch "[%w_]+" do names[name] = true end
  return keys(names)
end

local function promtool(body)
  local file = os.tmpname()
  temp.write("/", file:sub(2), body)
  local pipe = io.popen("promtool check metrics < " .. file .. " 2>&1; echo $?")
  local said = pipe:read "*a"
  pipe:close()
  os.remove(file)
  return said
end

describe("The metrics of a host that does a bit of everything", function()
  local w = world.new()
  local host

  setup(function()
    w:open()
    host = w:run { admin = true, handlers = {
      ["work.lua"] = "return { double = function(n) return 2 * n end }",
      ['odd "name"\\.lua'] = [[
local bus = require "moonbus"
bus.subscribe("odd", function() return "odd" end)]],
      ["orders.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "ORDERS", subjects = { "orders.>" }, storage = "memory" }
js.stream { name = "DEAD", subjects = { "dead.>" }, storage = "memory" }
local store = bus.shared("counts")
local work = bus.offload "work"
local verdicts = {
  ack = function() js.publish("orders.done", "done") end,
  nak = function(msg) if msg.attempt == 1 then msg:nak("50ms") end end,
  term = function(msg) msg:term() end,
  fail = function() error("no such luck") end,
  slow = function() bus.sleep("10s") end,
}
js.consume("ORDERS", { durable = "billing", filter = "orders.new", attempts = 2, timeout = "1s",
  backoff = { min = "20ms" }, dead_letter = "dead.orders" }, function(msg) return verdicts[msg.data](msg) end)
bus.subscribe("ORDERS/billing", function() end)
bus.subscribe("twice", function() return "first" end)
bus.subscribe("twice", { reply = false }, function() end)
bus.subscribe("do", function()
  store:set("key", "value")
  bus.publish("orders.nothing", "x")
  bus.request("odd", "")
  bus.request("nobody", "", { timeout = "1s" })
  bus.http.get "http://127.0.0.1:1/"
  return tostring(work.double(21))
end)
bus.every("1h", function() end)
bus.on("start", function() end)]],
    } }
    assert.equal("42", w.client:request("do", "").data)
    for _, data in ipairs { "ack", "nak", "term", "fail" } do w.client:store("orders.new", data) end
    assert(w.client:request("twice", ""))
  end)
  teardown(function()
    w:clear()
    w:close()
  end)

  local function value(name, labels) return metrics.value(host, name, labels) end
  local function becomes(wanted, name, labels)
    wait.eventually(function() return value(name, labels) == wanted end, 10, function()
      return ("%s is %s, not %s"):format(name, tostring(value(name, labels)), wanted)
    end)
  end
  local BILLING = { script = "orders.lua", handler = "ORDERS/billing" }
  local function billing(more)
    local labels = { script = BILLING.script, handler = BILLING.handler }
    for name, label in pairs(more or {}) do labels[name] = label end
    return labels
  end

  it("are those of docs/METRICS.md, with these types and labels, and no others", function()
    becomes(1, "moonbus_handler_settled_total", billing { verdict = "dead_lettered" })
    local page, families = documented(), metrics.of(host)
    local missing, other = {}, {}
    for name, row in pairs(page) do
      local family = families[name]
      if not family then
        missing[#missing + 1] = name
      else
        assert.equal(row.type, family.type, name)
        assert.is_truthy(family.samples[1] or name:find "errors" or name:find "failures", name .. " has no sample")
        for _, sample in ipairs(family.samples) do
          local labels = sorted(keys(sample.labels):gsub("%f[%w]le%f[%W]", ""))
          assert.equal(sorted(row.labels), labels, sample.name)
        end
      end
    end
    for name in pairs(families) do
      if not page[name] then other[#other + 1] = name end
    end
    assert.same({}, missing)
    assert.same({}, other)
  end)

  it("have no two samples with the same labels, also where a subscription is called as a durable is", function()
    local _, _, body = metrics.get(host)
    local seen = {}
    for sample in body:gmatch "\n([^#\n]+) %S+" do
      assert.is_nil(seen[sample], sample)
      seen[sample] = true
    end
    assert.equal(1, value("moonbus_handler_info",
      { script = "orders.lua", handler = "ORDERS/billing (2)", kind = "subscribe" }))
  end)

  it("have how publishes fail before the first does", function()
    assert.equal(0, value("moonbus_publishes_total", { script = "orders.lua", result = "no_stream" }))
  end)

  it("please promtool", function()
    local _, _, body = metrics.get(host)
    assert.equal("0\n", promtool(body))
  end)

  it("are OpenMetrics for who prefers that", function()
    local _, head, body = metrics.get(host,
      "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2\r\n")
    assert.matches("Content%-Type: application/openmetrics%-text; version=1%.0%.0; charset=utf%-8", head)
    assert.matches("# EOF\n$", body)
    local families = metrics.parse(body)
    local family = families.moonbus_handler_attempts
    assert.equal("counter", family.type)
    assert.equal("moonbus_handler_attempts_total", family.samples[1].name)
    assert.equal("seconds", families.moonbus_handler_duration_seconds.unit)
    for _, accept in ipairs { "", "Accept: */*\r\n", "Accept: text/plain\r\n",
      "Accept: application/openmetrics-text;q=0.1, text/plain\r\n" } do
      _, head, body = metrics.get(host, accept)
      assert.matches("Content%-Type: text/plain; version=0%.0%.4; charset=utf%-8", head)
      assert.is_nil(body:find "# EOF")
    end
  end)

  it("count what became of messages", function()
    becomes(1, "moonbus_handler_settled_total", billing { verdict = "dead_lettered" })
    becomes(2, "moonbus_handler_settled_total", billing { verdict = "acked" })
    assert.equal(2, value("moonbus_handler_settled_total", billing { verdict = "nacked" }))
    assert.equal(1, value("moonbus_handler_settled_total", billing { verdict = "terminated" }))
    assert.equal(6, value("moonbus_handler_received_total", BILLING))
    assert.equal(2, value("moonbus_handler_redelivered_total", BILLING))
    assert.equal(6, value("moonbus_handler_attempts_total", BILLING))
    assert.equal(6, value("moonbus_handler_duration_seconds_count", BILLING))
    assert.equal(6, value("moonbus_handler_queue_wait_seconds_count", BILLING))
    assert.equal(2, value("moonbus_handler_errors_total", billing { code = "handler_error" }))
    assert.equal(2, value("moonbus_handler_runs_total", billing { result = "failed" }))
    assert.is_true(value("moonbus_handler_last_error_timestamp_seconds", BILLING) > os.time() - 60)
  end)

  it("count what a script calls, by how it ended", function()
    local script = { script = "orders.lua" }
    assert.equal(1, value("moonbus_core_publishes_total", script))
    assert.equal(1, value("moonbus_requests_total", { script = "orders.lua", result = "ok" }))
    assert.equal(1, value("moonbus_requests_total", { script = "orders.lua", result = "no_responders" }))
    becomes(1, "moonbus_publishes_total", { script = "orders.lua", result = "stored" })
    assert.equal(1, value("moonbus_publish_duration_seconds_count", script))
    assert.equal(1, value("moonbus_http_failures_total", { code = "refused" }))
    assert.equal(1, value("moonbus_offload_calls_total"))
    assert.equal(1, value("moonbus_shared_entries", { store = "counts" }))
  end)

  it("tell two handlers of one name apart", function()
    assert.equal(1, value("moonbus_handler_runs_total", { handler = "twice", result = "ok" }))
    becomes(1, "moonbus_handler_runs_total", { handler = "twice (2)", result = "ok" })
  end)

  it("escape the names of scripts", function()
    assert.equal(1, value("moonbus_script_served", { script = 'odd "name"\\.lua' }))
  end)

  it("separate the time that a run takes from the time that it has a thread", function()
    local before = value("moonbus_handler_cpu_seconds_sum", BILLING)
    w.client:store("orders.new", "slow")
    becomes(1, "moonbus_handler_in_process", BILLING)
    assert.is_true(value("moonbus_handler_oldest_seconds", BILLING) >= 0)
    becomes(1, "moonbus_handler_timeouts_total", BILLING)
    assert.is_true(value("moonbus_handler_duration_seconds_sum", BILLING) >= 1)
    assert.is_true(value("moonbus_handler_cpu_seconds_sum", BILLING) - before < 0.5)
    becomes(2, "moonbus_handler_timeouts_total", BILLING)
    becomes(0, "moonbus_handler_in_process", BILLING)
  end)

  it("go on over a reload, and count it", function()
    local before = value("moonbus_handler_received_total", BILLING)
    local ran = value("moonbus_handler_duration_seconds_count", BILLING)
    local path = host.folder .. "/handlers/orders.lua"
    local text = temp.read(path)
    temp.write(host.folder, "handlers/orders.lua", text:gsub("dead%.orders", "dead.letters"))
    assert.equal(200, (posix.http(tonumber(host.admin:match "%d+$"), "POST", "/reload")))
    assert.equal(before, value("moonbus_handler_received_total", BILLING))
    assert.equal(2, value("moonbus_script_generation", { script = "orders.lua" }))
    assert.equal(1, value("moonbus_script_reloads_total", { script = "orders.lua", result = "good" }))
    becomes(1, "moonbus_script_generations_alive", { script = "orders.lua" })
    w.client:store("orders.new", "ack")
    becomes(before + 1, "moonbus_handler_received_total", BILLING)
    becomes(ran + 1, "moonbus_handler_duration_seconds_count", BILLING)

    temp.write(host.folder, "handlers/orders.lua", "not Lua")
    assert.equal(409, (posix.http(tonumber(host.admin:match "%d+$"), "POST", "/reload")))
    assert.equal(1, value("moonbus_script_reloads_total", { script = "orders.lua", result = "refused" }))
    assert.equal(0, value("moonbus_script_last_reload_successful", { script = "orders.lua" }))
    assert.equal(2, value("moonbus_script_generation", { script = "orders.lua" }))
  end)

  it("answer HEAD, and many at a time who do not read", function()
    local status, head, body = metrics.get(host, nil, "HEAD")
    assert.same({ 200, "" }, { status, body })
    assert.is_true(tonumber(head:match "Content%-Length: (%d+)") > 10000)
    local silent = {}
    local request = "GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"
    for i = 1, 40 do silent[i] = assert(posix.dial(tonumber(host.admin:match "%d+$"), request)) end
    assert.equal(200, (metrics.get(host)))
    for _, fd in ipairs(silent) do posix.C.close(fd) end
    assert.equal(405, (posix.http(tonumber(host.admin:match "%d+$"), "POST", "/metrics")))
  end)

  it("tell of a connection that was away", function()
    local consume = { connection = "consume" }
    assert.equal(1, value("moonbus_connection_up", consume))
    assert.is_true(value("moonbus_connection_received_messages_total", consume) > 5)
    w.server:down()
    becomes(0, "moonbus_connection_up", consume)
    assert.equal(0, value "moonbus_ready")
    w.server:up()
    becomes(1, "moonbus_connection_up", consume)
    assert.equal(1, value("moonbus_connection_reconnects_total", consume))
    assert.is_true(value("moonbus_connection_disconnected_seconds_total", consume) > 0)
  end)
end)

describe("The lag of a durable", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("is what the server says, also while the host drains", function()
    w.client:stream("JOBS", { "jobs" })
    for _ = 1, 5 do w.client:store("jobs", "") end
    local host = w:run { admin = true, handlers = { ["handler.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
local first = true
js.consume("JOBS", { durable = "one", concurrency = 1, dead_letter = false }, function(msg)
  if msg.sequence > 1 then bus.sleep("30s") end
end)]] }, config = 'return { graceful_timeout = "2s" }' }
    local DURABLE = { stream = "JOBS", consumer = "one" }
    wait.eventually(function() return metrics.value(host, "moonbus_consumer_num_pending", DURABLE) == 3 end, 15)
    assert.equal(1, metrics.value(host, "moonbus_consumer_num_ack_pending", DURABLE))
    assert.equal(1, metrics.value(host, "moonbus_consumer_held", DURABLE))
    assert.is_true(metrics.value(host, "moonbus_consumer_info_age_seconds", DURABLE) < 15)
    -- However often it is read, the server is asked at most every 10 s.
    local asked = w.client:subscribe "$JS.API.CONSUMER.INFO.>"
    for _ = 1, 50 do assert.equal(3, metrics.value(host, "moonbus_consumer_num_pending", DURABLE)) end
    asked:next(0.1)
    assert.is_nil(asked:next(0.1))
    host:signal "TERM"
    wait.eventually(function() return metrics.value(host, "moonbus_draining") == 1 end)
    assert.equal(3, host:wait(10))
  end)
end)

describe("The metrics of a script whose handlers change their kind", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function no_sample_twice(host)
    local _, _, body = metrics.get(host)
    local seen = {}
    for sample in body:gmatch "\n([^#\n]+) %S+" do
      assert.is_nil(seen[sample], sample)
      seen[sample] = true
    end
    assert.equal("0\n", promtool(body))
  end

  local STREAM = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "KIND", subjects = { "kind" }, storage = "memory" }
]]
  local DURABLE = STREAM .. 'js.consume("KIND", { durable = "one", dead_letter = false }, function() end)'
  local CORE = STREAM .. [[
bus.subscribe("KIND/one", function(msg)
  if msg.data == "slow" then
    bus.publish("runs", "")
    bus.sleep("1m")
  end
  return msg.data
end)]]
  local LABELS = { script = "handler.lua", handler = "KIND/one" }

  local function labels(more)
    local all = {}
    for _, list in ipairs { LABELS, more } do
      for name, label in pairs(list) do all[name] = label end
    end
    return all
  end

  local function reload(host, text)
    temp.write(host.folder, "handlers/handler.lua", text)
    assert.equal(200, (posix.http(tonumber(host.admin:match "%d+$"), "POST", "/reload")))
  end

  it("have no two samples with the same labels, over reloads to and fro", function()
    local host = w:run { admin = true, handlers = { ["handler.lua"] = DURABLE } }
    local function becomes(wanted, name, more)
      wait.eventually(function() return metrics.value(host, name, labels(more)) == wanted end, 10)
    end
    for round = 1, 3 do
      w.client:store("kind", "x")
      becomes(round, "moonbus_handler_settled_total", { verdict = "acked" })
      reload(host, CORE .. " -- " .. round)
      for _ = 1, 5 do assert(w.client:request("KIND/one", "x")) end
      becomes(5 * round, "moonbus_handler_runs_total", { result = "ok" })
      assert.equal(1, metrics.value(host, "moonbus_handler_info", labels { kind = "subscribe" }))
      no_sample_twice(host)
      reload(host, DURABLE .. " -- " .. round)
      assert.equal(1, metrics.value(host, "moonbus_handler_info", labels { kind = "consume" }))
      no_sample_twice(host)
    end
  end)

  it("have none while the one before still runs, nor when its script has gone", function()
    local host = w:run { admin = true, handlers = { ["handler.lua"] = CORE } }
    local runs = w.client:subscribe "runs"
    w.client:publish("KIND/one", "slow")
    assert(runs:next(10))
    reload(host, DURABLE)
    no_sample_twice(host)
    assert.equal(2, metrics.value(host, "moonbus_script_generations_alive", { script = "handler.lua" }))
    os.remove(host.folder .. "/handlers/handler.lua")
    assert.equal(200, (posix.http(tonumber(host.admin:match "%d+$"), "POST", "/reload")))
    no_sample_twice(host)
  end)

  it("are of two files of one name, also when the second's path is the first's name", function()
    local folder = w:folder()
    temp.write(folder, "sub/x.lua", 'require("moonbus").subscribe("sub", function() return "" end)')
    temp.write(folder, "x.lua", 'require("moonbus").subscribe("top", function() return "" end)')
    local host = w:run { admin = true, folder = folder, args = { "sub/x.lua", "x.lua" } }
    assert(w.client:request("sub", ""))
    assert(w.client:request("top", ""))
    no_sample_twice(host)
    assert.equal(1, metrics.value(host, "moonbus_script_served", { script = "./x.lua" }))
  end)
end)
