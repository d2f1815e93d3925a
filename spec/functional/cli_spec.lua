local cjson = require "cjson"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local ECHO = [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)
bus.subscribe("header", function(msg) return table.concat(msg:header_values("K"), "|") end)
]]

describe("the command line", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  describe("moonbus version and help", function()
    it("names the program and its version", function()
      local run = w:moonbus { "version" }
      assert.equal(0, run.status)
      assert.matches("^moonbus %d+%.%d+%.%d+", run.stdout)
    end)

    it("takes --version for version, and --help and -h for help", function()
      assert.equal(w:moonbus({ "version" }).stdout, w:moonbus({ "--version" }).stdout)
      local help = w:moonbus({ "help" }).stdout
      assert.equal(help, w:moonbus({ "--help" }).stdout)
      assert.equal(help, w:moonbus({ "-h" }).stdout)
    end)

    it("lists the commands that there are, and no others", function()
      local run = w:moonbus { "help" }
      assert.equal(0, run.status)
      local listed = {}
      for command in run.stdout:gmatch "\n%s*moonbus (%l+)" do listed[command] = true end
      for _, command in ipairs { "run", "dev", "init", "check", "test", "pub", "req", "sub", "redrive", "replay",
        "shadow", "tune", "version" } do
        assert.is_true(listed[command], command .. " in\n" .. run.stdout)
      end
      for _, command in ipairs { "trace", "play" } do
        assert.is_nil(listed[command], command)
      end
    end)

    it("explains one command with its options", function()
      local run = w:moonbus { "help", "pub" }
      assert.equal(0, run.status)
      for _, option in ipairs { "--jetstream", "--count", "-H", "--server" } do
        assert.is_truthy(run.stdout:find(option, 1, true), option .. " in\n" .. run.stdout)
      end
    end)

    it("explains run and dev with all that they take", function()
      local run, dev = w:moonbus({ "help", "run" }).stdout, w:moonbus({ "help", "dev" }).stdout
      for _, option in ipairs { "--config", "--workers", "--watch", "--graceful-timeout",
        "--log-level", "--log-format" } do
        assert.is_truthy(run:find(option, 1, true), option .. " in\n" .. run)
        assert.is_truthy(dev:find(option, 1, true), option .. " in\n" .. dev)
      end
      for _, option in ipairs { "--nats-server", "--nats-port", "--store" } do
        assert.is_truthy(dev:find(option, 1, true), option .. " in\n" .. dev)
      end
    end)
  end)

  describe("wrong usage", function()
    local function wrong(arguments, ...)
      local run = w:moonbus(arguments)
      assert.equal(2, run.status, run.stdout .. run.stderr)
      for _, text in ipairs { ... } do
        assert.is_truthy(run.stderr:find(text, 1, true), text .. " in\n" .. run.stderr)
      end
      return run
    end

    it("of no command shows the help and exits 2", function()
      wrong({}, "moonbus run")
    end)

    it("names a command that does not exist, and says where the commands are listed", function()
      wrong({ "rnu" }, "rnu", "help")
    end)

    it("does not know the commands that are still to come", function()
      wrong({ "replay", "X" }, "replay")
    end)

    it("names an option that does not exist, and says where the options are", function()
      for _, command in ipairs { "run", "dev", "pub", "req", "sub" } do
        wrong({ command, "--bogus" }, "--bogus", "help " .. command)
      end
    end)

    it("names an option that lacks its value", function()
      wrong({ "req", "x", "--timeout" }, "--timeout")
    end)

    it("names the option and the form wanted for a bad duration", function()
      wrong({ "req", "x", "--timeout", "soon", "-s", w.server.url }, "--timeout", "soon", "5s")
      wrong({ "sub", "x", "--timeout", "-1s", "-s", w.server.url }, "--timeout", "-1s")
      wrong({ "run", "--graceful-timeout", "5 parsecs" }, "5 parsecs")
    end)

    it("names file and line of a config file that is broken, and says what to do", function()
      for _, arguments in ipairs { { "req", "x" }, { "pub", "x", "y" }, { "sub", "x" }, { "redrive", "DEAD" } } do
        local folder = w:folder()
        temp.write(folder, "moonbus.lua", "return {\n  workers = = 2 }")
        local run = w:moonbus(arguments, { folder = folder })
        assert.equal(2, run.status)
        assert.matches("^moonbus " .. arguments[1] .. ": moonbus%.lua:2: unexpected symbol near '='; mend the "
          .. "file, or name another one with %-c\n$", run.stderr)
      end
      assert.is_nil(wrong({ "req", "x", "-s", "ftp://x" }, "--server").stderr:find "mend the file")
    end)

    it("names the option for a bad number", function()
      wrong({ "pub", "x", "y", "--count", "many", "-s", w.server.url }, "--count", "many")
      wrong({ "sub", "x", "--count", "0", "-s", w.server.url }, "--count", "0")
      wrong({ "run", "--workers", "none" }, "workers", "none")
    end)

    it("names a bad subject", function()
      wrong({ "pub", "a..b", "x", "-s", w.server.url }, "a..b")
      wrong({ "pub", "a.*", "x", "-s", w.server.url }, "a.*")
      wrong({ "req", "a b", "x", "-s", w.server.url }, "a b")
      wrong({ "sub", "a.>.b", "-s", w.server.url }, "a.>.b")
    end)

    it("names a bad URL", function()
      wrong({ "pub", "a", "x", "-s", "http://127.0.0.1:1" }, "http://127.0.0.1:1", "nats://")
    end)

    it("names a header without a colon, and refuses one with a line break", function()
      wrong({ "pub", "a", "x", "-H", "nonsense", "-s", w.server.url }, "nonsense", "K: V")
      wrong({ "pub", "a", "x", "-H", "K: a\r\nEvil: b", "-s", w.server.url }, "K")
    end)

    it("names what is missing or too much", function()
      wrong({ "pub" }, "SUBJECT")
      wrong({ "req" }, "SUBJECT")
      wrong({ "sub" }, "SUBJECT")
      wrong({ "pub", "a", "b", "c" }, "c")
      wrong({ "sub", "a", "b" }, "b")
    end)

    it("names a bad log level and format", function()
      wrong({ "run", "--log-level", "loud" }, "loud", "debug")
      wrong({ "run", "--log-format", "xml" }, "xml", "json")
    end)

    it("names a file that cannot be read", function()
      wrong({ "run", "nowhere.lua", "--admin", "off", "-s", w.server.url }, "nowhere.lua", "No such file")
      wrong({ "run", "-c", "nowhere.conf", "-s", w.server.url }, "nowhere.conf", "No such file")
      wrong({ "pub", "a", "b", "--creds", "nowhere.creds", "-s", w.server.url }, "nowhere.creds")
      wrong({ "pub", "a", "b", "--nkey", "nowhere.nk", "-s", w.server.url }, "nowhere.nk")
      wrong({ "pub", "a", "b", "--tls-ca", "nowhere.pem", "-s", w.server.url }, "nowhere.pem")
    end)

    it("says that there is no handler where it looked", function()
      wrong({ "run", "--admin", "off", "-s", w.server.url }, "handlers")
    end)
  end)

  describe("moonbus pub", function()
    it("publishes its data", function()
      local sub = w.client:subscribe "cli.pub"
      assert.equal(0, w:cli({ "pub", "cli.pub", "hello" }).status)
      assert.equal("hello", sub:next().data)
    end)

    it("takes the data from standard input when none is given", function()
      local sub = w.client:subscribe "cli.pub"
      local bytes = "first\nsecond\0\255\n"
      assert.equal(0, w:cli({ "pub", "cli.pub" }, { stdin = bytes }).status)
      assert.equal(bytes, sub:next().data)
    end)

    it("takes an empty argument for empty data", function()
      local sub = w.client:subscribe "cli.pub"
      assert.equal(0, w:cli({ "pub", "cli.pub", "" }, { stdin = "not this" }).status)
      assert.equal("", sub:next().data)
    end)

    it("sends headers, several values for one name too", function()
      local sub = w.client:subscribe "cli.pub"
      local run = w:cli { "pub", "cli.pub", "x", "-H", "A: one", "-H", "K: v: 1", "-H", "K: v 2" }
      assert.equal(0, run.status)
      local headers = sub:next().headers
      assert.same({ "one" }, headers.A)
      assert.same({ "v: 1", "v 2" }, headers.K)
    end)

    it("repeats with --count", function()
      local sub = w.client:subscribe "cli.pub"
      assert.equal(0, w:cli({ "pub", "--count", "5", "cli.pub", "x" }).status)
      assert.equal(5, #sub:take(5))
      assert.is_nil(sub:next(0.05))
    end)

    it("numbers what it repeats: {{n}} in subject, headers and data", function()
      local sub = w.client:subscribe "cli.*"
      assert.equal(0, w:cli({ "pub", "--count", "2", "cli.{{n}}", '{"id":{{n}},"n":"{{Count}}"}', "-H", "K: k{{n}}" })
        .status)
      for index, message in ipairs(sub:take(2)) do
        assert.same({ "cli." .. index, ('{"id":%d,"n":"%d"}'):format(index, index), { "k" .. index } },
          { message.subject, message.data, message.headers.K })
      end
    end)

    it("leaves {{n}} alone without --count", function()
      local sub = w.client:subscribe "cli.pub"
      assert.equal(0, w:cli({ "pub", "cli.pub", "{{n}}" }).status)
      assert.equal("{{n}}", sub:next().data)
    end)

    it("waits with -J until it is stored, and says where", function()
      w.client:stream("CLI", { "cli.>" })
      local run = w:cli { "pub", "-J", "cli.pub", '{"id":1}' }
      assert.equal(0, run.status, run.stderr)
      assert.matches("CLI", run.stdout .. run.stderr)
      assert.equal('{"id":1}', w.client:message("CLI", 1).data)
    end)

    it("stores each of --count with --jetstream", function()
      w.client:stream("CLI", { "cli.>" })
      assert.equal(0, w:cli({ "pub", "--jetstream", "--count", "3", "cli.pub", "x" }).status)
      assert.equal(3, w.client:stream_info("CLI").state.messages)
    end)

    it("exits 1 with -J when no stream takes the subject, and says so", function()
      local run = w:cli { "pub", "-J", "cli.nobody", "x" }
      assert.equal(1, run.status)
      assert.matches("cli%.nobody", run.stderr)
      assert.matches("no_stream", run.stderr)
    end)

    it("exits 1 when the data is above the server's limit", function()
      local run = w:cli({ "pub", "cli.pub" }, { stdin = ("x"):rep(2 * 1024 * 1024) })
      assert.equal(1, run.status)
      assert.matches("too_large", run.stderr)
    end)

    it("exits 1 when no server is there", function()
      local run = w:moonbus { "pub", "cli.pub", "x", "-s", "nats://127.0.0.1:1" }
      assert.equal(1, run.status)
      assert.matches("127%.0%.0%.1:1", run.stderr)
    end)
  end)

  describe("moonbus req", function()
    it("prints the reply", function()
      w:run(ECHO)
      local run = w:cli { "req", "echo", "hello" }
      assert.same({ 0, "hello\n" }, { run.status, run.stdout })
    end)

    it("takes the data from standard input when none is given", function()
      w:run(ECHO)
      assert.equal("from a pipe\n", w:cli({ "req", "echo" }, { stdin = "from a pipe" }).stdout)
    end)

    it("sends headers", function()
      w:run(ECHO)
      local run = w:cli { "req", "header", "", "-H", "K: a", "-H", "K: b" }
      assert.equal("a|b\n", run.stdout)
    end)

    it("prints exactly the reply's bytes with --raw", function()
      w:run(ECHO)
      for _, bytes in ipairs { "hello", "two\n\n", "\0\255" } do
        assert.equal(bytes, w:cli({ "req", "echo", "--raw" }, { stdin = bytes }).stdout)
      end
    end)

    it("waits for several replies with --replies", function()
      for index = 1, 2 do
        w:run(('require "moonbus".subscribe("many", function() return "reply %d" end)'):format(index))
      end
      local run = w:cli { "req", "many", "x", "--replies", "2" }
      assert.equal(0, run.status, run.stderr)
      assert.is_truthy(run.stdout:find("reply 1\n", 1, true) and run.stdout:find("reply 2\n", 1, true), run.stdout)
      local all = w:cli { "req", "many", "x", "--replies", "0", "--timeout", "300ms" }
      assert.same({ 0, #"reply 1\nreply 2\n" }, { all.status, #all.stdout })
      local few = w:cli { "req", "many", "x", "--replies", "3", "--timeout", "300ms" }
      assert.equal(1, few.status)
      assert.matches("timeout: 2 of 3 replies came", few.stderr)
    end)

    it("exits 1 at once when nobody serves the subject", function()
      local run = w:cli { "req", "nobody", "x", "--timeout", "30s" }
      assert.equal(1, run.status)
      assert.matches("no_responders", run.stderr)
      assert.is_true(run.seconds < wait.within(10))
    end)

    it("exits 1 after --timeout", function()
      w.client:subscribe "silent"
      local run = w:cli { "req", "silent", "x", "--timeout", "200ms" }
      assert.equal(1, run.status)
      assert.matches("timeout", run.stderr)
      assert.is_true(run.seconds >= 0.2)
    end)

    it("exits 1 on an error reply, with what went wrong", function()
      w:run [[
        local bus = require "moonbus"
        bus.subscribe("broken", function() return nil, "no paper" end)
      ]]
      local run = w:cli { "req", "broken", "x" }
      assert.equal(1, run.status)
      assert.matches("no paper", run.stderr)
    end)
  end)

  describe("moonbus sub", function()
    -- Publishes until the command has ended: it is a subscriber that nobody can see from outside.
    local function feed(command, publish)
      wait.eventually(function()
        publish()
        return not command:running()
      end, 10)
      return command:wait()
    end

    local function subscribe(arguments)
      table.insert(arguments, "-s")
      table.insert(arguments, w.server.url)
      return w:start { command = "sub", args = arguments, server = false, level = false,
        format = false }
    end

    it("prints what comes and ends after --count", function()
      local sub = subscribe { "cli.sub.*", "--count", "2" }
      assert.equal(0, feed(sub, function() w.client:publish("cli.sub.a", "hello") end))
      local _, lines = sub:stdout():gsub("hello", "")
      assert.equal(2, lines)
      assert.matches("cli%.sub%.a", sub:output())
    end)

    it("ends after --count in order, however much more has come by then", function()
      local sub = subscribe { "cli.sub", "--count", "1" }
      assert.equal(0, feed(sub, function()
        for _ = 1, 100 do w.client:send("cli.sub", "hello") end
        w.client:flush()
      end))
      local _, lines = sub:stdout():gsub("hello", "")
      assert.equal(1, lines)
    end)

    it("prints one JSON object for each message with --json", function()
      local sub = subscribe { "cli.sub", "--count", "1", "--json" }
      assert.equal(0, feed(sub, function()
        w.client:publish("cli.sub", 'say "hi"\n', { K = { "1", "2" } }, "re.ply")
      end))
      local event = cjson.decode(sub:stdout():match "^[^\n]+")
      assert.equal("cli.sub", event.subject)
      assert.equal('say "hi"\n', event.data)
      assert.equal("re.ply", event.reply)
      assert.same({ "1", "2" }, event.headers.K)
    end)

    it("keeps --json valid for bytes that are not UTF-8", function()
      local sub = subscribe { "cli.sub", "--count", "1", "--json" }
      assert.equal(0, feed(sub, function() w.client:publish("cli.sub", "\255\254x") end))
      local event = cjson.decode(sub:stdout():match "^[^\n]+")
      assert.equal("cli.sub", event.subject)
    end)

    it("exits 1 when --count is not met within --timeout", function()
      local run = w:cli { "sub", "cli.sub", "--count", "1", "--timeout", "200ms" }
      assert.equal(1, run.status)
      assert.matches("timeout", run.stderr)
    end)

    it("ends cleanly on SIGTERM and SIGINT", function()
      for _, signal in ipairs { "TERM", "INT" } do
        local sub = subscribe { "cli.sub" }
        wait.eventually(function()
          w.client:publish("cli.sub", "x")
          return sub:stdout() ~= ""
        end)
        sub:signal(signal)
        assert.equal(0, sub:wait())
      end
    end)
  end)

  describe("how to reach the server", function()
    it("is taken from NATS_URL", function()
      local sub = w.client:subscribe "cli.env"
      assert.equal(0, w:moonbus({ "pub", "cli.env", "x" },
        { env = { NATS_URL = w.server.url } }).status)
      assert.equal("x", sub:next().data)
    end)

    it("is taken from MOONBUS_SERVERS, a list by comma", function()
      local sub = w.client:subscribe "cli.env"
      assert.equal(0, w:moonbus({ "pub", "cli.env", "x" },
        { env = { MOONBUS_SERVERS = "nats://127.0.0.1:1," .. w.server.url } }).status)
      assert.equal("x", sub:next().data)
    end)

    it("is taken from the flag rather than the environment", function()
      local sub = w.client:subscribe "cli.env"
      assert.equal(0, w:cli({ "pub", "cli.env", "x" },
        { env = { NATS_URL = "nats://127.0.0.1:1" } }).status)
      assert.equal("x", sub:next().data)
    end)

    it("may be several servers, of which one answers", function()
      local sub = w.client:subscribe "cli.env"
      assert.equal(0, w:cli({ "pub", "-s", "nats://127.0.0.1:1", "cli.env", "x" }).status)
      assert.equal("x", sub:next().data)
    end)

    it("is taken from the config file", function()
      local folder = w:folder()
      temp.write(folder, "other.lua", ("return { servers = { %q } }"):format(w.server.url))
      local sub = w.client:subscribe "cli.env"
      assert.equal(0, w:moonbus({ "pub", "cli.env", "x", "-c", "other.lua" },
        { folder = folder }).status)
      assert.equal("x", sub:next().data)
    end)
  end)

  describe("moonbus run", function()
    it("runs one file", function()
      w:run { files = { ["one.lua"] = ECHO }, args = { "one.lua" } }
      assert.equal("x", w.client:request("echo", "x").data)
    end)

    it("runs several files and folders, and every *.lua in a folder", function()
      local function answer(subject)
        return ('require "moonbus".subscribe(%q, function() return "yes" end)'):format(subject)
      end
      w:run {
        files = {
          ["a.lua"] = answer "a", ["more/b.lua"] = answer "b", ["more/c.lua"] = answer "c",
          ["more/notes.txt"] = "not Lua", ["more/deeper/d.lua"] = "error 'not for me'",
        },
        args = { "a.lua", "more" },
      }
      for _, subject in ipairs { "a", "b", "c" } do
        assert.equal("yes", w.client:request(subject, "").data)
      end
    end)

    it("runs ./handlers when nothing is named", function()
      w:run { handlers = { ["echo.lua"] = ECHO } }
      assert.equal("x", w.client:request("echo", "x").data)
    end)

    it("says in one line that it is ready, with what it serves", function()
      local host = w:run { handlers = { ["echo.lua"] = ECHO } }
      local event = host:wait_log "ready in %d+ ms"
      assert.equal("info", event.level)
      assert.matches("1 script", event.msg)
    end)

    it("logs as much as --log-level says", function()
      local noisy = [[
        local bus = require "moonbus"
        bus.subscribe("talk", function()
          bus.log.debug "a whisper"
          bus.log.info "a word"
          bus.log.error "a cry"
          return "done"
        end)
      ]]
      local host = w:start { handlers = { ["talk.lua"] = noisy }, level = "error" }
      wait.eventually(function() return w.client:request("talk", "") end)
      host:wait_log "a cry"
      assert.same({}, host:logged "a word")
      assert.same({}, host:logged "a whisper")
    end)

    it("logs text for people with --log-format text", function()
      local host = w:start {
        handlers = { ["talk.lua"] = [[
          local bus = require "moonbus"
          bus.subscribe("talk", function() bus.log.info("a word", { n = 1 }) return "" end)
        ]] },
        format = false, args = { "--log-format", "text" },
      }
      wait.eventually(function() return w.client:request("talk", "") end)
      wait.eventually(function()
        return host:stderr():find "\n%d%d:%d%d:%d%d%.%d%d%d INFO +talk%.lua [^\n]*a word"
      end)
    end)

    it("logs JSON when standard error is no terminal", function()
      local host = w:run { handlers = { ["echo.lua"] = ECHO }, format = false }
      local event = host:wait_log "ready in %d+ ms"
      assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", event.time)
    end)
  end)

  describe("moonbus dev", function()
    local function dev(options)
      options.command, options.level, options.format = "dev", false, false
      options.args = options.args or { "handlers" }
      return w:run(options)
    end

    it("starts a nats-server of its own, and ends it with itself", function()
      local host = dev { handlers = { ["echo.lua"] = ECHO } }
      local url = temp.read(host.folder .. "/.moonbus/url"):match "%S+"
      assert.matches("^nats://127%.0%.0%.1:%d+$", url)
      local run = w:moonbus({ "req", "echo", "x" }, { folder = host.folder })
      assert.equal("x\n", run.stdout)
      assert.matches("%.moonbus/url", run.stderr)
      assert.equal(0, host:stop())
      assert.equal(1, w:moonbus({ "req", "echo", "x", "-s", url }).status)
    end)

    it("keeps its data over a restart", function()
      local options = { handlers = { ["one.lua"] = [[
        local js = require "moonbus.jetstream"
        js.stream { name = "KEPT", subjects = { "kept.>" } }
      ]] }, folder = w:folder() }
      local host = dev(options)
      local function pub()
        return w:moonbus({ "pub", "-J", "kept.x", "x" }, { folder = host.folder })
      end
      assert.equal(0, pub().status)
      assert.equal(0, host:stop())
      host = dev(options)
      local run = pub()
      assert.equal(0, run.status)
      assert.matches("2", run.stdout .. run.stderr)
      assert.equal(0, host:stop())
    end)

    it("takes another store, another port and another nats-server", function()
      local port = require("spec.support.posix").free_port()
      local which = os.getenv "NATS_SERVER" or "nats-server"
      local host = dev { handlers = { ["echo.lua"] = ECHO }, args = { "handlers", "--nats-port",
        tostring(port), "--store", "data", "--nats-server", which } }
      assert.matches("nats 127%.0%.0%.1:" .. port, host:output())
      assert.is_truthy(w:moonbus({ "req", "echo", "x", "-s", "nats://127.0.0.1:" .. port }).stdout)
      assert.is_truthy(temp.read(host.folder .. "/data/url")
        or os.execute("test -d '" .. host.folder .. "/data'"))
    end)

    it("names a nats-server that cannot be started, with the remedy", function()
      local failed = w:fail { command = "dev", handlers = { ["echo.lua"] = ECHO },
        level = false, format = false, args = { "handlers", "--nats-server", "/nowhere/nats" } }
      assert.not_equal(0, failed.status)
      assert.matches("/nowhere/nats", failed.output)
    end)

    it("ignores configured servers and says so", function()
      local host = dev { handlers = { ["echo.lua"] = ECHO }, args = { "handlers", "-s",
        "nats://127.0.0.1:1" } }
      assert.matches("127%.0%.0%.1:1", host:output())
      assert.equal("x\n", w:moonbus({ "req", "echo", "x" }, { folder = host.folder }).stdout)
    end)

    it("loads a handler anew when it is saved", function()
      local host = dev { handlers = { ["one.lua"] = [[
        require "moonbus".subscribe("one", function() return "old" end)
      ]] } }
      local function answer()
        return w:moonbus({ "req", "one", "" }, { folder = host.folder }).stdout
      end
      assert.equal("old\n", answer())
      temp.write(host.folder, "handlers/one.lua",
        [[require "moonbus".subscribe("one", function() return "new" end)]])
      wait.eventually(function() return host:output():find "one%.lua: generation 2 live in %d" end, 10)
      assert.equal("new\n", answer())
    end)

    it("does not watch with --no-watch", function()
      local host = dev { handlers = { ["echo.lua"] = ECHO }, args = { "handlers", "--no-watch" } }
      temp.write(host.folder, "handlers/echo.lua", ECHO .. "\n-- changed")
      wait.holds(function() return not host:output():find "generation 2" end, 0.5)
    end)
  end)
end)
