local sim = require "spec.sim.sim"

describe("A publish to a stream, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local STREAMS = [[
    js.stream { name = "IN", subjects = { "in.>" } }
    js.stream { name = "OUT", subjects = { "out.>" }, duplicate_window = "2m" }
  ]]

  -- A subscription "go" with this body.
  local function serve(body, settings)
    return world:host { settings = settings, scripts = { ["out.lua"] = sim.script(STREAMS .. ([[
      bus.subscribe("go", { timeout = "5m" }, function(msg) %s end)
    ]]):format(body)) } }
  end

  local function go(timeout) return world:request("go", "", { timeout = timeout or "5m" }).data end

  it("returns once it is stored, with its sequence", function()
    serve [[
      local first, second = js.publish("out.a", "1"), js.publish("out.a", "2")
      return first.stream .. " " .. first.seq .. " " .. second.seq
    ]]
    assert.equal("OUT 1 2", go())
    assert.same({ "1", "2" }, world:data_of "OUT")
  end)

  it("whose answer is lost is sent again under its id, and stored once", function()
    serve [[
      local stored, err = js.publish("out.a", "1")
      return stored and "stored " .. stored.seq or err.code
    ]]
    world:lose_answers(1)
    assert.equal("stored 1", go())
    assert.same({ "1" }, world:data_of "OUT")
    assert.is_true(world:now() >= 5000, "it waited for its answer")
  end)

  it("is stored after an outage in the middle, once", function()
    serve [[
      for i = 1, 20 do assert(js.publish("out.a", tostring(i))); bus.sleep "100ms" end
      return "done"
    ]]
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "1s"
    world:cut "5s"
    world:advance "1m"
    assert.equal("done", world:came()[1].data)
    local want = {}
    for i = 1, 20 do want[i] = tostring(i) end
    assert.same(want, world:data_of "OUT")
  end)

  it("is given up after its attempts when nobody answers", function()
    serve([[
      local stored, err = js.publish("out.a", "1")
      return stored and "stored" or err.code
    ]], { ["publish.attempts"] = 3, ["publish.timeout"] = "1s" })
    world:lose_answers(100)
    assert.equal("timeout", go())
    world:lose_answers(0)
    assert.same({ "1" }, world:data_of "OUT")
  end)

  it("to no stream fails at once", function()
    serve [[local _, err = js.publish("nowhere", "1"); return err.code]]
    assert.equal("no_stream", go())
    assert.is_true(world:now() < 1000)
  end)

  it("knows a duplicate within the window, and stores it again after that", function()
    serve [[
      local function put() return js.publish("out.a", "1", { id = "the-one" }) end
      local first, second = put(), put()
      bus.sleep "2m1s"
      local third = put()
      return tostring(first.duplicate) .. " " .. tostring(second.duplicate) .. " " .. third.seq
    ]]
    assert.equal("false true 2", go())
  end)

  it("of a handler that runs again is not stored again", function()
    world:host { scripts = { ["out.lua"] = sim.script(STREAMS .. [[
      js.consume("IN", { durable = "copy", dead_letter = false, backoff = { min = "1s", jitter = 0 } },
        function(msg)
          js.publish("out.a", msg.data .. "-1")
          js.publish("out.a", msg.data .. "-2")
          if msg.attempt < 3 then error "again" end
        end)
    ]]) } }
    world:publish("in.a", "x")
    world:publish("in.a", "y")
    world:advance "1m"
    local stored = world:data_of "OUT"
    table.sort(stored)
    assert.same({ "x-1", "x-2", "y-1", "y-2" }, stored)
  end)

  it("is waited for before the handler's message is acked", function()
    world:host { scripts = { ["out.lua"] = sim.script(STREAMS .. [[
      js.consume("IN", { durable = "copy", dead_letter = false }, function(msg)
        for i = 1, 5 do js.publish_async("out.a", msg.data .. i) end
        sim.note "returned"
      end)
    ]]) } }
    world:lose_answers(2)
    world:publish("in.a", "x")
    world:advance "1s"
    assert.same({ "returned" }, world:said())
    assert.equal(1, world:consumer("IN", "copy").num_ack_pending)
    world:advance "1m"
    assert.equal(0, world:consumer("IN", "copy").num_ack_pending)
    assert.equal(5, #world:messages "OUT")
  end)

  it("waits when too many are on their way, and all are stored", function()
    serve [[
      local futures = {}
      for i = 1, 2000 do futures[i] = js.publish_async("out.a", tostring(i)) end
      for i = 1, 2000 do assert(futures[i]:wait()) end
      return "all"
    ]]
    assert.equal("all", go())
    assert.equal(2000, world:stream("OUT").state.messages)
  end)

  -- More of them than the outbox has places for, of a handler that begins with its server, and goes on while that is
  -- frozen for 2 s. What it returns.
  local function crowd(body)
    serve([[
      bus.sleep "100ms"
      local futures = {}
      for i = 1, 10000 do futures[i] = js.publish_async("out.a", tostring(i)) end
    ]] .. body)
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "50ms"
    world:freeze "2s"
    world:advance "1m"
    return world:came()[1].data
  end

  it("waits in line, behind those that have waited longer, however many they are", function()
    assert.equal("all", crowd [[
      assert(futures[1]:wait())
      assert(js.publish("out.a", "late"))
      for i = 1, 10000 do assert(futures[i]:wait()) end
      return "all"
    ]])
    local want = {}
    for i = 1, 10000 do want[i] = tostring(i) end
    want[10001] = "late"
    assert.same(want, world:data_of "OUT")
  end)

  it("leaves the line when it is cancelled", function()
    assert.equal("9001", crowd [[
      bus.sleep "100ms"
      for i = 9001, 10000 do futures[i]:cancel() end
      for i = 1, 9000 do assert(futures[i]:wait()) end
      return tostring(js.publish("out.a", "the last").seq)
    ]])
  end)

  -- The same of large ones: 64 MB of them, 128, find room, the others wait before they are copied. The numbers under
  -- which those are stored that the body waits for.
  local ROOM = 128
  local function heap(body)
    serve([[
      bus.sleep "100ms"
      local data, futures, places = ("x"):rep(512 * 1024), {}, {}
      local function publish(i, text) futures[i] = js.publish_async("out.a", text or data) end
      local function stored(from, to)
        for i = from, to do places[#places + 1] = assert(futures[i]:wait()).seq end
      end
      for i = 1, 400 do publish(i) end
    ]] .. body .. " return table.concat(places, ' ')")
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "50ms"
    world:freeze "3s"
    world:advance "1m"
    local places = {}
    for place in world:came()[1].data:gmatch "%d+" do places[#places + 1] = tonumber(place) end
    return places
  end

  it("that is large waits for room in the order in which it came, a small one behind it, too", function()
    local places = heap [[
      publish(401, "small")
      stored(1, 401)
    ]]
    assert.equal(401, #places)
    -- As many as there is room for may change places; some find the connection full, and are tried again later.
    local far = 0
    for i, place in ipairs(places) do
      if math.abs(place - i) > ROOM then far = far + 1 end
    end
    assert.is_true(far < 40, far .. " were stored far from their place")
  end)

  it("of a table that waits for room has what it was when it was published", function()
    serve [[
      bus.sleep "100ms"
      local data, tables, futures = ("x"):rep(512 * 1024), {}, {}
      for i = 1, 140 do futures[i] = js.publish_async("out.a", data) end
      for i = 1, 20 do
        tables[i] = { n = i }
        futures[140 + i] = bus.spawn(js.publish, "out.t", tables[i])
      end
      bus.sleep "100ms"
      for i = 1, 20 do tables[i].n = "changed" end
      for i = 1, 160 do assert(futures[i]:wait()) end
      return "all"
    ]]
    world:publish("go", "", { reply = "_OUTSIDE.done" })
    world:advance "50ms"
    world:freeze "3s"
    world:advance "1m"
    assert.equal("all", world:came()[1].data)
    local seen = {}
    for _, message in ipairs(world:messages "OUT") do
      if message.subject == "out.t" then seen[#seen + 1] = message.data end
    end
    table.sort(seen, function(a, b) return tonumber(a:match "%d+") < tonumber(b:match "%d+") end)
    for i = 1, 20 do assert.equal(('{"n":%d}'):format(i), seen[i]) end
  end)

  it("that is large leaves the line when it is cancelled, and those behind it go on", function()
    local places = heap [[
      bus.sleep "100ms"
      publish(401, "small")
      for i = 101, 399 do futures[i]:cancel() end
      stored(1, 100)
      stored(400, 401)
    ]]
    assert.equal(102, #places)
    assert.is_true(world:stream("OUT").state.messages <= ROOM + 2)
  end)

  it("that is cancelled after it was called from the line keeps nobody there", function()
    local places = heap [[
      bus.sleep "2900ms" -- as the server goes on
      for i = 130, 300 do futures[i]:cancel() end
      stored(1, 120)
      stored(301, 400)
    ]]
    assert.equal(220, #places)
  end)

  it("that waits in line when its host stops is stored by the next one, once", function()
    local function host()
      return world:host { scripts = { ["out.lua"] = sim.script(STREAMS .. [[
        js.consume("IN", { durable = "copy", dead_letter = false }, function(msg)
          bus.sleep "100ms"
          for i = 1, 9000 do js.publish_async("out.a", msg.data .. i) end
        end)
      ]]) } }
    end
    local one = host()
    world:publish("in.a", "x")
    world:advance "50ms"
    world:freeze "10s"
    world:advance "100ms"
    one:finish "5s"
    host()
    world:advance "1m"
    assert.equal(0, world:consumer("IN", "copy").num_ack_pending)
    assert.equal(9000, world:stream("OUT").state.messages)
  end)
end)
