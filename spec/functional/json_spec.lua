-- JSON changes nothing silently: what Lua's numbers cannot hold is refused, by its path, or kept as a
-- string; and what is not JSON is refused, by its place.
local world = require "spec.support.world"

describe("JSON", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A handler that replies with what the expression gives, of `msg`.
  local function run(expression, options)
    options = options or {}
    return w:run { config = options.config, handlers = { ["handler.lua"] = ([[
local bus = require "moonbus"
bus.subscribe("spec", function(msg) %s end)]]):format(expression) } }
  end

  local function ask(data)
    local reply = assert(w.client:request("spec", data, { timeout = 20 }))
    return reply.data, reply:header "Nats-Service-Error"
  end

  describe("integers", function()
    it("up to 2^53 survive exactly, there and back", function()
      run "return msg:json()"
      for _, text in ipairs { "9007199254740992", "-9007199254740992", "9007199254740991",
        "123456789012345", "1234567890123456" } do
        assert.equal('{"id":' .. text .. "}", (ask('{"id":' .. text .. "}")))
      end
    end)

    for _, big in ipairs { "9007199254740993", "1541815603606036480", "-9007199254740993",
      "123456789012345678901234567890" } do
      it("such as " .. big .. " are refused, with their path and what helps", function()
        run "return msg:json()"
        local _, err = ask('{"orders":[{"id":1},{"id":' .. big .. '}]}')
        assert.is_truthy(err:find("orders[2].id: " .. big .. " is beyond 2^53", 1, true), err)
        assert.is_truthy(err:find('msg:json { big = "string" }', 1, true), err)
      end)
    end

    it("that are refused send their message to the dead letter, at once", function()
      w.client:stream("IN", { "in" })
      w.client:stream("DEAD", { "dead" })
      w.client:store("in", '{"id":1541815603606036481}')
      w:run [[
local js = require "moonbus.jetstream"
js.consume("IN", { durable = "d", attempts = 3, dead_letter = "dead" }, function(msg) msg:json() end)]]
      w.client:await_stored("DEAD", 1)
      local letter = w.client:message("DEAD", 1)
      assert.equal('{"id":1541815603606036481}', letter.data)
    end)

    it("beyond 2^53 keep their digits as strings where that is asked for", function()
      run 'return msg:json { big = "string" }'
      assert.equal('["1541815603606036481","-9007199254740993",7,1.5]',
        (ask "[1541815603606036481,-9007199254740993,7,1.5]"))
    end)

    it("beyond 2^53 are the nearest number where that is asked for, written without an exponent", function()
      run 'return msg:json { big = "number" }'
      assert.equal("[1541815603606036480,-9007199254740992,99999999999999991611392]",
        (ask "[1541815603606036481,-9007199254740993,1e23]"))
    end)

    it("are treated as the config says, unless the call says otherwise", function()
      run('return { (msg:json().id), tostring(select(2, pcall(msg.json, msg, { big = "error" }))) }',
        { config = 'return { json = { big = "string" } }' })
      local data = ask '{"id":1541815603606036481}'
      assert.matches('^%["1541815603606036481","bad_payload: id: 1541815603606036481 is beyond', data)
    end)

    it("are read alike by bus.json.decode and from replies", function()
      w:run [[
local bus = require "moonbus"
bus.subscribe("big", function() return '{"id":1541815603606036481}' end)
bus.subscribe("spec", function(msg)
  local value, err = bus.json.decode(msg.data)
  local reply = bus.request("big", "")
  return { tostring(value), err.code, err.message, bus.json.decode(msg.data, { big = "string" }).a,
    tostring(select(2, reply:json { strict = false })), reply:json { big = "string" }.id }
end)]]
      local list = w.client:request("spec", '{"a":9007199254740993}'):json()
      assert.same({ "nil", "bad_payload", list[3], "9007199254740993", list[5], "1541815603606036481" }, list)
      assert.matches("^a: 9007199254740993 is beyond 2%^53.*bus%.json%.decode%(text, { big = \"string\" }%)", list[3])
      assert.matches("^protocol: the answer: id: ", list[5])
    end)

    it("that a script computes are written with all their digits, also as keys, headers and texts", function()
      local host = w:run [[
local bus = require "moonbus"
local id = 123456789012345
bus.subscribe("spec", function(msg)
  bus.log.info(id, { id = id, [id] = 2 ^ 60 })
  print(id, -id)
  msg:respond({ id = id, big = 2 ^ 60, text = tostring(id) .. " " .. tostring(2 ^ 53) .. " " .. tostring(1.5) },
    { headers = { Id = id } })
end)]]
      local reply = w.client:request("spec", "")
      assert.equal("123456789012345", reply:header "Id")
      assert.is_truthy(reply.data:find('"id":123456789012345', 1, true), reply.data)
      assert.is_truthy(reply.data:find('"big":1152921504606846976', 1, true), reply.data)
      assert.is_truthy(reply.data:find('"text":"123456789012345 9007199254740992 1.5"', 1, true), reply.data)
      host:wait_log { msg = "^123456789012345$" }
      host:wait_log { msg = "^123456789012345\t%-123456789012345$" }
      for _, field in ipairs { '"id":123456789012345', '"123456789012345":1152921504606846976' } do
        assert.is_truthy(host:output():find(field, 1, true), host:output())
      end
    end)

    it("in options that nobody knows are misuse", function()
      run [[return {
  tostring(select(2, pcall(msg.json, msg, { big = "text" }))), tostring(select(2, pcall(msg.json, msg, { bgi = 1 }))),
  tostring(select(2, pcall(bus.json.decode, "1", "string"))),
  tostring(select(2, pcall(bus.json.decode, "1", { strict = false }))) }]]
      local data = ask "1"
      assert.matches('big must be', data)
      assert.matches('unknown option .*bgi.*big and strict', data)
      assert.matches('options must be a table', data)
      assert.matches('bus.json.decode: unknown option .*strict.*there is big', data) -- it never raises
    end)
  end)

  describe("that is none", function()
    for text, why in pairs {
      ['"a\nb"'] = "a raw control character in a string at 3",
      ['{"a\t":1}'] = "a raw control character in a string at 4",
      ["[1.]"] = "a digit is expected at 4, got ']'",
      ["1."] = "a digit is expected at 3, got the end",
      ["[.5]"] = "a value is expected at 2, got '.'",
      ["[01]"] = "a number that begins with 0 at 2",
      ["[1e]"] = "a digit is expected at 4, got ']'",
      ["[1e400]"] = "a number beyond what a double can hold at 2",
      ["[1,]"] = "a value is expected at 4, got ']'",
      ['{"a":1,}'] = "a name in quotes is expected at 8, got '}'",
      ["{a:1}"] = "a name in quotes is expected at 2, got 'a'",
      ['{"a" 1}'] = "':' is expected at 6, got '1'",
      ["[1 2]"] = "',' or ']' is expected at 4, got '2'",
      ["[nul]"] = "a value is expected at 2, got 'n'",
      ["[NaN]"] = "a value is expected at 2, got 'N'",
      ["1 2"] = "the end is expected at 3, got '2'",
      ['"abc'] = "the end of the string is expected at 5, got the end",
      ['"\\q"'] = "an escape that JSON does not have at 2",
      ['"\\u12x4"'] = "\\u without four hex digits at 2",
      ['"\\ud83d"'] = "half of a pair of surrogates at 2",
      ['"\255"'] = "not UTF-8 (byte 0xff at 2)",
      ["\239\187\191[]"] = "a value is expected at 1, got byte 0xef",
      [""] = "it is empty",
      [("["):rep(129) .. ("]"):rep(129)] = "nested more than 128 levels deep",
    } do
      it(("is refused by its place: %s"):format(why), function()
        run [[
local value, err = bus.json.decode(msg.data)
return tostring(value) .. " " .. err.code .. " " .. err.message]]
        local data = ask(text)
        assert.matches("^nil bad_payload not JSON", data)
        assert.is_truthy(data:find(why, 1, true), data)
      end)
    end
  end)

  it("of every kind is read as it was meant", function()
    run [[
local v = msg:json()
return table.concat({ v.text, v.pair, #v.nul, tostring(v.yes), tostring(v.no), tostring(v.gone), v.n, v.f,
  v.e, v.list[3], tostring(v.list[2] == bus.json.null), bus.json.encode(v.empty), bus.json.encode(v.object),
  v.twice }, "|")]]
    assert.equal('a\195\188"\\/\b\f\n\r\t|\240\159\152\128|1|true|false|nil|-7|0.25|1500|3|true|[]|{}|2',
      (ask [[ { "text" : "a\u00FC\"\\\/\b\f\n\r\t", "pair":"\ud83d\ude00", "nul":"\u0000", "yes":true, "no":false,
        "gone":null, "n":-7, "f":0.25, "e":1.5e3, "list":[1,null,3], "empty":[ ], "object":{ },
        "twice":1, "twice":2 } ]]))
  end)

  it("null by itself is nil, and bus.json.null where nil would be an error's", function()
    run [[
local kinds = { msg:json() == nil, msg:json { strict = false } == bus.json.null,
  (bus.json.decode(msg.data)) == bus.json.null, select("#", msg:json { strict = false }) }
for i, each in ipairs(kinds) do kinds[i] = tostring(each) end
return table.concat(kinds, " ")]]
    assert.equal("true true true 1", (ask "null"))
  end)
end)
