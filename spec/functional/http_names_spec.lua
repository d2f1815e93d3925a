-- How bus.http finds the servers that it calls, with a resolver that is slow (spec/support/slow_names.c).
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local web = require "spec.support.web"
local world = require "spec.support.world"

-- A sanitizer wants to be loaded before everything else.
local sanitized = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"

local function it_plain(name, fn)
  it(name, function()
    if sanitized then return pending "a sanitizer is preloaded" end
    fn()
  end)
end

describe("a name that bus.http resolves", function()
  local w, server = world.new(), nil
  setup(function()
    w:open()
    server = web.start()
  end)
  after_each(function() w:clear() end)
  teardown(function()
    server:close()
    w:close()
  end)

  local HANDLER = [[
local bus = require "moonbus"
bus.subscribe("get", { timeout = "1m" }, function(msg)
  local answer, err = bus.http.get(msg.data, { timeout = %q })
  return answer and answer.body or err.code .. ": " .. err.message
end)
bus.subscribe("many", { timeout = "1m" }, function(msg)
  local calls = {}
  for i = 1, 100 do calls[i] = function() return bus.http.get(msg.data).status end end
  return tostring(#{ bus.gather(calls) })
end)]]

  local function run(timeout, config)
    local folder = w:folder()
    return w:run {
      handlers = { ["handler.lua"] = HANDLER:format(timeout) }, config = config,
      env = { LD_PRELOAD = os.getenv "MOONBUS_UNITS":gsub("units.so$", "slow_names.so"),
        SLOW_NAMES_COUNT = folder .. "/count" },
    }, folder
  end

  it_plain("and that nobody answers for ends by the call's time, and holds up nobody else", function()
    run "500ms"
    local slow = w.client:subscribe "slow"
    w.client:publish("get", "http://nobody.slow/", nil, "slow")
    for _ = 1, 20 do assert.matches("^GET /echo", w.client:request("get", server:url "/echo").data) end
    assert.matches("^timeout: GET http://nobody.slow/: not done within 500ms: it was not connected$",
      slow:next(5).data)
    assert.matches("^GET /echo", w.client:request("get", server:url "/echo").data)
  end)

  it_plain("does not keep a stop", function()
    local host = run("1m", 'return { graceful_timeout = "300ms" }')
    w.client:publish("get", "http://nobody.slow/", nil, "slow")
    assert.matches("^GET /echo", w.client:request("get", server:url "/echo").data)
    local began = wait.now()
    assert.equal(3, host:stop())
    assert.is_true(wait.now() - began < wait.within(3))
  end)

  it_plain("is resolved once for a hundred calls", function()
    local _, folder = run "10s"
    local url = ("http://web.counted:%d/echo"):format(server.port)
    assert.equal("100", w.client:request("many", url, { timeout = 20 }).data)
    assert.equal("x", temp.read(folder .. "/count"))
    assert.equal("100", w.client:request("many", url, { timeout = 20 }).data)
    assert.equal("x", temp.read(folder .. "/count"))
  end)
end)
