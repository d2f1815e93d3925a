-- js.get: one stored message, read at the leader of its stream.
local world = require "spec.support.world"

local HANDLER = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
bus.subscribe("get", function(msg)
  local asked = msg:json()
  local found, err = js.get(asked.stream or "IN", asked.query, asked.options)
  if not found then return { code = err.code, message = err.message } end
  return {
    subject = found.subject, size = #found.data, bytes = { found.data:byte(1, 300) }, stream = found.stream,
    sequence = found.sequence, timestamp = found.timestamp, text = tostring(found),
    header = found.headers["x-one"], values = found:header_values("X-Many"), id = found.id or "none",
    attempt = found.attempt or "none",
  }
end)
bus.subscribe("json", function() return js.get("IN", { sequence = 1 }):json() end)
bus.subscribe("misuse", function(msg)
  local found = js.get("IN", { sequence = 1 })
  local what = {
    ack = function() found:ack() end, reject = function() found:reject() end,
    respond = function() found:respond "" end, query = function() js.get("IN", {}) end,
    both = function() js.get("IN", { sequence = 1, last = "in" }) end,
    hint = function() js.get("IN", { seq = 1 }) end, stream = function() js.get("a.b", { sequence = 1 }) end,
    wild = function() js.get("IN", { last = "in.*" }) end,
  }
  local _, err = pcall(what[msg.data])
  return tostring(err)
end)
]]

describe("js.get", function()
  local w = world.new()
  setup(function() w:open() end)
  before_each(function()
    w.client:stream("IN", { "in.>" })
    w:run(HANDLER)
  end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function get(query, more)
    local asked = { query = query }
    for key, value in pairs(more or {}) do asked[key] = value end
    local reply = w.client:request("get", require "cjson".encode(asked))
    assert.is_nil(reply:header "Nats-Service-Error", reply:header "Nats-Service-Error")
    return reply:json()
  end

  it("gives the message of a sequence, with all of its bytes and headers", function()
    local bytes = {}
    for i = 0, 255 do bytes[i + 1] = string.char(i) end
    w.client:store("in.a", table.concat(bytes), { ["X-One"] = "eins", ["X-Many"] = "a" })
    local got = get { sequence = 1 }
    assert.equal("in.a", got.subject)
    assert.equal(256, got.size)
    for i = 0, 255 do assert.equal(i, got.bytes[i + 1]) end
    assert.equal("eins", got.header)
    assert.same({ "a" }, got.values)
    assert.equal("IN", got.stream)
    assert.equal(1, got.sequence)
    assert.is_true(math.abs(got.timestamp - os.time()) < 60)
    assert.equal('message "in.a" (IN #1)', got.text)
    assert.same({ "none", "none" }, { got.id, got.attempt })
  end)

  it("gives one of megabytes, and one of nothing", function()
    w.client:store("in.a", ("x"):rep(900000))
    w.client:store("in.a", "")
    assert.equal(900000, get({ sequence = 1 }).size)
    assert.equal(0, get({ sequence = 2 }).size)
  end)

  it("gives the last of a subject, and the next of a pattern from a sequence on", function()
    for i, subject in ipairs { "in.a", "in.b", "in.a", "in.c.d" } do w.client:store(subject, tostring(i)) end
    assert.equal(3, get({ last = "in.a" }).sequence)
    assert.equal(2, get({ sequence = 2, next = "in.*" }).sequence)
    assert.equal(3, get({ sequence = 2, next = "in.a" }).sequence)
    assert.equal(4, get({ sequence = 1, next = "in.c.>" }).sequence)
    assert.equal(1, get({ next = "in.a" }).sequence)
  end)

  it("reads JSON as any message does", function()
    w.client:store("in.a", '{"n":7}')
    assert.same({ n = 7 }, w.client:request("json", ""):json())
  end)

  it("says not_found where no message is, and no_stream where no stream is", function()
    w.client:store("in.a", "")
    assert.equal("not_found", get({ sequence = 9 }).code)
    assert.equal("not_found", get({ last = "in.b" }).code)
    assert.equal("not_found", get({ sequence = 2, next = "in.a" }).code)
    local failed = get({ sequence = 1 }, { stream = "NONE" })
    assert.equal("no_stream", failed.code)
    assert.matches("NONE", failed.message)
  end)

  it("is refused when misused, by line and with what would be right", function()
    w.client:store("in.a", "")
    for what, text in pairs {
      ack = "was read by js.get or js.messages, so it has no verdict", reject = "was read by js.get",
      respond = "there is no reply subject", query = "expected { sequence = 42 }",
      both = "expected { sequence = 42 }", hint = 'here it is "sequence"', stream = "a.b", wild = "in.*",
    } do
      local said = w.client:request("misuse", what).data
      assert.is_truthy(said:find(text, 1, true), said)
      assert.matches("handler.lua:%d+: ", said)
    end
  end)
end)
