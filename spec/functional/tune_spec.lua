-- moonbus tune, from the command line: real handlers on a server of its own. The machine that runs the specs may be
-- slow and busy; what holds and what does not is far apart here. With TUNE_LONG=1 all three examples are tuned, and
-- each setting is halved.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local host = require "spec.support.host"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local EXAMPLES = posix.absolute "examples/tune"

-- In a sanitized build such a thread is lost, and no state given up.
local escaping = (os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS") and pending or it

describe("moonbus tune", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function tune(arguments, options)
    local list = { "tune" }
    for _, argument in ipairs(arguments) do list[#list + 1] = argument end
    if os.getenv "NATS_SERVER" and not (" " .. table.concat(list, " ")):find(" --nats-server ", 1, true) then
      list[#list + 1], list[#list + 2] = "--nats-server", os.getenv "NATS_SERVER"
    end
    options = options or {}
    options.deadline = options.deadline or 60
    options.folder = options.folder or w:folder()
    options.env = options.env or {}
    options.env.TMPDIR = options.env.TMPDIR or options.folder
    return w:moonbus(list, options), options.folder
  end

  -- Nothing of it is left in its temporary place.
  local function assert_clean(folder)
    assert.equal("", process.run { command = { "sh", "-c", "ls -d moonbus-tune-* 2>/dev/null || true" },
      folder = folder }.stdout)
  end

  local function naps(more)
    local list = { EXAMPLES .. "/sleeper.lua", "--stream", "NAPS", "--generate", '{"id":{{n}}}' }
    for _, argument in ipairs(more) do list[#list + 1] = argument end
    return list
  end

  local function setting(list, name)
    for _, row in ipairs(list) do
      if row.setting == name then return row end
    end
  end

  -- "300ms", 8
  local function half(value)
    local number, unit = tostring(value):match "^(%d+)(%a*)$"
    return math.max(math.floor(tonumber(number) / 2), 1) .. unit
  end

  it("recommends settings that hold under the load, and that do not when they are halved", function()
    local ran, folder = tune(naps { "--rate", "100", "--for", "4s", "--json" })
    local out = cjson.decode(ran.stdout)
    assert.equal(0, ran.status, ran.stdout .. ran.stderr)
    assert.is_true(out.confirmed)
    assert.equal("NAPS/sleeper", out.handlers[1].handler)
    local concurrency = setting(out.handlers[1].settings, "concurrency")
    local timeout = setting(out.handlers[1].settings, "timeout")
    -- 30 are under way at a time; a machine that does other things lets some of them take longer.
    assert.is_true(concurrency.value >= 29 and concurrency.value < 80 * wait.slow, concurrency.value)
    assert.equal("max", timeout.from)
    assert_clean(folder)

    local function try(name, value)
      return tune(naps { "--rate", "100", "--for", "1s", "--try", name .. "=" .. value })
    end
    local halved = try("concurrency", math.floor(concurrency.value / 2 * 0.8))
    assert.equal(1, halved.status)
    assert.matches("Did not hold: NAPS/sleeper: %d+ of %d+ messages were left over", halved.stdout)
    halved = try("timeout", "150ms")
    assert.equal(1, halved.status)
    assert.matches("reached their timeout", halved.stdout)
  end)

  it("copies messages from a real stream, and leaves nothing there", function()
    w.client:stream("NAPS", { "naps.>" })
    for i = 1, 3 do w.client:store("naps.taken", "nap " .. i) end
    w.client:store("naps.missed", "not for the handler")
    local ran = tune { EXAMPLES .. "/sleeper.lua", "--stream", "NAPS", "--copy-from", w.server.url, "--count", "4",
      "--rate", "5", "--for", "1s", "--wait", "5s", "--try", "concurrency=20" }
    assert.equal(0, ran.status, ran.stdout .. ran.stderr)
    assert.matches("with 3 messages", ran.stdout)
    assert.matches("1 messages that no handler", ran.stdout)
    assert.same({ 4, 0 }, { w.client:stream_info("NAPS").state.messages,
      w.client:stream_info("NAPS").state.consumer_count })
  end)

  -- The host that it tests.
  local function host_of(pid)
    return tonumber(process.run { command = { "pgrep", "-P", tostring(pid), "-f", "as-host" } }.stdout)
  end

  it("goes on when its host crashes, ends with what it has at Ctrl-C, and leaves nothing behind", function()
    local folder = w:folder()
    local command = { host.binary(), "tune" }
    for _, argument in ipairs(naps { "--for", "60s" }) do command[#command + 1] = argument end
    local running = process.start { command = command, folder = folder, env = { TMPDIR = folder } }
    wait.eventually(function() return running:stdout():find "\nat first" end, 30)
    local pid = wait.eventually(function() return host_of(running.pid) end)
    process.run { command = { "kill", "-9", tostring(pid) } }
    wait.eventually(function() return running:stdout():find "the host ended: it was killed" end, 30)
    running:signal "INT"
    assert.equal(1, running:wait(15))
    assert.matches("Interrupted: this is what there is so far", running:stdout())
    assert_clean(folder)
    running:close()
  end)

  escaping("goes on when a handler that does not stop has its Lua state given up", function()
    local folder = w:folder()
    temp.write(folder, "burner.lua", [[
local bus, js = require "moonbus", require "moonbus.jetstream"
bus.script { cpu = "100ms" }
js.stream { name = "JOBS", subjects = { "jobs" }, storage = "memory" }
local count = 0
js.consume("JOBS", { durable = "burner", dead_letter = false, attempts = 1 }, function()
  count = count + 1
  while count == 5 do pcall(function() while true do end end) end
end)]])
    local ran = tune({ "burner.lua", "--stream", "JOBS", "--generate", "{}", "--rate", "20", "--for", "1s", "--json" },
      { folder = folder })
    local out = cjson.decode(ran.stdout)
    assert.is_table(out.handlers, ran.stdout .. ran.stderr)
    assert.equal("JOBS/burner", out.handlers[1].handler)
  end)

  it("says why its host is not ready", function()
    local folder = w:folder()
    temp.write(folder, "start.lua", [[
local js = require "moonbus.jetstream"
js.stream { name = "S", subjects = { "s" } }
js.consume("S", { durable = "d", dead_letter = false }, function() end)
require "moonbus".on("start", function() error "no start today" end)]])
    local ran = tune({ "start.lua", "--stream", "S", "--generate", "x", "--rate", "5", "--for", "1s" },
      { folder = folder })
    assert.equal(1, ran.status)
    assert.matches("no start today", ran.stderr)
    assert_clean(folder)
  end)

  describe("says what is wrong:", function()
    local function refused(arguments, pattern, status)
      local ran, folder = tune(arguments)
      assert.equal(status or 2, ran.status, ran.stdout .. ran.stderr)
      assert.matches(pattern, ran.stderr)
      assert_clean(folder)
    end

    it("a stream that no handler consumes from", function()
      refused({ EXAMPLES .. "/sleeper.lua", "--stream", "OTHER", "--generate", "x" },
        "no handler consumes from the stream OTHER; the durables of these scripts: NAPS/sleeper")
    end)

    it("handlers that do not load", function()
      local folder = w:folder()
      temp.write(folder, "broken.lua", "local x = = 1")
      local ran = tune({ "broken.lua", "--stream", "S", "--generate", "x" }, { folder = folder })
      assert.equal(2, ran.status)
      assert.matches("the handlers do not load: broken.lua:1: ", ran.stderr)
    end)

    it("a bad line of an input, by file and line", function()
      local folder = w:folder()
      temp.write(folder, "in.jsonl", '{"subject":"naps.taken","data":{"id":1}}\n\n{"subject":"naps.taken",\n')
      local ran = tune({ EXAMPLES .. "/sleeper.lua", "--stream", "NAPS", "--input", "in.jsonl" }, { folder = folder })
      assert.equal(2, ran.status)
      assert.matches("in.jsonl:3: is no JSON object; wanted: ", ran.stderr)
    end)

    it("a template that it does not know, a source that is missing, a server of no use", function()
      refused({ EXAMPLES .. "/sleeper.lua", "--stream", "NAPS", "--generate", "{{name}}" },
        "{{name}}: there are {{n}}, {{random}}, {{uuid}} and {{time}}")
      refused({ EXAMPLES .. "/sleeper.lua", "--stream", "NAPS" }, "one of %-%-input FILE, %-%-copy%-from URL and")
      refused(naps { "-s", "nats://127.0.0.1:1" }, "a load test has a server of its own")
      refused(naps { "--rate", "20", "--try", "speed=9" }, "must be SETTING=VALUE, of concurrency")
      refused(naps { "--nats-server", "/nowhere/nats-server" }, "cannot start /nowhere/nats%-server", 1)
    end)

    it("that bus.http is refused, and that an output has no stream", function()
      local folder = w:folder()
      temp.write(folder, "out.lua", [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "S", subjects = { "s" } }
js.consume("S", { durable = "d", dead_letter = false }, function(msg)
  if msg.data == "http" then
    assert(bus.http.get "http://127.0.0.1:9/")
  else
    assert(js.publish("gone.away", "x"))
  end
end)]])
      temp.write(folder, "in.jsonl", '{"subject":"s","data":"http"}\n{"data":"publish"}\n')
      local function try(...)
        return tune({ "out.lua", "--stream", "S", "--rate", "5", "--for", "1s", "--wait", "5s", "--try",
          "concurrency=9", ... }, { folder = folder })
      end
      local ran = try("--input", "in.jsonl")
      assert.equal(1, ran.status)
      assert.matches("%-%-allow%-http lets the calls go where they go", ran.stdout)
      assert.matches("%-%-output SUBJECT makes one", ran.stdout)
      ran = try("--generate", "publish", "--output", "gone.>")
      assert.equal(0, ran.status, ran.stdout .. ran.stderr)
    end)
  end)

  if os.getenv "TUNE_LONG" then
    local cases = {
      { file = "sleeper", stream = "NAPS", rate = "100", halve = { "concurrency", "timeout" } },
      { file = "burner", stream = "FIRES", rate = "30", halve = { "workers", "memory" } },
      { file = "publisher", stream = "WISHES", rate = "8000", halve = { "concurrency" } },
    }
    for _, case in ipairs(cases) do
      it(("tunes the %s: what it recommends holds, and half of it does not"):format(case.file), function()
        local function run(...)
          return tune({ ("%s/%s.lua"):format(EXAMPLES, case.file), "--stream", case.stream, "--generate",
            '{"id":{{n}}}', ... }, { deadline = 180 })
        end
        local ran = run("--rate", case.rate, "--for", "20s", "--json")
        assert.equal(0, ran.status, ran.stdout .. ran.stderr)
        local out, tries, values = cjson.decode(ran.stdout), {}, {}
        for _, rows in ipairs { out.settings, out.handlers[1].settings } do
          for _, row in ipairs(rows) do
            local name = row.setting:gsub("^limits%.", "")
            values[name] = row.value
            tries[#tries + 1] = "--try"
            tries[#tries + 1] = ("%s=%s"):format(name, row.value)
          end
        end
        ran = run("--rate", case.rate, "--for", "5s", unpack(tries))
        assert.equal(0, ran.status, ran.stdout .. ran.stderr)
        for _, name in ipairs(case.halve) do
          if values[name] ~= 1 then
            ran = run("--rate", case.rate, "--for", "5s", "--try", name .. "=" .. half(values[name]))
            assert.equal(1, ran.status, name .. "\n" .. ran.stdout)
          end
        end
      end)
    end
  end
end)
