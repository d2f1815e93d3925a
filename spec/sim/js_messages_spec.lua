local sim = require "spec.sim.sim"

describe("js.messages, in virtual time", function()
  local world

  before_each(function()
    world = sim.new()
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in.>" } })
    for i = 1, 5 do world:publish("in." .. i % 2, "m" .. i) end
    world:settle()
  end)
  after_each(function() world:close() end)

  -- Notes each message, the end, and what is raised.
  local function serve(options, between)
    return world:host { scripts = { ["a.lua"] = sim.script(([[
      bus.subscribe("ask", { timeout = "5m" }, function()
        local messages, err = js.messages("IN"%s)
        if not messages then return sim.note(err.code) end
        local ok, raised = pcall(function()
          for msg in messages do
            sim.note(msg.data)
            %s
          end
        end)
        sim.note(ok and messages.ended or tostring(raised.code))
      end)]]):format(options and ", " .. options or "", between or "")) } }
  end

  local function ask(advance)
    world:publish "ask"
    world:advance(advance or "1s")
    return table.concat(world:said(), " ")
  end

  it("gives all that is there, in order, and ends", function()
    serve()
    assert.equal("m1 m2 m3 m4 m5 end", ask())
  end)

  it("gives nothing of an empty stream, and ends", function()
    world:api("STREAM.PURGE.IN", {})
    serve()
    assert.equal("end", ask())
  end)

  it("keeps to from, to, max and filter", function()
    local wanted = {
      ["{ from = 2, to = 4 }"] = "m2 m3 m4 end",
      ["{ max = 2 }"] = "m1 m2 end",
      ['{ filter = "in.1" }'] = "m1 m3 m5 end",
      ['{ filter = "in.1", to = 4 }'] = "m1 m3 end",
      ['{ filter = "in.1", max = 2 }'] = "m1 m3 end",
      ["{ from = 9 }"] = "end",
      ["{ from = 4, to = 2 }"] = "end",
      ['{ from = "1h" }'] = "m1 m2 m3 m4 m5 end",
      ["{ from = { time = bus.now() + 60 } }"] = "end",
      ["{ to = { time = bus.now() - 60 } }"] = "end",
    }
    for options, result in pairs(wanted) do
      serve(options)
      assert.equal(result, ask(), options)
      world:close()
      world = sim.new()
      world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in.>" } })
      for i = 1, 5 do world:publish("in." .. i % 2, "m" .. i) end
      world:settle()
    end
  end)

  it("ends with the last that was there when it began, whatever comes meanwhile", function()
    serve(nil, 'js.publish("in.new", "new")')
    assert.equal("m1 m2 m3 m4 m5 end", ask())
  end)

  it("holds a bounded number of messages for a slow loop, and loses none", function()
    for i = 6, 2000 do world:publish("in.x", "m" .. i) end
    world:settle()
    serve(nil, 'bus.sleep("10ms")')
    world:publish "ask"
    world:advance "2m"
    local said = world:said()
    assert.equal(2001, #said)
    assert.equal("m2000", said[2000])
    assert.equal("end", said[2001])
  end)

  it("goes on where it was when the connection is lost", function()
    for i = 6, 300 do world:publish("in.x", "m" .. i) end
    world:settle()
    serve(nil, 'bus.sleep("20ms")')
    world:publish "ask"
    for _ = 1, 5 do
      world:advance "700ms"
      world:cut "300ms"
    end
    world:advance "30s"
    local said = world:said()
    for i = 1, 300 do assert.equal("m" .. i, said[i]) end
    assert.equal("end", said[301])
    assert.equal(301, #said)
  end)

  it("raises when the stream is deleted, rather than to end early", function()
    for i = 6, 1000 do world:publish("in.x", "m" .. i) end
    world:settle()
    serve(nil, 'bus.sleep("50ms")')
    world:publish "ask"
    world:advance "1s"
    world:api("STREAM.DELETE.IN")
    world:advance "2m"
    local said = world:said()
    assert.equal("no_stream", said[#said])
  end)

  it("raises when the stream was made anew meanwhile", function()
    for i = 6, 1000 do world:publish("in.x", "m" .. i) end
    world:settle()
    serve(nil, 'bus.sleep("50ms")')
    world:publish "ask"
    world:advance "1s"
    world:api("STREAM.DELETE.IN")
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "in.>" } })
    for i = 1, 5 do world:publish("in.x", "other" .. i) end
    world:advance "2m"
    local said = world:said()
    assert.equal("no_stream", said[#said])
    for _, each in ipairs(said) do assert.is_nil(each:find "other") end
  end)

  it("ends when the rest was removed while it was read", function()
    for i = 6, 2000 do world:publish("in.x", "m" .. i) end
    world:settle()
    serve(nil, 'bus.sleep("5ms")')
    world:publish "ask"
    world:advance "500ms"
    world:api("STREAM.PURGE.IN", {})
    world:advance "30s"
    local said = world:said()
    assert.equal("end", said[#said])
    assert.is_true(#said < 1500, #said)
  end)

  it("gives nil and no_stream when there is no such stream", function()
    world:api("STREAM.DELETE.IN")
    serve()
    assert.equal("no_stream", ask())
  end)

  it("waits for a connection no longer than its timeout", function()
    serve '{ timeout = "3s" }'
    world:lose_answers(1)
    assert.equal("timeout", ask "4s")
  end)

  it("leaves no consumer behind: at its end, when it is left, and with its handler", function()
    for _, between in ipairs { "", "messages:close()", 'error("left")' } do
      serve(nil, between)
      ask "2s"
      assert.equal(0, world:api("CONSUMER.NAMES.IN", {}).total)
    end
  end)

  it("is cancelled with its handler", function()
    world:host { scripts = { ["a.lua"] = sim.script [[
      bus.subscribe("ask", { timeout = "1s" }, function()
        for msg in js.messages("IN") do
          sim.note(msg.data)
          bus.sleep("400ms")
        end
      end)]] } }
    assert.equal("m1 m2 m3", ask "10s")
    assert.equal("timeout", world:logged("warn")[1].code)
    assert.equal(0, world:api("CONSUMER.NAMES.IN", {}).total)
  end)

  it("goes on in its version while a reload comes", function()
    local host = serve(nil, 'bus.sleep("200ms")')
    world:publish "ask"
    world:advance "500ms"
    host:reload("a.lua", sim.script [[bus.subscribe("ask", function() sim.note "new" end)]], true)
    world:advance "5s"
    assert.equal("m1 m2 m3 m4 m5 end", table.concat(world:said(), " "))
  end)

  it("is not for a script that loads", function()
    assert.has_error(function()
      world:host { scripts = { ["a.lua"] = sim.script [[js.messages("IN")]] } }
    end)
  end)
end)
