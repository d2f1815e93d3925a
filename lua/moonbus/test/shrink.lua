-- Smaller values than one that fails, most promising first: each fits the schema, if the caller says so.
local check = require "moonbus.schema_check"
local core = require "moonbus.core"

local M = {}

local smaller

-- Both halves, then all but one of them.
local function parts_of(length, add)
  if length == 0 then return end
  add(1, 0)
  if length > 1 then
    local half = math.floor(length / 2)
    add(1, half)
    add(half + 1, length)
  end
  if length > 2 then
    for i = 1, math.min(length, 30) do add(1, i - 1, i + 1, length) end
  end
end

local function of_text(text, add)
  parts_of(#text, function(from, to, again, last)
    add(text:sub(from, to) .. (again and text:sub(again, last) or ""))
  end)
  if text:find "[^a]" then add((text:gsub("[^a]", "a"))) end
end

local function of_number(value, add)
  if value == 0 then return end
  add(0)
  if value < 0 then add(-value) end
  if value % 1 ~= 0 then add(math.floor(value)) end
  local delta = math.floor(math.abs(value) / 2)
  while delta >= 1 do
    add(value > 0 and value - delta or value + delta)
    delta = math.floor(delta / 2)
  end
end

local function copy_of(value)
  local copy = {}
  for key, inner in pairs(value) do copy[key] = inner end
  return getmetatable(value) and core.json_array(copy) or copy
end

local function of_list(list, node, add)
  parts_of(#list, function(from, to, again, last)
    local rest = core.json_array({})
    for i = from, to do rest[#rest + 1] = list[i] end
    for i = again or 1, again and last or 0 do rest[#rest + 1] = list[i] end
    add(rest)
  end)
  for i = 1, math.min(#list, 30) do
    smaller(list[i], node and node.item, function(inner)
      local copy = copy_of(list)
      copy[i] = inner
      add(copy)
    end)
  end
end

local function field_of(node, name)
  for _, field in ipairs(node and node.fields or {}) do
    if field.name == name then return field.node end
  end
end

local function of_object(object, node, add)
  local names = {}
  for name in pairs(object) do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    local copy = copy_of(object)
    copy[name] = nil
    add(copy)
  end
  for _, name in ipairs(names) do
    smaller(object[name], field_of(node, name), function(inner)
      local copy = copy_of(object)
      copy[name] = inner
      add(copy)
    end)
  end
end

function smaller(value, node, add)
  if node and node.kind == "enum" then
    for _, each in ipairs(node.values) do
      if each == value then return end
      add(each)
    end
  elseif value == true then
    add(false)
  elseif type(value) == "number" then
    of_number(value, add)
  elseif type(value) == "string" then
    of_text(value, add)
  elseif type(value) == "table" and (value[1] ~= nil or getmetatable(value)) then
    of_list(value, node, add)
  elseif type(value) == "table" then
    of_object(value, node, add)
  end
end

-- The smallest that is found: fails(candidate) tells whether it still fails. Also how often it became smaller.
function M.find(value, node, fails, most)
  local fits, steps, tries = check.compile(node), 0, 0
  local again = true
  while again do
    again = false
    local candidates = {}
    smaller(value, node, function(each) candidates[#candidates + 1] = each end)
    for _, candidate in ipairs(candidates) do
      if tries >= most then return value, steps end
      if not fits(candidate) then
        tries = tries + 1
        if fails(check.copy(candidate)) then
          value, steps, again = candidate, steps + 1, true
          break
        end
      end
    end
  end
  return value, steps
end

return M
