-- bus.on("start") that fails is seen; one that is required decides whether its version serves.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("bus.on(\"start\")", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function script(answer, hook)
    return ([[
local bus = require "moonbus"
bus.subscribe("version", function() return %q end)
%s]]):format(answer, hook)
  end

  local function run(text)
    return w:run { handlers = { ["handler.lua"] = text }, args = { "--watch" }, admin = true }
  end

  local function save(host, text) temp.write(host.folder, "handlers/handler.lua", text) end

  local function ask(host, path)
    local code, body = posix.http(tonumber(host.admin:match "%d+$"), "GET", path)
    return code, cjson.decode(body)
  end

  local function version()
    local reply = w.client:request("version", "")
    return reply and reply.data
  end

  describe("that fails", function()
    local FAILS = [[bus.on("start", function() error "no table" end)]]

    it("is a reason in /readyz and the status, until the next version", function()
      local host = run(script("one", FAILS))
      host:wait_log { level = "error", handler = "on start", msg = "no table" }
      local REASON = 'handler.lua:3: bus.on("start") failed: no table'
      wait.eventually(function() return ask(host, "/readyz") == 503 end)
      local _, ready = ask(host, "/readyz")
      assert.same({ REASON }, ready.reasons)
      local _, status = ask(host, "/status")
      assert.equal(REASON, status.scripts[1].start_failed)
      assert.equal("one", version()) -- it serves all the same
      save(host, script("two", ""))
      host:wait_log "generation 2 live"
      assert.equal(200, (ask(host, "/readyz")))
      assert.is_nil(select(2, ask(host, "/status")).scripts[1].start_failed)
    end)

    it("is one too when it returns nil, err, or its time is over", function()
      for _, hook in ipairs {
        [[bus.on("start", function() return nil, "no table" end)]],
        [[bus.on("start", { timeout = "50ms" }, function() bus.sleep "1m" end)]],
      } do
        local host = run(script("one", hook))
        wait.eventually(function() return ask(host, "/readyz") == 503 end)
        host:close()
      end
    end)

    it("fails alone: another one that does not is no reason", function()
      local host = run(script("one", [[bus.on("start", function() bus.log.info "begun" end)]]))
      host:wait_log "^begun$"
      assert.equal(200, (ask(host, "/readyz")))
    end)
  end)

  describe("with required = true", function()
    local REQUIRED = [[bus.on("start", { required = true }, function() %s end)]]

    it("has ended when the first message is handled", function()
      local host = run(script("one", REQUIRED:format [[bus.sleep "150ms" bus.log.info "prepared"]]))
      assert.equal(1, #host:logged "^prepared$")
      assert.equal("one", version())
      assert.equal(1, #host:logged "^prepared$") -- and runs once
    end)

    it("that fails keeps the host from starting, with its reason", function()
      local host = w:start { handlers = { ["handler.lua"] = script("one",
        REQUIRED:format [[error "no table"]]) }, server = w.server }
      assert.equal(2, host:wait(10))
      assert.matches('handler.lua:3: bus.on%(\\"start\\"%) failed: no table', host:output())
    end)

    it("that fails refuses a reload, and the version before it goes on", function()
      local begun = w.client:subscribe "begun"
      local host = run(script("one", ""))
      save(host, script("two", REQUIRED:format [[error "no table"]]))
      local event = host:wait_log "refused, generation 1 keeps running"
      assert.matches('bus.on%("start"%) failed: no table', event.msg)
      assert.equal("one", version())
      assert.equal(200, (ask(host, "/readyz")))
      save(host, script("three", REQUIRED:format [[bus.publish("begun", "")]]))
      assert.equal("", begun:next(10).data)
      wait.eventually(function() return version() == "three" end)
      assert.is_nil(begun:next(0.1))
    end)

    it("is waited for by a reload, during which the version before it serves", function()
      local host = run(script("one", ""))
      save(host, script("two", REQUIRED:format [[
        bus.publish("waits", "")
        bus.request("go", "", { timeout = "30s" })
      ]]))
      local go = w.client:subscribe "go"
      local request = go:next(10)
      assert.equal("one", version())
      w.client:reply(request, "")
      wait.eventually(function() return version() == "two" end)
      assert.equal(2, select(2, ask(host, "/status")).scripts[1].generation)
    end)

    it("ends by its timeout, as any handler does", function()
      local host = run(script("one", ""))
      save(host, script("two", [[
bus.on("start", { required = true, timeout = "80ms" }, function() bus.sleep "1m" end)]]))
      host:wait_log "refused, generation 1 keeps running: .*longer than its timeout of 80ms"
      assert.equal("one", version())
    end)

    it("delays no stop", function()
      local waits = w.client:subscribe "waits"
      local host = run(script("one", ""))
      save(host, script("two", REQUIRED:format [[bus.publish("waits", "") bus.sleep "50s"]]))
      waits:take(1, 10)
      local began = wait.now()
      host:stop(10)
      assert.is_true(wait.now() - began < wait.within(8))
    end)

    it("is refused where it means nothing", function()
      for hook, why in pairs {
        [ [[bus.on("stop", { required = true }, function() end)]] ] = 'required is for "start"',
        [ [[bus.on("start", { required = 1 }, function() end)]] ] = "expected true or false",
        [ [[bus.on("start", { must = true }, function() end)]] ] = 'here it is "required"',
      } do
        local host = w:start { handlers = { ["handler.lua"] = script("one", hook) }, server = w.server }
        assert.equal(2, host:wait(10))
        assert.is_truthy(host:output():gsub('\\"', '"'):find(why, 1, true), host:output())
      end
    end)
  end)
end)
