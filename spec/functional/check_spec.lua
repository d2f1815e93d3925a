-- moonbus check: it loads what `run` would, starts nothing, and finds what is set wrong. spec/bad/ has a folder for
-- each
-- judgement that needs no server.
local cjson = require "cjson"
local binary = require("spec.support.host").binary
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local BAD = posix.absolute "spec/bad"

-- What only a server shows.
local OF_A_SERVER = { old_server = true, retries_not_parked = true, missing_stream = true, missing_durable = true,
  stream_differs = true, durable_differs = true }

local STREAMS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
]]

local function consume(options)
  return ([[js.consume("IN", { durable = "worker", timeout = "10s", dead_letter = "dead.in" %s }, function(msg) end)
]]):format(options and ", " .. options or "")
end

describe("moonbus check", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A folder with these handlers, by name, or with one.
  local function lay_out(handlers, config)
    local folder = w:folder()
    if type(handlers) == "string" then handlers = { ["a.lua"] = handlers } end
    for name, text in pairs(handlers) do temp.write(folder, "handlers/" .. name, text) end
    if config then temp.write(folder, "moonbus.lua", config) end
    return folder
  end

  local function check(folder, ...)
    return w:moonbus({ "check", ... }, { folder = folder })
  end

  local function findings(folder, ...)
    local run = check(folder, "--json", ...)
    local ok, result = pcall(cjson.decode, run.stdout)
    assert.is_true(ok, run.stdout .. run.stderr)
    return result.findings, run, result
  end

  -- "severity name", each once, sorted.
  local function names(list)
    local seen, result = {}, {}
    for _, finding in ipairs(list) do
      local name = finding.severity .. " " .. finding.name
      if not seen[name] then result[#result + 1] = name end
      seen[name] = true
    end
    table.sort(result)
    return result
  end

  it("says of a test that it is none of the handlers", function()
    local folder = lay_out { ["a_test.lua"] = 'local test = require "moonbus.test"' }
    local run = check(folder, "handlers/a_test.lua")
    assert.equal(2, run.status)
    assert.matches('a_test.lua:1: require: "moonbus.test" is for tests, which `moonbus test` runs\n',
      run.stdout .. run.stderr, 1, true)
  end)

  describe("judges", function()
    for name, severity in temp.read "host/judge/judge_table.c":gmatch '\n%s*{"([%l_]+)",%s*JUDGE_(%u+)' do
      severity = severity:lower()
      if not OF_A_SERVER[name] then
        it("what spec/bad/" .. name .. " has, and finds nothing else there", function()
          local list, run = findings(BAD .. "/" .. name)
          assert.same({ severity .. " " .. name }, names(list))
          assert.equal(severity == "error" and 2 or 0, run.status)
          local finding = list[1]
          local somewhere = (finding.file == "a.lua" or finding.file == "copy.lua") and finding.line > 0
          assert.is_truthy(somewhere or name == "registers_nothing" or name == "missing_file")
        end)
      end
    end

    it("the examples to be well", function()
      local list, run = findings(posix.absolute ".", "examples")
      -- Nobody has chosen the timeout of webhook.lua.
      assert.same({ "note short_graceful_timeout" }, names(list))
      assert.equal(0, run.status)
    end)

    it("the cookbook to be well, but that a call of minutes wants a host that waits for it", function()
      local list, run = findings(posix.absolute ".", "examples/cookbook")
      assert.same({ "warning short_graceful_timeout" }, names(list))
      assert.equal("llm.lua", list[1].file)
      assert.equal(0, run.status)
    end)

    it("the first handler of the README by what it has chosen", function()
      local text = temp.read "README.md":match "```lua\n(.-)\n```"
      assert.same({ "note short_graceful_timeout", "warning slow_pings" }, names((findings(lay_out(text)))))
    end)
  end)

  describe("loads", function()
    it("and starts nothing: no hook, no timer, no file, no connection", function()
      local folder = lay_out([[
        local bus = require "moonbus"
        bus.on("start", { required = true }, function() error "it ran" end)
        bus.on("stop", function() error "it ran" end)
        bus.every("1ms", function() error "it ran" end)
        bus.after("1ms", function() error "it ran" end)
        bus.log.warn "the top level runs"
      ]], 'return { servers = { "' .. w.server.url .. '" } }')
      local run = check(folder)
      assert.equal(0, run.status, run.stdout .. run.stderr)
      assert.matches("the top level runs", run.stderr)
      assert.is_nil(run.stderr:find "it ran")
      assert.is_nil(run.stderr:find "connection")
      assert.matches("1 script, 4 handlers: all is well", run.stdout)
    end)

    it("modules as run does, and offloaded ones as far as to compile them", function()
      local folder = lay_out { ["a.lua"] = [[
        local bus, shared = require "moonbus", require "shared"
        bus.offload "img"
        bus.subscribe(shared.subject, function() end)
      ]] }
      temp.write(folder, "lib/shared.lua", 'return { subject = "from.lib" }')
      temp.write(folder, "lib/img.lua", "return {")
      local list, run = findings(folder)
      assert.equal(2, run.status)
      assert.matches("img%.lua", list[1].text .. (list[1].file or ""))
      temp.write(folder, "lib/img.lua", 'error "not at load"')
      assert.same({}, (findings(folder)))
      assert.matches("from%.lib", check(folder).stdout)
    end)

    it("all that it can: what does not load is an error by file and line, the rest is judged, and it ends with 2",
      function()
      local folder = lay_out { ["a.lua"] = STREAMS .. consume 'ack_wait = "10s"', ["b.lua"] = "local x =\n\n= 1",
        ["c.lua"] = 'require "moonbus".subscribe("a..b", function() end)' }
      local list, run = findings(folder)
      assert.same({ "error does_not_load", "warning slow_pings" }, names(list))
      assert.equal(2, run.status)
      assert.same({ "b.lua", 3 }, { list[1].file, list[1].line })
      assert.same({ "c.lua", 1 }, { list[2].script, list[2].line or 1 })
      local text = check(folder)
      assert.equal(2, text.status)
      assert.matches("\nerror: b%.lua:3: unexpected symbol near '='\n", text.stdout)
      assert.matches("2 errors, 1 warning\n$", text.stdout)
    end)

    it("nothing of a config that is broken, nor of a path that is not there", function()
      local folder = lay_out("", "return { workers = = 2 }")
      local run = check(folder)
      assert.same({ 2, "" }, { run.status, run.stdout })
      assert.matches("moonbus check: moonbus%.lua:1: unexpected symbol", run.stderr)
      run = check(lay_out "", "elsewhere.lua")
      assert.same({ 2, "" }, { run.status, run.stdout })
      assert.matches("^[%d:.]+ ERROR elsewhere%.lua: No such file", run.stderr) -- text, also in a pipe
      assert.matches('^{.*"msg":"elsewhere%.lua: No such file', check(lay_out "", "elsewhere.lua", "--log-format",
        "json").stderr)
    end)

    it("what its PATHs name, with the settings of the environment", function()
      local folder = lay_out { ["a.lua"] = STREAMS .. consume(), ["b.lua"] = "= broken" }
      local run = w:moonbus({ "check", "handlers/a.lua" }, { folder = folder,
        env = { MOONBUS_GRACEFUL_TIMEOUT = "5s" } })
      assert.equal(0, run.status, run.stdout)
      assert.matches("graceful_timeout %(5s%) is shorter", run.stdout)
    end)

    it("one that does not end within its deadline, and ends all the same", function()
      local folder = lay_out "while true do end"
      local run = w:moonbus({ "check" }, { folder = folder, deadline = 20 })
      assert.equal(2, run.status)
      assert.matches("still loading after 5s", run.stdout)
    end)

    it("fifty scripts in well under a second", function()
      local handlers = {}
      for index = 1, 50 do
        handlers[("h%02d.lua"):format(index)] = ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN%d", subjects = { "in%d.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN%d", { durable = "worker", timeout = "10s", dead_letter = "dead.in" }, function(msg) end)
bus.subscribe("greet.%d", function(msg) return "hello" end)
]]):format(index, index, index, index)
      end
      local folder = lay_out(handlers)
      -- Of the CPU: the machine may be busy otherwise.
      local run = process.run { command = { "sh", "-c", binary() .. " check; times" }, folder = folder }
      local minutes, seconds = run.stdout:match "(%d+)m([%d.]+)s %d+m[%d.]+s%s*$"
      seconds = tonumber(minutes) * 60 + tonumber(seconds)
      assert.matches("50 scripts, 100 handlers, 100 streams: all is well", run.stdout)
      assert.is_true(seconds < wait.within(1), seconds .. " s")
    end)
  end)

  describe("prints", function()
    it("what is registered, then what is wrong, with its place and what would be right", function()
      local run = check(lay_out(STREAMS .. consume 'filter = "in.*", ack_wait = "10s", concurrency = 4'
        .. 'bus.subscribe("greet.*", { queue = "q" }, function() return 1 end)'))
      assert.equal(0, run.status)
      for _, line in ipairs {
        "a.lua",
        "  IN/worker  in.*           timeout 10s, ack_wait 10s, concurrency 4, attempts 5, dead letter dead.in",
        "  greet.*    request/reply  queue q, timeout 20s, concurrency 256",
        "  IN         stream         in.>",
      } do
        assert.is_truthy(run.stdout:find(line .. "\n", 1, true), line .. " in\n" .. run.stdout)
      end
      assert.matches("\nwarning: a%.lua:4: IN/worker: slow_pings: a connection that dies .-Right: ack_wait = ",
        run.stdout)
      assert.matches("\n1 script, 2 handlers, 2 streams: 1 warning\n$", run.stdout)
    end)

    it("the same as JSON", function()
      local list, _, result = findings(lay_out(STREAMS .. consume 'ack_wait = "10s"'))
      assert.is_true(result.ok)
      assert.same({ "a.lua" }, result.scripts)
      local handler = result.handlers[1]
      assert.same({ "IN/worker", "IN", "worker", 10000, 10000, 5, "dead.in", 4 }, { handler.handler, handler.stream,
        handler.durable, handler.timeout_ms, handler.ack_wait_ms, handler.attempts, handler.dead_letter, handler.line })
      assert.same({ "in.>" }, result.streams[1].config.subjects)
      assert.same({ "slow_pings", "warning", "a.lua", "a.lua", 4, "IN/worker" },
        { list[1].name, list[1].severity, list[1].script, list[1].file, list[1].line, list[1].handler })
    end)

    it("one object as JSON also of a config that is broken, and of a path that is not there", function()
      for config, path in pairs { ["return { nonsense = 1 }"] = "handlers", ["return {}"] = "nowhere" } do
        local list, run, result = findings(lay_out("", config), path)
        assert.same({ 2, false, { "error does_not_load" } }, { run.status, result.ok, names(list) })
        assert.matches(path == "nowhere" and "^nowhere: No such file" or '^moonbus.lua: unknown key "nonsense"',
          list[1].text)
      end
    end)

    it("that a folder has no scripts: a warning", function()
      local folder = w:folder()
      temp.write(folder, "handlers/lua.txt", "")
      local list, run = findings(folder, "--strict")
      assert.same({ 1, { "warning registers_nothing" } }, { run.status, names(list) })
    end)

    it("with --strict ends with 1 for a warning, and with 0 for a note", function()
      assert.equal(1, check(lay_out(STREAMS .. consume 'ack_wait = "10s"'), "--strict").status)
      assert.equal(0, check(lay_out(STREAMS .. consume 'consumer = { headers_only = true }'), "--strict").status)
      assert.equal(0, check(lay_out(STREAMS .. consume()), "--strict").status)
    end)
  end)

  describe("with --server", function()
    local function asked(handlers, ...)
      return findings(lay_out(handlers), "-s", w.server.url, ...)
    end

    local BARE = 'local bus, js = require "moonbus", require "moonbus.jetstream"\n'

    it("finds nothing where all can be made, and makes nothing", function()
      assert.same({}, (asked(STREAMS .. consume())))
      assert.equal(0, w.client:api("STREAM.NAMES").total)
    end)

    it("finds a stream that is missing", function()
      assert.same({ "error dead_letter_without_stream", "error missing_stream" }, names((asked(BARE .. consume()))))
      w.client:stream("IN", { "in.>" })
      w.client:stream("DEAD", { "dead.>" })
      assert.same({}, (asked(BARE .. consume())))
    end)

    it("finds a durable that is missing, where bind = true", function()
      w.client:stream("IN", { "in.>" })
      w.client:stream("DEAD", { "dead.>" })
      assert.same({ "error missing_durable" }, names((asked(BARE .. consume "bind = true"))))
    end)

    it("finds other settings than are stated, with both values, as a note where an update is allowed", function()
      w.client:stream("IN", { "in.>" }, { max_age = 3600e9 })
      w.client:stream("DEAD", { "dead.>" })
      w.client:api("CONSUMER.DURABLE.CREATE.IN.worker", { stream_name = "IN", config = {
        durable_name = "worker", ack_policy = "explicit", ack_wait = 60e9, max_deliver = -1 } })
      local stated = STREAMS:gsub('"in%.>" }', '"in.>" }, max_age = "2h" %%s') .. consume 'ack_wait = "30s" %s'
      local list, run = asked((stated:gsub("%%s", "")))
      assert.same({ "error durable_differs", "error stream_differs" }, names(list))
      assert.equal(2, run.status)
      for _, finding in ipairs(list) do
        assert.matches(finding.name == "stream_differs" and "max_age: here 2h, on the server 1h" or
          "ack_wait: here 30s, on the server 1m", finding.text)
      end
      list, run = asked((stated:gsub("%%s", ", update = true")))
      assert.same({ "note durable_differs", "note stream_differs" }, names(list))
      assert.equal(0, run.status)
    end)

    it("finds a server that is too old for what is stated", function()
      w.client:stream("IN", { "in.>" })
      if w.client:stream_info("IN").config.compression then return end -- since 2.10
      local list = asked(STREAMS .. consume 'filter = { "in.a", "in.b" }')
      assert.same({ "error old_server" }, names(list))
      assert.matches("a list of filters needs nats%-server 2%.10 or newer, and this one is 2%.9", list[1].text)
      list = asked(STREAMS .. consume "pinned = true")
      assert.same({ "error old_server" }, names(list))
      assert.matches("pinned needs nats%-server 2%.11 or newer, and this one is 2%.9", list[1].text)
    end)

    it("says where park_after has no effect", function()
      w.client:stream("IN", { "in.>" })
      local level = w.client:api "INFO".api.level or 0
      local list = asked(STREAMS .. consume 'backoff = { min = "2m", max = "1h", park_after = "1m" }')
      assert.same(level < 2 and { "note retries_not_parked" } or {}, names(list))
    end)

    it("takes no stream for an output that its script only reads", function()
      local reading = STREAMS .. [[
        js.stream { name = "JOBS", subjects = { "jobs.>" }, retention = "workqueue" }
        %s
      ]] .. (consume():gsub("function%(msg%) end", [[function()
        js.publish("elsewhere", "x")
        for msg in js.messages("JOBS") do print(msg.data) end
      end]]))
      local list = asked(reading:format "")
      assert.same({}, names(list))
      list = asked(reading:format 'local jobs = "jobs.new"')
      assert.same({ "warning forgetful_output", "warning short_duplicate_window" }, names(list))
    end)

    it("says what the server can do, also before there is a stream", function()
      local level = w.client:api "INFO".api.level or 0
      local releases = { [0] = "2.10", "2.11", "2.12", "2.12", "2.14", "2.15" }
      local _, run = asked(('require "moonbus.jetstream".stream { name = "IN", subjects = { "in.>" }, %s }')
        :format "allow_msg_counter = true")
      local told = cjson.decode(run.stdout)
      assert.same({ nats_server = releases[level], or_older = level == 0 }, told.server)
      if level >= 2 then return end
      assert.equal("old_server", told.findings[1].name)
      assert.matches("allow_msg_counter needs nats%-server 2%.12 or newer, and this one is 2%.1", told.findings[1].text)
    end)

    it("finds a stream that the server would refuse, for another one has its subject", function()
      w.client:stream("OLD", { "in.a" })
      local list = asked(STREAMS .. consume())
      assert.same({ "error overlapping_streams" }, names(list))
      assert.matches("stream OLD", list[1].text)
    end)

    it("goes by what the server has, where that is otherwise stated or not at all", function()
      w.client:stream("IN", { "in.>" }, { retention = "workqueue" })
      w.client:stream("DEAD", { "dead.>" }, { retention = "interest" })
      w.client:stream("ORDERS", { "orders.>" })
      local list = asked(BARE .. consume 'deliver = "new"' .. 'bus.subscribe("orders.new", function() return 1 end)')
      assert.same({ "error late_start_of_work_queue", "warning dead_letter_by_interest",
        "warning listens_where_stored" },
        names(list))
    end)

    it("asks for buckets of locks and limits of a cluster, by file and line", function()
      local text = BARE .. [[
        local calls = bus.limiter("calls", { rate = 5, cluster = "quota" })
        bus.subscribe("a", { timeout = "10s" }, function() return calls:try() and bus.lock("a", { cluster = true }) end)
        bus.subscribe("b", { timeout = "10s" }, function() return bus.lock("b", { cluster = "locks", wait = 0 }) end)
      ]]
      w.client:stream("KV_locks", { "$KV.locks.>" }, { storage = "file", allow_rollup_hdrs = true })
      local list = asked(text)
      assert.same({ "warning missing_bucket" }, names(list))
      assert.same({ "a.lua", 2 }, { list[1].file, list[1].line })
      w.client:api("STREAM.DELETE.KV_locks")
      w.client:stream("KV_locks", { "$KV.locks.>" }, { storage = "memory", allow_rollup_hdrs = true })
      w.client:stream("KV_quota", { "$KV.quota.>" }, { storage = "file" })
      list = asked(text)
      assert.same({ "warning forgetful_bucket" }, names(list))
      assert.matches("allow_rollup_hdrs", list[1].text)
      assert.same({ 4, 'the bucket "locks" has storage = "memory"' }, { list[2].line, list[2].text:match "^[^,]+" })
    end)

    it("ends with 1 when the server does not answer, and says so", function()
      local folder = lay_out(STREAMS .. consume(), 'return { connect_timeout = "300ms" }')
      local run = w:moonbus({ "check", "-s", "nats://127.0.0.1:1" }, { folder = folder, deadline = 30 })
      assert.equal(1, run.status)
      assert.matches("the server does not answer: nothing was compared", run.stderr)
    end)
  end)

  describe("a host that starts", function()
    local SLOW_PINGS = { level = "warn", code = "slow_pings" }

    it("logs the same, once, with the place as fields", function()
      local host = w:run(STREAMS .. consume 'ack_wait = "10s"')
      local event = host:wait_log(SLOW_PINGS)
      assert.same({ "handler.lua", "IN/worker", "handler.lua", 4 }, { event.script, event.handler, event.file,
        event.line })
      assert.matches("^a connection that dies", event.msg)
    end)

    it("and is reloaded says what is new, and nothing twice, until it was gone in between", function()
      local host = w:run { handlers = { ["handler.lua"] = STREAMS .. consume 'ack_wait = "10s"' },
        args = { "--watch" } }
      host:wait_log(SLOW_PINGS)
      local function becomes(text, generation)
        temp.write(host.folder, "handlers/handler.lua", text)
        host:wait_log(("generation %d live"):format(generation))
      end
      becomes("-- a line above it\n" .. STREAMS .. consume 'ack_wait = "10s"', 2)
      assert.equal(1, #host:logged(SLOW_PINGS))
      becomes(STREAMS .. consume 'ack_wait = "10s", max_ack_pending = 1', 3)
      assert.equal(1, #host:logged(SLOW_PINGS))
      host:wait_log { level = "warn", code = "concurrency_above_pending" }
      assert.equal(1, #host:logged { level = "warn", code = "concurrency_above_pending" })
      becomes(STREAMS .. consume(), 4)
      becomes(STREAMS .. consume 'ack_wait = "10s"', 5)
      host:wait_log(SLOW_PINGS, 5, 2)
      assert.equal(2, #host:logged(SLOW_PINGS))
    end)

    it("says what only the server shows, when it serves", function()
      w.client:stream("DEAD", { "dead.>" }, { retention = "interest" })
      local host = w:run((STREAMS .. consume()):gsub("js%.stream { name = \"DEAD\".-\n", ""))
      host:wait_log { level = "warn", code = "dead_letter_by_interest" }
    end)
  end)
end)
