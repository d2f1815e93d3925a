-- moonbus.kv and @nats-io/kv, the client for Node, on the same buckets.
local node = require "spec.support.node"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local SCRIPT = [[
local bus, kv = require "moonbus", require "moonbus.kv"
local b = kv.bucket { name = "shared", history = 5 }
bus.subscribe("run", function(msg)
  local ok, value, err = pcall(assert(loadstring("local b = ...; " .. msg.data)), b)
  if not ok then return { raised = tostring(value) } end
  return { value = value, code = err and err.code }
end)]]

describe("moonbus.kv beside @nats-io/kv", function()
  if not node.found() then
    pending(node.missing)
    return
  end

  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function run(code)
    local got = w.client:request("run", code):json()
    assert.is_nil(got.raised, got.raised)
    return got.value, got.code
  end

  it("uses a bucket that the other made, as it is", function()
    node.run(w.server.url, [[
      const { Kvm } = require("@nats-io/kv");
      await new Kvm(nc).create("shared", { history: 5, ttl: 3600000 });
    ]])
    local before = w.client:stream_info("KV_shared").config
    w:run(SCRIPT)
    assert.equal(1, run 'return b:put("a", "1")')
    assert.same(before, w.client:stream_info("KV_shared").config)
  end)

  it("makes one that the other opens, and makes sure of, with no other setting", function()
    w:run(SCRIPT)
    local ours = w.client:stream_info("KV_shared").config
    w.client:delete_stream "KV_shared"
    node.run(w.server.url, [[
      const { Kvm } = require("@nats-io/kv");
      await new Kvm(nc).create("shared", { history: 5 });
    ]])
    local theirs = w.client:stream_info("KV_shared").config
    theirs.metadata, ours.metadata = nil, nil
    theirs.deny_delete = true -- as ADR-8 and the client for Go have it; nats.js leaves it out
    assert.same(theirs, ours)
  end)

  it("reads what the other writes: values, deletions, purges, revisions, history, keys", function()
    w:run(SCRIPT)
    node.run(w.server.url, [[
      const { Kvm } = require("@nats-io/kv");
      const kv = await new Kvm(nc).open("shared");
      await kv.put("users.1", JSON.stringify({ name: "ada" }));
      await kv.put("users.1", "second");
      await kv.put("bytes", new Uint8Array([0, 255, 13, 10]));
      await kv.create("once", "1");
      await kv.put("gone", "1");
      await kv.delete("gone");
      await kv.put("purged", "1");
      await kv.purge("purged");
    ]])
    assert.same({ "second", 2 }, run 'local e = b:get("users.1") return { e.value, e.revision }')
    assert.equal("ada", (run 'return b:get("users.1", { revision = 1 }):json().name'))
    assert.same({ 0, 255, 13, 10 }, run 'return { b:get("bytes").value:byte(1, -1) }')
    assert.equal("exists", select(2, run 'return b:create("once", "2")'))
    assert.equal("not_found", select(2, run 'return b:get("gone")'))
    assert.equal("not_found", select(2, run 'return b:get("purged")'))
    assert.same({ "PUT", "DEL" }, run [[local list = {}
      for _, e in ipairs(b:history("gone")) do list[#list + 1] = e.operation end return list]])
    assert.same({ "PURGE" }, run [[local list = {}
      for _, e in ipairs(b:history("purged")) do list[#list + 1] = e.operation end return list]])
    assert.same({ "bytes", "once", "users.1" }, run 'return b:keys()')
    assert.equal(9, run 'return b:create("gone", "again")')
  end)

  it("sees in its watch, and in its cache, what the other writes", function()
    local seen = w.client:subscribe "seen"
    w:run([[
local bus, js, kv = require "moonbus", require "moonbus.jetstream", require "moonbus.kv"
local b = kv.bucket { name = "shared", history = 5, cache = true }
b:watch(">", function(entry)
  if not entry then return bus.publish("seen", "all") end
  bus.publish("seen", ("%s %s %s %d"):format(entry.key, entry.operation, entry.value, entry.revision))
end)
bus.subscribe("cached", function(msg)
  local entry, err = b:get(msg.data)
  return entry and entry.value or err.code
end)]])
    assert.equal("all", seen:next(5).data)
    node.run(w.server.url, [[
      const { Kvm } = require("@nats-io/kv");
      const kv = await new Kvm(nc).open("shared");
      await kv.create("a", "1");
      await kv.put("a", "2");
      await kv.put("b.c", "x");
      await kv.delete("a");
      await kv.purge("b.c");
      await kv.put("b.c", "y");
    ]])
    local told = {}
    for i = 1, 6 do told[i] = assert(seen:next(5)).data end
    assert.same({ "a PUT 1 1", "a PUT 2 2", "b.c PUT x 3", "a DEL  4", "b.c PURGE  5", "b.c PUT y 6" }, told)
    assert.equal("not_found", w.client:request("cached", "a").data)
    assert.equal("y", w.client:request("cached", "b.c").data)
  end)

  it("is read by the other: values, deletions, purges, revisions, history, keys, watches", function()
    w:run(SCRIPT)
    run 'return b:put("before", "")'
    local watching = node.start(w.server.url, [[
      const { Kvm } = require("@nats-io/kv");
      const kv = await new Kvm(nc).open("shared");
      const watch = await kv.watch();
      for await (const e of watch) {
        say([e.key, e.operation, e.string(), e.revision]);
        if (e.key === "last") break;
      }
    ]])
    assert.same({ { "before", "PUT", "", 1 } }, watching:wait_said(1))
    run [[
      b:put("users.1", { name = "ada" })
      b:update("users.1", "second", 2)
      b:put("bytes", "\0\255\r\n")
      b:create("once", "1")
      b:put("gone", "1") b:delete("gone")
      b:put("purged", "1") b:purge("purged")
      b:put("last", "")]]
    local seen = watching:wait_said(10)
    table.remove(seen, 1)
    watching:close()
    assert.same({ { "users.1", "PUT", '{"name":"ada"}', 2 }, { "users.1", "PUT", "second", 3 } }, { seen[1], seen[2] })
    assert.same({ "gone", "DEL", "", 7 }, seen[6])
    assert.same({ "purged", "PURGE", "", 9 }, seen[8])
    local said = node.run(w.server.url, [[
      const { Kvm } = require("@nats-io/kv");
      const kv = await new Kvm(nc).open("shared");
      say((await kv.get("users.1")).string());
      say((await kv.get("users.1", { revision: 2 })).json().name);
      say(Array.from((await kv.get("bytes")).value));
      say((await kv.get("gone")).operation);
      const keys = []; for await (const k of await kv.keys()) keys.push(k);
      say(keys.sort());
      const history = []; for await (const e of await kv.history({ key: "gone" })) history.push(e.operation);
      say(history);
      try { await kv.create("once", "2"); say("created"); } catch (e) { say("refused"); }
      say(await kv.update("once", "2", 5));
      say(await kv.create("gone", "again"));
    ]])
    assert.same({ "second", "ada", { 0, 255, 13, 10 }, "DEL", { "before", "bytes", "last", "once", "users.1" },
      { "PUT", "DEL" }, "refused", 11, 12 }, said)
  end)

  it("has the same markers for keys that have ended by their ttl", function()
    local major, minor = w.server:monitor "varz".version:match "^(%d+)%.(%d+)"
    if tonumber(major) == 2 and tonumber(minor) < 11 then return end
    w:run((SCRIPT:gsub("history = 5", 'history = 5, limit_markers = "1s"')))
    node.run(w.server.url, [[
      const { Kvm } = require("@nats-io/kv");
      const kv = await new Kvm(nc).open("shared");
      await kv.create("theirs", "1", "1s");
    ]])
    run 'return b:create("ours", "1", { ttl = "1s" })'
    wait.eventually(function() return #run 'return b:keys()' == 0 end, 15)
    assert.same({ "ours", "theirs" }, node.run(w.server.url, [[
      const { Kvm } = require("@nats-io/kv");
      const kv = await new Kvm(nc).open("shared");
      const purged = [];
      for (const key of ["ours", "theirs"]) {
        const e = await kv.get(key);
        if (e === null || e.operation !== "PUT") purged.push(key);
      }
      say(purged);
    ]])[1])
  end)
end)
