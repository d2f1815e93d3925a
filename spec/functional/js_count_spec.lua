-- Counters of a stream with allow_msg_counter (nats-server 2.12 and newer).
local world = require "spec.support.world"

describe("js.count", function()
  local w = world.new()
  local has_counters
  setup(function()
    w:open()
    has_counters = (w.client:api "INFO".api.level or 0) >= 2
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local HEAD = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
local function show(...)
  local value, err = ...
  bus.log.info("got " .. (value == nil and err.code .. ": " .. err.message or type(value) .. " " .. tostring(value)))
  return ...
end
]]

  -- A handler of IN that runs the body.
  local function run(body, options)
    w.client:stream("IN", { "in.>" })
    return w:run(HEAD .. ([[
js.consume("IN", { durable = "worker", backoff = { min = "50ms" }%s }, function(msg)
%s
end)]]):format(options or "", body))
  end

  local function got(host, count) return host:wait_log("^got ", 10, count).msg:match "^got (.*)" end

  describe("on a server that has counters", function()
    local function counters()
      if not has_counters then return pending "needs nats-server 2.12" end
      w.client:stream("HITS", { "hits.>" }, { allow_msg_counter = true })
      return true
    end

    it("adds, and gives the sum", function()
      if not counters() then return end
      local host = run [[
        show(js.count("hits.a", 5))
        show(js.count("hits.a"))
        show(js.count("hits.a", -10))
        show(js.count("hits.b", 0))]]
      w.client:store("in.x", "")
      got(host, 4)
      local sums = {}
      for _, event in ipairs(host:logged "^got ") do sums[#sums + 1] = event.msg end
      assert.same({ "got number 5", "got number 6", "got number -4", "got number 0" }, sums)
      w.client:await_settled("IN", "worker", 5)
    end)

    it("keeps the digits of a sum that no number holds exactly", function()
      if not counters() then return end
      local host = run [[
        show(js.count("hits.a", 2 ^ 53))
        show(js.count("hits.a", "-9007199254740993"))
        show(js.count("hits.a", "123456789012345678901234567890"))]]
      w.client:store("in.x", "")
      assert.equal("string 123456789012345678901234567889", got(host, 3))
      assert.equal("string 9007199254740992", got(host, 1))
      assert.equal("number -1", got(host, 2))
    end)

    it("counts once for each input, and gives the sum of that time to a later run", function()
      if not counters() then return end
      local host = run [[
        show(js.count("hits.a", 5))
        if msg.attempt == 1 then
          js.count("hits.a", 100, { id = "another" })
          error "again"
        end]]
      w.client:store("in.x", "")
      assert.equal("number 5", got(host, 1))
      assert.equal("number 5", got(host, 2))
      w.client:await_settled("IN", "worker", 5)
      local ack = w.client:request("hits.a", "", { headers = { ["Nats-Incr"] = "+0" } })
      assert.equal("105", ack.data:match '"val":"(%d+)"')
    end)

    it("gives the present sum to a later run when the message of that time is gone", function()
      if not counters() then return end
      w.client:stream("ONE", { "one.>" }, { allow_msg_counter = true, max_msgs_per_subject = 1 })
      local host = run [[
        show(js.count("one.a", 5))
        if msg.attempt == 1 then
          js.count("one.a", 100, { id = "another" })
          error "again"
        end]]
      w.client:store("in.x", "")
      assert.equal("number 105", got(host, 2))
    end)

    it("says what a stream without counters lacks, and the input comes again", function()
      if not counters() then return end
      w.client:stream("PLAIN", { "plain.>" })
      local host = run([[ show(js.count("plain.a", 1)) ]], ", attempts = 2, dead_letter = false")
      w.client:store("in.x", "")
      assert.matches('^api_error: "plain.a": .*allow_msg_counter = true', got(host, 2))
      assert.equal(0, w.client:stream_info("PLAIN").state.messages)
    end)

    it("js.counter reads the sum, and stores nothing", function()
      if not counters() then return end
      w.client:stream("PLAIN", { "plain.>" })
      w.client:store("plain.a", "x")
      local host = run [[
        show(js.counter "hits.a")
        js.count("hits.a", 7)
        show(js.counter("hits.a"))
        show(js.counter("hits.a", { stream = "HITS" }))
        show(js.counter "nowhere.a")
        show(js.counter "plain.a")]]
      w.client:store("in.x", "")
      got(host, 5)
      local shown = {}
      for _, event in ipairs(host:logged "^got ") do shown[#shown + 1] = event.msg:match "^got ([^:]*)" end
      assert.same({ "number 0", "number 7", "number 7", "no_stream", "invalid" }, shown)
      assert.equal(1, w.client:stream_info("HITS").state.messages)
    end)
  end)

  it("is refused by a server that has none, which nobody counts as done", function()
    if has_counters then return pending "needs a server before 2.12" end
    w.client:stream("HITS", { "hits.>" })
    local host = run([[ show(js.count("hits.a", 1)) ]], ", attempts = 2, dead_letter = false")
    w.client:store("in.x", "")
    assert.equal("unsupported: js.count needs nats-server 2.12 or newer (JetStream API level 2); this server has " ..
      "level 0", got(host, 2))
    assert.equal(0, w.client:stream_info("HITS").state.messages)
  end)
end)
