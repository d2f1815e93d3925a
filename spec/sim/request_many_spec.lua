local sim = require "spec.sim.sim"

-- Three services that answer "who", after 100, 200 and 300 ms.
local ANSWERS = [[
for i = 1, 3 do
  bus.subscribe("who", function() bus.sleep(i / 10); return "s" .. i end)
end
]]

-- Notes what came, and how it ended.
local READ = [[
local function read(replies)
  local names = {}
  for msg in replies do names[#names + 1] = msg.data end
  sim.note(("%s %s %s %d"):format(table.concat(names, ","), replies.ended,
    replies.error and replies.error.code or "-", replies.count))
end
]]

describe("bus.request_many, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function ask(code, answers)
    world:host { scripts = {
      ["ask.lua"] = sim.script(READ .. [[bus.subscribe("ask", { timeout = "5m" }, function(msg) ]] .. code .. " end)"),
      ["answer.lua"] = sim.script(answers or ANSWERS),
    } }
    world:publish "ask"
    world:settle()
  end

  -- What a stranger sends to the inbox, which the answering script has noted.
  local EXPOSED = [[bus.subscribe("who", { reply = false }, function(msg) sim.note(msg.reply) end)]]

  it("gives each reply, and ends when its time is over", function()
    ask [[read(bus.request_many("who", "", { timeout = "1s" }))]]
    world:advance "1m"
    assert.same({ "1000 s1,s2,s3 timeout - 3" }, world:said { at = true })
  end)

  it("takes request_timeout where no timeout is stated", function()
    ask [[read(bus.request_many "who")]]
    world:advance "1m"
    assert.same({ "5000 s1,s2,s3 timeout - 3" }, world:said { at = true })
  end)

  it("ends with the last of `max`, without waiting further", function()
    ask [[read(bus.request_many("who", "", { max = 2 }))]]
    world:advance "1m"
    assert.same({ "200 s1,s2 max - 2" }, world:said { at = true })
  end)

  it("ends `stall` after the last reply, whose first may take as long as the whole", function()
    ask([[read(bus.request_many("who", "", { stall = "150ms" }))]], [[
      for _, ms in ipairs { 1000, 1100, 1200, 1500 } do
        bus.subscribe("who", function() bus.sleep(ms / 1000); return tostring(ms) end)
      end]])
    world:advance "1m"
    local said = world:said { at = true }[1]
    assert.matches("^135%d 1000,1100,1200 stall %- 3$", said)
  end)

  it("never waits longer than its timeout, however long the stall", function()
    ask [[read(bus.request_many("who", "", { stall = "10s", timeout = "1s" }))]]
    world:advance "1m"
    assert.same({ "1000 s1,s2,s3 timeout - 3" }, world:said { at = true })
  end)

  it("ends with an empty reply as its sentinel, which is not given", function()
    ask([[read(bus.request_many("who", "", { sentinel = true }))]], [[
      bus.subscribe("who", function(msg)
        for i = 1, 3 do msg:respond(tostring(i)) end
        msg:respond("")
        msg:respond("late")
      end)]])
    world:advance "1m"
    assert.same({ "0 1,2,3 sentinel - 3" }, world:said { at = true })
  end)

  it("does not take an error of a service for the sentinel", function()
    ask([[
      local replies = bus.request_many("who", "", { sentinel = true })
      for msg, err in replies do sim.note(("%q %s %s"):format(msg.data, err and err.code, err and err.status)) end
      sim.note(replies.ended)]], [[
      bus.subscribe("who", function(msg) msg:reject "no" end)
      bus.subscribe("who", function(msg) bus.sleep "1s" return "" end)]])
    world:advance "1m"
    assert.same({ '"" service_error 400', "sentinel" }, world:said())
  end)

  it("ends where a function says so of a reply, which is not given", function()
    ask [[read(bus.request_many("who", "", { sentinel = function(msg) return msg.data == "s2" end }))]]
    world:advance "1m"
    assert.same({ "200 s1 sentinel - 1" }, world:said { at = true })
  end)

  it("to nobody gives nothing at once, and the error on the first call and in `error`", function()
    ask [[
      local replies = bus.request_many("nobody")
      local msg, err = replies()
      sim.note(("%s %s %s %s"):format(msg, err.code, replies.error == err, replies.ended))
      sim.note(tostring(select("#", replies())) .. tostring(replies()))]]
    world:advance "1m"
    assert.same({ "0 nil no_responders true error", "0 2nil" }, world:said { at = true })
  end)

  it("that nobody answered has the error `timeout`", function()
    ask([[read(bus.request_many("who", "", { timeout = "1s" }))]], EXPOSED)
    world:advance "1m"
    assert.equal("1000  timeout timeout 0", world:said { at = true }[2])
  end)

  it("gives what came in time to a handler that takes it late", function()
    ask [[
      local replies = bus.request_many("who", "", { timeout = "250ms" })
      bus.sleep "10s"
      read(replies)]]
    world:advance "1m"
    assert.same({ "10000 s1,s2 timeout - 2" }, world:said { at = true })
  end)

  it("hears no more once it is left, by close or by its handler's end", function()
    for _, leave in ipairs { [[replies() replies:close() sim.note(replies.ended) bus.sleep "5s"]],
      [[kept = replies replies()]] } do
      world:close()
      world = sim.new()
      ask("local replies = bus.request_many 'who' " .. leave, EXPOSED)
      local inbox = world:said()[1]
      world:publish(inbox, "one")
      world:settle()
      for _ = 1, 100 do world:publish(inbox, ("x"):rep(1000)) end
      world:settle()
      world:advance "1m"
    end
  end)

  it("that is broken off is free when it is collected, while the handler goes on", function()
    local host = world:host {
      scripts = { ["ask.lua"] = sim.script [[
        bus.subscribe("ask", { timeout = "5m" }, function()
          for i = 1, 100 do
            for _ in bus.request_many("who", tostring(i), { timeout = "4m" }) do break end
          end
          collectgarbage() collectgarbage()
          bus.sleep "1m"
        end)
        bus.subscribe("who", function(msg) return msg.data end)]] },
      settings = { ["telemetry.endpoint"] = "http://nobody" },
    }
    world:publish "ask"
    world:advance "10s"
    local ended = 0
    for _, span in ipairs(host:spans()) do
      if span.name == "request who" and not span.error then ended = ended + 1 end
    end
    assert.is_true(ended >= 99, ended)
    world:advance "2m"
  end)

  it("raises in a handler that is cancelled, and nothing is left of it", function()
    world:host { scripts = {
      ["ask.lua"] = sim.script [[
        bus.subscribe("ask", { timeout = "2s" }, function()
          local ok, err = pcall(function() for _ in bus.request_many("who", "", { timeout = "1m" }) do end end)
          sim.note(tostring(ok) .. " " .. err.code)
          error(err, 0)
        end)]],
      ["answer.lua"] = sim.script(EXPOSED),
    } }
    world:publish "ask"
    world:settle()
    world:advance "1m"
    assert.equal("2000 false cancelled", world:said { at = true }[2])
  end)

  it("ends with its handler, whoever still has it", function()
    ask([[
      if kept then
        local ok, err = pcall(kept)
        sim.note(tostring(ok) .. tostring(err))
        sim.note(tostring(kept.ended))
      else
        kept = bus.request_many("who", "", { timeout = "1m" })
      end]], EXPOSED)
    world:publish "ask"
    world:settle()
    world:advance "2m"
    local said = world:said()
    assert.same({ "truenil", "left" }, { said[2], said[3] })
  end)

  it("is read by the handler that asked alone", function()
    world:host { scripts = { ["ask.lua"] = sim.script [[
      local kept
      bus.subscribe("ask", function()
        if not kept then
          kept = bus.request_many("who", "", { timeout = "10s" })
          kept()
          return
        end
        sim.note(select(2, pcall(kept)))
      end)
      bus.subscribe("who", { reply = false }, function() end)]] }, settings = { workers = 1 } }
    world:publish "ask"
    world:settle()
    world:publish "ask"
    world:settle()
    world:advance "1m"
    assert.matches("^ask%.lua:8: bus%.request_many: these replies are another handler's$", world:said()[1])
  end)

  it("may be read by what the handler spawns, one at a time", function()
    ask [[
      local replies = bus.request_many("who", "", { timeout = "1s" })
      local first = bus.spawn(function() return replies().data end)
      local second = bus.spawn(function() return select(2, pcall(replies)) end)
      sim.note(first:wait())
      sim.note(second:wait())
      local third, fourth = bus.spawn(function() return replies().data end), nil
      sim.note(third:wait())]]
    world:advance "1m"
    local said = world:said()
    assert.equal("s1", said[1])
    assert.matches("another coroutine waits", said[2])
    assert.equal("s2", said[3])
  end)

  it("goes on over a reconnect", function()
    ask([[read(bus.request_many("who", "", { timeout = "30s" }))]], EXPOSED)
    local inbox = world:said()[1]
    world:publish(inbox, "before")
    world:settle()
    world:cut "2s"
    world:advance "10s"
    world:publish(inbox, "after")
    world:advance "1m"
    assert.equal("before,after timeout - 2", world:said()[2])
  end)

  it("drops what comes faster than it is taken, says how much, and stays within its bound", function()
    ask([[
      local replies = bus.request_many("who", "", { timeout = "10s" })
      bus.sleep "5s"
      local count, bytes = 0, 0
      for msg in replies do count, bytes = count + 1, bytes + #msg.data end
      sim.note(("%d %d %s"):format(count, replies.dropped, bytes <= 16 * 1024 * 1024))]], EXPOSED)
    local inbox = world:said()[1]
    local big = ("x"):rep(900000)
    for _ = 1, 50 do world:publish(inbox, big) end
    world:advance "1m"
    local count, dropped, within = world:said()[2]:match "^(%d+) (%d+) (%a+)$"
    assert.equal(50, count + dropped)
    assert.is_true(tonumber(dropped) > 20)
    assert.equal("true", within)
    assert.matches("bus.request_many: %d+ replies to \"who\" were dropped", world:logged "warn"[1].msg)
  end)

  it("whose last reply comes in the moment of its timeout ends once, with it or without", function()
    local ends = {}
    for seed = 1, 40 do
      local one = sim.new { seed = seed, yields = 300 }
      one:host { scripts = { ["a.lua"] = sim.script(READ .. [[
        bus.subscribe("ask", { timeout = "5m" }, function()
          read(bus.request_many("answer", "", { timeout = "1s", stall = "500ms", max = 2 }))
        end)
        bus.subscribe("answer", { reply = false }, function(msg) sim.note(msg.reply) end)
      ]]) } }
      one:publish "ask"
      one:advance "1ms" -- a writer may let a burst gather
      local inbox = one:said()[1]
      one:publish(inbox, "1", { after = "499ms" })
      one:publish(inbox, "2", { after = "999ms" })
      one:advance "1m"
      local said = one:said()
      assert.equal(2, #said, "seed " .. seed)
      ends[said[2]] = (ends[said[2]] or 0) + 1
      one:close()
    end
    local kinds = {}
    for text, count in pairs(ends) do kinds[#kinds + 1] = text .. " x" .. count end
    assert.is_true(#kinds >= 2, table.concat(kinds, "; "))
    for text in pairs(ends) do
      assert.is_truthy(text:find "^1 stall" or text:find "^1 timeout" or text:find "^1,2 max"
        or text:find "^1,2 stall" or text:find "^1,2 timeout", text)
    end
  end)
end)
