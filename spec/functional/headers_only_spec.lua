local raw = require "spec.support.raw"
local world = require "spec.support.world"

-- A consumer with headers_only delivers no data: the server says in Nats-Msg-Size how much it left
-- out. A handler sees so much, and no more; but a dead letter has it all.
describe("a durable that delivers headers only", function()
  local w = world.new { config = [[
    authorization { users = [
      { user: admin, password: admin }
      { user: host, password: host }
      { user: unfetching, password: host, permissions: { publish: { deny: "$JS.API.STREAM.MSG.GET.>" } } }
    ] }
    no_auth_user: admin
  ]] }
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function streams(settings)
    w.client:stream("IN", { "in.>" }, settings)
    w.client:stream("DEAD", { "dead" })
    w.client:consumer("IN", "worker", { headers_only = true })
  end

  local function run(body, config)
    return w:run { config = config, handlers = { ["handler.lua"] = ([[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.consume("IN", { durable = "worker", bind = true, dead_letter = "dead" }, function(msg) %s end)
    ]]):format(body or 'msg:reject "no"') } }
  end

  local function redrive(...)
    return w:cli { "redrive", "DEAD", ... }
  end

  local function strip(headers, ...)
    for _, name in ipairs { "Nats-Msg-Id", ... } do headers[name] = nil end
    return headers
  end

  it("has the data in its dead letter, and the original's own headers", function()
    streams()
    raw.publish(w.server, "in.a", { "empty:", "K: v", "Nats-Msg-Size: 3" }, "the data")
    local host = run()
    local letter = w.client:await_stored("DEAD", 1)[1]
    assert.equal("the data", letter.data)
    assert.same({ "", "v", "3", nil }, { letter:header "empty", letter:header "K",
      letter:header "Moonbus-Orig-Nats-Msg-Size", letter:header "Nats-Msg-Size" })
    w.client:await_settled("IN", "worker")
    host:stop()
    w.client:api("STREAM.MSG.DELETE.IN", { seq = 1 })
    assert.equal(0, redrive().status)
    local back = w.client:message("IN", 2)
    assert.equal("the data", back.data)
    assert.same({ empty = { "" }, K = { "v" }, ["Nats-Msg-Size"] = { "3" } }, strip(back.headers))
  end)

  it("has an empty dead letter of an empty message", function()
    streams()
    w.client:store("in.a", "", { K = "v" })
    local host = run()
    local letter = w.client:await_stored("DEAD", 1)[1]
    assert.same({ "", "v" }, { letter.data, letter:header "K" })
    assert.is_nil(letter:header "Moonbus-Reference")
    host:stop()
    assert.equal(0, redrive().status)
    assert.equal("", w.client:message("IN", 2).data)
  end)

  it("says why msg:json() has nothing", function()
    streams()
    w.client:store("in.a", '{"id":1}')
    local said = w.client:subscribe "said"
    run [[
      local body, err = msg:json { strict = false }
      bus.publish("said", { body = body, code = err.code, message = err.message })
      msg:json()
    ]]
    local answer = said:next():json()
    assert.equal("bad_payload", answer.code)
    assert.matches("without its data %(Nats%-Msg%-Size: 8%): its consumer delivers headers only",
      answer.message)
    local letter = w.client:await_stored("DEAD", 1)[1]
    assert.same({ '{"id":1}', "bad_payload" }, { letter.data, letter:header "Moonbus-Code" })
  end)

  it("has a reference as its dead letter when the original is gone, which redrive keeps", function()
    streams()
    w.client:store("in.a", "the data")
    local go = w.client:subscribe "go"
    local host = run [[
      bus.request("go", "")
      msg:reject "no"
    ]]
    local request = go:next()
    w.client:api("STREAM.MSG.DELETE.IN", { seq = 1 })
    w.client:reply(request, "")
    local letter = w.client:await_stored("DEAD", 1)[1]
    assert.same({ "true", "" }, { letter:header "Moonbus-Reference", letter.data })
    host:wait_log "the data was not delivered, and cannot be fetched .*: only a reference to it is stored"
    host:stop()
    local result = redrive()
    assert.equal(1, result.status)
    assert.matches("only a reference to stream IN, sequence 1", result.stdout, 1, true)
    assert.equal(0, w.client:stream_info "IN".state.messages)
  end)

  it("has a reference when the host may not fetch, which redrive puts back", function()
    streams()
    w.client:store("in.a", "the data", { K = "v" })
    run(nil, [[return { auth = { user = "unfetching", password = "host" } }]])
    local letter = w.client:await_stored("DEAD", 1)[1]
    assert.same({ "true", "" }, { letter:header "Moonbus-Reference", letter.data })
    w.hosts[1]:stop()
    assert.equal(0, redrive().status)
    local back = w.client:message("IN", 2)
    assert.equal("the data", back.data)
    assert.same({ K = { "v" } }, strip(back.headers))
  end)

  describe("and whose letters have the headers alone, as an older host wrote them,", function()
    local function bury(timestamp)
      w.client:store("dead", "", { ["Moonbus-Stream"] = "IN", ["Moonbus-Consumer"] = "worker",
        ["Moonbus-Sequence"] = "1", ["Moonbus-Subject"] = "in.a", ["Moonbus-Attempt"] = "5",
        ["Moonbus-Timestamp"] = timestamp, ["Moonbus-Code"] = "handler_error",
        ["Moonbus-Error"] = "no", ["Nats-Msg-Size"] = "8", K = "v" })
    end

    local function timestamp_of(message)
      local year, month, day, hour, minute, second, fraction =
        message.time:match "(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.?(%d*)Z"
      local days = tonumber(io.popen(("date -u -d %s-%s-%s +%%s"):format(year, month, day)):read "*a")
      return ("%d%s"):format(days + hour * 3600 + minute * 60 + second,
        (fraction .. ("0"):rep(9)):sub(1, 9))
    end

    it("has the originals put back", function()
      streams()
      w.client:store("in.a", "the data", { K = "v" })
      bury(timestamp_of(w.client:message("IN", 1)))
      local result = redrive()
      assert.equal(0, result.status, result.stdout)
      local back = w.client:message("IN", 2)
      assert.equal("the data", back.data)
      assert.same({ K = { "v" } }, strip(back.headers))
    end)

    it("has them kept when the originals are gone: nothing empty is put back", function()
      streams()
      bury "1700000000000000000"
      local result = redrive()
      assert.equal(1, result.status)
      assert.equal(0, w.client:stream_info "IN".state.messages)
      assert.equal(1, w.client:stream_info "DEAD".state.messages)
    end)
  end)

  it("is not what a publisher makes of an empty message by the header", function()
    w.client:stream("IN", { "in.>" })
    w.client:stream("DEAD", { "dead" })
    raw.publish(w.server, "in.a", { "Nats-Msg-Size: 99", "K: v" }, "")
    local host = w:run [[
      local js = require "moonbus.jetstream"
      js.consume("IN", { durable = "worker", dead_letter = "dead" }, function(msg) msg:reject "no" end)
    ]]
    local letter = w.client:await_stored("DEAD", 1)[1]
    assert.is_nil(letter:header "Moonbus-Reference")
    w.client:await_settled("IN", "worker")
    host:stop()
    w.client:api("STREAM.MSG.DELETE.IN", { seq = 1 })
    assert.equal(0, redrive().status)
    local back = w.client:message("IN", 2)
    assert.same({ ["Nats-Msg-Size"] = { "99" }, K = { "v" } }, strip(back.headers))
  end)
end)
