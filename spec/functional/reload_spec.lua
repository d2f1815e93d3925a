local temp = require "spec.support.temp"
local world = require "spec.support.world"

describe("a reload", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function watched(text)
    return w:run { handlers = { ["handler.lua"] = text }, args = { "--watch" } }
  end

  local function change(host, text, generation)
    temp.write(host.folder, "handlers/handler.lua", text)
    host:wait_log(("generation %d live"):format(generation or 2))
  end

  -- A script whose handlers of "spec", one for each word, publish their word to "out".
  local function saying(...)
    local text = 'local bus = require "moonbus"\n'
    for _, word in ipairs { ... } do
      text = text .. ('bus.subscribe("spec", function() bus.publish("out", %q) end)\n'):format(word)
    end
    return text
  end

  -- What one message to "spec" makes them say: so many words, sorted, and no more than that.
  local function said(count)
    local out = w.client:subscribe "out"
    w.client:publish("spec", "")
    local words = {}
    for index, message in ipairs(out:take(count)) do words[index] = message.data end
    assert.is_nil(out:next(0.05))
    table.sort(words)
    out:close()
    return words
  end

  it("goes on with every handler, also with those that are registered alike", function()
    local host = watched(saying("a", "b"))
    assert.same({ "a", "b" }, said(2))
    change(host, saying("c", "d"))
    assert.same({ "c", "d" }, said(2))
    change(host, saying("e", "f", "g"), 3)
    assert.same({ "e", "f", "g" }, said(3))
  end)

  it("drains a subscription that is gone: what has come is handled by the old version", function()
    local host = watched [[
      local bus = require "moonbus"
      bus.subscribe("slow", { concurrency = 1 }, function(msg)
        bus.sleep("10ms")
        bus.publish("out", msg.data)
      end)
      bus.on("stop", function() bus.publish("out", "stop") end)
    ]]
    local out = w.client:subscribe "out"
    local expected = {}
    for number = 1, 20 do
      w.client:publish("slow", tostring(number))
      expected[number] = tostring(number)
    end
    expected[21] = "stop"
    change(host, saying("a"))
    local words = {}
    for index, message in ipairs(out:take(21)) do words[index] = message.data end
    assert.same(expected, words)
    local _, reason = w.client:request("slow", "", { timeout = 1 })
    assert.equal("no responders", reason)
    assert.equal(0, host:stop())
  end)
end)
