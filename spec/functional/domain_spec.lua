-- JetStream that is elsewhere: over a leaf node in a domain of its own, or in another account, which exports it.
local server = require "spec.support.server"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- Each binding that uses JetStream, once; what each gave is in one line of the log.
local SCRIPT = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "OUT", subjects = { "out.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("IN", { durable = "worker", attempts = 2, backoff = { min = "50ms" }, dead_letter = "dead.worker" },
  function(msg)
    if msg.data == "bad" then error "bad" end
    local receipt = assert(js.publish("out.a", msg.data))
    assert(js.publish_async("out.b", msg.data):wait())
    local stored = assert(js.get(receipt.stream, { last = "out.a" }))
    local read = {}
    for message in js.messages("OUT") do read[#read + 1] = message.subject end
    msg:progress()
    bus.log.info("did " .. table.concat({ receipt.stream, receipt.seq, stored.data, table.concat(read, ",") }, " "))
    assert(msg:ack { sync = true })
  end)
]]

-- The same of buckets. Keys are written by way of the prefix, as other clients do.
local BUCKETS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
local b = require "moonbus.kv".bucket { name = "b", history = 3 }
local files = require "moonbus.objects".bucket { name = "f" }
bus.on("start", function()
  assert(b:put("a", "1"))
  local created = assert(b:create("c", "1"))
  assert(b:update("c", "2", created))
  local _, err = b:create("c", "3")
  assert(b:put("gone", "x") and b:delete("gone"))
  assert(files:put("o", ("x"):rep(700000)))
  assert(files:put("o", ("y"):rep(800000)))
  assert(files:put("gone", "x") and files:delete("gone"))
  bus.log.info("did " .. table.concat({ b:get("c").value, err.code, #b:history("c"), table.concat(b:keys(), ","),
    #files:get "o", #files:list() }, " "))
end)
]]
local DID = "did 2 exists 2 a,c 800000 1"

-- The first attempt is to come again after more than what is parked; the second says what it was.
local PARKS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" } }
js.consume("IN", { durable = "worker", attempts = 2, dead_letter = false,
  backoff = { min = "2s", max = "2s", jitter = 0, park_after = "1s" } }, function(msg)
  if msg.attempt == 1 then error "later" end
  bus.log.info("did " .. table.concat({ msg.attempt, msg.subject, msg.sequence, msg.stream, msg.data }, " "))
end)
]]

describe("JetStream in", function()
  local w = world.new()
  after_each(function()
    w:clear()
    w:close()
    if w.leaf then w.leaf:close() end
    w.client, w.server, w.leaf = nil, nil, nil
  end)

  -- What the script did for one good message and a bad one.
  local function does_all(host, client)
    client:store("in.x", "good")
    client:store("in.y", "bad")
    assert.equal("did OUT 1 good out.a,out.b", host:wait_log("^did ", 15).msg)
    local letter = client:await_stored("DEAD", 1, 15)[1]
    assert.same({ "bad", "in.y" }, { letter.data, letter:header "Moonbus-Subject" })
    client:await_settled("IN", "worker", 10)
    assert.equal(2, client:stream_info("OUT").state.messages)
    assert.same({}, host:logged { code = "permission" })
  end

  -- The durable gave the message once; what came again lay in the domain, and nothing is left of it.
  local function parks(host, client)
    client:store("in.x", "once")
    assert.equal("parked", host:wait_log({ level = "error", msg = "later" }, 15).verdict)
    assert.equal("did 2 in.x 1 IN once", host:wait_log("^did ", 15).msg)
    assert.equal(1, client:api("CONSUMER.INFO.IN.worker").delivered.consumer_seq)
    client:await_settled("MOONBUS_RETRIES", "IN=worker", 10)
    wait.eventually(function() return client:stream_info("MOONBUS_RETRIES").state.messages == 0 end, 10)
    assert.same({}, host:logged { code = "permission" })
  end

  local function has_schedules(client) return (client:api "INFO".api.level or 0) >= 2 end

  -- A hub with the domain, and a leaf node of it, to which hosts connect; the hub may come up later.
  local function hub_and_leaf(start)
    local port = posix.free_port()
    w.server = server.start { jetstream = false, name = "hub", start = start, config = ([[
      jetstream { store_dir: "%s", domain: hub }
      leafnodes { listen: "127.0.0.1:%d" }]]):format(w:folder(), port) }
    w.leaf = server.start { jetstream = false, name = "leaf", config = ([[
      leafnodes { reconnect: 1, remotes: [ { url: "nats://127.0.0.1:%d" } ] }]]):format(port) }
  end

  local HUB = { handlers = { ["all.lua"] = SCRIPT }, config = [[return { jetstream = { domain = "hub" } }]] }

  it("a domain over a leaf node is used by every binding", function()
    hub_and_leaf()
    w.client, HUB.server = w.server:connect(), w.leaf
    does_all(w:run(HUB), w.client)
  end)

  it("a domain that is away at the start is waited for", function()
    hub_and_leaf(false)
    HUB.server = w.leaf
    local host = w:start(HUB)
    host:wait_log "consume connection .* is up"
    w.server:up()
    w.client = w.server:connect()
    host:wait_ready(20)
    does_all(host, w.client)
  end)

  it("a domain over a leaf node has the buckets", function()
    hub_and_leaf()
    w.client = w.server:connect()
    local host = w:run { handlers = { ["buckets.lua"] = BUCKETS }, server = w.leaf,
      config = [[return { jetstream = { domain = "hub" } }]] }
    assert.equal(DID, host:wait_log("^did ", 15).msg)
    assert.equal("$KV.b.c", w.client:message("KV_b", 3).subject)
    assert.equal(9, w.client:stream_info("OBJ_f").state.messages) -- 7 chunks, and what is told of two
    assert.same({}, host:logged { code = "permission" })
  end)

  it("a domain over a leaf node has long retries parked", function()
    hub_and_leaf()
    w.client = w.server:connect()
    if not has_schedules(w.client) then pending "needs nats-server 2.12" return end
    local host = w:run { handlers = { ["parks.lua"] = PARKS }, server = w.leaf,
      config = [[return { jetstream = { domain = "hub" } }]] }
    parks(host, w.client)
  end)

  it("another account has the buckets, by the prefix of its imports", function()
    w.server = server.start { login = { user = "a", password = "a" }, config = [[
accounts {
  A { jetstream: enabled, users = [{ user: a, password: a }],
      exports: [ { service: "$JS.API.>", response_type: stream }, { service: "$KV.>" }, { service: "$O.>" } ] }
  B { users = [{ user: b, password: b }],
      imports: [ { service: { account: A, subject: "$JS.API.STREAM.>" }, to: "a.js.STREAM.>" },
        { service: { account: A, subject: "$JS.API.CONSUMER.>" }, to: "a.js.CONSUMER.>" },
        { service: { account: A, subject: "$JS.API.INFO" }, to: "a.js.INFO" },
        { service: { account: A, subject: "$KV.>" }, to: "a.js.$KV.>" },
        { service: { account: A, subject: "$O.>" } } ] }
}]] }
    w.client = w.server:connect { user = "a", password = "a" }
    local host = w:run { handlers = { ["buckets.lua"] = BUCKETS }, args = { "--user", "b", "--password", "b" },
      config = [[return { jetstream = { api_prefix = "a.js" } }]] }
    assert.equal(DID, host:wait_log("^did ", 15).msg)
    assert.same({}, host:logged { code = "permission" })
  end)

  it("another account is used by every binding, by the prefix of its import", function()
    w.server = server.start { login = { user = "a", password = "a" }, config = [[
accounts {
  A { jetstream: enabled, users = [{ user: a, password: a }],
      exports: [ { service: "$JS.API.>", response_type: stream }, { service: "$JS.ACK.>" },
        { service: "out.>" }, { service: "dead.>" } ] }
  B { users = [{ user: b, password: b }],
      imports: [ { service: { account: A, subject: "$JS.API.>" }, to: "a.js.>" },
        { service: { account: A, subject: "$JS.ACK.>" } },
        { service: { account: A, subject: "out.>" } }, { service: { account: A, subject: "dead.>" } } ] }
}]] }
    w.client = w.server:connect { user = "a", password = "a" }
    local host = w:run { handlers = { ["all.lua"] = SCRIPT }, args = { "--user", "b", "--password", "b" },
      config = [[return { jetstream = { api_prefix = "a.js" } }]] }
    does_all(host, w.client)
  end)

  it("another account has long retries parked, by the prefix of its import", function()
    w.server = server.start { login = { user = "a", password = "a" }, config = [[
accounts {
  A { jetstream: enabled, users = [{ user: a, password: a }],
      exports: [ { service: "$JS.API.>", response_type: stream }, { service: "$JS.ACK.>" },
        { service: "moonbus.retries.>" } ] }
  B { users = [{ user: b, password: b }],
      imports: [ { service: { account: A, subject: "$JS.API.>" }, to: "a.js.>" },
        { service: { account: A, subject: "$JS.ACK.>" } },
        { service: { account: A, subject: "moonbus.retries.>" } } ] }
}]] }
    w.client = w.server:connect { user = "a", password = "a" }
    if not has_schedules(w.client) then pending "needs nats-server 2.12" return end
    local host = w:run { handlers = { ["parks.lua"] = PARKS }, args = { "--user", "b", "--password", "b" },
      config = [[return { jetstream = { api_prefix = "a.js" } }]] }
    parks(host, w.client)
  end)
end)
