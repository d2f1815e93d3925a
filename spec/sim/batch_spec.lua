local sim = require "spec.sim.sim"

describe("A batch, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function serve(body)
    return world:host { scripts = { ["clicks.lua"] = sim.script(([[
      js.stream { name = "CLICKS", subjects = { "clicks" } }
      js.stream { name = "OUT", subjects = { "out" } }
      js.consume("CLICKS", { durable = "counter", batch = { size = 5, wait = "200ms" },
        dead_letter = false, backoff = { min = "1s", jitter = 0 } }, function(msgs)
        local list = {}
        for i, msg in ipairs(msgs) do list[i] = msg.data end
        sim.note(table.concat(list, " "))
        %s
      end)
    ]]):format(body or "")) } }
  end

  local function publish(from, to)
    for i = from, to do world:publish("clicks", tostring(i)) end
  end

  it("is given when it is full, or when its first message has waited enough", function()
    serve()
    publish(1, 7)
    world:advance "1s"
    assert.same({ "0 1 2 3 4 5", "200 6 7" }, world:said { at = true })
    assert.equal(0, world:consumer("CLICKS", "counter").num_ack_pending)
  end)

  it("comes again when the handler fails, but for those that had their verdict", function()
    serve [[
      if msgs[1].data == "1" then msgs[2]:ack() error "no" end
    ]]
    publish(1, 3)
    world:advance "1500ms"
    assert.same({ "1 2 3", "1 3" }, world:said())
  end)

  it("publishes once for each of its messages, though it runs again in another one", function()
    serve [[
      for _, msg in ipairs(msgs) do js.publish("out", msg.data, { from = msg }) end
      if msgs[1].attempt == 1 then error "again" end
    ]]
    publish(1, 5)
    world:advance "500ms"
    publish(6, 9)
    world:advance "1m"
    local stored = world:data_of "OUT"
    table.sort(stored)
    assert.same({ "1", "2", "3", "4", "5", "6", "7", "8", "9" }, stored)
  end)
end)
