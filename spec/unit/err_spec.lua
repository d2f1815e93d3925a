local ffi = require "ffi"
local units = require "spec.support.units"

local lib = units.lib

describe("An error", function()
  local function cstring(text)
    return ffi.cast("const char *", text)
  end

  it("has a code with a public name, and a sentence", function()
    local err = units.err()
    assert.equal(ffi.C.ERR_TIMEOUT, lib.err_set(err, ffi.C.ERR_TIMEOUT, "no answer in %s", cstring "5s"))
    assert.same({ "timeout", "no answer in 5s" }, { units.read_err(err) })
  end)

  it("gets a prefix, and keeps its code", function()
    local err = units.err()
    lib.err_set(err, ffi.C.ERR_INVALID, "is empty")
    assert.equal(ffi.C.ERR_INVALID, lib.err_prefix(err, "option %s", cstring "durable"))
    assert.same({ "invalid", "option durable: is empty" }, { units.read_err(err) })
  end)

  it("may be made of its own sentence", function()
    local err = units.err()
    lib.err_set(err, ffi.C.ERR_API, "a")
    lib.err_set(err, ffi.C.ERR_SYSTEM, "b %s c", ffi.cast("const char *", err.message))
    assert.same({ "system", "b a c" }, { units.read_err(err) })
  end)

  it("may be unwanted", function()
    assert.equal(ffi.C.ERR_FULL, lib.err_set(nil, ffi.C.ERR_FULL, "x"))
    lib.err_prefix(nil, "x")
  end)

  it("is cut at a character, never inside one", function()
    local room = ffi.sizeof(units.err().message) - 1
    for _, character in ipairs { "x", "é", "€", "🌙" } do
      for shift = 0, 3 do
        local err = units.err()
        lib.err_set(err, ffi.C.ERR_API, "%s", cstring(("x"):rep(shift) .. character:rep(room)))
        local kept = ffi.string(err.message)
        assert.is_true(#kept > room - #character and #kept <= room)
        assert.equal(("x"):rep(shift) .. character:rep((#kept - shift) / #character), kept)
        lib.err_prefix(err, "p")
        assert.is_truthy(ffi.string(err.message):sub(-#character) == character)
      end
    end
  end)

  it("has a name for every code", function()
    local names = {}
    for code = 0, -21, -1 do
      local name = ffi.string(lib.err_name(code))
      assert.is_nil(names[name])
      assert.not_equal("unknown", name)
      names[name] = true
    end
    assert.equal("unknown", ffi.string(lib.err_name(-99)))
    assert.is_true(names.no_responders and names.lease_lost and names.service_error)
  end)
end)
