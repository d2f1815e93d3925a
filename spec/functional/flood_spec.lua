-- While one script publishes more than the connection takes, it alone waits behind that: it is the
-- first to be refused, its own answers get through, and what others send finds room and its turn.
local proxy = require "spec.support.proxy"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- Stopped by its cpu limit, not by its own judgement; and nobody looks at what bus.publish returns.
local ENDLESS = [[
local bus = require "moonbus"
bus.script { cpu = "1s", jit = false }
bus.subscribe("flood", { timeout = "10s" }, function()
  while true do bus.publish("out.flood", ("x"):rep(100)) end
end)
]]

local OTHER = [[
local bus = require "moonbus"
bus.subscribe("other", function(msg)
  bus.publish("out.other", msg.data)
  return msg.data
end)
]]

-- Begins when the spec has taken the server away, or nearly, and ends when it is refused.
local BOUNDED = [[
local bus = require "moonbus"
bus.script { cpu = "1m" }
local state = bus.shared "state"
bus.subscribe("flood", { timeout = "1m" }, function()
  bus.log.info "about to flood"
  bus.sleep "300ms"
  local count, pad = 0, ("x"):rep(16384)
  while true do
    local ok, err = bus.publish("out.flood", count + 1 .. " " .. pad)
    if not ok then
      bus.log.info("refused: " .. err.code .. ": " .. err.message)
      break
    end
    count = count + 1
  end
  for _ = 1, 100 do bus.publish("more.flood", pad) end
  state:set("full", true)
  return tostring(count)
end)
]]

local WAITS = [[
local bus = require "moonbus"
local state = bus.shared "state"
bus.subscribe("other", { timeout = "1m" }, function()
  repeat bus.sleep "10ms" until state:get "full"
  for number = 1, 1000 do
    assert(bus.publish("out.other", tostring(number)))
  end
  bus.log.info "the other is done"
  return "1000"
end)
]]

describe("while a script floods the connection", function()
  local w = world.new()
  local front
  setup(function()
    w:open()
    front = proxy.start(w.server)
  end)
  after_each(function()
    front:pass()
    w:clear()
  end)
  teardown(function()
    front:close()
    w:close()
  end)

  -- Pings wait behind what floods.
  local function run(flood, other)
    return w:run { handlers = { ["flood.lua"] = flood, ["other.lua"] = other }, server = front,
      config = 'return { ping_interval = "1m" }' }
  end

  -- Of events of the flooding script, those that say that too much of it waits.
  local function complaints(host)
    return host:logged { script = "flood.lua", level = "warn", msg = "of this script wait" }
  end

  it("each request to another is answered, in order, and its own is, too", function()
    local host = run(ENDLESS, OTHER)
    local own, out = w.client:subscribe "own", w.client:subscribe "out.other"
    w.client:publish("flood", "", nil, "own")
    local count, began, answer = 0, wait.now(), nil
    while not answer do
      count = count + 1
      local reply, why = w.client:request("other", tostring(count))
      assert.equal(tostring(count), reply and reply.data, why)
      answer = own:next(0.001)
      assert.is_true(wait.now() - began < wait.within(10), "the flood has no answer")
    end
    assert.equal("500", answer:header "Nats-Service-Error-Code")
    for index, message in ipairs(out:take(count)) do
      assert.equal(tostring(index), message.data)
    end
    assert.same({}, host:logged { script = "other.lua", level = "error" })
    assert.is_true(#complaints(host) <= 1)
  end)

  it("others find room and their turn, and all that was taken is written, in order", function()
    local host = run(BOUNDED, WAITS)
    local own, out = w.client:subscribe "own", w.client:subscribe "out.*"
    w.client:publish("other", "", nil, "own")
    w.client:publish("flood", "", nil, "own")
    host:wait_log "about to flood"
    front:trickle()
    local messages = {}
    -- As they come: a client that leaves them to gather is a slow one.
    local function gather_until(condition)
      wait.eventually(function()
        for _, message in ipairs(out:arrived()) do messages[#messages + 1] = message end
        return condition()
      end)
    end
    gather_until(function() return #host:logged "the other is done" == 1 and #host:logged "refused: " == 1 end)
    front:pass()
    local waiting = host:logged("refused: ")[1].msg:match("full: (%d+) messages %(%d+ MB%) of this script wait to be "
      .. "written to 127%.0%.0%.1:%d+: publish less at a time, or by js%.publish, which waits")
    assert.is_truthy(waiting, host:logged("refused: ")[1].msg)

    local taken = 0
    for _, reply in ipairs(own:take(2, 10)) do
      taken = math.max(taken, tonumber(reply.data))
    end
    gather_until(function() return #messages >= taken + 1000 end)
    local flood, other, flood_then = 0, 0, nil
    for _, message in ipairs(messages) do
      local number = tonumber(message.data:match "^%d+")
      if message.subject == "out.flood" then
        flood = flood + 1
        assert.equal(flood, number)
      else
        other = other + 1
        assert.equal(other, number)
        flood_then = flood
      end
    end
    assert.same({ taken, 1000 }, { flood, other })
    -- The others came before the better part of what had been there for long.
    assert.is_true(taken - flood_then > waiting / 2, ("%d of %d, %d waited"):format(flood_then, taken, waiting))
    -- It goes on being refused, which the log says once.
    assert.equal(1, #complaints(host))
  end)

  it("a reload of another does not wait for its end", function()
    local host = run(ENDLESS:gsub("1s", "3s", 1), OTHER)
    w.client:publish("flood", "")
    w.client:request("other", "")
    temp.write(host.folder, "handlers/other.lua", OTHER .. "-- new")
    host:signal "HUP"
    local event = host:wait_log("other%.lua: generation 2 live", 10)
    -- What it subscribes to is flushed to the server first, which would take its whole time of 1 s.
    local took = tonumber(event.msg:match "live in (%d+) ms")
    assert.is_true(took < 1000 * wait.within(0.9, 0), took .. " ms")
  end)

  it("so does one that was refused when it was added, and came by a reload", function()
    local consumer = [[
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in" }, storage = "memory" }
js.consume("IN", { durable = "taken" }, function() end)
]]
    local host = run(nil, OTHER .. consumer)
    temp.write(host.folder, "handlers/flood.lua", BOUNDED .. consumer)
    host:signal "HUP"
    host:wait_log({ level = "error", msg = "this durable has a handler in another script already" }, 10)
    temp.write(host.folder, "handlers/other.lua", OTHER)
    host:signal "HUP"
    host:wait_log("flood%.lua: generation %d+ live", 10)
    w.client:publish("flood", "")
    host:wait_log "about to flood"
    front:trickle()
    local refused = host:wait_log "refused: "
    assert.matches("of this script wait", refused.msg)
  end)

  it("while there is no connection, others find room", function()
    local host = run(BOUNDED, WAITS)
    w.client:publish("other", "")
    w.client:publish("flood", "")
    host:wait_log "about to flood"
    front:down()
    host:wait_log("the other is done", 10)
    local refused = host:wait_log "refused: "
    assert.matches("disconnected: no connection to .+, and %d+ messages %(4%d MB%) of this script wait",
      refused.msg)
    assert.same({}, complaints(host))
  end)
end)
