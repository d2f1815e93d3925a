-- js.messages: what lies in a stream, read in order.
local proxy = require "spec.support.proxy"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local HANDLER = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
bus.subscribe("read", { timeout = "60s" }, function(msg)
  local asked = msg:json()
  if asked.since then asked.options.from = { time = bus.now() - asked.since } end
  local messages, err = js.messages(asked.stream or "IN", asked.options)
  if not messages then return { code = err.code, message = err.message } end
  local sequences, first = {}, nil
  for found in messages do
    sequences[#sequences + 1] = found.sequence
    first = first or { subject = found.subject, data = found.data, stream = found.stream, text = tostring(found),
      header = found.headers["x-one"], timestamp = found.timestamp, kind = tostring(messages) }
    if asked.pause then bus.sleep(asked.pause) end
    if #sequences == asked.leave then break end
  end
  return { sequences = bus.json.array(sequences), first = first, count = messages.count, ended = messages.ended }
end)
bus.subscribe("misuse", function(msg)
  local what = {
    stream = function() js.messages("a.b") end,
    from = function() js.messages("IN", { from = "yesterday" }) end,
    zero = function() js.messages("IN", { from = 0 }) end,
    both = function() js.messages("IN", { from = { sequence = 1, time = 2 } }) end,
    date = function() js.messages("IN", { from = "2026-13-01T00:00:00Z" }) end,
    day = function() js.messages("IN", { to = "2026-02-31T00:00:00Z" }) end,
    day_of = function() js.messages("IN", { from = { time = "2026-02-31T00:00:00Z" } }) end,
    hint = function() js.messages("IN", { limit = 1 }) end,
    filter = function() js.messages("IN", { filter = "a b" }) end,
    field = function() return js.messages("IN").cuont end,
    dot = function() js.messages("IN").close() end,
    ack = function() js.messages("IN")():ack() end,
  }
  local _, err = pcall(what[msg.data])
  return tostring(err)
end)
]]

describe("js.messages", function()
  local w = world.new()
  local front
  setup(function()
    w:open()
    front = proxy.start(w.server)
  end)
  before_each(function() w.client:stream("IN", { "in.>" }) end)
  after_each(function()
    front:pass()
    w:clear()
  end)
  teardown(function()
    front:close()
    w:close()
  end)

  local function store(many, headers)
    for i = 1, many do w.client:store("in." .. i % 3, "m" .. i, headers) end
  end

  local function read(asked)
    asked.options = asked.options or { max = 1000000 }
    local reply = w.client:request("read", require "cjson".encode(asked), { timeout = 60 })
    assert.is_nil(reply:header "Nats-Service-Error", reply:header "Nats-Service-Error")
    return reply:json()
  end

  local function consumers()
    return w.client:stream_info("IN").state.consumer_count
  end

  it("gives messages with all that they have", function()
    w.client:store("in.a", "data", { ["X-One"] = "eins" })
    w:run(HANDLER)
    local got = read {}
    assert.same({ 1 }, got.sequences)
    assert.equal("in.a", got.first.subject)
    assert.equal("data", got.first.data)
    assert.equal("eins", got.first.header)
    assert.equal("IN", got.first.stream)
    assert.equal('message "in.a" (IN #1)', got.first.text)
    assert.is_true(math.abs(got.first.timestamp - os.time()) < 60)
    assert.equal("messages (going on)", got.first.kind)
    assert.equal("end", got.ended)
    assert.equal(1, got.count)
  end)

  it("keeps to its bounds, by sequence, subject and time", function()
    store(9)
    w:run(HANDLER)
    assert.same({ 4, 5 }, read { options = { from = 4, to = 5 } }.sequences)
    assert.same({ 2, 5 }, read { options = { filter = "in.2", max = 2 } }.sequences)
    assert.equal(9, #read { since = 60 , options = {} }.sequences)
    assert.same({}, read { since = -60, options = {} }.sequences)
    assert.same({}, read { options = { to = "2020-01-01T00:00:00+02:00" } }.sequences)
    assert.equal(9, #read { options = { from = "2020-01-01T00:00:00Z" } }.sequences)
    for _, far in ipairs { "9999-12-31T00:00:00Z", "2300-01-01T00:00:00Z" } do
      assert.equal(9, #read { options = { to = far } }.sequences, far)
      assert.same({}, read { options = { from = far } }.sequences, far)
    end
    for _, early in ipairs { "0000-01-01T00:00:00Z", "1600-01-01T00:00:00Z", "1970-01-01T00:00:00Z" } do
      assert.same({}, read { options = { to = early } }.sequences, early)
      assert.equal(9, #read { options = { from = early } }.sequences, early)
    end
    assert.same({}, read { options = { to = { time = 0 } } }.sequences)
  end)

  it("reads 20,000 messages, and leaves no consumer behind", function()
    for _ = 1, 200 do
      for _ = 1, 100 do w.client:publish("in.x", "m") end
      w.client:flush()
    end
    wait.eventually(function() return w.client:stream_info("IN").state.messages == 20000 end, 10)
    w:run(HANDLER)
    local got = read {}
    assert.equal(20000, #got.sequences)
    for i, sequence in ipairs(got.sequences) do assert.equal(i, sequence) end
    assert.equal(3, #read { leave = 3 }.sequences)
    wait.eventually(function() return consumers() == 0 end, 5)
  end)

  it("goes on where it was over cut connections", function()
    w:clear()
    w.client:stream("IN", { "in.>" }, { storage = "file" })
    store(600)
    local host = w:run { handlers = { ["a.lua"] = HANDLER }, server = front, level = "debug" }
    local inbox = "answers.here"
    local answers = w.client:subscribe(inbox)
    w.client:publish("read", require "cjson".encode { pause = 0.01, options = { max = 100000 } }, nil, inbox)
    w.client:flush()
    for _ = 1, 3 do
      wait.eventually(function() return consumers() > 0 end, 5)
      local before = #host:logged "connection back"
      front:reset()
      wait.eventually(function() return #host:logged "connection back" > before end, 10)
    end
    local reply = answers:next(60)
    local got = reply:json()
    assert.equal(600, #got.sequences)
    for i, sequence in ipairs(got.sequences) do assert.equal(i, sequence) end
  end)

  it("has nobody else wait for a server that does not answer, and ends when its time is over", function()
    local host = w:run { server = front, handlers = { ["reads.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
bus.subscribe("read", { timeout = "10m" }, function()
  local loops = {}
  for i = 1, 6 do
    loops[i] = function()
      local messages, err
      repeat
        bus.log.info "reads"
        messages, err = js.messages("IN", { timeout = i == 6 and "3s" or "5m" })
        if messages then for _ in messages do end end
        bus.log.info(messages and "has read" or "could not: " .. err.message)
      until not messages
    end
  end
  bus.gather(loops)
end)]] } }
    w.client:publish("read", "")
    host:wait_log "^has read"
    front:swallow()
    wait.eventually(function() return #host:logged "^reads$" - #host:logged "^has read" == 6 end)
    temp.write(host.folder, "handlers/other.lua", [[
local bus = require "moonbus"
bus.on("start", function() bus.log.info "other works" end)]])
    host:signal "HUP"
    host:wait_log("^other works", 10)
    host:wait_log("^could not: ", 10)
  end)

  it("reads a work queue, and takes nothing from its workers", function()
    w.client:stream("WORK", { "work.>" }, { retention = "workqueue" })
    w.client:consumer("WORK", "worker", { ack_policy = "explicit" })
    for i = 1, 5 do w.client:store("work." .. i % 2, "m" .. i) end
    w:run(HANDLER)
    assert.same({ 1, 2, 3, 4, 5 }, read { stream = "WORK" }.sequences)
    assert.same({ 2, 4 }, read { stream = "WORK", options = { filter = "work.0", from = 2 } }.sequences)
    assert.same({ 3, 4 }, read { stream = "WORK", options = { from = 3, max = 2 } }.sequences)
    local got = read { stream = "WORK", options = { to = 4 } }
    assert.same({ 1, 2, 3, 4 }, got.sequences)
    assert.equal("end", got.ended)
    assert.equal(5, w.client:stream_info("WORK").state.messages)
    assert.equal(1, w.client:stream_info("WORK").state.consumer_count)
  end)

  it("gives nil and no_stream when there is none", function()
    w:run(HANDLER)
    local got = read { stream = "NONE" }
    assert.equal("no_stream", got.code)
    assert.equal('there is no stream "NONE"', got.message)
  end)

  it("reads by a list of filters, also on a server that knows no lists", function()
    store(7)
    w:run(HANDLER)
    assert.same({ 1, 2, 4, 5, 7 }, read { options = { filter = { "in.2", "in.1" } } }.sequences)
    assert.same({ 5, 7 }, read { options = { filter = { "in.2", "in.1" }, from = 5 } }.sequences)
    assert.same({ 1 }, read { options = { filter = { "in.1", "in.2" }, max = 1 } }.sequences)
  end)

  it("names what is wrong with a call", function()
    store(1)
    w:run(HANDLER)
    local function says(what) return w.client:request("misuse", what).data end
    assert.matches('js.messages: "a.b" is not a valid stream', says "stream", 1, true)
    assert.matches('js.messages: from: expected a sequence', says "from", 1, true)
    assert.matches("js.messages: from: expected an integer from 1", says "zero", 1, true)
    assert.matches("js.messages: from: expected a sequence", says "both", 1, true)
    assert.matches("js.messages: from: expected a sequence", says "date", 1, true)
    assert.matches("js.messages: to: expected a sequence", says "day", 1, true)
    assert.matches("time: expected a time like", says "day_of", 1, true)
    assert.matches('js.messages: unknown option "limit": here it is "max"', says "hint", 1, true)
    assert.matches("js.messages: filter: ", says "filter", 1, true)
    assert.matches('messages.cuont: there is no such field: did you mean "count"?', says "field", 1, true)
    assert.matches("messages:close: call it with a colon", says "dot", 1, true)
    assert.matches("msg:ack: this message was read by js.get or js.messages", says "ack", 1, true)
  end)
end)
