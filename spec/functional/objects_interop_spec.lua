-- moonbus.objects and @nats-io/obj, the client for Node, on the same buckets.
local node = require "spec.support.node"
local world = require "spec.support.world"

local SCRIPT = [[
local bus, objects = require "moonbus", require "moonbus.objects"
local b = objects.bucket { name = "shared" }
bus.subscribe("run", { timeout = "1m" }, function(msg)
  local ok, value, err = pcall(assert(loadstring("local b = ...; " .. msg.data)), b)
  if not ok then return { raised = tostring(value) } end
  return { value = value, code = err and err.code }
end)]]

describe("moonbus.objects beside @nats-io/obj", function()
  if not node.found() then
    pending(node.missing)
    return
  end

  local w = world.new()
  setup(function() w:open() end)
  before_each(function() w:run(SCRIPT) end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function run(code)
    local got = w.client:request("run", code, { timeout = 60 }):json()
    assert.is_nil(got.raised, got.raised)
    return got.value, got.code
  end

  it("makes a bucket as the other does", function()
    local ours = w.client:stream_info("OBJ_shared").config
    w.client:delete_stream "OBJ_shared"
    node.run(w.server.url, [[
      const { Objm } = require("@nats-io/obj");
      await new Objm(nc).create("shared");
    ]])
    local theirs = w.client:stream_info("OBJ_shared").config
    theirs.metadata, ours.metadata = nil, nil
    assert.same(theirs, ours)
  end)

  it("reads what the other stores, in chunks of any size, and its links", function()
    node.run(w.server.url, [[
      const { Objm } = require("@nats-io/obj");
      const os = await new Objm(nc).open("shared");
      const bytes = new Uint8Array(500000);
      for (let i = 0; i < bytes.length; i++) bytes[i] = i % 251;
      await os.putBlob({ name: "size & more/a.bin", description: "bytes", metadata: { owner: "ada" } }, bytes);
      await os.putBlob({ name: "small", options: { max_chunk_size: 1000 } }, bytes.slice(0, 3500));
      await os.putBlob({ name: "empty" }, new Uint8Array(0));
      await os.putBlob({ name: "gone" }, bytes);
      await os.delete("gone");
      await os.link("alias", await os.info("small"));
    ]])
    assert.is_true((run [[local data, info = b:get("size & more/a.bin")
      for i = 1, 500000, 997 do if data:byte(i) ~= (i - 1) % 251 then return "byte " .. i end end
      return #data == 500000 and info.description == "bytes" and info.metadata.owner == "ada"]]))
    assert.equal(3500, (run 'return #(b:get("small"))'))
    assert.equal(4, (run 'return b:info("small").chunks'))
    assert.equal(0, (run 'return #(b:get("empty"))'))
    assert.equal(3500, (run 'return #(b:get("alias"))'))
    assert.equal("not_found", select(2, run 'return b:get("gone")'))
    assert.same({ "alias", "empty", "size & more/a.bin", "small" },
      (run 'local names = {} for i, each in ipairs(b:list()) do names[i] = each.name end return names'))
  end)

  it("is read by the other, which checks the digests, and replaced and deleted by it", function()
    run [[
      local left = 10
      assert(b:put("size & more/a.txt", function() left = left - 1 return left >= 0 and ("x"):rep(50000) or nil end,
        { description = "text", headers = { Kind = "x" }, metadata = { owner = "ada" } }))
      assert(b:put("empty", ""))
      assert(b:put("gone", "x") and b:delete("gone"))
      assert(b:put("theirs", ("x"):rep(300000)))
      return true]]
    local about = { "text", { owner = "ada" }, { "x" }, 4, "shared" }
    assert.same({ 500000, about, 0, true, { "empty", "size & more/a.txt", "theirs" }, "x2" }, node.run(w.server.url, [[
      const { Objm } = require("@nats-io/obj");
      const os = await new Objm(nc).open("shared");
      const data = await os.getBlob("size & more/a.txt");
      say(data.length);
      const info = await os.info("size & more/a.txt");
      say([info.description, info.metadata, info.headers.values("Kind"), info.chunks, info.bucket]);
      say((await os.getBlob("empty")).length);
      const gone = await os.info("gone");
      say(gone === null || gone.deleted === true);
      say((await os.list()).filter((i) => !i.deleted).map((i) => i.name).sort());
      await os.putBlob({ name: "theirs" }, new TextEncoder().encode("x2"));
      await os.delete("empty");
      say(new TextDecoder().decode(await os.getBlob("theirs")));
    ]]))
    assert.equal("x2", (run 'return (b:get("theirs"))'))
    assert.equal("not_found", select(2, run 'return b:get("empty")'))
    -- Nothing is left of what either has replaced or deleted.
    local subjects = w.client:api("STREAM.INFO.OBJ_shared", { subjects_filter = "$O.shared.C.>" }).state.subjects
    local count = 0
    for _ in pairs(subjects) do count = count + 1 end
    assert.equal(2, count)
  end)

  -- It writes such names in Latin-1, all other clients in UTF-8 (ADR-20, nats.go, nats.py).
  it("reads, replaces and deletes what the other has under a name that is not ASCII", function()
    node.run(w.server.url, [[
      const { Objm } = require("@nats-io/obj");
      const os = await new Objm(nc).open("shared");
      for (const name of ["caf\u00e9", "\u00fcber", "gone\u00ff"]) {
        await os.putBlob({ name }, new TextEncoder().encode("theirs"));
      }
    ]])
    assert.equal("theirs", (run 'return (b:get("caf\195\169"))'))
    assert.is_true((run 'return b:put("\195\188ber", "ours") and true'))
    assert.is_true((run 'return b:delete("gone\195\191")'))
    assert.is_true((run 'return b:put("na\195\175ve", "new") and true'))
    assert.equal("new", (run 'return (b:get("na\195\175ve"))'))
    assert.equal("not_found", select(2, run 'return b:get("gone\195\191")'))
    assert.equal("not_found", select(2, run 'return b:get("\230\151\165\230\156\172")'))
    assert.is_true((run 'return b:put("\230\151\165\230\156\172", "kanji") and true'))
    assert.equal("kanji", (run 'return (b:get("\230\151\165\230\156\172"))'))
    local said = node.run(w.server.url, [[
      const { Objm } = require("@nats-io/obj");
      const os = await new Objm(nc).open("shared");
      say((await os.list()).filter((i) => !i.deleted).map((i) => i.name).sort());
      say(new TextDecoder().decode(await os.getBlob("\u00fcber")));
    ]])
    assert.same({ { "caf\195\169", "na\195\175ve", "\195\188ber", "\230\151\165\230\156\172" }, "ours" }, said)
    local info = w.client:api("STREAM.INFO.OBJ_shared", { subjects_filter = "$O.shared.M.>" })
    local count = 0
    for _ in pairs(info.state.subjects) do count = count + 1 end
    assert.equal(5, count)
  end)

  it("is seen by a watch of the other", function()
    run 'b:put("before", "x") return true'
    local watching = node.start(w.server.url, [[
      const { Objm } = require("@nats-io/obj");
      const os = await new Objm(nc).open("shared");
      const watch = await os.watch({ includeHistory: true });
      for await (const e of watch) {
        if (e === null) continue;
        say([e.name, e.deleted === true]);
        if (e.deleted) break;
      }
    ]])
    assert.same({ { "before", false } }, watching:wait_said(1))
    run 'b:put("seen", "x") b:delete("seen") return true'
    local said = watching:wait_said(3)
    watching:close()
    assert.same({ { "seen", false }, { "seen", true } }, { said[2], said[3] })
  end)
end)
