-- The instances of one generation are the same code, whenever they are loaded.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a further instance of a script", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local SCRIPT = [[
local bus = require "moonbus"
local words = require "words"
bus.script { workers = 1 }
local hoard = {}
bus.subscribe("hoard", function() while true do hoard[#hoard + 1] = ("x"):rep(1000) .. #hoard end end)
bus.subscribe("count", function() return tostring(#hoard) end)
bus.subscribe("answer", function() return words.answer .. " " .. require("late").answer end)]]

  local function run()
    return w:run {
      handlers = { ["handler.lua"] = SCRIPT },
      files = {
        ["lib/words.lua"] = [[return { answer = "one" }]],
        ["lib/late.lua"] = [[return { answer = "late one" }]],
      },
      config = 'return { limits = { memory = "8MB" } }',
    }
  end

  local function ask(subject)
    local reply, why = w.client:request(subject, "", { timeout = 5 * wait.slow })
    return reply and reply.data or why
  end

  -- Has the instance replaced by a new one.
  local function wear_out(host, times)
    ask "hoard"
    host:wait_log({ level = "warn", code = "memory", msg = "a new one takes its place" }, 10, times)
    assert.equal("0", ask "count")
  end

  it("is loaded from what the files held when its generation was, however they were edited", function()
    local host = run()
    assert.equal("one late one", ask "answer")
    temp.write(host.folder, "lib/words.lua", [[return { answer = "two" }]])
    temp.write(host.folder, "lib/late.lua", "return {")
    wear_out(host, 1)
    assert.equal("one late one", ask "answer")
    temp.write(host.folder, "handlers/handler.lua", "this is no Lua")
    wear_out(host, 2)
    assert.equal("one late one", ask "answer")
    assert.same({}, host:logged { level = "error", msg = "did not load" })
  end)

  it("does not see a module that has come nearer meanwhile", function()
    local host = run()
    temp.write(host.folder, "handlers/words.lua", [[return { answer = "nearer" }]])
    wear_out(host, 1)
    assert.equal("one late one", ask "answer")
  end)

  it("is loaded also when the file is gone", function()
    local host = run()
    assert(os.remove(host.folder .. "/handlers/handler.lua"))
    wear_out(host, 1)
    assert.equal("one late one", ask "answer")
  end)

  it("is of the new text after a reload", function()
    local host = run()
    temp.write(host.folder, "lib/words.lua", [[return { answer = "two" }]])
    host:signal "HUP"
    host:wait_log("generation 2 live", 10)
    wear_out(host, 1)
    assert.equal("two late one", ask "answer")
  end)
end)

describe("a reload of a script with two instances", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local SCRIPT = [[
local bus = require "moonbus"
bus.subscribe("burn", function()
  local now = os.clock()
  while os.clock() - now < 0.1 do end
  return "%s"
end)]]

  local function run()
    local host = w:run { handlers = { ["two.lua"] = SCRIPT:format "one" }, args = { "--workers", "2" }, admin = true }
    local function instances()
      local _, body = posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", "/status")
      return cjson.decode(body).scripts[1].instances
    end
    wait.eventually(function() -- all are busy: one more comes
      for _ = 1, 4 do w.client:publish("burn", "") end
      w.client:request("burn", "")
      return instances() == 2
    end, 10)
    return host, instances
  end

  it("begins with as many as there were", function()
    local host, instances = run()
    temp.write(host.folder, "handlers/two.lua", SCRIPT:format "two")
    host:signal "HUP"
    host:wait_log("generation 2 live", 10)
    wait.eventually(function() return instances() == 2 end, 10) -- the old ones close when they are quiet
    assert.equal("two", w.client:request("burn", "").data)
  end)

  it("is refused as a whole if only the first of them would load", function()
    local host = run()
    temp.write(host.folder, "handlers/two.lua", SCRIPT:format "two" .. [[

bus.subscribe("burn." .. ("%.6f"):format(bus.now()), function() end)]])
    host:signal "HUP"
    host:wait_log({ level = "error",
      msg = "generation 1 keeps running: burn%.%d.* is registered by " }, 10)
    assert.equal("one", w.client:request("burn", "").data)
  end)
end)
