local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/json.h"
ffi.cdef [[
struct cJSON *cJSON_Parse(const char *text);
void cJSON_Delete(struct cJSON *json);
]]
local lib = units.lib

local function parse(text)
  local json = lib.cJSON_Parse(text)
  assert(json ~= nil, "no JSON: " .. text)
  return ffi.gc(json, lib.cJSON_Delete)
end

local function text(object, name)
  local found = lib.json_text(object, name)
  return found ~= nil and ffi.string(found) or nil
end

local function first(object, name)
  local found = lib.json_first_text(object, name)
  return found ~= nil and ffi.string(found) or nil
end

describe("a field of JSON", function()
  it("is read as what it is", function()
    local json = parse '{"t":"text","n":1.5,"yes":true,"no":false,"list":["a","b"]}'
    assert.equal("text", text(json, "t"))
    assert.equal(1.5, lib.json_number(json, "n", 0))
    assert.equal(1, tonumber(lib.json_integer(json, "n", 0)))
    assert.is_true(lib.json_true(json, "yes"))
    assert.is_false(lib.json_true(json, "no"))
    assert.equal("a", first(json, "list"))
  end)

  it("is what the caller says when it is missing, null or of another kind", function()
    local json = parse '{"t":7,"n":"7","null":null,"list":[7],"empty":[],"object":{"x":"y"},"T":"t"}'
    for _, name in ipairs { "t", "null", "list", "object", "missing", "N" } do
      assert.is_nil(text(json, name))
      assert.equal("else", ffi.string(lib.json_text_or(json, name, "else")))
    end
    for _, name in ipairs { "n", "null", "list", "object", "missing", "T" } do
      assert.equal(-3, lib.json_number(json, name, -3))
      assert.equal(-3, tonumber(lib.json_integer(json, name, -3)))
      assert.equal(3, tonumber(lib.json_unsigned(json, name, 3)))
      assert.is_false(lib.json_true(json, name))
    end
    for _, name in ipairs { "t", "null", "list", "empty", "object", "missing" } do
      assert.is_nil(first(json, name))
    end
  end)

  it("is missing in what is no object, so that questions can be nested", function()
    local list = parse '["x"]'
    for _, nothing in ipairs { ffi.cast("struct cJSON *", nil), list } do
      assert.is_true(lib.json_field(nothing, "x") == nil)
      assert.is_nil(text(lib.json_field(nothing, "x"), "y"))
      assert.equal(9, tonumber(lib.json_unsigned(lib.json_field(nothing, "x"), "y", 9)))
    end
  end)

  it("is no integer when it does not fit", function()
    local json = parse ('{"most":9223372036854774784,"least":-9223372036854775808,' ..
      '"over":9223372036854775808,"most_u":18446744073709549568,"over_u":18446744073709551616,' ..
      '"minus":-1,"huge":1e300,"int":-2147483648,"over_int":2147483648}')
    assert.equal(9223372036854774784LL, lib.json_integer(json, "most", 5))
    assert.equal(-9223372036854775807LL - 1, lib.json_integer(json, "least", 5))
    assert.equal(18446744073709549568ULL, lib.json_unsigned(json, "most_u", 5))
    assert.equal(-2147483648, lib.json_int(json, "int", 5))
    for _, name in ipairs { "over_int", "over", "huge" } do
      assert.equal(5, lib.json_int(json, name, 5))
    end
    for _, name in ipairs { "over", "huge" } do
      assert.equal(5, tonumber(lib.json_integer(json, name, 5)))
    end
    for _, name in ipairs { "over_u", "huge", "minus" } do
      assert.equal(5, tonumber(lib.json_unsigned(json, name, 5)))
    end
  end)
end)
