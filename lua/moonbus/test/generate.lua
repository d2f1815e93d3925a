-- Values that fit a schema (moonbus.schema_read has its nodes), by chance: small ones and those at the edges of what
-- is allowed are likelier than others.
local check = require "moonbus.schema_check"
local core = require "moonbus.core"

local M = {}

local LENGTH = 12       -- of texts and lists, where nothing bounds them
local DEPTH_MOST = 4    -- below it nothing is made that may lack
local TRIES = 200       -- for what only a check can tell
local WHOLE_MOST = 2 ^ 53

-- --- chance ---

-- mulberry32: 32 bits, the same everywhere. A function that gives 0 <= x < 1.
function M.random(seed)
  local state = bit.tobit(seed % 2 ^ 32)
  local function multiply(a, b)
    local low, high = bit.band(a, 0xffff), bit.rshift(a, 16)
    return bit.tobit((low * b) % 2 ^ 32 + bit.lshift(bit.tobit((high * bit.band(b, 0xffff)) % 2 ^ 32), 16))
  end
  return function()
    state = bit.tobit(state + 0x6D2B79F5)
    local t = multiply(bit.bxor(state, bit.rshift(state, 15)), bit.bor(state, 1))
    t = bit.bxor(t, bit.tobit(t + multiply(bit.bxor(t, bit.rshift(t, 7)), bit.bor(t, 61))))
    return bit.bxor(t, bit.rshift(t, 14)) % 2 ^ 32 / 2 ^ 32
  end
end

local function whole(random, least, most)
  return least + math.floor(random() * (most - least + 1))
end

local function one_of(random, list)
  return list[whole(random, 1, #list)]
end

-- --- by kind ---

local make

local function refuse(text)
  error({ refused = text }, 0)
end

-- How many elements, characters or fields.
local function count(random, node, depth)
  local least = node.min or 0
  local most = node.max or math.max(least, depth > DEPTH_MOST and least or LENGTH)
  if random() < 0.2 then return random() < 0.5 and least or math.min(most, least + LENGTH) end
  return whole(random, least, math.min(most, least + LENGTH))
end

local CHARACTERS = { "a", "b", "c", "x", "Z", "0", "1", "9", " ", "-", "_", ".", "/", '"', "'", "\\", "\n", "%", "{",
  "<", "ä", "é", "中", "😀" }

local function text_of(random, length)
  local parts = {}
  for i = 1, length do parts[i] = one_of(random, CHARACTERS) end
  return table.concat(parts)
end

local kinds = {}

function kinds.any(_, random)
  local choice = random()
  if choice < 0.4 then return text_of(random, whole(random, 0, 5)) end
  if choice < 0.8 then return whole(random, -100, 100) end
  return choice < 0.9
end

function kinds.null() return core.json_null end

function kinds.boolean(_, random) return random() < 0.5 end

-- Of what a pattern of Lua takes: classes, sets, and how often.
local function of_pattern(random, pattern)
  local parts, at = {}, 1
  while at <= #pattern do
    local item = pattern:match("^%%.", at) or pattern:match("^%[%^?%]?[^%]]*%]", at) or pattern:sub(at, at)
    at = at + #item
    local often = pattern:match("^[*+?-]", at)
    if often then at = at + 1 end
    local anchor = (item == "^" and at == 2) or (item == "$" and at > #pattern) or item == "(" or item == ")"
    if not anchor then
      local times = not often and 1 or often == "?" and whole(random, 0, 1) or whole(random, often == "+" and 1 or 0, 6)
      for _ = 1, times do
        local char
        for _ = 1, TRIES do
          char = string.char(whole(random, 32, 126))
          if char:find("^" .. item .. "$") then break end
        end
        parts[#parts + 1] = #item == 1 and item ~= "." and item or char
      end
    end
  end
  return table.concat(parts)
end

function kinds.string(node, random, depth)
  if node.pattern then return of_pattern(random, node.pattern) end
  return text_of(random, count(random, node, depth))
end

-- From here to there, with a liking for the ends, and for what is near to nothing.
function kinds.integer(node, random)
  local least = math.ceil(node.min or node.above and math.floor(node.above) + 1 or -WHOLE_MOST)
  local most = math.floor(node.max or node.below and math.ceil(node.below) - 1 or WHOLE_MOST)
  if node.above then least = math.max(least, math.floor(node.above) + 1) end
  if node.below then most = math.min(most, math.ceil(node.below) - 1) end
  if least > most then refuse "no integer is between these bounds" end
  local choice = random()
  if choice < 0.2 then return one_of(random, { least, most, least < most and least + 1 or least }) end
  local near = math.max(least, math.min(most, 0))
  local reach = choice < 0.8 and 100 or most - least
  return whole(random, math.max(least, near - reach), math.min(most, near + reach))
end

function kinds.number(node, random)
  local least, most = node.min or node.above or -1e6, node.max or node.below or 1e6
  if least > most then least, most = math.min(least, most - 1), math.max(most, least + 1) end
  local choice = random()
  if choice < 0.2 then return one_of(random, { node.min or 0, node.max or 1, 0, 0.5, -1 }) end
  local value = least + random() * (most - least)
  return choice < 0.6 and math.floor(value) or value
end

function kinds.enum(node, random) return one_of(random, node.values) end

function kinds.array(node, random, depth)
  local list = core.json_array({})
  for i = 1, count(random, node, depth) do
    list[i] = make(node.item or { kind = "any" }, random, depth + 1)
  end
  return list
end

function kinds.object(node, random, depth)
  local result, fields = {}, 0
  for _, field in ipairs(node.fields) do
    if not check.may_lack(field) or (depth <= DEPTH_MOST and random() < 0.6) then
      result[field.name] = make(field.node, random, depth + 1)
      fields = fields + 1
    end
  end
  local wanted = count(random, node, depth)
  if node.rest then
    for _ = fields + 1, wanted do
      result["k" .. whole(random, 1, 1000)] = make(node.rest, random, depth + 1)
    end
  end
  return result
end

function kinds.any_of(node, random, depth) return make(one_of(random, node.nodes), random, depth) end
kinds.one_of = kinds.any_of

function kinds.all(node, random, depth) return make(one_of(random, node.nodes), random, depth) end

function kinds.nothing() refuse "nothing fits it" end

-- Only a check can tell whether these fit.
local DOUBTFUL = { string = true, number = true, all = true, one_of = true, object = true }

function make(node, random, depth)
  local fits = DOUBTFUL[node.kind] and check.compile(node)
  for _ = 1, TRIES do
    local value = kinds[node.kind](node, random, depth)
    if not fits or not fits(value) then return value end
  end
  refuse(("no value was found that is %s"):format(check.describe(node)))
end

-- A value; nil where the schema may lack, sometimes. nil and why: there is none to be found.
function M.value(node, seed)
  local random = M.random(seed)
  if (node.optional or node.default ~= nil) and random() < 0.2 then return nil end
  local ok, value = pcall(make, node, random, 1)
  if ok then return value end
  if type(value) == "table" and value.refused then return nil, value.refused end
  error(value, 0)
end

return M
