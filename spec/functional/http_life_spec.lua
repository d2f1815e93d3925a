-- Calls of bus.http beside what happens to their handlers: deadlines, stops, reloads, many at a time.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local web = require "spec.support.web"
local world = require "spec.support.world"

local sanitized = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"

describe("calls of bus.http", function()
  local w, server = world.new(), nil
  setup(function() w:open() end)
  before_each(function() server = web.start() end)
  after_each(function()
    w:clear()
    server:close()
  end)
  teardown(function() w:close() end)

  -- How many requests the server is busy with, but for the one that asks.
  local function running() return server:stats().running - 1 end

  local function call(path, options)
    return ([[
local bus = require "moonbus"
bus.subscribe("go", %s, function(msg)
  local answer, err = bus.http.get(%q)
  return answer and answer.body or err.code
end)]]):format(options or "{}", server:url(path))
  end

  it("end with their handler's time", function()
    w:run(call("/hang", '{ timeout = "300ms" }'))
    local reply = assert(w.client:request("go", "", { timeout = 5 * wait.slow }))
    assert.equal("500", reply:header "Nats-Service-Error-Code")
    wait.eventually(function() return running() == 0 end)
  end)

  it("end with the function that was cancelled, and the others go on", function()
    w:run(([[
local bus = require "moonbus"
bus.subscribe("go", function()
  local child = bus.spawn(bus.http.get, %q)
  bus.sleep("100ms")
  child:cancel()
  return bus.http.get(%q).body
end)]]):format(server:url "/hang", server:url "/slow/100"))
    assert.equal("late", w.client:request("go", "").data)
    wait.eventually(function() return running() == 0 end)
  end)

  it("are waited for by a stop, as far as its deadline", function()
    local host = w:run(call "/slow/700")
    local inbox = w.client:subscribe "answer"
    w.client:publish("go", "", nil, "answer")
    wait.eventually(function() return running() == 1 end)
    assert.equal(0, host:stop())
    assert.equal("late", inbox:next(5).data)
  end)

  it("that hang do not keep the host: a stop is bounded", function()
    local host = w:run { handlers = { ["handler.lua"] = call "/hang", ["sink.lua"] = ([[
local bus = require "moonbus"
bus.subscribe("sink", function() bus.http.get(%q, { sink = function() bus.sleep("1h") end }) end)]])
      :format(server:url "/endless") }, config = 'return { graceful_timeout = "500ms" }' }
    for _ = 1, 50 do w.client:publish("go", "", nil, "answer") end
    w.client:publish("sink", "")
    wait.eventually(function() return running() == 51 end)
    local began = wait.now()
    assert.equal(3, host:stop())
    assert.is_true(wait.now() - began < wait.within(3))
    wait.eventually(function() return running() == 0 end)
  end)

  it("go on over a reload, on the version that made them", function()
    local host = w:run(call "/slow/1000")
    local inbox = w.client:subscribe "answer"
    w.client:publish("go", "", nil, "answer")
    wait.eventually(function() return running() == 1 end)
    temp.write(host.folder, "handlers/handler.lua",
      'require "moonbus".subscribe("go", function() return "new" end)')
    host:signal "HUP"
    wait.eventually(function() return w.client:request("go", "").data == "new" end)
    assert.equal("late", inbox:next(5).data)
  end)

  it("from one script use the connections of another", function()
    local function script(name)
      return ('require "moonbus".subscribe(%q, function() return require "moonbus".http.get(%q).body end)')
        :format(name, server:url "/status/200")
    end
    w:run { handlers = { ["a.lua"] = script "a", ["b.lua"] = script "b" } }
    for _ = 1, 5 do
      assert.equal("it is 200", w.client:request("a", "").data)
      assert.equal("it is 200", w.client:request("b", "").data)
    end
    -- One of the host's; the specs' own are the rest.
    local before = server:stats()
    assert.equal(1, before.open - 1)
  end)

  local MANY = [[
local bus = require "moonbus"
bus.script { workers = 1 }
bus.subscribe("many", { timeout = "2m" }, function(msg)
  local calls = {}
  for i = 1, %d do
    calls[i] = function() return bus.http.get(%q, { timeout = "1m" }).status end
  end
  local count = 0
  for _, status in ipairs { bus.gather(calls) } do
    if status == 200 then count = count + 1 end
  end
  return tostring(count)
end)]]

  it("are bounded for each server by http.max_per_host, which a reload changes", function()
    local host = w:run { handlers = { ["handler.lua"] = MANY:format(100, server:url "/slow/20") },
      config = "return { http = { max_per_host = 10 } }" }
    assert.equal("100", w.client:request("many", "", { timeout = 20 }).data)
    assert.equal(10, server:stats().most)
    temp.write(host.folder, "moonbus.lua", "return { http = { max_per_host = 20 } }")
    host:signal "HUP"
    host:wait_log "http.max_per_host: 10 %-> 20"
    assert.equal("100", w.client:request("many", "", { timeout = 20 }).data)
    assert.equal(20, server:stats().most)
  end)

  it("of one worker may be a thousand at a time", function()
    local count = sanitized and 200 or 1000
    local host = w:run { handlers = { ["handler.lua"] = MANY:format(count, server:url "/slow/1000") },
      config = "return { workers = 1, http = { max_per_host = 1000 } }", level = "info" }
    for _, what in ipairs { "connected first", "on connections that were kept" } do
      local cpu, began = host:cpu_seconds(), wait.now()
      local reply = assert(w.client:request("many", "", { timeout = 60 }))
      local took = wait.now() - began
      print(("  %d calls of 1 s, %s: %.2f s, and %.2f s of CPU"):format(count, what, took, host:cpu_seconds() - cpu))
      assert.equal(tostring(count), reply.data)
      assert.is_true(took < wait.within(10), "it took " .. took .. " s")
    end
  end)
end)
