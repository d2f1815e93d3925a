local ffi = require "ffi"
local units = require "spec.support.units"

units.include "base/path.h"
local lib = units.lib

-- Of steps as they are read: "items", 2, "price".
local function path(steps)
  local made = ffi.new "struct path"
  lib.path_begin(made)
  for i = #steps, 1, -1 do
    local step = steps[i]
    local more
    if type(step) == "number" then
      more = lib.path_step_index(made, step)
    else
      more = lib.path_step_key(made, step, #step, i == 1)
    end
    if not more then break end
  end
  return ffi.string(lib.path_text(made)), ffi.string(lib.path_colon(made))
end

describe("the path to a value", function()
  it("has a dot before a name, brackets around an index, and quotes around another key", function()
    assert.equal("items[2].price", (path { "items", 2, "price" }))
    assert.equal('[1]["a key"]["2nd"]._x', (path { 1, "a key", "2nd", "_x" }))
    assert.equal('[""].a', (path { "", "a" }))
  end)

  it("is nothing at the root, and then has no colon behind it", function()
    assert.same({ "", "" }, { path {} })
    assert.same({ "a", ": " }, { path { "a" } })
  end)

  it("lacks its beginning when it is long", function()
    local steps = {}
    for i = 1, 100 do steps[i] = "step" .. i end
    local text = path(steps)
    assert.is_truthy(text:find "^%.%.%.%.step%d+%.")
    assert.equal(".step99.step100", text:sub(-15))
    assert.is_true(#text > 180 and #text < 200)
  end)

  it("shows 64 bytes of a key, whole characters", function()
    assert.equal(("k"):rep(64), (path { ("k"):rep(70) }))
    assert.equal('["x' .. ("é"):rep(31) .. '"]', (path { "x" .. ("é"):rep(40) }))
  end)

  it("fits whatever its steps are", function()
    math.randomseed(11)
    for _ = 1, 2000 do
      local steps = {}
      for i = 1, math.random(0, 12) do
        steps[i] = math.random() < 0.5 and math.random(0, 2 ^ 53) or ("k "):rep(math.random(0, 40))
      end
      assert.is_true(#path(steps) < ffi.sizeof(ffi.new("struct path").bytes))
    end
  end)
end)
