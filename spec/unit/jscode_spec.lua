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
units.include "bus/request/jsapi.h"
local lib = units.lib

-- What is said of this refusal of JetStream's API, the code of its error, and whether waiting helps.
local function told(http, err_code)
  local err, api_code = units.err(), ffi.new "int[1]"
  local json = ('{"error":{"code":%d,"err_code":%d,"description":"why"}}'):format(http, err_code)
  assert.is_true(lib.jsapi_parse("STREAM.INFO.X", json, #json, api_code, err) == nil)
  assert.equal(err_code, api_code[0])
  local name, message = units.read_err(err)
  return message, name, lib.err_passes(err.code)
end

local function refusal(http, err_code)
  local message, name, passes = told(http, err_code)
  assert.equal(("STREAM.INFO.X: why (JetStream error %d)"):format(err_code), message)
  return name, passes
end

describe("a refusal of JetStream's API", function()
  it("can pass when the servers have no leader, no quorum, or no room for now", function()
    for err_code, http in pairs { [10005] = 400, [10007] = 500, [10008] = 503, [10009] = 500, [10023] = 503,
      [10041] = 500, [10118] = 500, [10119] = 500 } do
      assert.same({ "unavailable", true }, { refusal(http, err_code) }, err_code)
    end
  end)

  it("can pass when JetStream is not enabled (yet)", function()
    assert.same({ "no_responders", true }, { refusal(503, 10076) })
    assert.same({ "no_responders", true }, { refusal(503, 10039) })
  end)

  it("cannot pass when it is about the request", function()
    for err_code, http in pairs { [10025] = 400, [10052] = 500, [10058] = 400, [10074] = 500, [10010] = 503 } do
      assert.same({ "api_error", false }, { refusal(http, err_code) }, err_code)
    end
    assert.same({ "not_found", false }, { refusal(404, 10059) })
  end)

  it("says what to do, where there is more to be known", function()
    for err_code, remedy in pairs { [10065] = "`moonbus check --server URL` says which stream has them",
      [10093] = "`moonbus check` says which subjects the stream takes" } do
      assert.equal(("STREAM.INFO.X: why (JetStream error %d): %s"):format(err_code, remedy), (told(400, err_code)))
    end
  end)

  it("of a kind that is not known yet asks to come again by its 503 or 429", function()
    assert.same({ "unavailable", true }, { refusal(503, 19999) })
    assert.same({ "unavailable", true }, { refusal(429, 19999) })
    assert.same({ "api_error", false }, { refusal(500, 19999) })
  end)
end)
