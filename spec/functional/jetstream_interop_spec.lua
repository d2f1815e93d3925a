-- moonbus.jetstream and @nats-io/jetstream, the client for Node, on the same streams, durables and counters.
local cjson = require "cjson"
local node = require "spec.support.node"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("moonbus.jetstream beside @nats-io/jetstream", function()
  if not node.found() then
    pending(node.missing)
    return
  end

  local w, level = world.new(), 0
  setup(function()
    w:open()
    level = w.client:api "INFO".api.level or 0
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local STREAMS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" }, %s }
js.stream { name = "OUT", subjects = { "out.>" } }
]]
  local RUN = [[
bus.subscribe("run", { timeout = "1m" }, function(msg)
  local ok, value, err = pcall(assert(loadstring("local js, bus = ...; " .. msg.data)), js, bus)
  if not ok then return { raised = tostring(value) } end
  return { value = value, code = err and err.code }
end)]]

  local function streams(settings) return STREAMS:format(settings or "") end

  local function run(code)
    local got = w.client:request("run", code, { timeout = 60 }):json()
    assert.is_nil(got.raised, got.raised)
    return got.value, got.code
  end

  local HEAD = [[
    const { jetstream, jetstreamManager, AckPolicy } = require("@nats-io/jetstream");
    const js = jetstream(nc), jsm = await jetstreamManager(nc);
  ]]
  local function theirs(text, args) return node.run(w.server.url, HEAD .. text, args) end

  local function outputs()
    local list = {}
    for _, message in ipairs(w.client:messages "OUT") do list[#list + 1] = message.data end
    return list
  end

  it("handles what the other publishes, with its ids, headers and expectations", function()
    w:run(streams() .. [[
js.consume("IN", { durable = "worker" }, function(msg)
  js.publish("out.a", { msg.subject, msg.data, msg.headers["Nats-Msg-Id"], msg.headers.kind or "none", msg.sequence })
end)]])
    local said = theirs [==[
      const { headers } = require("@nats-io/transport-node");
      const h = headers();
      h.set("Kind", "x");
      const first = await js.publish("in.a", "one", { msgID: "id1", headers: h, expect: { streamName: "IN" } });
      const second = await js.publish("in.a", "one", { msgID: "id1" });
      const expect = { lastSequence: first.seq, lastMsgID: "id1" };
      const third = await js.publish("in.b", "two", { msgID: "id2", expect });
      say([first.seq, first.duplicate, second.seq, second.duplicate, third.seq]);
      for (const expect of [{ lastSequence: 7 }, { lastSubjectSequence: 9 }, { streamName: "OUT" }]) {
        try { await js.publish("in.c", "no", { expect }); } catch (e) { say(e.code); }
      }
    ]==]
    assert.same({ { 1, false, 1, true, 2 }, 10071, 10071, 10060 }, said)
    w.client:await_stored("OUT", 2)
    local list = outputs()
    table.sort(list)
    assert.same({ '["in.a","one","id1","x",1]', '["in.b","two","id2","none",2]' }, list)
  end)

  it("publishes what the other consumes, once, and its expectations hold there", function()
    w:run(streams() .. RUN)
    assert.same({ { 1, false }, { 1, true } }, (run [[
      local list = {}
      for i = 1, 2 do
        local opts = { id = "mine", headers = { kind = "x" }, expect = { stream = "IN" } }
        local receipt = js.publish("in.a", { n = 1 }, opts)
        list[i] = { receipt.seq, receipt.duplicate }
      end
      return list]]))
    assert.equal("wrong_sequence", select(2, run 'return js.publish("in.a", "x", { expect = { last_sequence = 9 } })'))
    local said = theirs [==[
      await jsm.consumers.add("IN", { durable_name: "theirs", ack_policy: AckPolicy.Explicit });
      const consumer = await js.consumers.get("IN", "theirs");
      const m = await consumer.next({ expires: 5000 });
      const h = (name) => m.headers.get(name);
      say([m.subject, m.json(), h("Nats-Msg-Id"), h("kind"), h("content-type"), m.seq]);
      await m.ackAck();
      say(await consumer.next({ expires: 1000 }));
      say((await js.publish("in.b", "x", { expect: { lastMsgID: "mine", lastSequence: 1 } })).seq);
    ]==]
    assert.same({ "in.a", { n = 1 }, "mine", "x", "application/json", 1 }, said[1])
    assert.equal(cjson.null, said[2])
    assert.equal(2, said[3])
  end)

  it("reads in order what the other has written, and the other what it has", function()
    w:run(streams() .. RUN)
    theirs [==[for (let i = 1; i <= 200; i++) await js.publish("in." + (i % 2), "" + i);]==]
    assert.same({ 200, 100, true }, (run [[
      local all, odd, ordered = 0, 0, true
      for msg in js.messages "IN" do all = all + 1 ordered = ordered and msg.data == tostring(all) end
      for _ in js.messages("IN", { filter = "in.1" }) do odd = odd + 1 end
      return { all, odd, ordered }]]))
    run [[for i = 201, 300 do js.publish("in.1", tostring(i)) end return true]]
    local said = theirs [==[
      const consumer = await js.consumers.get("IN", { filter_subjects: "in.1" });
      const list = [];
      const messages = await consumer.consume({ max_messages: 50 });
      for await (const m of messages) { list.push(m.string()); if (m.info.pending === 0) break; }
      say(list.length);
      say([list[0], list[99], list[100], list[199]]);
      const stored = await jsm.streams.getMessage("IN", { last_by_subj: "in.1" });
      say([stored.seq, stored.string()]);
    ]==]
    assert.same({ 200, { "1", "199", "201", "300" }, { 300, "300" } }, said)
  end)

  it("shares a work queue with the other: each message is handled by one of them", function()
    w:run(streams 'retention = "workqueue"' .. [[
js.consume("IN", { durable = "worker", concurrency = 4 }, function(msg)
  bus.sleep "10ms"
  js.publish("out.ours", msg.data)
end)]])
    theirs [==[
      const consumer = await js.consumers.get("IN", "worker");
      for (let i = 1; i <= 100; i++) await js.publish("in.x", "" + i);
      let count = 0;
      for (;;) {
        const m = await consumer.next({ expires: 1000 });
        if (!m) break;
        await js.publish("out.theirs", m.string());
        await m.ackAck();
        count++;
      }
      say(count);
    ]==]
    w.client:await_stored("OUT", 100)
    w.client:await_settled("IN", "worker", 10)
    local seen = {}
    for _, data in ipairs(outputs()) do
      assert.is_nil(seen[data])
      seen[data] = true
    end
    assert.equal(0, w.client:stream_info("IN").state.messages)
  end)

  it("gets what the other naks, and the other what a handler naks, with its deliveries counted", function()
    local text = streams() .. [[
js.consume("IN", { durable = "worker" }, function(msg)
  js.publish("out.a", { msg.data, msg.attempt }, { id = msg.data .. msg.attempt })
  if msg.attempt == 1 then return msg:nak "2s" end
end)]]
    -- One of them is there at a time: so it is known who gets it.
    local first = w:run(text)
    w.client:store("in.a", "x")
    w.client:await_stored("OUT", 1)
    first:stop(20)
    local said = theirs [==[
      const consumer = await js.consumers.get("IN", "worker");
      const m = await consumer.next({ expires: 20000 });
      say([m.string(), m.info.deliveryCount]);
      m.nak();
      await nc.flush();
    ]==]
    assert.same({ { "x", 2 } }, said)
    w:run(text)
    w.client:await_settled("IN", "worker", 10)
    assert.same({ '["x",1]', '["x",3]' }, outputs())
  end)

  it("counts on what the other counts", function()
    if level < 2 then
      pending "this server has no counters"
      return
    end
    local counters = 'js.stream { name = "COUNT", subjects = { "count.>" }, allow_msg_counter = true }\n'
    w:run(streams() .. counters .. RUN)
    assert.equal(5, (run 'return js.count("count.a", 5)'))
    local said = theirs [==[
      const { headers } = require("@nats-io/transport-node");
      const h = headers();
      h.set("Nats-Incr", "37");
      const ack = await js.publish("count.a", "", { headers: h });
      say(ack.val ?? JSON.parse((await jsm.streams.getMessage("COUNT", { last_by_subj: "count.a" })).string()).val);
    ]==]
    assert.equal("42", said[1])
    assert.same({ 42, 40 }, (run 'return { js.counter "count.a", js.count("count.a", -2) }'))
    said = theirs [==[say((await jsm.streams.getMessage("COUNT", { last_by_subj: "count.a" })).json());]==]
    assert.equal("40", said[1].val)
  end)

  it("and the other see messages with a ttl go", function()
    if level < 1 then
      pending "this server has no ttl of messages"
      return
    end
    w:run(streams "allow_msg_ttl = true" .. RUN)
    theirs [==[say((await js.publish("in.a", "theirs", { ttl: "1s" })).seq);]==]
    run 'return js.publish("in.b", "ours", { ttl = "1s" }).seq'
    for sequence = 1, 2 do assert.equal("1s", w.client:message("IN", sequence):header "Nats-TTL") end
    wait.eventually(function() return w.client:stream_info("IN").state.messages == 0 end, 10)
  end)

  it("and the other have the server publish later, into handlers of either", function()
    if level < 2 then
      pending "this server has no schedules"
      return
    end
    local stated = streams("allow_msg_schedules = true, allow_rollup_hdrs = true")
    w:run(stated:gsub('"in.>"', '"in.>", "moonbus.at.IN.>"') .. RUN .. "\n" .. [[
js.consume("IN", { durable = "worker", filter = "in.>" }, function(msg) js.publish("out.a", msg.data) end)]])
    theirs [==[
      await js.publish("moonbus.at.IN.theirs", "theirs", {
        schedule: { specification: new Date(Date.now() + 1000), target: "in.due" },
      });
    ]==]
    local receipt = run 'return js.publish("in.later", "ours", { after = "1s" })'
    assert.equal("IN", receipt.stream)
    local cancelled = run 'return js.publish("in.later", "never", { after = "1h" })'
    wait.eventually(function() return #outputs() == 2 end, 15)
    local list = outputs()
    table.sort(list)
    assert.same({ "ours", "theirs" }, list)
    -- What this host has scheduled the other can cancel, and then it is not to be cancelled any more.
    theirs([==[
      await js.publish("in.signal", "signal", { cancelSchedule: { scheduleSubject: args[0] } });
    ]==], { cancelled.subject })
    wait.eventually(function() return #outputs() == 3 end, 15)
    local again = ("return js.cancel { stream = %q, subject = %q, seq = %d, at = %d, target = %q }"):format(
      cancelled.stream, cancelled.subject, cancelled.seq, cancelled.at, "in.later")
    assert.equal("not_found", select(2, run(again)))
  end)
end)
