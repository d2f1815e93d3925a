-- What newer servers know of a stream goes through js.stream, and is compared; what an older one drops is said.
local world = require "spec.support.world"

describe("a stream is stated with", function()
  local w = world.new()
  local level
  setup(function()
    w:open()
    level = w.client:api "INFO".api.level or 0
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function script(settings)
    return ('require "moonbus.jetstream".stream { name = "S", subjects = { "s.>" }, storage = "memory", %s }\n')
      :format(settings)
  end

  local function streams() return w.client:api "STREAM.NAMES".total end

  local function config() return w.client:stream_info "S".config end

  it("the settings of newer servers, which stay as they are at the next start", function()
    if level < 4 then pending "needs nats-server 2.14" return end
    local text = script [[allow_msg_ttl = true, subject_delete_marker_ttl = "1m", allow_rollup_hdrs = true,
      allow_atomic = true, allow_msg_schedules = true, allow_batched = true, persist_mode = "default",
      mirror_direct = false]]
    w:run(text):stop()
    local made = config()
    assert.same({ true, 60e9, true, true, true }, { made.allow_msg_ttl, made.subject_delete_marker_ttl,
      made.allow_atomic, made.allow_msg_schedules, made.allow_batched })
    local host = w:run(text)
    assert.same({}, host:logged "updated on the server")
  end)

  it("a setting that no server changes, and is told so", function()
    if level < 2 then pending "needs nats-server 2.12" return end
    w.client:stream("S", { "s.>" })
    assert.matches("allow_msg_counter: here true, on the server not set %(no server changes it",
      w:fail { handlers = { ["handler.lua"] = script "allow_msg_counter = true" }, args = {} }.output)
  end)

  it("what this server does not know, and hears which one does", function()
    if level >= 4 then pending "needs a server before 2.14" return end
    local output = w:fail(script "allow_batched = true").output
    assert.matches("handler%.lua:1: S: ", output)
    assert.matches("allow_batched", output)
    assert.matches("%(nats%-server 2%.14 and newer know it%)", output)
    assert.equal(0, streams())
  end)

  for what, bucket in pairs {
    compression = 'kv.bucket { name = "b", compression = true }',
    ["compression of objects"] = 'objects.bucket { name = "b", compression = true }',
    metadata = 'kv.bucket { name = "b", metadata = { team = "x" } }',
    ["sources.subject_transforms"] = 'kv.bucket { name = "b", sources = { "other" } }',
  } do
    it("what 2.10 knows: a bucket with " .. what .. " is made, or nothing is", function()
      local text = "local kv, objects = require 'moonbus.kv', require 'moonbus.objects'\nlocal b = " .. bucket
      if tonumber(w.server:monitor "varz".version:match "^2%.(%d+)") >= 10 then
        w:run(text)
        assert.equal(1, streams())
        return
      end
      local output = w:fail(text).output
      assert.matches("handler.lua:2: ", output, 1, true)
      assert.matches(("is not created: this server does not know %s (nats-server 2.10 and newer know it)")
        :format(what:match "^%S+"), output, 1, true)
      assert.equal(0, streams())
    end)
  end

  it("what says no more than that it is as usual, to any server", function()
    w:run(script [[compression = "none", allow_batched = false, metadata = {}, persist_mode = "default"]])
    assert.equal(1, streams())
  end)

  it("what no server knows, and hears that", function()
    local text = script "allow_teleports = true"
    assert.matches("handler%.lua:1: S: .*allow_teleports", w:fail(text).output)
    assert.matches("handler%.lua:1: S: .*allow_teleports", w:fail("return " .. text).output) -- a tail call
  end)
end)
