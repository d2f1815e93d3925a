-- bus.service (ADR-32): what others find, are told and get.
local cjson = require "cjson"
local metrics = require "spec.support.metrics"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local CALC = [[
local bus = require "moonbus"
local calc = bus.service { name = "calc", version = "1.2.3", description = "sums", metadata = { region = "eu" } }
calc:endpoint("add", { schema = { a = "number", b = "number" }, metadata = { unit = "none" } }, function(_, body)
  return { sum = body.a + body.b }
end)
calc:endpoint("fail", function(msg) bus.sleep "20ms" return nil, "no way" end)
local v1 = calc:group("v1", { queue = "w" })
v1:endpoint("sub", { subject = "minus.*" }, function(msg) return msg.subject end)
v1:group("deep"):endpoint("each", { queue = false }, function() return "y" end)
]]

describe("bus.service", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- All answers to a question, sorted by id, as tables.
  local count = 0
  local function ask_all(subject, expected)
    count = count + 1
    local inbox = "found." .. count
    local sub = w.client:subscribe(inbox)
    w.client:publish(subject, "", nil, inbox)
    local list = {}
    for index = 1, expected do list[index] = assert(sub:next(10)):json() end
    table.sort(list, function(a, b) return a.name .. a.id < b.name .. b.id end)
    return list
  end

  local function ask(subject) return ask_all(subject, 1)[1] end
  local function request(subject, data) return assert(w.client:request(subject, data or "")) end

  -- The endpoint of that name in an answer.
  local function endpoint(answer, name)
    for _, each in ipairs(answer.endpoints) do
      if each.name == name then return each end
    end
  end

  it("is found by $SRV.PING, by its name, and by its id", function()
    w:run(CALC)
    local found = ask "$SRV.PING"
    assert.matches("^[%w]+$", found.id)
    assert.equal(22, #found.id)
    assert.same({
      type = "io.nats.micro.v1.ping_response", name = "calc", id = found.id, version = "1.2.3",
      metadata = { region = "eu" },
    }, found)
    assert.same(found, ask "$SRV.PING.calc")
    assert.same(found, ask("$SRV.PING.calc." .. found.id))
    assert.is_nil(w.client:request("$SRV.PING.other", "", { timeout = 0.2 }))
  end)

  it("describes itself with all endpoints, as they are subscribed", function()
    w:run(CALC)
    local found = ask "$SRV.INFO.calc"
    assert.equal("io.nats.micro.v1.info_response", found.type)
    assert.equal("sums", found.description)
    local none = setmetatable({}, nil)
    assert.same({
      { name = "add", subject = "add", queue_group = "q", metadata = { unit = "none" } },
      { name = "fail", subject = "fail", queue_group = "q", metadata = none },
      { name = "sub", subject = "v1.minus.*", queue_group = "w", metadata = none },
      { name = "each", subject = "v1.deep.each", queue_group = "", metadata = none },
    }, found.endpoints)
  end)

  it("serves its endpoints as bus.subscribe does, errors in the headers", function()
    w:run(CALC)
    assert.equal(3, request("add", '{"a":1,"b":2}'):json().sum)
    assert.equal("v1.minus.x", request "v1.minus.x".data)
    assert.equal("y", request "v1.deep.each".data)
    local misfit, failed = request("add", '{"a":1}'), request "fail"
    assert.equal("400", misfit:header "Nats-Service-Error-Code")
    assert.matches("b: expected number", misfit:header "Nats-Service-Error")
    assert.equal("500", failed:header "Nats-Service-Error-Code")
    assert.equal("no way", failed:header "Nats-Service-Error")
  end)

  it("answers with the status that the error of a handler states, returned or raised", function()
    local host = w:run [[
local bus = require "moonbus"
local s = bus.service { name = "lookup", version = "1.0.0" }
s:endpoint("returned", function() return nil, { status = 404, message = "no such order" } end)
s:endpoint("raised", function() bus.gather { function() error { status = 409, message = "taken" } end } end)
s:endpoint("text", function() return nil, { status = "410", message = "gone" } end)
s:endpoint("word", function() return nil, { status = "gone", message = "gone, too" } end)
s:endpoint("odd", function() return nil, { status = 99999, message = "odd" } end)
s:endpoint("asks", function() return bus.request("returned", "") end)]]
    local function told(subject)
      local reply = request(subject)
      return { reply:header "Nats-Service-Error-Code", reply:header "Nats-Service-Error" }
    end
    assert.same({ "404", "no such order" }, told "returned")
    assert.same({ "409", "taken" }, told "raised")
    assert.same({ "410", "gone" }, told "text")
    assert.same({ "500", "gone, too" }, told "word")
    assert.same({ "500", "odd" }, told "odd")
    assert.same({ "500", "no such order" }, told "asks")
    -- That there is no such order is an answer, no error of the host's.
    assert.equal("debug", host:wait_log { msg = "^no such order$", handler = "lookup/returned" }.level)
    assert.equal("debug", host:wait_log { msg = "^taken$" }.level)
    assert.equal("error", host:wait_log { msg = "^odd$" }.level)
    assert.equal("error", host:wait_log { msg = "no such order", handler = "lookup/asks", verdict = "failed" }.level)
  end)

  it("counts requests, errors and time of each endpoint, over reloads", function()
    local host = w:run { handlers = { ["calc.lua"] = CALC } }
    for _ = 1, 3 do request("add", '{"a":1,"b":2}') end
    request("add", "no JSON")
    request "fail"
    -- A run is over a moment after its reply.
    local before = wait.eventually(function()
      local stats = ask "$SRV.STATS.calc"
      return endpoint(stats, "fail").num_errors == 1 and stats
    end)
    assert.equal("io.nats.micro.v1.stats_response", before.type)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", before.started)
    local add, fail = endpoint(before, "add"), endpoint(before, "fail")
    assert.equal(4, add.num_requests)
    assert.equal(1, add.num_errors)
    assert.is_true(#add.last_error > 0)
    assert.equal(1, fail.num_requests)
    assert.equal("no way", fail.last_error)
    assert.is_true(fail.processing_time >= 20e6 and fail.processing_time < 20e9, fail.processing_time)
    assert.equal(fail.processing_time, fail.average_processing_time)
    assert.equal(math.floor(add.processing_time / 4), add.average_processing_time)
    assert.same({ 0, 0, "", 0, 0 }, (function(each)
      return { each.num_requests, each.num_errors, each.last_error, each.processing_time,
        each.average_processing_time }
    end)(endpoint(before, "sub")))

    temp.write(host.folder, "handlers/calc.lua", (CALC:gsub('"1.2.3"', '"2.0.0"'):gsub("sums", "more")))
    host:signal "HUP"
    host:wait_log "generation 2"
    local after = ask "$SRV.STATS.calc"
    assert.equal("2.0.0", after.version)
    assert.equal(before.id, after.id)
    assert.equal(before.started, after.started)
    request("add", '{"a":1,"b":2}')
    assert.equal(5, endpoint(ask "$SRV.STATS.calc", "add").num_requests)
    assert.equal("more", ask "$SRV.INFO.calc".description)
  end)

  it("answers while all workers are busy", function()
    w:run { handlers = { ["calc.lua"] = CALC, ["busy.lua"] = [[
local bus = require "moonbus"
bus.subscribe("burn", function() local till = bus.now() + 2 while bus.now() < till do end return "burnt" end)]] },
      config = "return { workers = 1, limits = { cpu = '10s' } }" }
    local sub = w.client:subscribe "burnt.*"
    for i = 1, 3 do w.client:publish("burn", "", nil, "burnt." .. i) end
    for _ = 1, 20 do assert.equal("calc", ask "$SRV.STATS".name) end
    assert.is_nil(sub:next(0.01), "the worker is busy all the while")
    for _ = 1, 3 do assert(sub:next(20)) end
  end)

  it("is one service in two scripts that state the same, and each process has an id of its own", function()
    local one = [[
local bus = require "moonbus"
bus.service { name = "calc", version = "1.0.0" }:endpoint("%s", function() return "%s" end)]]
    local handlers = { ["a.lua"] = one:format("a", "a"), ["b.lua"] = one:format("b", "b") }
    local host = w:run { handlers = handlers }
    w:run { handlers = handlers }
    local found = ask_all("$SRV.INFO.calc", 2)
    assert.are_not.equal(found[1].id, found[2].id)
    for _, each in ipairs(found) do
      assert.is_truthy(endpoint(each, "a") and endpoint(each, "b") and #each.endpoints == 2)
    end
    assert.equal("b", request "b".data)
    temp.write(host.folder, "handlers/b.lua", one:format("b", "b"):gsub("1.0.0", "1.1.0"))
    host:signal "HUP"
    host:wait_log { level = "error", msg = 'the service "calc" has another version here than at a.lua:2' }
    assert.equal("b", request "b".data)
  end)

  it("that a module states is one for both scripts that require it, and changes for both together", function()
    local module = 'return require "moonbus".service { name = "calc", version = "%s" }'
    local host = w:run {
      handlers = {
        ["a.lua"] = 'require "calc":endpoint("a", function() return "a" end)',
        ["b.lua"] = 'require "calc":endpoint("b", function() return "b" end)',
      },
      files = { ["lib/calc.lua"] = module:format "1.0.0" },
    }
    assert.equal(2, #ask "$SRV.INFO.calc".endpoints)
    temp.write(host.folder, "lib/calc.lua", module:format "2.0.0")
    host:signal "HUP"
    host:wait_log("generation 2", 10, 2)
    local found = ask "$SRV.INFO.calc"
    assert.same({ "2.0.0", 2 }, { found.version, #found.endpoints })
    assert.same({}, host:logged { level = "error" })
  end)

  it("has an endpoint once: in two scripts it is refused", function()
    local one = 'require "moonbus".service { name = "c", version = "1.0.0" }:endpoint("e", print)'
    local result = w:fail { handlers = { ["a.lua"] = one, ["b.lua"] = one } }
    assert.equal(2, result.status)
    assert.matches('the endpoint \\"e\\" of the service \\"c\\" on \\"e\\" has a handler already in another script',
      result.output)
  end)

  it("that two scripts state otherwise is an error at the start that names both", function()
    local result = w:fail { handlers = {
      ["a.lua"] = [[require "moonbus".service { name = "calc", version = "1.0.0", metadata = { a = "b" } }]],
      ["b.lua"] = "\n" .. [[require "moonbus".service { name = "calc", version = "1.0.0", metadata = { a = "c" } }]],
    } }
    assert.equal(2, result.status)
    assert.matches('the service \\"calc\\" has another metadata here than at [ab].lua:%d', result.output)
  end)

  it("is there without endpoints, and is gone with its script, and at a stop at once", function()
    local host = w:run { handlers = {
      ["a.lua"] = [[require "moonbus".service { name = "empty", version = "1.0.0" }]],
      ["b.lua"] = [[
local bus = require "moonbus"
local s = bus.service { name = "slow", version = "1.0.0" }
s:endpoint("slow", function(msg) bus.publish "began" bus.sleep "1s" return "done" end)]],
    } }
    assert.same({ "empty", "slow" }, { ask_all("$SRV.PING", 2)[1].name, ask_all("$SRV.PING", 2)[2].name })
    os.remove(host.folder .. "/handlers/a.lua")
    host:signal "HUP"
    host:wait_log "a.lua"
    wait.eventually(function() return not w.client:request("$SRV.PING.empty", "", { timeout = 0.1 }) end)
    local began, answers = w.client:subscribe "began", w.client:subscribe "answer.*"
    w.client:publish("slow", "", nil, "answer.slow")
    assert(began:next(10))
    host:signal "TERM"
    host:wait_log "draining"
    wait.eventually(function() return not w.client:request("$SRV.PING", "", { timeout = 0.1 }) end)
    assert.equal("done", assert(answers:next(10)).data)
    assert.equal(0, host:wait(20))
  end)

  it("never answers to a subject that is the server's own", function()
    w:run(CALC)
    w.client:stream("KEPT", { "kept" })
    w.client:publish("$SRV.PING", "", nil, "$JS.API.STREAM.DELETE.KEPT")
    ask "$SRV.PING"
    assert.is_nil(request "$JS.API.STREAM.INFO.KEPT":json().error)
  end)

  it("is shown by the status and counted by the metrics", function()
    local host = w:run { handlers = { ["calc.lua"] = CALC }, admin = true }
    request("add", '{"a":1,"b":2}')
    local status = cjson.decode((posix.http_get(tonumber(host.admin:match "%d+$"), "/status")))
    assert.same({ "calc", "1.2.3", ask "$SRV.PING".id, 4 }, { status.services[1].name, status.services[1].version,
      status.services[1].id, status.services[1].endpoints })
    local names = {}
    for _, handler in ipairs(status.scripts[1].handlers) do names[#names + 1] = handler.handler end
    assert.same({ "calc/add", "calc/fail", "calc/sub", "calc/each" }, names)
    wait.eventually(function()
      return metrics.value(host, "moonbus_handler_runs_total", { handler = "calc/add", result = "ok" }) == 1
    end)
    local shown = w:moonbus { "status", "--admin", host.admin }
    assert.matches("\nservice calc 1%.2%.3: id %w+, endpoints 4\n", shown.stdout)
  end)

  it("is shown by check, and its endpoints are operations of the AsyncAPI document", function()
    local folder = w:folder()
    temp.write(folder, "handlers/calc.lua", CALC)
    local checked = w:moonbus({ "check" }, { folder = folder })
    assert.equal(0, checked.status, checked.stdout)
    assert.matches("\n  calc +service 1%.2%.3\n", checked.stdout)
    assert.matches("\n  calc/add +add +queue q, timeout 20s, concurrency 256\n", checked.stdout)
    assert.matches("\n1 script, 4 handlers: all is well\n", checked.stdout)
    local document = cjson.decode(w:moonbus({ "check", "--asyncapi" }, { folder = folder }).stdout)
    local add = document.operations.receive_add
    assert.same({ "receive", "q", "calc/add" }, { add.action, add.bindings.nats.queue, add["x-moonbus"].handler })
    assert.same({ "a", "b" }, (function(names)
      table.sort(names)
      return names
    end)(document.channels.add.messages.calc_add.payload.required))
    assert.equal("v1.minus.{token3}", document.channels.v1_minus_any.address)
  end)

  local function refused(text, code)
    local result = w:fail("local bus = require 'moonbus'\n" .. code)
    assert.equal(2, result.status)
    assert.is_truthy(result.output:find(text, 1, true), result.output)
  end

  it("is refused with file, line and what would be right", function()
    local head = "local s = bus.service { name = 'c', version = '1.0.0' } "
    refused("bus.service: version is required", "bus.service { name = 'c' }")
    refused("bus.service: name: expected a name of at most 100 letters", "bus.service { name = 'c d', "
      .. "version = '1.0.0' }")
    refused("bus.service: version: expected a semantic version", "bus.service { name = 'c', version = '1.0' }")
    refused("bus.service: version: expected a semantic version", "bus.service { name = 'c', version = '01.0.0' }")
    refused("bus.service: stats: expected a function", "bus.service { name = 'c', version = '1.0.0', stats = {} }")
    refused("service:stop: a service ends with its script", "bus.service { name = 'c', version = '1.0.0' }:stop()")
    refused("bus.service: metadata: expected strings by name", "bus.service { name = 'c', version = '1.0.0', "
      .. "metadata = { a = 1 } }")
    refused("unknown option \\\"queue_group\\\": here it is \\\"queue\\\"", "bus.service { name = 'c', "
      .. "version = '1.0.0', queue_group = 'x' }")
    refused("service:endpoint: name: expected a name", head .. "s:endpoint('a.b', print)")
    refused("service:endpoint: expected a function as the handler", head .. "s:endpoint('a')")
    refused("service:endpoint: unknown option \\\"reply\\\": an endpoint always replies", head
      .. "s:endpoint('a', { reply = false }, print)")
    refused("service:group: prefix: expected no > in it", head .. "s:group('a.>')")
    refused("the endpoint \\\"a\\\" of the service \\\"c\\\" on \\\"a\\\" has a handler already (handler.lua:2)", head
      .. "s:endpoint('a', print) s:endpoint('a', print)")
    refused("has another version here than at handler.lua:2", head .. "bus.service { name = 'c', version = '2.0.0' }")
    refused("service.endpoints: there is no such method: did you mean \\\"endpoint\\\"?", head .. "s:endpoints()")
    refused("service:endpoint: call it with a colon", head .. "s.endpoint('a', print)")
  end)

  -- On the thread that answers all messages arrive.
  it("costs little, however often somebody asks for it, and tells what is so at the end", function()
    local host = w:run [[
local bus = require "moonbus"
local s = bus.service { name = "large", version = "1.0.0" }
for i = 1, 200 do s:endpoint("e" .. i, function() return "y" end) end]]
    request "e1" -- it serves, and has warmed up
    local before = host:cpu_seconds()
    for _ = 1, 10000 do w.client:publish("$SRV.STATS.large", "", nil, "nobody.reads") end
    for _ = 1, 3 do request "e7" end
    local used = host:cpu_seconds() - before
    assert.is_true(used < 1.2 * wait.slow, used)
    wait.eventually(function() return endpoint(ask "$SRV.STATS.large", "e7").num_requests == 3 end)
  end)

  it("takes no endpoint once its script has loaded", function()
    w:run [[
local bus = require "moonbus"
local s = bus.service { name = "late", version = "1.0.0" }
s:endpoint("late", function() return select(2, pcall(s.endpoint, s, "more", print)) end)]]
    assert.matches("handler.lua:3: service:endpoint: only while the script loads", request "late".data)
  end)
end)
