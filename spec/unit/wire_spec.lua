local ffi = require "ffi"
local units = require "spec.support.units"

-- What bus/request/jsapi.h has from cJSON's own header; the library comes with the units.
if not pcall(ffi.typeof, "cJSON") then
  ffi.cdef [[
    typedef struct cJSON cJSON;
    cJSON *cJSON_Parse(const char *text);
    void cJSON_Delete(cJSON *item);
  ]]
end
units.include "bus/wire.h"
units.include "bus/request/jsapi.h"
local lib = units.lib

describe("the answer to a JetStream publish", function()
  local function parse(json)
    local out, err = ffi.new "struct receipt", units.err()
    local api_code, transient = ffi.new "int[1]", ffi.new "bool[1]"
    local code = lib.wire_parse_puback(json, #json, out, api_code, transient, err)
    if code == 0 then
      return {
        stream = ffi.string(out.stream), sequence = tonumber(out.sequence),
        duplicate = out.duplicate,
      }
    end
    local name, message = units.read_err(err)
    return nil, { code = name, message = message, api_code = api_code[0], transient = transient[0] }
  end

  it("tells where the message was stored", function()
    assert.same({ stream = "ORDERS", sequence = 42, duplicate = false },
      parse '{"stream":"ORDERS","seq":42}')
  end)

  it("is read the same in whichever way it is written", function()
    local stored = { stream = "ORDERS", sequence = 42, duplicate = false }
    for _, json in ipairs {
      '{"stream":"ORDERS", "seq":42}', '{"stream":"ORDERS", "seq":42 }', '{"seq":42,"stream":"ORDERS"}',
      '{"stream":"ORDERS", "seq":42,"domain":"hub"}', '{"stream":"\\u004fRDERS", "seq":42}',
      '{"stream":"ORDERS","seq":42,"duplicate":false}', '{"stream":"ORDERS","seq":42.0}',
    } do
      assert.same(stored, parse(json), json)
    end
  end)

  it("keeps a sequence beyond what a double holds", function()
    local json = '{"stream":"ORDERS", "seq":9007199254740993}'
    for _, more in ipairs { "", "123" } do
      local text = json:gsub("}$", more .. "}")
      local out, err = ffi.new "struct receipt", units.err()
      assert.equal(0, lib.wire_parse_puback(text, #text, out, ffi.new "int[1]", ffi.new "bool[1]", err))
      assert.equal("9007199254740993" .. more .. "ULL", tostring(out.sequence))
    end
  end)

  it("is none when it is cut off, or something else", function()
    for _, json in ipairs {
      "", "{", '{"stream":"', '{"stream":"ORDERS', '{"stream":"ORDERS"', '{"stream":"ORDERS",',
      '{"stream":"ORDERS", "seq":', '{"stream":"ORDERS", "seq":42', '{"stream":"", "seq":42}',
      '{"stream":"' .. ("x"):rep(256) .. '", "seq":42}', '{"stream":"ORDERS", "seq":"42"}', "OK",
    } do
      assert.is_nil((parse(json)), json)
    end
  end)

  it("tells a duplicate", function()
    assert.same({ stream = "ORDERS", sequence = 42, duplicate = true },
      parse '{"stream":"ORDERS","domain":"hub","seq":42,"duplicate":true}')
  end)

  it("without a sequence is no confirmation, and may be asked for again", function()
    local receipt, err = parse '{"stream":"ORDERS","seq":0,"duplicate":true}'
    assert.is_nil(receipt)
    assert.is_true(err.transient)
  end)

  local function refusal(http, err_code, description)
    local _, err = parse(('{"error":{"code":%d,"err_code":%d,"description":"%s"},"stream":"S","seq":0}')
      :format(http, err_code, description))
    return err
  end

  for _, err_code in ipairs { 10060, 10070, 10071, 10164 } do
    it("names an expectation that was not met: " .. err_code, function()
      local err = refusal(400, err_code, "wrong last sequence: 5")
      assert.equal("wrong_sequence", err.code)
      assert.equal(err_code, err.api_code)
      assert.equal("wrong last sequence: 5", err.message)
      assert.is_false(err.transient)
    end)
  end

  it("names a message that is too large", function()
    assert.equal("too_large", refusal(400, 10054, "message size exceeds maximum allowed").code)
  end)

  it("of a full stream is worth another try", function()
    local err = refusal(503, 10077, "maximum messages exceeded")
    assert.equal("api_error", err.code)
    assert.is_true(err.transient)
    assert.matches("maximum messages exceeded", err.message, 1, true)
    assert.matches("10077", err.message, 1, true)
  end)

  it("of a stream whose replicas are still agreeing on the id is worth another try", function()
    assert.is_true(refusal(409, 10158, "duplicate message id is in process").transient)
    assert.is_true(refusal(429, 10167, "too many requests").transient)
  end)

  it("of a sealed stream is not", function()
    assert.is_false(refusal(400, 10109, "invalid operation on sealed stream").transient)
  end)

  it("of an account without JetStream is not", function()
    assert.is_false(refusal(503, 10039, "JetStream not enabled for account").transient)
  end)

  for _, json in ipairs {
    '{"stream":"\0","seq":1}',
    "", "hello", "[]", "42", "{}", '{"stream":"S"}', '{"seq":1}', '{"stream":"","seq":1}',
    '{"stream":"S","seq":"1"}', '{"stream":"S","seq":-1}', '{"stream":"S","seq":1',
    '{"stream":"' .. ("s"):rep(256) .. '","seq":1}',
  } do
    it(("is none: %s"):format(#json > 40 and json:sub(1, 40) .. "..." or json), function()
      local receipt, err = parse(json)
      assert.is_nil(receipt)
      assert.equal("api_error", err.code)
      assert.is_false(err.transient)
    end)
  end
end)

describe("header fields", function()
  local headers

  before_each(function() headers = ffi.new "struct headers" end)
  after_each(function() lib.headers_clear(headers) end)

  local function add(name, value)
    local err = units.err()
    if lib.headers_add(headers, name, value, #value, err) == 0 then
      return true
    end
    return nil, units.read_err(err)
  end

  local function get(name)
    local value = lib.headers_get(headers, name)
    return value.at ~= nil and ffi.string(value.at, value.len) or nil
  end

  local function all(of)
    local position = ffi.new "size_t[1]"
    local field = ffi.new "struct header_field"
    local fields = {}
    while lib.headers_next(of or headers, position, field) do
      fields[#fields + 1] = { ffi.string(field.name.at, field.name.len), ffi.string(field.value.at, field.value.len) }
    end
    return fields
  end

  it("keep their order and several values of one name", function()
    add("A", "1")
    add("B", "")
    add("A", "2")
    assert.same({ { "A", "1" }, { "B", "" }, { "A", "2" } }, all())
    assert.equal(3, headers.count)
  end)

  it("that were received are sent again, a CR or LF alone as a space, and never with a NUL", function()
    local function again(name, value)
      return lib.headers_add_received(headers, { at = name, len = #name }, { at = value, len = #value }, units.err())
    end
    assert.equal(0, again("A", "a\rb\nc"))
    assert.equal(0, again("Empty", ""))
    assert.is_true(again("B", "a\0b") < 0)
    assert.is_true(again("B c", "x") < 0)
    assert.is_true(again("B\0c", "x") < 0)
    assert.same({ { "A", "a b c" }, { "Empty", "" } }, all())
  end)

  it("are found without regard to case, the first of several", function()
    add("Content-Type", "text/plain")
    add("content-type", "other")
    assert.equal("text/plain", get "CONTENT-TYPE")
    assert.is_nil(get "Content")
  end)

  it("grow as needed", function()
    for index = 1, 1000 do
      add("Key-" .. index, ("v"):rep(index))
    end
    assert.equal(("v"):rep(1000), get "Key-1000")
    assert.equal(1000, #all())
  end)

  it("are 4096 at most", function()
    for _ = 1, 4096 do assert.is_true(add("A", "")) end
    local ok, code, message = add("B", "")
    assert.is_nil(ok)
    assert.equal("invalid", code)
    assert.matches('header "B": more than 4096 headers', message, 1, true)
  end)

  it("know their size on the wire", function()
    assert.equal(0, tonumber(lib.headers_wire_size(headers)))
    add("A", "1")
    add("Name", "")
    assert.equal(#"NATS/1.0\r\nA: 1\r\nName: \r\n\r\n", tonumber(lib.headers_wire_size(headers)))
  end)

  it("are the text that goes over the wire, with what stands around it", function()
    add("A", "1")
    add("B", " x: y ")
    add("C", "")
    local size = tonumber(lib.headers_wire_size(headers))
    local block = ffi.new("char[?]", size)
    assert.equal(block + size, lib.headers_write(headers, block))
    assert.equal("NATS/1.0\r\nA: 1\r\nB:  x: y \r\nC: \r\n\r\n", ffi.string(block, size))
    assert.same(all(), all(lib.headers_of_block(block, size)))
    assert.same({}, all(lib.headers_of_block(nil, 0)))
  end)

  it("may hold any other byte in a value", function()
    assert.is_true(add("A", "\t \1\255: ü"))
    assert.equal("\t \1\255: ü", get "A")
  end)

  for what, value in pairs { CR = "a\rb", LF = "a\nInjected: yes", NUL = "a\0b" } do
    it("refuse a value with " .. what, function()
      local ok, code, message = add("X-Thing", value)
      assert.is_nil(ok)
      assert.equal("invalid", code)
      assert.matches("X-Thing", message, 1, true)
      assert.same({}, all())
    end)
  end

  for _, name in ipairs { "", "a b", "a:b", "a\tb", "a\r\nb", "\127", "ü" } do
    it(("refuse the name %q"):format((name:gsub("%c", "?"))), function()
      local ok, code = add(name, "v")
      assert.is_nil(ok)
      assert.equal("invalid", code)
    end)
  end
end)

describe("comparing settings that are stated with those of the server", function()
  local function compare(stated, actual, skip)
    local err = units.err()
    local here, there = lib.cJSON_Parse(stated), lib.cJSON_Parse(actual)
    assert(here ~= nil and there ~= nil, "the test's JSON")
    local names = skip and ffi.new("const char *[?]", #skip + 1, skip)
    if names then
      names[#skip] = nil
    end
    local code = lib.jsapi_compare(here, there, names, err)
    lib.cJSON_Delete(here)
    lib.cJSON_Delete(there)
    if code == 0 then
      return "same"
    end
    local name, message = units.read_err(err)
    assert.equal("mismatch", name)
    return message
  end

  it("looks only at what is stated", function()
    assert.equal("same", compare('{"name":"S"}', '{"name":"S","max_age":5,"retention":"limits"}'))
  end)

  it("shows both values of the first difference, durations as people write them", function()
    assert.equal("max_age: here 1h, on the server 2h",
      compare('{"name":"S","max_age":3600000000000}', '{"name":"S","max_age":7200000000000}'))
    assert.equal("ack_wait: here 30s, on the server 1m30s",
      compare('{"ack_wait":30000000000}', '{"ack_wait":90000000000}'))
    assert.equal("duplicate_window: here 2m, on the server not set",
      compare('{"duplicate_window":120000000000}', '{}'))
    assert.equal("inactive_threshold: here 250ms, on the server 5s",
      compare('{"inactive_threshold":250000000}', '{"inactive_threshold":5000000000}'))
    assert.equal('retention: here "workqueue", on the server "limits"',
      compare('{"retention":"workqueue"}', '{"retention":"limits"}'))
    assert.equal("max_msgs: here 10, on the server -1",
      compare('{"max_msgs":10}', '{"max_msgs":-1}'))
  end)

  it("finds a field that the server dropped", function()
    assert.equal('filter_subjects: here ["a"], on the server not set',
      compare('{"filter_subjects":["a"]}', '{}'))
    assert.equal("deny_delete: here true, on the server not set", compare('{"deny_delete":true}', '{}'))
  end)

  it("takes what is absent for false, 0, an empty string and an empty list", function()
    assert.equal("same", compare('{"a":false,"b":0,"c":"","d":[],"e":null}', '{}'))
    assert.equal("same", compare('{"a":0}', '{"a":null}'))
  end)

  it("takes a limit of 0 for none, as the server does", function()
    assert.equal("same", compare('{"max_bytes":0,"max_msgs":0}', '{"max_bytes":-1,"max_msgs":-1}'))
    assert.equal("same", compare('{"num_replicas":0}', '{"num_replicas":1}'))
    assert.equal("max_age: here 0s, on the server -1", compare('{"max_age":0}', '{"max_age":-1}'))
  end)

  it("compares lists of subjects as sets", function()
    assert.equal("same", compare('{"subjects":["a","b"]}', '{"subjects":["b","a"]}'))
    assert.equal("same", compare('{"filter_subjects":["a","b"]}', '{"filter_subjects":["b","a"]}'))
    assert.equal('subjects: here ["a"], on the server ["a","b"]',
      compare('{"subjects":["a"]}', '{"subjects":["a","b"]}'))
    assert.equal('subjects: here ["a","a"], on the server ["a","b"]',
      compare('{"subjects":["a","a"]}', '{"subjects":["a","b"]}'))
  end)

  it("compares other lists in order, and in depth", function()
    assert.equal("same", compare('{"sources":[{"name":"A"}]}', '{"sources":[{"name":"A","x":1}]}'))
    assert.matches("^sources", compare('{"sources":[{"name":"A"},{"name":"B"}]}',
      '{"sources":[{"name":"B"},{"name":"A"}]}'))
    assert.equal("backoff: here 1s, on the server 2s",
      compare('{"backoff":[1000000000]}', '{"backoff":[2000000000]}'))
  end)

  it("goes into objects, and names the path", function()
    assert.equal("same", compare('{"metadata":{"a":"1"}}', '{"metadata":{"a":"1","_nats.level":"0"}}'))
    assert.equal('placement.cluster: here "east", on the server "west"',
      compare('{"placement":{"cluster":"east"}}', '{"placement":{"cluster":"west"}}'))
    assert.equal('metadata.a: here "1", on the server not set', compare('{"metadata":{"a":"1"}}', '{}'))
  end)

  it("shows numbers as they are that cannot be durations", function()
    assert.equal("max_age: here 1e+300, on the server -1",
      (compare('{"max_age":1e300}', '{"max_age":-1}'):gsub("1%.0000000000000001e", "1e")))
  end)

  it("takes lists of other things than strings for the same when they are", function()
    assert.equal("same", compare('{"subjects":["a",1]}', '{"subjects":[1,"a"]}'))
  end)

  it("passes over what it is told to", function()
    assert.equal("same", compare('{"deliver_policy":"new"}', '{"deliver_policy":"all"}',
      { "opt_start_seq", "deliver_policy" }))
  end)

  it("does not mistake a type for another", function()
    assert.equal('name: here "1", on the server 1', compare('{"name":"1"}', '{"name":1}'))
    assert.equal("flag: here true, on the server false", compare('{"flag":true}', '{"flag":false}'))
  end)
end)
