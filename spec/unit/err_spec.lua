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

  it("has each of its codes in the annotations for editors, and in the docs", function()
    local function read(path)
      local file = assert(io.open(path))
      local text = file:read "*a"
      file:close()
      return text
    end
    local library = read "lua/library/moonbus.lua":match "%-%-%-@alias moonbus%.ErrorCode\n(.-)%-%-%-| string"
    local docs = read "docs/REFERENCE.md":match "| code | what it means.-\n\n"
    local count = 0
    for code = -1, tonumber(ffi.cast("int", ffi.C.ERR_LAST)), -1 do
      local name = ffi.string(lib.err_name(code))
      assert.is_truthy(library:find(('---| "%s"'):format(name), 1, true), name)
      assert.is_truthy(docs:find(("| `%s` |"):format(name), 1, true), name)
      count = count + 1
    end
    local _, listed = library:gsub("\n?%-%-%-| ", "")
    assert.equal(count, listed)
  end)

  it("is found by the name of its code, whichever it is", function()
    for code = -1, tonumber(ffi.cast("int", ffi.C.ERR_LAST)), -1 do
      assert.equal(code, tonumber(ffi.cast("int", lib.err_named(lib.err_name(code)))))
    end
    for _, name in ipairs { "none", "unknown", "", "Timeout", "timeout " } do
      assert.equal(0, tonumber(ffi.cast("int", lib.err_named(name))), name)
    end
  end)

  it("passes by itself where the server is not there, or not ready", function()
    local passing = {}
    for code = 0, tonumber(ffi.cast("int", ffi.C.ERR_LAST)), -1 do
      if lib.err_passes(code) then passing[#passing + 1] = ffi.string(lib.err_name(code)) end
    end
    assert.same({ "timeout", "no_responders", "disconnected", "full", "unavailable" }, passing)
    assert.is_false(lib.err_passes(-99))
    assert.is_false(lib.err_passes(1))
  end)

  it("has, where Lua makes it, a code that there is", function()
    local pipe = io.popen "cat $(find lua/moonbus -name '*.lua')"
    local text, unknown, count = pipe:read "*a", {}, 0
    pipe:close()
    for name in text:gmatch '{ code = "([%l_]+)"' do
      count = count + 1
      if lib.err_named(name) == ffi.C.ERR_NONE then unknown[#unknown + 1] = name end
    end
    assert.is_true(count > 0)
    assert.same({}, unknown)
  end)

  it("has a name for every code", function()
    local names = {}
    for code = 0, tonumber(ffi.cast("int", ffi.C.ERR_LAST)), -1 do
      local name = ffi.string(lib.err_name(code))
      assert.is_nil(names[name])
      assert.not_equal("unknown", name)
      names[name] = true
    end
    assert.equal("unknown", ffi.string(lib.err_name(-99)))
    assert.is_true(names.no_responders and names.lease_lost and names.service_error)
  end)
end)
