-- A watch of a bucket sees each change once and in order, whatever happens to its connection and its
-- server: compared with what the stream has.
local cluster = require "spec.support.cluster"
local faulty = require "spec.support.faulty"
local proxy = require "spec.support.proxy"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local RECONNECTS = faulty.pick(10, 50)

local WATCH = [[
local bus, js, kv = require "moonbus", require "moonbus.jetstream", require "moonbus.kv"
local b = kv.bucket { name = "b" }
b:watch(">", function(entry)
  local text = entry and ("%s %s %d"):format(entry.key, entry.value, entry.revision) or "all"
  assert(js.publish("seen", text, { attempts = 100 }))
end)]]

describe("a watch of a bucket", function()
  local w = world.new()
  local stored

  local function buckets(replicas)
    stored = 0
    w.client:stream("KV_b", { "$KV.b.>" }, { max_msgs_per_subject = 64, discard = "new", allow_rollup_hdrs = true,
      deny_delete = true, allow_direct = true, storage = "file", num_replicas = replicas })
    w.client:stream("SEEN", { "seen" }, { storage = "file", num_replicas = replicas })
  end

  local function put(many)
    for _ = 1, many do
      stored = stored + 1
      wait.eventually(function()
        return (pcall(w.client.store, w.client, "$KV.b.k" .. stored % 50, "v" .. stored))
      end, 30)
    end
  end

  -- What the stream has, the watch has seen: each once, in order, up to the last.
  local function each_once()
    local last = w.client:stream_info("KV_b").state.last_seq
    wait.eventually(function()
      local state = w.client:stream_info("SEEN").state
      return state and state.messages >= last + 1
    end, 60, function() return ("%d of %d"):format(w.client:stream_info("SEEN").state.messages, last) end)
    local next_one = 1
    for _, message in ipairs(w.client:messages "SEEN") do
      local revision = message.data:match " (%d+)$"
      if revision then
        assert.equal(next_one, tonumber(revision))
        next_one = next_one + 1
      end
    end
    assert.equal(last + 1, next_one)
  end

  describe("on one server", function()
    local front
    setup(function()
      w:open()
      front = proxy.start(w.server)
    end)
    before_each(function() buckets() end)
    after_each(function()
      front:pass()
      w:clear()
    end)
    teardown(function()
      front:close()
      w:close()
    end)

    it("survives " .. RECONNECTS .. " reconnects", function()
      local host = w:run { handlers = { ["a.lua"] = WATCH }, server = front, level = "info" }
      for round = 1, RECONNECTS do
        put(5)
        front:reset()
        put(5)
        wait.eventually(function() return #host:logged "consume connection back" >= round end, 20)
      end
      put(1)
      each_once()
    end)

    it("survives a restart of the server, and a purge", function()
      w:run { handlers = { ["a.lua"] = WATCH }, level = "info" }
      put(20)
      each_once()
      w.server:restart()
      put(20)
      each_once()
      w.client:purge "KV_b"
      put(20)
      each_once()
    end)
  end)

  it("survives new leaders", function()
    w.server = cluster.start(3)
    w.client = w.server:connect()
    buckets(3)
    w:start({ level = "info", handlers = { ["a.lua"] = WATCH } }):wait_ready(90)
    for _ = 1, faulty.pick(3, 10) do
      put(10)
      w.client:api("STREAM.LEADER.STEPDOWN.KV_b")
      put(10)
    end
    each_once()
    w:clear()
    w:close()
  end)
end)
