-- A handler that is in the middle of something when the reload comes finishes on its old code, and
-- its message is settled once.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a handler that runs when its script is reloaded", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- body: of the old version; it comes back once the new one is live. options: of js.consume.
  local function text(version, body, options)
    return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
js.stream { name = "DONE", subjects = { "done.>" } }
js.stream { name = "LOOP", subjects = { "loop" } }
local version = %q
local function is_over() return bus.request("version", "").data == "two" end
js.consume("WORK", { durable = "a", dead_letter = "dead", filter = "work.>", %s }, function(msg)
  bus.publish("begun", version)
  %s
  local batch = type(msg) == "table"
  for _, each in ipairs(batch and msg or { msg }) do
    js.publish("done." .. version, each.data, { from = batch and each or nil })
  end
end)
bus.subscribe("version", function() return version end)]]):format(version, options or "", body)
  end

  local function save(host, script) temp.write(host.folder, "handlers/handler.lua", script) end

  -- How often each input was finished, and by which version.
  local function done()
    local list = {}
    for _, message in ipairs(w.client:messages "DONE") do
      list[message.data] = (list[message.data] and list[message.data] .. "," or "")
        .. message.subject:match "done%.(.*)"
    end
    return list
  end

  -- options: consume; count: inputs before the reload (1); gated: the body waits for "gate", which
  -- is answered only when the new version is live; after: what is to be seen of the inputs.
  local function finishes(body, options)
    options = options or {}
    local host = w:run { handlers = { ["handler.lua"] = text("one", body, options.consume) },
      args = { "--watch" } }
    local begun, gate = w.client:subscribe "begun", w.client:subscribe "gate"
    for i = 1, options.count or 1 do w.client:store("work.a", "x" .. i) end
    assert.equal("one", begun:next().data)
    local at_gate = options.gated and gate:next()
    save(host, text("two", "", options.consume))
    host:wait_log "handler%.lua: generation 2 live"
    if at_gate then
      assert.same({}, done())
      w.client:reply(at_gate, "go")
      for _ = 2, options.gated do w.client:reply(gate:next(), "go") end
    end
    w.client:store("work.a", "y")
    local expected = options.after or { x1 = "one" }
    expected.y = "two"
    wait.eventually(function()
      assert.same(expected, done())
      return true
    end)
    w.client:await_settled("WORK", "a")
    assert.equal(0, w.client:consumer_info("WORK", "a").num_redelivered)
    assert.equal(0, #host:logged { level = "error" })
    host:wait_log "handler%.lua: generation 1 closed"
  end

  it("comes out of bus.sleep", function() finishes 'repeat bus.sleep("20ms") until is_over()' end)

  it("comes out of bus.request", function()
    finishes('assert(bus.request("gate", "", { timeout = "1m" }).data == "go")', { gated = 1 })
  end)

  it("comes out of js.publish", function()
    finishes 'repeat assert(js.publish("loop", "x")) until is_over() assert(js.publish("loop", "x"))'
  end)

  it("comes out of js.publish_async and its wait", function()
    finishes [[
      repeat
        local futures = {}
        for i = 1, 10 do futures[i] = js.publish_async("loop", "x") end
        for i = 1, 10 do assert(futures[i]:wait()) end
      until is_over()]]
  end)

  it("burns its CPU to the end", function()
    finishes 'local till = bus.now() + 0.6 while bus.now() < till do end'
  end)

  it("comes out of bus.gather, with what all of its functions gave", function()
    finishes([[
      local a, b = bus.gather {
        function() return bus.request("gate", "", { timeout = "1m" }).data end,
        function() return bus.request("gate", "", { timeout = "1m" }).data end,
      }
      assert(a == "go" and b == "go")]], { gated = 2 })
  end)

  it("comes out of future:wait()", function()
    finishes([[
      local future = bus.spawn(function() return bus.request("gate", "", { timeout = "1m" }).data end)
      assert(future:wait() == "go")]], { gated = 1 })
  end)

  it("goes on after msg:ack{sync = true}, and is not settled again", function()
    finishes([[
      assert(msg:ack { sync = true })
      assert(bus.request("gate", "", { timeout = "1m" }).data == "go")
      assert(select(2, msg:ack()).code == "settled")]], { gated = 1 })
  end)

  it("goes on with msg:progress", function()
    finishes 'repeat assert(msg:progress()) bus.sleep("5ms") until is_over() assert(msg:progress())'
  end)

  it("finishes its whole batch", function()
    finishes('assert(bus.request("gate", "", { timeout = "1m" }).data == "go")', { gated = 1, count = 3,
      consume = 'batch = { size = 3, wait = "1s" }, concurrency = 1',
      after = { x1 = "one", x2 = "one", x3 = "one" } })
  end)

  it("keeps its key: the next of it waits, and runs on the new version", function()
    finishes('assert(bus.request("gate", "", { timeout = "1m" }).data == "go")', { gated = 1, count = 3,
      consume = 'order_by = "subject"', after = { x1 = "one", x2 = "two", x3 = "two" } })
  end)

  it("keeps its place in concurrency: what is queued runs on the new version", function()
    finishes('assert(bus.request("gate", "", { timeout = "1m" }).data == "go")', { gated = 1, count = 4,
      consume = "concurrency = 1", after = { x1 = "one", x2 = "two", x3 = "two", x4 = "two" } })
  end)

  it("is the only thing that is left of its generation, whatever is reloaded meanwhile", function()
    local host = w:run { handlers = { ["handler.lua"] =
      text("one", 'assert(bus.request("gate", "", { timeout = "1m" }).data == "go")') }, admin = true }
    local port = tonumber(host.admin:match ":(%d+)$")
    local function status()
      local _, body = posix.http(port, "GET", "/status")
      return cjson.decode(body).scripts[1]
    end
    local gate = w.client:subscribe "gate"
    w.client:store("work.a", "x")
    local at_gate = gate:next()
    for i = 1, 40 do
      save(host, text("two", "-- " .. i))
      assert.equal(200, (posix.http(port, "POST", "/reload")))
      if i == 20 then
        wait.eventually(function() return status().live_generations == 2 end)
      end
    end
    wait.eventually(function() return status().live_generations == 2 end)
    assert.same({ 41, 40 }, { status().generation, status().reloads })
    w.client:reply(at_gate, "go")
    wait.eventually(function() return status().live_generations == 1 end)
    w.client:await_settled("WORK", "a")
    assert.same({ x = "one" }, done())
  end)
end)
