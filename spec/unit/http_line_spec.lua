local ffi = require "ffi"
local lib = require("spec.support.http_units").lib

-- The places "a1", "a2", "b1" ...: the letter is the flow.
local function places(names)
  local by_name, order = {}, {}
  for name in names:gmatch "%S+" do
    local place = ffi.new "struct http_place"
    place.flow = ffi.cast("void *", name:byte())
    by_name[name] = place
    order[#order + 1] = name
  end
  return by_name, order
end

local function taken(line, by_name)
  local list = {}
  while true do
    local place = lib.http_line_take(line)
    if place == nil then return table.concat(list, " ") end
    for name, each in pairs(by_name) do
      if place == each then list[#list + 1] = name end
    end
  end
end

local function stand(names)
  local line = ffi.new "struct http_line"
  local by_name, order = places(names)
  for _, name in ipairs(order) do lib.http_line_add(line, by_name[name]) end
  return line, by_name
end

describe("The line", function()
  it("keeps the order of a flow", function()
    assert.equal("a1 a2 a3", taken(stand "a1 a2 a3"))
  end)

  it("lets flows take turns", function()
    assert.equal("a1 b1 c1 a2 c2 a3", taken(stand "a1 a2 a3 b1 c1 c2"))
  end)

  it("can be left from anywhere, and its flow's turn stays", function()
    for name, rest in pairs {
      a1 = "a2 b1 c1 a3 c2", a2 = "a1 b1 c1 a3 c2", a3 = "a1 b1 c1 a2 c2", b1 = "a1 c1 a2 c2 a3",
      c1 = "a1 b1 c2 a2 a3",
    } do
      local line, by_name = stand "a1 a2 a3 b1 c1 c2"
      lib.http_line_remove(line, by_name[name])
      lib.http_line_remove(line, by_name[name])
      assert.equal(5, tonumber(line.count))
      assert.equal(rest, taken(line, by_name))
      assert.equal(0, tonumber(line.count))
    end
  end)
end)
