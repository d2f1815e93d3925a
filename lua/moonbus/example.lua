--- A payload that a handler's schema takes, for the line that `moonbus dev` proposes: as small as it reads well.
---
---     example.of('{"type":"object","properties":{"id":{"type":"integer"}},"required":["id"]}') -> '{"id":1}'
local check = require "moonbus.schema_check"
local core = require "moonbus.core"
local generate = require "moonbus.test.generate"
local json = require "moonbus.schema_json"

local M = {}

local DEPTH_MOST = 20
local SEEDS = 20 -- of values by chance, where none that reads well fits
local BYTES_MOST = 400 -- more is nothing for a line

local make

local kinds = {}

function kinds.any() return 1 end

function kinds.null() return core.json_null end

function kinds.boolean() return true end

function kinds.enum(node) return node.values[1] end

function kinds.string(node, name)
  if node.pattern then return (generate.value(node, 1)) end
  local text = name:sub(1, node.max or #name)
  return text .. ("a"):rep((node.min or 0) - #text)
end

function kinds.number(node)
  local least, most = node.min or node.above or -math.huge, node.max or node.below or math.huge
  local value = math.max(least, math.min(1, most))
  if value == node.above then return most < math.huge and (least + most) / 2 or value + 1 end
  if value == node.below then return least > -math.huge and (least + most) / 2 or value - 1 end
  return value
end

function kinds.integer(node)
  local value = kinds.number(node)
  return value % 1 == 0 and value or math.ceil(value)
end

function kinds.array(node, name, depth)
  local list = core.json_array {}
  local count = math.min(math.max(node.min or 0, 1), node.max or math.huge)
  for i = 1, count do list[i] = make(node.item or { kind = "any" }, name, depth + 1) end
  return list
end

function kinds.object(node, _, depth)
  local result = {}
  for _, field in ipairs(node.fields) do
    if not check.may_lack(field) then result[field.name] = make(field.node, field.name, depth + 1) end
  end
  return result
end

--- The first alternative that has one.
function kinds.any_of(node, name, depth)
  for _, inner in ipairs(node.nodes) do
    local ok, value = pcall(make, inner, name, depth + 1)
    if ok and not check.compile(node)(value) then return value end
  end
  error "none fits"
end
kinds.one_of = kinds.any_of

--- What all of them want, if they are objects; else what one of them wants.
function kinds.all(node, name, depth)
  local whole
  for _, inner in ipairs(node.nodes) do
    local value = make(inner, name, depth + 1)
    if not check.compile(node)(value) then return value end
    if type(value) == "table" and inner.kind ~= "array" then
      whole = whole or {}
      for key, each in pairs(value) do whole[key] = each end
    end
  end
  return whole
end

function kinds.nothing() error "nothing fits" end

function make(node, name, depth)
  if depth > DEPTH_MOST then error "too deep" end
  if node.default ~= nil then return node.default end
  return kinds[node.kind](node, name, depth)
end

local function fitting(node)
  local fits = check.compile(node)
  local ok, value = pcall(make, node, "ada", 1)
  if ok and value ~= nil and not fits(value) then return value end
  for seed = 1, SEEDS do
    value = generate.value(node, seed)
    if value ~= nil and not fits(value) then return value end
  end
  return nil
end

--- JSON; nil: none was found.
---@param schema string JSON Schema, as moonbus.schema_json writes it
---@return string?
function M.of(schema)
  local document = core.json_decode(schema)
  local node = document ~= nil and json.read(document, true)
  local value = node and fitting(node)
  local text = value ~= nil and core.json_encode(value)
  return text and #text <= BYTES_MOST and text or nil
end

return M
