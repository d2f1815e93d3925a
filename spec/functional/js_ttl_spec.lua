-- A time to live of one message, and an expectation of another subject (nats-server 2.11 and newer).
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("js.publish", function()
  local w = world.new()
  local is_new
  setup(function()
    w:open()
    is_new = (w.client:api "INFO".api.level or 0) >= 1
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- Runs the body for one message of IN; what it shows, as text.
  local function shown(body)
    w.client:stream("IN", { "in.>" })
    local host = w:run(([[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      local function show(receipt, err)
        bus.log.info("got " .. (receipt and "seq " .. receipt.seq or err.code .. ": " .. err.message))
      end
      js.consume("IN", { durable = "worker", attempts = 1, dead_letter = false }, function(msg)
        %s
        bus.log.info "done"
      end)]]):format(body))
    w.client:store("in.x", "")
    host:wait_log("^done", 10)
    local list = {}
    for _, event in ipairs(host:logged "^got ") do list[#list + 1] = event.msg:match "^got (.*)" end
    return list
  end

  local function new_server(level)
    if not is_new then pending "needs nats-server 2.11" end
    return is_new and level ~= 0
  end

  it("has a message go after its ttl, and one that never goes stay beyond max_age", function()
    if not new_server() then return end
    w.client:stream("OUT", { "out.>" }, { allow_msg_ttl = true, max_age = 3e9, duplicate_window = 1e9 })
    assert.same({ "seq 1", "seq 2", "seq 3" }, shown [[
      show(js.publish("out.a", "1", { ttl = "1s" }))
      show(js.publish("out.b", "2", { ttl = "never" }))
      show(js.publish_async("out.c", "3", { ttl = 1.2 }):wait())]])
    wait.eventually(function() return w.client:stream_info("OUT").state.messages == 1 end, 15)
    local left = w.client:await_stored("OUT", 1)[1]
    assert.same({ "2", "never" }, { left.data, left:header "Nats-TTL" })
  end)

  it("counts a ttl in whole seconds, none less than stated", function()
    if not new_server() then return end
    w.client:stream("OUT", { "out.>" }, { allow_msg_ttl = true })
    shown [[
      js.publish("out.a", "1", { ttl = "59500ms" })
      js.publish("out.a", "2", { ttl = 3600 })]]
    local ttls = {}
    for _, message in ipairs(w.client:await_stored("OUT", 2)) do ttls[#ttls + 1] = message:header "Nats-TTL" end
    assert.same({ "60s", "3600s" }, ttls)
  end)

  it("says what a stream lacks that takes no ttl", function()
    if not new_server() then return end
    w.client:stream("OUT", { "out.>" })
    assert.matches('^api_error: "out.a": .*: a ttl needs a stream with allow_msg_ttl = true',
      shown [[show(js.publish("out.a", "1", { ttl = "1m" }))]][1])
  end)

  it("expects the last sequence of another subject, or of a pattern", function()
    if not new_server() then return end
    w.client:stream("OUT", { "out.>" })
    w.client:store("out.a", "1")
    local list = shown [[
      show(js.publish("out.b", "", { expect = { last_subject_sequence = 0, subject = "out.a" } }))
      show(js.publish("out.b", "", { expect = { last_subject_sequence = 1, subject = "out.a" } }))
      show(js.publish("out.c", "", { expect = { last_subject_sequence = 2, subject = "out.*" } }))]]
    assert.matches("^wrong_sequence", list[1])
    assert.same({ "seq 2", "seq 3" }, { list[2], list[3] })
  end)

  it("refuses what an old server would leave out", function()
    if is_new then return pending "needs a server before 2.11" end
    w.client:stream("OUT", { "out.>" })
    local list = shown [[
      show(js.publish("out.b", "", { ttl = "1m" }))
      show(js.publish("out.b", "", { expect = { last_subject_sequence = 0, subject = "out.a" } }))
      show(js.publish("out.b", "", { ttl = "1m", after = "1h" }))
      show(js.publish("out.b", "", { ttl = "1m", at = 1 }))]]
    assert.equal("unsupported: ttl needs nats-server 2.11 or newer (JetStream API level 1); this server has level 0",
      list[1])
    assert.matches("^unsupported: expect.subject needs nats%-server 2%.11", list[2])
    assert.equal(list[1], list[3])
    assert.equal(list[1], list[4])
    assert.equal(0, w.client:stream_info("OUT").state.messages)
    assert.is_table(w.client:api("STREAM.INFO.MOONBUS_LATER").error)
  end)
end)
