-- moonbus check --asyncapi: a document of what handlers register, for programs.
local cjson = require "cjson"
local temp = require "spec.support.temp"
local world = require "spec.support.world"

local STREAMS = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
]]

local function consume(options)
  return ([[js.consume("IN", { durable = "worker", timeout = "10s", dead_letter = "dead.in" %s }, function(msg) end)
]]):format(options and ", " .. options or "")
end

describe("moonbus check --asyncapi", function()
  local w = world.new()
  after_each(function() w:clear() end)

  -- handlers: a text, or texts by their names.
  local function check(handlers)
    local folder = w:folder()
    if type(handlers) == "string" then handlers = { ["a.lua"] = handlers } end
    for name, text in pairs(handlers) do temp.write(folder, "handlers/" .. name, text) end
    temp.write(folder, "moonbus.lua",
      'return { name = "billing", servers = { "nats://u:secret@n1.example.com:4222" } }')
    return w:moonbus({ "check", "--asyncapi" }, { folder = folder })
  end

  local function document(handlers)
    local run = check(handlers)
    assert.is_nil(run.stdout:find "secret")
    return cjson.decode(run.stdout)
  end

  it("is an AsyncAPI 3 document: a channel for each subject, an operation for each handler and dead letter",
    function()
    local all = document(STREAMS .. consume 'filter = "in.created"' .. [[
      bus.subscribe("greet.*.>", { queue = "q" }, function() return 1 end)
      bus.subscribe("looks", { reply = false }, function() end)
    ]])
    assert.same({ "3.0.0", "billing", "n1.example.com:4222", "nats" },
      { all.asyncapi, all.info.title, all.servers.nats1.host, all.servers.nats1.protocol })
    assert.equal("greet.{token2}.{rest}", all.channels.greet_any_rest.address)
    assert.is_truthy(all.channels.greet_any_rest.parameters.token2)
    local greet = all.operations.receive_greet_any_rest
    assert.same({ "receive", "q", "0.1.0" }, { greet.action, greet.bindings.nats.queue,
      greet.bindings.nats.bindingVersion })
    assert.equal(cjson.null, all.channels.replies.address)
    assert.is_nil(all.operations.receive_looks.reply)
    assert.same({ "receive", "send" }, { all.operations.receive_in_created.action,
      all.operations.send_dead_in.action })
    assert.same({ "IN", "worker", "10s" }, { all.operations.receive_in_created["x-moonbus"].stream,
      all.operations.receive_in_created["x-moonbus"].durable,
        all.operations.receive_in_created["x-moonbus"].timeout })
  end)

  it("has references that lead somewhere, also for subjects that differ in odd characters", function()
    local all = document [[
      local bus = require "moonbus"
      for _, subject in ipairs { "a.b", "a_b", "a.*", "a.any", "replies", "ä~/" } do bus.subscribe(subject,
        function() end) end
    ]]
    local count = 0
    for _, operation in pairs(all.operations) do
      for _, reference in ipairs { operation.channel["$ref"], operation.reply.channel["$ref"] } do
        local id = reference:match "^#/channels/([%w_%-]+)$"
        assert.is_truthy(all.channels[id], reference)
      end
      count = count + 1
    end
    assert.equal(6, count)
  end)

  it("lacks what does not load, and says so beside it", function()
    local run = check { ["a.lua"] = STREAMS .. consume(), ["b.lua"] = "= 1" }
    assert.equal(2, run.status)
    assert.is_truthy(cjson.decode(run.stdout).operations.receive_in_rest)
    assert.matches("error: b%.lua:1: unexpected symbol", run.stderr)
  end)

  it("has what a handler's schema says of its payloads, as JSON Schema", function()
    local all = document(STREAMS .. consume [[filter = "in.created", schema = { id = "integer", note = "string?",
      list = { bus.schema.enum { "a", 1 } }, n = bus.schema.default("integer", 3) }]])
    local reference = all.operations.receive_in_created.messages[1]["$ref"]
    local id = reference:match "^#/channels/in_created/messages/([%w_%-]+)$"
    local payload = all.channels.in_created.messages[id].payload
    assert.same({ type = "object", required = { "id", "list" }, properties = {
      id = { type = "integer" }, note = { type = "string" }, n = { type = "integer", default = 3 },
      list = { type = "array", items = { enum = { "a", 1 } } } } }, payload)
  end)

  it("has a schema that refers to itself with its references, which lead somewhere", function()
    local fields, defs = {}, {}
    for i = 1, 9 do fields[i] = ('"n%d":{"$ref":"#/$defs/n%d"}'):format(i, i) end
    for i = 1, 9 do defs[i] = ('"n%d":{"properties":{%s},"type":"object"}'):format(i, table.concat(fields, ",")) end
    local all = document { ["tree.json"] = ('{"$ref":"#/$defs/n1","$defs":{%s}}'):format(table.concat(defs, ",")),
      ["a.lua"] = 'require("moonbus").subscribe("tree", { schema = "tree.json" }, function() end)' }
    local count = 0
    local function look(value)
      if type(value["$ref"]) == "string" then
        local place = all
        for name in value["$ref"]:sub(2):gmatch "/([^/]+)" do place = place[name] end
        assert.is_truthy(place, value["$ref"])
        count = count + 1
      end
      for _, inner in pairs(value) do
        if type(inner) == "table" then look(inner) end
      end
    end
    look(all.channels.tree.messages)
    assert.equal(82, count)
  end)

  it("gives a durable without a filter the subjects of its stream", function()
    assert.equal("in.{rest}", document(STREAMS .. consume()).channels.in_rest.address)
  end)
end)
