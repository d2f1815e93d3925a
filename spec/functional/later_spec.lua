-- js.publish with `after` and `at`, and js.cancel, on real servers. What waits for long is spec/sim/later_spec.lua's.
local cjson = require "cjson"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("js.publish, later", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local HANDLER = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "OUT", subjects = { "out.>" } }
bus.subscribe("spec", function(msg)
%s
end)]]

  local function serve(body, options)
    options = options or {}
    options.handlers = { ["handler.lua"] = HANDLER:format(body) }
    return w:run(options)
  end

  local function ask(data) return w.client:request("spec", data or "", { timeout = 60 }):json() end

  it("is stored at its time, with its headers and its id", function()
    serve [[
      local receipt = js.publish("out.a", { n = 1 }, { after = "1s", headers = { color = "red" }, id = "mine" })
      return receipt
    ]]
    local receipt = ask()
    assert.equal("MOONBUS_LATER", receipt.stream)
    assert.equal(0, w.client:stream_info("OUT").state.messages)
    w.client:await_stored("OUT", 1)
    local message = w.client:message("OUT", 1)
    assert.equal('{"n":1}', (message.data:gsub("%s", "")))
    assert.same({ "red", "mine", "application/json" },
      { message:header "color", message:header "Nats-Msg-Id", message:header "content-type" })
    wait.eventually(function() return w.client:stream_info("MOONBUS_LATER").state.messages == 0 end)
  end)

  it("is published soon by a host that was there before anything was parked, if its own is gone", function()
    local publishes = HANDLER:gsub('"spec"', '"other"'):format 'js.publish("out.a", "x", { after = "1h" })'
    w:run { handlers = { ["other.lua"] = publishes } }
    local parking = serve [[return js.publish("out.a", "x", { after = "1s" })]]
    ask()
    parking.process:signal "KILL"
    wait.eventually(function() return w.client:stream_info("OUT").state.messages == 1 end, 20)
  end)

  it("can be cancelled, or it is too late", function()
    serve [[
      local far = js.publish("out.a", "far", { after = "1h" })
      local near = js.publish("out.b", "near", { after = "100ms" })
      bus.sleep "2s"
      local cancelled = js.cancel(far)
      local late, err = js.cancel(near)
      return { cancelled, tostring(late), err and err.code, tostring(err) }
    ]]
    local result = ask()
    assert.same({ true, "nil", "not_found" }, { result[1], result[2], result[3] })
    assert.matches("MOONBUS_LATER #%d+ is not parked any more", result[4])
    assert.equal(1, w.client:stream_info("OUT").state.messages)
    wait.eventually(function() return w.client:stream_info("MOONBUS_LATER").state.messages == 0 end)
  end)

  it("is cancelled or published, never both", function()
    serve [[
      local won = 0
      for i = 1, 40 do
        local receipt = assert(js.publish("out.a", tostring(i), { after = "60ms" }))
        bus.sleep((58 + i % 10) / 1000)
        if js.cancel(receipt) then won = won + 1 end
      end
      return { won }
    ]]
    local won = ask()[1]
    w.client:await_stored("OUT", 40 - won)
    wait.eventually(function() return w.client:stream_info("MOONBUS_LATER").state.messages == 0 end)
    assert.equal(40 - won, w.client:stream_info("OUT").state.messages)
  end)

  it("survives hosts that are killed, and is stored once", function()
    local body = [[
      for i = 1, 40 do assert(js.publish("out.a", tostring(i), { after = 1 + i / 20 })) end
      return {}
    ]]
    local hosts = { serve(body) }
    ask()
    for _ = 1, 3 do
      hosts[#hosts + 1] = w:run { handlers = { ["handler.lua"] = HANDLER:format(body) } }
      hosts[#hosts - 1]:signal "KILL"
      wait.eventually(function() return not hosts[#hosts - 1]:running() end)
    end
    w.client:await_stored("OUT", 40, 60)
    wait.eventually(function() return w.client:stream_info("MOONBUS_LATER").state.messages == 0 end, 90)
    local seen = {}
    for _, message in ipairs(w.client:messages "OUT") do
      assert.is_nil(seen[message.data])
      seen[message.data] = true
    end
    assert.equal(40, w.client:stream_info("OUT").state.messages)
  end)

  it("is refused by file and line when it is misused", function()
    serve [[
      local errors = {}
      local receipt = js.publish("out.a", "x")
      for i, use in ipairs {
        function() js.publish("out.a", "x", { after = "soon" }) end,
        function() js.publish("out.a", "x", { at = "tomorrow" }) end,
        function() js.publish("out.a", "x", { at = "2026-02-30T00:00:00Z" }) end,
        function() js.publish("out.a", "x", { at = "2026-01-01T00:00:00" }) end,
        function() js.publish("out.a", "x", { at = 0 / 0 }) end,
        function() js.publish("out.a", "x", { at = bus.now() * 1000 }) end,
        function() js.publish("out.a", "x", { at = "2999-01-01T00:00:00Z" }) end,
        function() js.publish("out.a", "x", { at = {} }) end,
        function() js.publish("out.a", "x", { at = bus.now() + 5, after = 5 }) end,
        function() js.publish("out.a", "x", { after = 5, expect = { last_sequence = 1 } }) end,
        function() js.publish_async("out.a", "x", { after = 5 }) end,
        function() js.publish("out.a", "x", { delay = 5 }) end,
        function() js.publish("out.*", "x", { after = 5 }) end,
        function() js.cancel() end, function() js.cancel("x") end, function() js.cancel(receipt) end,
        function() js.cancel { at = 5 } end,
      } do
        local ok, err = pcall(use)
        errors[i] = ok and "no error" or tostring(err)
      end
      return errors
    ]]
    local errors = ask()
    for i, wanted in ipairs {
      "soon", 'at: expected a time like "2026%-01%-01T00:00:00Z"', "2026%-02%-30", "at: expected a time",
      "at: expected a time", "not in milliseconds", "at most 10 years ahead", "a table", "exclude each other",
      "exclude each other", "js.publish_async: after: it belongs to js.publish", 'here it is "after"',
      'js.publish: "out%.%*"',
      "js.cancel: expected what js.publish returned", "got a string", "this was published at once",
      "stream, subject and seq",
    } do
      assert.matches("^handler.lua:%d+: ", errors[i])
      assert.matches(wanted, errors[i])
    end
  end)

  it("says what is wrong with a stream of that name that cannot serve", function()
    w.client:stream("MOONBUS_LATER", { "moonbus.later.>" })
    serve [[
      local receipt, err = js.publish("out.a", "x", { after = 5 })
      return { receipt == nil, tostring(err) }
    ]]
    local result = ask()
    assert.is_true(result[1])
    assert.matches('mismatch: the stream MOONBUS_LATER .* retention = "workqueue"',
      result[2])
  end)

  describe("in a stream that has schedules, and a subject for them", function()
    local SCHEDULED = HANDLER:gsub("subjects = { \"out.>\" } }",
      'subjects = { "out.>", "moonbus.at.OUT.>" }, allow_msg_schedules = true, allow_rollup_hdrs = true }')

    local function level()
      local info = w.client:request("$JS.API.INFO", ""):json()
      return info.api and info.api.level or 0
    end

    local function serve_there(body)
      return w:run { handlers = { ["handler.lua"] = SCHEDULED:format(body) } }
    end

    it("is published by the server, without a host, and can be cancelled", function()
      if level() < 2 then return end
      local host = serve_there [[
        local near = js.publish("out.a", { n = 1 }, { after = "2s", headers = { color = "red" } })
        local again = js.publish("out.b", "x", { after = "1h", id = "mine" })
        local same = js.publish("out.b", "x", { after = "1h", id = "mine" })
        return { near.stream, near.subject, same.duplicate, js.cancel(again), select(2, js.cancel(near)) == nil and
          js.publish("out.a", "second", { after = "2s" }).stream }
      ]]
      local result = ask()
      assert.same({ "OUT", true, true, "OUT" }, { result[1], result[3], result[4], result[5] })
      assert.matches("^moonbus%.at%.OUT%.%x+$", result[2])
      host:stop()
      local function published()
        for _, message in ipairs(w.client:messages "OUT") do
          if message.subject == "out.a" then return message end
        end
      end
      wait.eventually(published)
      assert.equal("second", published().data)
      wait.eventually(function() return w.client:stream_info("OUT").state.messages == 1 end)
    end)

    it("is cancelled once, and is said to be so again where messages may have a ttl", function()
      if level() < 2 then return end
      for _, ttl in ipairs { "true", "false" } do
        local stated = "allow_msg_ttl = " .. ttl .. ", %0"
        w:run { handlers = { ["handler.lua"] = SCHEDULED:gsub("allow_msg_schedules", stated):format [[
            local receipt = js.publish("out.a", "x", { after = "1h" })
            local list = { tostring(js.cancel(receipt)) }
            for i = 2, 4 do list[i] = tostring((js.cancel(receipt))) end
            return list
          ]] } }
        local again = ttl == "true" and "true" or "nil"
        assert.same({ "true", again, again, again }, ask())
        w:clear()
      end
    end)

    it("keeps the time of the first, which a duplicate's receipt has", function()
      local there = level() < 2 and serve or serve_there
      there [[
        local list = {}
        for i = 1, 2 do list[i] = js.publish("out.b", "x", { after = i .. "h", id = "mine" }).at end
        for i = 3, 4 do list[i] = js.publish("elsewhere", "x", { after = i .. "h", id = "other" }).at end
        return list
      ]]
      local at = ask()
      assert.is_true(math.abs(at[1] - at[2]) < 0.01, at[2] - at[1])
      assert.is_true(math.abs(at[3] - at[4]) < 0.01, at[4] - at[3])
    end)

    it("is published once, also when the handler runs again after its time", function()
      if level() < 2 then return end
      w:run { handlers = { ["handler.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "OUT", subjects = { "out.>", "moonbus.at.OUT.>" }, allow_msg_schedules = true,
  allow_rollup_hdrs = true }
js.consume("IN", { durable = "worker", backoff = { min = "10ms", max = "10ms" } }, function(msg)
  local at = tonumber(msg.data)
  local receipt = assert(js.publish("out.a", "x", { at = at }))
  if msg.attempt == 1 then
    bus.sleep(at + 1.5 - bus.now())
    error "once more"
  end
  assert(js.publish("out.done", { receipt.duplicate, receipt.stream }))
end)]] } }
      local ahead = os.time() + 2
      w.client:store("in.a", tostring(ahead))
      local function of(subject)
        local list = {}
        for _, message in ipairs(w.client:messages "OUT") do
          if message.subject == subject then list[#list + 1] = message.data end
        end
        return list
      end
      wait.eventually(function() return #of "out.done" == 1 end)
      assert.equal('[true,"OUT"]', of "out.done"[1])
      assert.same({ "x" }, of "out.a")
      -- One that was past from the start is published by the server now, whatever the year.
      for _, past in ipairs { "1000000000", "0", "-5" } do
        local count = #of "out.a"
        w.client:store("in.b", past)
        wait.eventually(function() return #of "out.a" > count end)
      end
      wait.eventually(function() return #of "out.done" == 4 end)
      assert.same({ "x", "x", "x", "x" }, of "out.a")
    end)

    it("is not said to be cancelled by a cancel that is tried again, if it was published", function()
      if level() < 2 then return end
      serve_there [[
        if #msg.data < 5 then return js.publish("out.a", "x", { after = msg.data }) end
        local ok, err = js.cancel(msg:json())
        return { tostring(ok), err and err.code or "no error" }
      ]]
      -- What a host leaves that dies when it has taken the schedule's place, before or after its second message; as
      -- the server fires, or not.
      for _, case in ipairs { { true, false }, { true, true }, { false, false } } do
        local fired, twice = case[1], case[2]
        local receipt = ask(fired and "1s" or "1h")
        if fired then
          wait.eventually(function()
            local _, found = pcall(w.client.message, w.client, "OUT", receipt.seq + 1)
            return type(found) == "table" and found.subject == "out.a"
          end)
        end
        for i = 1, twice and 2 or 1 do
          w.client:store(receipt.subject, "", {
            ["Nats-Rollup"] = "sub", ["Nats-Msg-Id"] = i == 1 and ("cancel:OUT:%.0f"):format(receipt.seq) or nil,
          })
        end
        assert.same(fired and { "nil", "not_found" } or { "true", "no error" }, ask(cjson.encode(receipt)))
      end
    end)

    it("is cancelled or published, never both", function()
      if level() < 2 then return end
      serve_there [[
        local won = 0
        local function race(first)
          return function()
            for i = first, first + 19 do
              local receipt = assert(js.publish("out.a", tostring(i), { at = math.floor((bus.now() + 0.3) * 10) / 10 }))
              bus.sleep(math.max(receipt.at - bus.now() + (i % 8 - 1) / 1000, 0))
              if js.cancel(receipt) then won = won + 1 end
            end
          end
        end
        bus.gather { race(1), race(21), race(41), race(61), race(81), race(101) }
        return { won }
      ]]
      local won = ask()[1]
      local function count()
        local sum = 0
        for _, message in ipairs(w.client:messages "OUT") do sum = sum + (message.subject == "out.a" and 1 or 0) end
        return sum
      end
      wait.eventually(function() return count() >= 120 - won end)
      wait.eventually(function() return w.client:stream_info("OUT").state.messages == count() end)
      assert.equal(120 - won, count())
    end)
  end)

  it("that fails keeps its input from being acknowledged", function()
    w.client:stream("MOONBUS_LATER", { "moonbus.later.>" })
    w:run [[
local js = require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" } }
js.consume("IN", { durable = "worker", backoff = { min = "10ms", max = "10ms" }, dead_letter = false }, function(msg)
  js.publish("out.a", "x", { after = 5 })
end)]]
    local host = w.hosts and w.hosts[#w.hosts]
    w.client:store("in.a", "x")
    wait.eventually(function() return w.client:consumer_info("IN", "worker").delivered.consumer_seq >= 3 end)
    assert.truthy(host == nil or host:running())
  end)
end)
