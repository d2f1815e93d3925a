local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/request/jsfield.h"
local lib = units.lib

local function text(pointer)
  return pointer ~= nil and ffi.string(pointer) or nil
end

local function fields()
  local list = {}
  local field = lib.jsfield_at(0)
  while field ~= nil do
    list[#list + 1] = field
    field = lib.jsfield_at(#list)
  end
  return list
end

local function read(path)
  local file = assert(io.open(path))
  local content = file:read "*a"
  file:close()
  return content
end

describe("the settings of streams and consumers", function()
  it("stand in the table once each, and are found by their names", function()
    local seen = {}
    for _, field in ipairs(fields()) do
      local name = text(field.name)
      assert.is_nil(seen[name], name)
      seen[name] = true
      assert.equal(name, text(lib.jsfield_find(name).name))
    end
    assert.is_true(lib.jsfield_find "nobody_knows_it" == nil)
    assert.is_true(lib.jsfield_find "max_ag" == nil)
  end)

  it("are found in a difference, whole or in depth", function()
    assert.equal("max_age", text(lib.jsfield_of_difference("max_age: here 1h, on the server 2h").name))
    assert.equal("metadata", text(lib.jsfield_of_difference("metadata.team: here a, on the server b").name))
    assert.is_true(lib.jsfield_of_difference "max_age_of_all: here 1h" == nil)
  end)

  it("say which servers know them, and which no server changes", function()
    local buf = ffi.new "char[64]"
    assert.equal(" (nats-server 2.11 and newer know it)",
      text(lib.jsfield_since("pause_until: here x, on the server not set", buf, 64)))
    assert.equal("", text(lib.jsfield_since("max_age: here 1h", buf, 64)))
    assert.equal("", text(lib.jsfield_since("unheard_of: here 1h", buf, 64)))
    local refused = 'STREAM.CREATE.S: invalid JSON: json: unknown field "%s" (JetStream error 10025)'
    assert.equal(" (nats-server 2.14 and newer know it)",
      text(lib.jsfield_refused(refused:format "allow_batched", buf, 64)))
    assert.equal("", text(lib.jsfield_refused(refused:format "alow_batched", buf, 64)))
    assert.equal("", text(lib.jsfield_refused("stream not found", buf, 64)))
    assert.is_true(lib.jsfield_is_fixed "max_waiting: here 5, on the server 512")
    assert.is_false(lib.jsfield_is_fixed "max_age: here 5, on the server 512")
  end)
end)

-- lua/moonbus/options.lua has the hints for who writes NATS' name as an option of js.consume.
describe("a setting of a consumer", function()
  local options = read "lua/moonbus/options.lua"
  local ours = assert(options:match "local OURS = (%b{})")
  local passed = assert(options:match "for _, name in ipairs%((%b{})%) do\n%s+CONSUME%.hints")

  for _, field in ipairs(fields()) do
    local name = text(field.name)
    if field.of == lib.JSFIELD_CONSUMER and name ~= "filter" then
      it(("has its hint in the options of js.consume: %s"):format(name), function()
        if field.instead ~= nil then
          assert.matches("%f[%w_]" .. name .. " =", ours)
        else
          assert.matches(('"%s"'):format(name), passed, 1, true)
        end
      end)
    end
  end

  it("that has a hint is in the table", function()
    for name in passed:gmatch '"([%w_]+)"' do
      assert.is_true(lib.jsfield_find(name) ~= nil, name)
      assert.is_nil(text(lib.jsfield_find(name).instead))
    end
    for name in ours:gsub('"[^"]*"', ""):gmatch "%f[%w_]([%w_]+) =" do
      local field = lib.jsfield_find(name)
      assert.is_true(name == "durable" or name == "attempts" or field ~= nil and field.instead ~= nil, name)
    end
  end)
end)
