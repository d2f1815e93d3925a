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
end)
