local world = require "spec.support.world"

describe("loading a script", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A handler that must not load: exit 2, with these texts on standard error.
  local function refused(handler, ...)
    local failed = w:fail(handler)
    assert.equal(2, failed.status, failed.output)
    local output = failed.output:gsub('\\"', '"')
      :gsub('"file":"([^"]*)","line":(%d+)', "%0 %1:%2")
    for _, text in ipairs { ... } do
      local found = output:find(text, 1, true)
      assert.is_truthy(found, text .. " in\n" .. failed.output)
    end
    return failed
  end

  describe("ends the host with status 2, by file and line,", function()
    it("on a syntax error", function()
      refused("local bus = require 'moonbus'\nbus.subscribe(('x'\n", "handler.lua:3")
    end)

    it("on an error at its top level", function()
      refused("local nothing\nlocal n = 1\nlocal x = nothing.field\n", "handler.lua:3", "nothing")
    end)

    it("on a module that is not there, with the places where it was looked for", function()
      refused("\nrequire 'no.such'\n", "handler.lua:2", "no.such", "no/such.lua")
    end)

    it("on a syntax error in a module", function()
      refused({ handlers = { ["a.lua"] = "require 'helper'" },
        files = { ["lib/helper.lua"] = "return {\n  = }" } }, "helper.lua:2")
    end)

    it("on a bad subject, which it names", function()
      refused("local bus = require 'moonbus'\nbus.subscribe('a..b', print)\n", "handler.lua:2",
        "a..b")
      refused("require 'moonbus'.subscribe('a b', print)", "handler.lua:1", "a b")
      refused("require 'moonbus'.subscribe('', print)", "handler.lua:1")
      refused("require 'moonbus'.subscribe('a.>.b', print)", "handler.lua:1", "a.>.b")
    end)

    it("on a handler that is no function", function()
      refused("require 'moonbus'.subscribe('a', 'b')", "handler.lua:1", "function")
      refused("require 'moonbus'.subscribe('a')", "handler.lua:1", "function")
      refused("require 'moonbus'.every('1s')", "handler.lua:1", "function")
    end)

    it("on the name of a queue in the place of options, with what to write", function()
      refused("require 'moonbus'.subscribe('a', 'workers', print)", "handler.lua:1", 'write { queue = "workers" }')
    end)

    it("on an unknown option, with what is allowed", function()
      refused("require 'moonbus'.subscribe('a', { speed = 1 }, print)", "handler.lua:1", "speed",
        "concurrency")
    end)

    it("on a NATS name for one of ours, with a hint", function()
      local function consume(option)
        return ("local js = require 'moonbus.jetstream'\n"
          .. "js.consume('S', { durable = 'd', %s }, print)"):format(option)
      end
      refused(consume "max_deliver = 3", "handler.lua:2",
        'unknown option "max_deliver": here it is "attempts"')
      refused(consume "durable_name = 'x'", "handler.lua:2", '"durable"')
      refused(consume "filter_subject = 'x'", "handler.lua:2", '"filter"')
      refused(consume "deliver_policy = 'new'", "handler.lua:2", '"deliver"')
    end)

    it("on a value of the wrong type, by its name", function()
      refused("require 'moonbus'.subscribe('a', { concurrency = 'many' }, print)",
        "handler.lua:1", "concurrency", "many")
      refused("require 'moonbus'.subscribe('a', { concurrency = 0 }, print)", "handler.lua:1",
        "concurrency")
      refused("require 'moonbus'.subscribe('a', { queue = 7 }, print)", "handler.lua:1", "queue")
    end)

    it("on a bad duration, with the form that is wanted", function()
      refused("require 'moonbus'.subscribe('a', { timeout = '5 min' }, print)", "handler.lua:1",
        "timeout", "5 min", "5s")
      refused("require 'moonbus'.every('often', print)", "handler.lua:1", "often")
      refused("require 'moonbus'.every(0, print)", "handler.lua:1")
    end)

    it("on two handlers for one durable", function()
      refused([[
        local js = require "moonbus.jetstream"
        js.consume("IN", { durable = "same" }, print)
        js.consume("IN", { durable = "same" }, print)
      ]], "handler.lua:3", "handler.lua:2", "same")
    end)

    it("on a consumer without a durable", function()
      refused("require 'moonbus.jetstream'.consume('S', {}, print)", "handler.lua:1", "durable")
    end)

    it("on a stream without a name", function()
      refused("require 'moonbus.jetstream'.stream { subjects = { 'a' } }", "handler.lua:1", "name")
    end)

    it("on an event that does not exist", function()
      refused("require 'moonbus'.on('begin', print)", "handler.lua:1", "begin", "start")
    end)

    it("on bytecode", function()
      refused({ handlers = { ["handler.lua"] = string.dump(function() return 1 end) } },
        "handler.lua")
    end)

    it("on a binding that waits, or sends", function()
      refused("local bus = require 'moonbus'\nbus.sleep('1s')", "handler.lua:2", "bus.sleep")
      refused("local bus = require 'moonbus'\nbus.request('a', 'b')", "handler.lua:2",
        "bus.request")
      refused("local js = require 'moonbus.jetstream'\njs.publish('a', 'b')", "handler.lua:2",
        "js.publish")
    end)

    it("even when the other scripts are fine", function()
      refused({ handlers = {
        ["good.lua"] = "require 'moonbus'.subscribe('good', print)",
        ["broken.lua"] = "\n\nlocal = 1",
      } }, "broken.lua:3")
      assert.same({ nil, "no responders" }, { w.client:request("good", "") })
    end)
  end)

  it("warns of a script that registers nothing", function()
    local host = w:run "local x = 1"
    local event = host:wait_log { level = "warn", msg = "registers nothing" }
    assert.equal("handler.lua", event.script)
    assert.is_true(host:running())
  end)

  it("runs its top level, and print is log.info", function()
    local host = w:run "print('loaded', 1, nil)"
    local event = host:wait_log "loaded\t1\tnil"
    assert.equal("info", event.level)
    assert.equal("handler.lua", event.script)
  end)

  it("raises on a registration after it, by file and line", function()
    local host = w:run [[
      local bus = require "moonbus"
      bus.subscribe("late", function()
        bus.subscribe("later", print)
      end)
    ]]
    local reply = w.client:request("late", "")
    assert.equal("500", reply:header "Nats-Service-Error-Code")
    host:wait_log { level = "error", file = "handler.lua", line = 3, msg = "bus%.subscribe" }
    assert.same({ nil, "no responders" }, { w.client:request("later", "") })
  end)

  it("gives each script globals of its own", function()
    w:run { handlers = {
      ["one.lua"] = [[
        name = "one"
        require "moonbus".subscribe("one", function() return tostring(name) end)
      ]],
      ["two.lua"] = [[
        require "moonbus".subscribe("two", function() return tostring(rawget(_G, "name")) end)
      ]],
    } }
    assert.equal("one", w.client:request("one", "").data)
    assert.equal("nil", w.client:request("two", "").data)
  end)

  it("warns once of a write to an undeclared global, by file and line", function()
    local host = w:run [[
      local bus = require "moonbus"
      bus.script { workers = 1 }
      bus.subscribe("count", function()
        total = (total or 0) + 1
        return tostring(total)
      end)
    ]]
    assert.equal("1", w.client:request("count", "").data)
    assert.equal("2", w.client:request("count", "").data)
    local event = host:wait_log { level = "warn", msg = "total" }
    assert.equal("handler.lua", event.file or event.msg:match "handler%.lua")
    assert.equal(4, event.line or tonumber(event.msg:match "handler%.lua:(%d+)"))
    assert.equal(1, #host:logged { level = "warn", msg = "total" })
  end)

  describe("require", function()
    it("looks in the script's own folder first, then in lib", function()
      w:run {
        handlers = {
          ["a.lua"] = [[
            local near, far = require "near", require "deep.far"
            require "moonbus".subscribe("a", function() return near .. " " .. far end)
          ]],
          ["near.lua"] = [[return "own folder"]],
        },
        files = { ["lib/near.lua"] = [[return "lib"]], ["lib/deep/far.lua"] = [[return "deep"]] },
        args = { "handlers/a.lua" },
      }
      assert.equal("own folder deep", w.client:request("a", "").data)
    end)

    it("does not take the script itself for a module of its name", function()
      w:run {
        handlers = { ["a.lua"] = [[
          local other = require "a"
          require "moonbus".subscribe("a", function() return other end)
        ]] },
        files = { ["lib/a.lua"] = [[return "lib"]] },
      }
      assert.equal("lib", w.client:request("a", "").data)
      refused({ handlers = { ["b.lua"] = "require 'b'" } }, "b.lua:1", 'module "b" not found',
        "handlers/b.lua: the script itself", "lib/b.lua")
      refused({ handlers = { ["b.lua"] = "require 'b'" }, args = { "./handlers/b.lua" } },
        "handlers/b.lua: the script itself")
    end)

    it("runs a module once for each instance, in the script's environment", function()
      local host = w:run {
        handlers = { ["a.lua"] = [[
          require "moonbus".script { workers = 1 }
          local first, second = require "once", require "once"
          require "moonbus".subscribe("a", function() return tostring(first == second) end)
        ]] },
        files = { ["lib/once.lua"] = [[print "the module runs" return {}]] },
      }
      assert.equal("true", w.client:request("a", "").data)
      assert.equal(1, #host:logged "the module runs")
    end)

    it("finds a folder's init.lua", function()
      w:run {
        handlers = { ["a.lua"] = [[
          local kit = require "kit"
          require "moonbus".subscribe("a", function() return kit.name end)
        ]] },
        files = { ["lib/kit/init.lua"] = [[return { name = "kit" }]] },
      }
      assert.equal("kit", w.client:request("a", "").data)
    end)

    it("names both files of a circle", function()
      refused({ handlers = { ["a.lua"] = "require 'one'" }, files = {
        ["lib/one.lua"] = "require 'two'", ["lib/two.lua"] = "require 'one'",
      } }, "one")
    end)
  end)

  it("keeps from a script what could harm the process", function()
    w:run [[
      local bus = require "moonbus"
      local function there(value) return value == nil and "" or "there" end
      local function wall(name) return pcall(os[name], "no/such/file", "no/such/file") and name or "" end
      local ffi_loads = pcall(require, "ffi")
      local found = (pcall(io.open, "x") and "open" or "") .. (pcall(package.loadlib, "x", "*") and "loadlib" or "")
        .. wall "execute" .. wall "exit" .. wall "remove" .. wall "rename"
        .. there(rawget(_G, "newproxy")) .. (ffi_loads and "ffi" or "")
        .. (pcall(debug.sethook) and "sethook" or "")
      bus.subscribe("sandbox", function() return found .. type(debug.traceback()) end)
    ]]
    assert.equal("string", w.client:request("sandbox", "").data)
  end)

  describe("bus.script", function()
    it("sets how many instances there may be", function()
      w:run [[
        local bus = require "moonbus"
        bus.script { workers = 1, memory = "32MB" }
        local count = 0
        bus.subscribe("count", function() count = count + 1 return tostring(count) end)
      ]]
      for index = 1, 20 do
        assert.equal(tostring(index), w.client:request("count", "").data)
      end
    end)

    it("is refused when misused", function()
      refused("require 'moonbus'.script { workers = 0 }", "handler.lua:1", "workers")
      refused("require 'moonbus'.script { memory = 'lots' }", "handler.lua:1", "memory", "64MB")
      refused("require 'moonbus'.script { threads = 2 }", "handler.lua:1", "threads", "workers")
    end)
  end)

  describe("bus.on", function()
    it("runs start and stop once per process", function()
      local events = w.client:subscribe "event.*"
      local host = w:run { handlers = { ["handler.lua"] = [[
        local bus = require "moonbus"
        bus.on("start", function() bus.publish("event.start", "") end)
        bus.on("stop", function() bus.publish("event.stop", "") end)
      ]] }, args = { "--workers", "4" } }
      assert.equal("event.start", events:next().subject)
      assert.is_nil(events:next(0.1))
      assert.equal(0, host:stop())
      assert.equal("event.stop", events:next().subject)
      assert.is_nil(events:next(0.05))
    end)

    it("logs an error in one of them and serves on", function()
      local host = w:run [[
        local bus = require "moonbus"
        bus.on("start", function()
          error "cannot start"
        end)
        bus.subscribe("alive", function() return "yes" end)
      ]]
      host:wait_log { level = "error", file = "handler.lua", line = 3, msg = "cannot start" }
      assert.equal("yes", w.client:request("alive", "").data)
    end)
  end)
end)
