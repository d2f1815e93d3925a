local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("bus.request_many", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local ASK = [[
local bus = require "moonbus"
bus.subscribe("ask", { timeout = "1m" }, function(msg)
  local opts, names = bus.json.decode(msg.data), {}
  local replies = bus.request_many("who", "", opts)
  for reply, err in replies do names[#names + 1] = err and tostring(err.status) or reply.data end
  table.sort(names)
  return { names = bus.json.array(names), ended = replies.ended, code = replies.error and replies.error.code,
    error = replies.error and tostring(replies.error) }
end)]]

  local function ask(options)
    return assert(w.client:request("ask", options, { timeout = 20 * wait.slow })):json()
  end

  it("gathers the replies of all hosts and other clients", function()
    w:run(ASK)
    for i = 1, 2 do w:run(('require "moonbus".subscribe("who", function() return "host %d" end)'):format(i)) end
    w:run [[require "moonbus".subscribe("who", function() return nil, "no" end)]]
    local sub, answers = w.client:subscribe "who", w.client:subscribe "answer.*"
    w.client:publish("ask", '{"max":4}', nil, "answer.ask")
    local request = sub:next(10)
    w.client:publish(request.reply, "client")
    local got = assert(answers:next(10)):json()
    assert.same({ "500", "client", "host 1", "host 2" }, got.names)
    assert.equal("max", got.ended)
  end)

  it("to nobody ends at once, with the error", function()
    w:run(ASK)
    local got = ask '{"timeout":60}'
    assert.same({}, got.names)
    assert.equal("no_responders", got.code)
    assert.equal('no_responders: nobody serves "who"', got.error)
  end)

  it("goes on over a reload of its script", function()
    local host = w:run { handlers = { ["handler.lua"] = ASK } }
    local sub, answers = w.client:subscribe "who", w.client:subscribe "answer.*"
    w.client:publish("ask", '{"sentinel":true,"timeout":60}', nil, "answer.ask")
    local request = assert(sub:next(10))
    w.client:publish(request.reply, "before")
    temp.write(host.folder, "handlers/handler.lua", ASK .. "\n-- again")
    host:signal "HUP"
    host:wait_log "generation 2"
    w.client:publish(request.reply, "reloaded")
    w.client:publish(request.reply, "")
    assert.same({ "before", "reloaded" }, assert(answers:next(10)):json().names)
  end)

  it("is refused with file, line and hint", function()
    local host = w:run [[
local bus = require "moonbus"
bus.subscribe("ask", function(msg)
  local calls = {
    function() bus.request_many() end,
    function() bus.request_many("a.*") end,
    function() bus.request_many("a", "", { max = 0 }) end,
    function() bus.request_many("a", "", { sentinel = "end" }) end,
    function() bus.request_many("a", "", { jitter = "1s" }) end,
    function() bus.request_many("a", "", { timeout = "0s" }) end,
    function() return bus.request_many("a").err end,
    function() bus.request_many("a").close() end,
  }
  local said = {}
  for i, call in ipairs(calls) do said[i] = select(2, pcall(call)) end
  return said
end)]]
    local said = assert(w.client:request("ask", "")):json()
    assert.matches("^handler.lua:4: bus.request_many: the subject must be a string", said[1])
    assert.matches("^handler.lua:5: bus.request_many: ", said[2])
    assert.matches("^handler.lua:6: bus.request_many: max: expected an integer from 1 to", said[3])
    assert.matches("^handler.lua:7: bus.request_many: sentinel: expected true .* or a function", said[4])
    assert.matches('^handler.lua:8: bus.request_many: unknown option "jitter": here it is "stall"', said[5])
    assert.matches("^handler.lua:9: bus.request_many: timeout: expected at least 1ms", said[6])
    assert.matches('^handler.lua:10: replies.err: there is no such field: did you mean "error"', said[7])
    assert.matches("^handler.lua:11: replies:close: call it with a colon", said[8])
    assert.is_true(host:running())
  end)

  it("is refused while a script loads", function()
    local result = w:fail [[for _ in require "moonbus".request_many("a") do end]]
    assert.equal(2, result.status)
    assert.matches("bus.request_many: not while the script loads", result.output)
    assert.matches('"file":"handler.lua","line":1', result.output)
  end)
end)
