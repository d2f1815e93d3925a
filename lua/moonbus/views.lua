--- Read-only views of tables: reading is as with the table itself, a write raises, however deep.
---
--- The view of a table with names is empty inside. `pairs` and `next`, of scripts as of the host, look
--- behind it, and so does C where it walks through tables (vm_see_through). Of lists LuaJIT asks nobody
--- (#, ipairs, table.concat): the view of one is a copy, which a new item raises for; an item that is
--- overwritten is put back at the next look.
local misuse = require("moonbus.options_kinds").misuse
local mark = require("moonbus.view")

local next, pairs = next, pairs

local M = {}

local shown = setmetatable({}, { __mode = "k" }) -- the view of a table with names -> what it shows

rawset(_G, "next", function(table, key) return next(shown[table] or table, key) end)
rawset(_G, "pairs", function(table) return pairs(shown[table] or table) end)

local function is_list(table)
  return #table > 0 or getmetatable(table) == "array"
end

local function metatable(table, name, why)
  return mark({
    __metatable = is_list(table) and getmetatable(table) or false,
    __newindex = function(_, key)
      local step = type(key) == "string" and "." .. key or ("[%s]"):format(tostring(key))
      misuse(("%s%s cannot be set: %s"):format(name, step, why))
    end,
  }, table)
end

local view

local function list_view(list, name, why)
  local copy = {}
  for index = 1, #list do copy[index] = view(list[index], ("%s[%d]"):format(name, index), why) end
  return setmetatable(copy, metatable(list, name, why))
end

local function same(list, items)
  if #list ~= #items then return false end
  for index = 1, #items do
    if list[index] ~= items[index] then return false end
  end
  return true
end

local function map_view(map, name, why)
  local fields, lists = {}, {} -- lists: of each that is one, its items as they must be
  for key, value in pairs(map) do
    fields[key] = view(value, ("%s.%s"):format(name, tostring(key)), why)
    if type(value) == "table" and is_list(value) then lists[key] = { unpack(fields[key]) } end
  end
  local meta = metatable(map, name, why)
  function meta.__index(_, key)
    local items = lists[key]
    if items and not same(fields[key], items) then
      fields[key] = view(map[key], ("%s.%s"):format(name, key), why)
      lists[key] = { unpack(fields[key]) }
    end
    return fields[key]
  end
  local result = setmetatable({}, meta)
  shown[result] = fields
  return result
end

function view(value, name, why)
  if type(value) ~= "table" then return value end
  return (is_list(value) and list_view or map_view)(value, name, why)
end

--- name: of the table, for messages; why: what a write says, and what to do instead.
M.of = view

return M
