local cjson = require "cjson"
local sim = require "spec.sim.sim"

describe("A schema, in virtual time", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  local function run(text) return world:host { scripts = { ["s.lua"] = sim.script(text) } } end

  -- What a schema says of each of these texts of JSON: the value with its defaults, or the error.
  local function judge(schema, texts)
    local lines = {}
    for i, text in ipairs(texts) do lines[i] = ("%q"):format(text) end
    run(([[
      local s = bus.schema
      local schema = s(%s)
      for _, text in ipairs { %s } do
        local value, err = schema:check((bus.json.decode(text)))
        sim.note(err and err.message or value == nil and "nil" or bus.json.encode(value))
      end]]):format(schema, table.concat(lines, ", ")))
    return world:said()
  end

  -- What is wrong with a notation.
  local function misuse(schema)
    run(([[
      local s = bus.schema
      sim.note(select(2, pcall(function() return bus.schema(%s) end)))]]):format(schema))
    return world:said()[1]
  end

  it("nests at most 100 deep, however it was made", function()
    local most = "schemas nest at most 100 deep"
    for _, step in ipairs { "{ x }", "{ a = x }", "s.array(x)", "s.any_of { x }", "s.map(x)", "s.optional(x)" } do
      run(([[
        local s = bus.schema
        sim.note(tostring(select(2, pcall(function()
          local x = "string"
          for _ = 1, 5000 do x = %s end
          return bus.schema(x)
        end))))]]):format(step))
      local all = world:said()
      local said = all[#all]
      if step == "s.optional(x)" then
        assert.is_nil(said:find(most, 1, true))
      else
        assert.matches(most, said, 1, true)
      end
    end
  end)

  it("says which list is empty", function()
    run [[
      for _, make in ipairs { bus.schema.enum, bus.schema.any_of } do sim.note(select(2, pcall(make, {}))) end]]
    local said = world:said()
    assert.matches("bus.schema.enum: values: the list is empty: no value would fit", said[1], 1, true)
    assert.matches("bus.schema.any_of: alternatives: the list is empty", said[2], 1, true)
  end)

  it("says what helps for integers beyond 2^53", function()
    run [[bus.subscribe("in", { schema = { id = "integer" } }, function() return "" end)]]
    local reply = world:request("in", '{"id":9007199254740993}')
    assert.matches('id: 9007199254740993 is beyond 2^53: as a number it would lose digits; with a schema: ' ..
      '"integer|string" there, and json.big = "string" in the config', reply.headers["Nats-Service-Error"], 1, true)
  end)

  describe("says of a value, with the path,", function()
    it("which type it should have", function()
      assert.same({
        "expected object, got string", "id: expected integer, got nil", "id: expected integer, got 1.5",
        "id: expected integer, got string", "on: expected boolean, got nil", "n: expected number, got object",
      }, judge('{ id = "integer", on = "boolean", n = "number?" }', {
        '"x"', "{}", '{"id":1.5,"on":true}', '{"id":"1","on":true}', '{"id":1}', '{"id":1,"on":true,"n":{}}',
      }))
    end)

    it("which element of an array, and which field in it, does not fit", function()
      assert.same({
        "items[2].sku: expected string, got nil", "items: expected array, got object", '{"items":[]}',
        "items[1]: expected object, got array",
      }, judge('{ items = { { sku = "string" } } }', {
        '{"items":[{"sku":"a"},{}]}', '{"items":{}}', '{"items":[]}', '{"items":[[]]}',
      }))
    end)

    it("that an optional field may be absent, or null, and nothing else", function()
      assert.same({ "{}", "{}", "note: expected string, got number" },
        judge('{ note = "string?" }', { "{}", '{"note":null}', '{"note":1}' }))
    end)

    it("which bounds it passes: characters of a text, elements, numbers", function()
      assert.same({
        "t: expected string of 2 to 3 characters, got \"x\"", '{"t":"äöü"}',
        "t: expected string of 2 to 3 characters, got \"abcd\"",
      }, judge('{ t = s.string { min = 2, max = 3 } }', { '{"t":"x"}', '{"t":"äöü"}', '{"t":"abcd"}' }))
    end)

    it("which bounds a number passes", function()
      assert.same({ "expected integer of 1 to 9, got 0", "9", "expected integer of 1 to 9, got 10" },
        judge("s.integer { min = 1, max = 9 }", { "0", "9", "10" }))
    end)

    it("which pattern a text has not", function()
      assert.same({ '"ab"', 'expected string like "^%l+$", got "aB"' },
        judge('s.string { pattern = "^%l+$" }', { '"ab"', '"aB"' }))
    end)

    it("how many elements are too many", function()
      assert.same({ "[1,2]", "expected array of at most 2 elements, got array of 3" },
        judge('s.array("integer", { max = 2 })', { "[1,2]", "[1,2,3]" }))
    end)

    it("which value of a few it should be", function()
      assert.same({ '"a"', "2", 'expected "a" or 2, got "b"' },
        judge('s.enum { "a", 2 }', { '"a"', "2", '"b"' }))
    end)

    it("that a map has one kind of values, whatever their names", function()
      assert.same({ '{"a b":1}', '["a b"]: expected number, got string', "{}" },
        judge('s.map "number"', { '{"a b":1}', '{"a b":"x"}', "{}" }))
    end)

    it("which alternative comes nearest", function()
      assert.same({ "1", '"x"', "expected integer or string, got boolean" },
        judge('"integer|string"', { "1", '"x"', "true" }))
    end)

    it("which place of the nearest alternative does not fit", function()
      assert.same({ "a.b: expected integer, got string" },
        judge('s.any_of { "string", { a = { b = "integer" } } }', { '{"a":{"b":"x"}}' }))
    end)

    it("that unknown fields are allowed, unless the schema says no", function()
      assert.same({ '{"a":1}', "b: a field that the schema does not have" },
        judge('s.object({ a = "integer" }, { extra = false })', { '{"a":1}', '{"a":1,"b":2}' }))
    end)

    it("what it is when it is shown: shortened, and without what a terminal would obey", function()
      local said = judge('s.enum { "a" }', { '"\\u001b[31m' .. ("x"):rep(100) .. '"' })
      assert.matches("^expected \"a\", got .*%.%.%.\"$", said[1])
      assert.is_nil(said[1]:find "\27")
      assert.is_true(#said[1] < 100)
    end)
  end)

  it("puts in what is absent and has a default: another one each time", function()
    run [[
      local s = bus.schema
      local schema = s { tags = s.default({ "string" }, { "new" }), deep = { n = s.default("integer", 3) } }
      local first = schema:check { deep = {} }
      first.tags[1] = "changed"
      sim.note(bus.json.encode(schema:check { deep = {} }.tags) .. first.deep.n)
    ]]
    assert.same({ '["new"]3' }, world:said())
  end)

  it("takes any object, any array, and null, where it says so", function()
    assert.same({ '{"a":1}', "expected object, got array" }, judge('"object"', { '{"a":1}', "[1]" }))
    world:close()
    world = sim.new()
    assert.same({ "nil", "1" }, judge('"any"', { "null", "1" }))
    world:close()
    world = sim.new()
    assert.same({ '{"o":{}}', "o: expected object, got number" }, judge('{ o = "object?" }', { '{"o":{}}', '{"o":1}' }))
  end)

  it("takes an empty array for a default, and null in a value of Lua for an absent field", function()
    run [[
      local s = bus.schema
      local list = { "string" }
      local schema = s { tags = s.default(list, {}), more = s.default(list, bus.json.array {}), n = "string?" }
      sim.note(bus.json.encode(schema:check({ n = bus.json.null }).tags))
    ]]
    assert.same({ "[]" }, world:said())
  end)

  it("is refused at load with what would be right", function()
    local function said(text, schema)
      assert.equal(text, (misuse(schema):gsub("^s.lua:2: bus.schema: ", "")))
      world:close()
      world = sim.new()
    end
    said('a.b: unknown type "strng": did you mean "string"?', '{ a = { b = "strng" } }')
    said('unknown type "int": here it is "integer"', '"int"')
    said("an array has one kind of elements: write { bus.schema.any_of { ... } }", '{ "string", "integer" }')
    said("a field is named by a text, got true", '{ [true] = "string" }')
    said('a: expected a type ("string?"), { "string" } for an array, or a table of fields, got a number', "{ a = 5 }")
    said("s.lua:2: bus.schema.string: min (3) is more than max (2)", "s.string { min = 3, max = 2 }")
    said('s.lua:2: bus.schema.string: pattern: expected a pattern of Lua, got "(a"',
      's.string { pattern = "(a" }')
    said('s.lua:2: bus.schema.integer: unknown option "minimum": here it is "min"', "s.integer { minimum = 1 }")
    said("s.lua:2: bus.schema.default: the value does not fit: expected integer, got string",
      's.default("integer", "x")')
    said("s.lua:2: bus.schema.number: no value would fit: number above 1 below 1", "s.number { above = 1, below = 1 }")
    said("s.lua:2: bus.schema.integer: no value would fit: integer of at least 1 below 1",
      "s.integer { min = 1, below = 1 }")
    said("a schema is missing", "")
  end)

  it("that contains itself is refused", function()
    run [[
      local ring = {}
      ring.again = ring
      sim.note(select(2, pcall(bus.schema, ring)))
    ]]
    assert.equal("s.lua:3: bus.schema: again: the table contains itself", world:said()[1])
  end)

  it("in which a table stands often is read once", function()
    run [[
      local inner = "integer"
      for _ = 1, 60 do inner = { a = inner, b = inner } end
      local schema = bus.schema(inner)
      sim.note(select(2, schema:check {}).message)
    ]]
    assert.same({ "a: expected object, got nil" }, world:said())
  end)

  it("may stand in another one, and in an option", function()
    run [[
      local item = bus.schema { sku = "string", n = bus.schema.default("integer", 1) }
      local order = bus.schema { items = { item }, gift = bus.schema.optional(item) }
      bus.subscribe("order", { schema = order }, function(_, body) return body end)
    ]]
    local order = world:request("order", '{"items":[{"sku":"a"}]}').data
    assert.same({ items = { { sku = "a", n = 1 } } }, cjson.decode(order))
    assert.equal("gift.sku: expected string, got nil",
      world:request("order", '{"items":[],"gift":{}}').headers["Nats-Service-Error"])
  end)

  it("of a request answers 400 with the path, and the handler gets what fits", function()
    run [[
      bus.subscribe("s", { schema = { id = "integer" } }, function(msg, body)
        return { id = body.id, data = msg.data }
      end)
    ]]
    assert.same({ id = 5, data = '{"id":5}' }, cjson.decode(world:request("s", '{"id":5}').data))
    for text, why in pairs {
      ['{"id":"x"}'] = "id: expected integer, got string", ["{"] = "not JSON", [""] = "not JSON: it is empty",
    } do
      local reply = world:request("s", text)
      assert.equal("400", reply.headers["Nats-Service-Error-Code"])
      assert.matches(why, reply.headers["Nats-Service-Error"], 1, true)
    end
    local event = world:logged("error")[1]
    assert.same({ "bad_payload", "s.lua" }, { event.code, event.file })
  end)

  local STREAMS = [[
    js.stream { name = "IN", subjects = { "in" } }
    js.stream { name = "DEAD", subjects = { "dead" } }
  ]]

  it("of a durable sends what does not fit to the dead letter at once", function()
    run(STREAMS .. [[
      js.consume("IN", { durable = "d", dead_letter = "dead", schema = { id = "integer" } },
        function(msg, body) sim.note(body.id .. " " .. msg.attempt) end)
    ]])
    world:publish("in", '{"id":1}')
    world:publish("in", '{"id":true}')
    world:publish("in", "no JSON")
    world:advance "1s"
    assert.same({ "1 1" }, world:said())
    assert.same({ '{"id":true}', "no JSON" }, world:data_of "DEAD")
    assert.matches("id: expected integer, got boolean", world:messages("DEAD")[1].headers["Moonbus-Error"]
      or cjson.encode(world:messages("DEAD")[1]), 1, true)
  end)

  it("of a batch takes out what does not fit, and the handler gets the others", function()
    run(STREAMS .. [[
      js.consume("IN", { durable = "d", dead_letter = "dead", batch = { size = 3, wait = "200ms" },
        schema = { id = "integer" } }, function(msgs, bodies)
          local list = {}
          for i, msg in ipairs(msgs) do list[i] = msg.sequence .. ":" .. bodies[i].id end
          sim.note(table.concat(list, " "))
        end)
    ]])
    for _, text in ipairs { '{"id":1}', '{"id":"x"}', '{"id":3}', "a", "b", "c" } do world:publish("in", text) end
    world:advance "2s"
    assert.same({ "1:1 3:3" }, world:said())
    assert.same({ '{"id":"x"}', "a", "b", "c" }, world:data_of "DEAD")
    assert.equal(0, world:consumer("IN", "d").num_ack_pending)
  end)

  it("stands behind the middleware", function()
    run [[
      bus.use(function(msg, next) if msg.data == "stop" then return "stopped" end return next(msg) end)
      bus.subscribe("s", { schema = { id = "integer" } }, function(_, body) return tostring(body.id) end)
    ]]
    assert.equal("stopped", world:request("s", "stop").data)
    assert.equal("7", world:request("s", '{"id":7}').data)
  end)

  it("of a durable that delivers headers only is refused", function()
    run(STREAMS .. [[
      sim.note(select(2, pcall(js.consume, "IN", { durable = "d", schema = "any",
        consumer = { headers_only = true } }, function() end)))
    ]])
    assert.matches("schema: with consumer = { headers_only = true } there are no payloads", world:said()[1], 1, true)
  end)
end)

describe("A JSON Schema", function()
  local world

  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  -- What a document, written as Lua, says of these texts.
  local function judge(document, texts)
    world:close()
    world = sim.new()
    local host = world:host { scripts = { ["s.lua"] = sim.script "" } }
    host:write("o.schema.json", document)
    local lines = {}
    for i, text in ipairs(texts) do lines[i] = ("%q"):format(text) end
    host:reload("s.lua", sim.script(([[
      local ok, schema = pcall(bus.schema, "1-o.schema.json")
      if not ok then sim.note(schema) return end
      for _, text in ipairs { %s } do
        local value, err = schema:check((bus.json.decode(text)))
        sim.note(err and err.message or bus.json.encode(value))
      end]]):format(table.concat(lines, ", "))), true)
    return world:said()
  end

  it("in a file beside the script is a schema", function()
    assert.same({ '{"a":1}', "a: expected integer, got nil", "b: a field that the schema does not have" },
      judge('{"type":"object","required":["a"],"properties":{"a":{"type":"integer"}},"additionalProperties":false}',
        { '{"a":1}', "{}", '{"a":1,"b":2}' }))
  end)

  it("may refer to itself, with defaults at each depth", function()
    local said = judge([[{ "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/node",
      "$defs": { "node": { "type": "object", "required": ["name"], "properties": {
        "name": { "type": "string" }, "age": { "type": "integer", "default": 7 },
        "kids": { "type": "array", "items": { "$ref": "#/$defs/node" } } } } } }]],
      { '{"name":"x","kids":[{"name":"y","kids":[{"nam":3}]}]}', '{"name":"x","kids":[{"name":"y"}]}' })
    assert.equal("kids[1].kids[1].name: expected string, got nil", said[1])
    local tree = cjson.decode(said[2])
    assert.same({ 7, 7 }, { tree.age, tree.kids[1].age })
  end)

  it("may refer to itself from several alternatives: a value that nests deep takes no longer", function()
    local function nested(depth, last) return ('{"op":"not","left":'):rep(depth) .. last .. ("}"):rep(depth) end
    local alternative = '{"type":"object","required":["op","left"],"properties":{"op":{"const":"%s"},' ..
      '"left":{"$ref":"#/$defs/e"}}}'
    for _, combined in ipairs { "anyOf", "oneOf" } do
      local said = judge(('{"$ref":"#/$defs/e","$defs":{"e":{"%s":[%s,%s,{"type":"number"}]}}}'):format(combined,
        alternative:format "neg", alternative:format "not"),
        { nested(100, "1"), nested(100, '"x"'), nested(1, "true") })
      assert.equal(nested(100, "1"):gsub("[%[%]]", ""):len(), #said[1])
      assert.matches("^left%.left%..*: expected ", said[2])
      assert.matches("^left: expected ", said[3])
    end
    local all = judge('{"$ref":"#/$defs/e","$defs":{"e":{"allOf":[{"properties":{"left":{"$ref":"#/$defs/e"}}},' ..
      '{"properties":{"left":{"$ref":"#/$defs/e"}}}]}}}', { nested(100, "1") })
    assert.equal(#nested(100, "1"), #all[1])
  end)

  it("without a type holds for values of the keyword's own type", function()
    assert.same({ "[]", "5", '"x"' }, judge('{"minimum":3}', { "[]", "5", '"x"' }))
    assert.matches("^expected .*number of at least 3", judge('{"minimum":3}', { "2" })[1])
  end)

  it("combines: const, oneOf, allOf", function()
    assert.same({ '"a"', 'expected "a", got "b"' }, judge('{"const":"a"}', { '"a"', '"b"' }))
    assert.same({ "5", "expected one of the alternatives, got what fits 2",
      "expected integer of at least 2 or integer of at most 4, got string" },
      judge('{"oneOf":[{"type":"integer","minimum":2},{"type":"integer","maximum":4}]}', { "5", "3", '"x"' }))
    assert.same({ "5", "expected integer of at most 9, got 10" },
      judge('{"allOf":[{"type":"integer"},{"type":"integer","maximum":9}]}', { "5", "10" }))
  end)

  it("with what is not supported is refused at load, with the place", function()
    local function refused(text, document)
      assert.matches(text, judge(document, {})[1], 1, true)
    end
    refused('#/properties/a: the keyword "pattern" is not supported: it is a regular expression',
      '{"properties":{"a":{"type":"string","pattern":"^a"}}}')
    refused('#: the keyword "dependentSchemas" is not supported', '{"dependentSchemas":{}}')
    refused('#/$ref: only references inside the document are supported', '{"$ref":"other.json"}')
    refused('#/$ref: nothing is at "#/$defs/x"', '{"$ref":"#/$defs/x"}')
    refused("a schema refers to itself with no field or element between", '{"$ref":"#"}')
    refused('const: null is written "type": "null"', '{"const": null}')
    refused('#/type: unknown type "int": there are array, boolean, integer, null', '{"type":"int"}')
    refused('#: the keyword "tpye" is not supported: did you mean "type"?', '{"tpye":"string"}')
    refused("maximum: 9223372036854775807 is beyond 2^53: as a number it would lose digits; no value beyond it " ..
      "fits a schema: leave that bound out", '{"type":"integer","maximum":9223372036854775807}')
    refused("#/minLength: expected a count", '{"type":"string","minLength":-1}')
    refused("#: expected a schema", "[1]")
    refused('#/$ref: "#item" is a name of $anchor, which is not supported: name the place, as "#/$defs/item"',
      '{"$ref":"#item","$defs":{"item":{"$anchor":"item"}}}')
    refused('#: the keyword "$anchor" is not supported: name the place: "$ref"', '{"$anchor":"item"}')
    refused("#/anyOf: the list is empty: a value has to fit one of its schemas", '{"anyOf":[]}')
    refused("#/enum: the list is empty: no value would fit", '{"enum":[]}')
    refused("#/type: the list is empty: no value would fit", '{"type":[]}')
    refused("#/anyOf: expected a list of schemas, got 5", '{"anyOf":5}')
    refused("o.schema.json: not JSON", "{")
  end)

  it("has defaults that fit it, or is refused", function()
    local function refused(text, document)
      assert.matches(text, judge(document, {})[1], 1, true)
    end
    refused("#/default: it does not fit its schema: expected integer, got string", '{"type":"integer","default":"x"}')
    refused("#/properties/a/default: it does not fit its schema: [2]: expected string, got number",
      '{"properties":{"a":{"type":"array","items":{"type":"string"},"default":["x",5]}}}')
    assert.same({ '{"a":7}' }, judge('{"properties":{"a":{"type":"integer","default":7}}}', { "{}" }))
  end)

  it("nests at most 100 deep", function()
    local function nested(depth)
      return ('{"items":'):rep(depth) .. "{}" .. ("}"):rep(depth)
    end
    assert.matches("schemas nest at most 100 deep", judge(nested(110), {})[1], 1, true)
    assert.same({ "[]" }, judge(nested(20), { "[]" }))
  end)

  it("that is not there is refused with where it was looked for", function()
    world:host { scripts = { ["s.lua"] = sim.script [[sim.note(select(2, pcall(bus.schema, "x.schema.json")))]] } }
    assert.matches("bus.schema: cannot read x.schema.json: .*x.schema.json", world:said()[1])
  end)
end)
