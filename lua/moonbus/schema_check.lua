--- Schemas at work: a node (moonbus.schema_read) is compiled into two closures, once for each
--- instance.
---
---     check(value) -> nil: it fits; or what was expected and what was there, and the path to it
---     fill(value)  -> the value, with the defaults in it; nil in the place of the function: the
---                     schema has none
---
--- Checking changes nothing and makes no garbage, as long as the value fits. `null` in objects was
--- left out by the decoder, so such a field counts as absent.
local core = require("moonbus.core")

local getmetatable, next, type = getmetatable, next, type
local NULL = core.json_null
local SHOWN = 32 -- bytes of a text, in a message

local M = {}

-- Values, as JSON calls them ------------------------------------------------------------------------

--- An empty array is told from an empty object by the decoder's mark.
local function is_array(value)
  if type(value) ~= "table" then return false end
  if next(value) == nil then return getmetatable(value) ~= nil end
  return value[1] ~= nil
end

local function is_object(value)
  return type(value) == "table" and not is_array(value)
end

local function is_null(value)
  return value == nil or value == NULL
end

local function type_of(value)
  if value == nil then return "nil" end
  if value == NULL then return "null" end
  if type(value) == "table" then return is_array(value) and "array" or "object" end
  return type(value)
end

local function shortened(text)
  if #text > SHOWN then text = text:sub(1, SHOWN):gsub("[\192-\255][\128-\191]*$", "") .. "..." end
  return (("%q"):format(text):gsub("\\\n", "\\n"):gsub("[%c\127]", "?"))
end

--- A value in a message: scalars as they are, else their type.
local function show(value)
  if type(value) == "string" then return shortened(value) end
  if type(value) == "number" then return ("%.17g"):format(value) end
  if type(value) == "boolean" then return tostring(value) end
  return type_of(value)
end
M.show = show

--- "integer of at least 1": as messages name a node. Alternatives are joined by "or".
local function describe(node)
  local text = node.kind == "any" and "a value" or node.kind
  if node.kind == "enum" then
    local list = {}
    for i, value in ipairs(node.values) do list[i] = show(value) end
    return table.concat(list, " or ")
  elseif node.kind == "any_of" or node.kind == "one_of" then
    local list, seen = {}, {}
    for _, inner in ipairs(node.nodes) do
      local one = describe(inner)
      if not seen[one] then list[#list + 1], seen[one] = one, true end
    end
    return table.concat(list, " or ")
  elseif node.kind == "all" then
    return describe(node.nodes[1])
  end
  local of = { string = "characters", array = "elements", object = "fields" }
  local unit = of[node.kind] and " " .. of[node.kind] or ""
  local function add(format, ...)
    if (...) then text = text .. format:format(...) end
  end
  if node.min and node.max then
    add(" of %.17g to %.17g" .. unit, node.min, node.max)
  else
    add(" of at least %.17g" .. unit, node.min)
    add(" of at most %.17g" .. unit, node.max)
  end
  add(" above %.17g", node.above)
  add(" below %.17g", node.below)
  if node.pattern then text = text .. " like " .. show(node.pattern) end
  return text
end
M.describe = describe

-- Paths -------------------------------------------------------------------------------------------

local function step(key)
  if type(key) == "number" then return ("[%d]"):format(key) end
  if #key <= SHOWN and key:find("^[%a_][%w_%-]*$") then return key end
  return "[" .. shortened(key) .. "]"
end

--- The path to a place below `key`.
local function below(key, path)
  if not path then return step(key) end
  if path:byte() == 91 then return step(key) .. path end
  return step(key) .. "." .. path
end

-- Checks ------------------------------------------------------------------------------------------

local compile_check

--- What fails: the type's name when the type is another, else the value.
local function mismatch(node, wanted)
  local text = describe(node)
  return function(value)
    local got = type_of(value)
    if got == wanted and type(value) ~= "table" then got = show(value) end
    return ("expected %s, got %s"):format(text, got)
  end
end

--- Code points: a text is UTF-8, so its continuation bytes are taken off.
local function characters(text)
  return #text - select(2, text:gsub("[\128-\191]", ""))
end

local checks = {}

function checks.any(node)
  local fails = mismatch(node)
  return function(value)
    if value == nil then return fails(value) end
  end
end

function checks.null(node)
  local fails = mismatch(node)
  return function(value)
    if not is_null(value) then return fails(value) end
  end
end

function checks.boolean(node)
  local fails = mismatch(node)
  return function(value)
    if type(value) ~= "boolean" then return fails(value) end
  end
end

function checks.string(node)
  local fails, min, max, pattern = mismatch(node, "string"), node.min, node.max, node.pattern
  return function(value)
    if type(value) ~= "string" then return fails(value) end
    if min and (#value < min or characters(value) < min) then return fails(value) end
    if max and #value > max and characters(value) > max then return fails(value) end
    if pattern and not value:find(pattern) then return fails(value) end
  end
end

local function check_number(node, whole)
  local fails = mismatch(node, "number")
  local min, max, above, below_ = node.min, node.max, node.above, node.below
  return function(value)
    if type(value) ~= "number" or (whole and value % 1 ~= 0) then return fails(value) end
    if min and value < min or max and value > max then return fails(value) end
    if above and value <= above or below_ and value >= below_ then return fails(value) end
  end
end

function checks.number(node) return check_number(node, false) end

function checks.integer(node) return check_number(node, true) end

function checks.enum(node)
  local fails, known = mismatch(node, node.values[1] ~= nil and type(node.values[1]) or nil), {}
  for _, value in ipairs(node.values) do known[value] = true end
  return function(value)
    if value == nil then value = NULL end
    if not known[value] then return fails(value) end
  end
end

function checks.array(node, cache)
  local fails, min, max = mismatch(node), node.min, node.max
  local item = node.item and compile_check(node.item, cache)
  return function(value)
    if not is_array(value) then return fails(value) end
    local count = #value
    if min and count < min or max and count > max then
      return ("%s of %d"):format(fails(value), count)
    end
    if not item then return end
    for i = 1, count do
      local why, path = item(value[i])
      if why then return why, below(i, path) end
    end
  end
end

--- May the field be absent?
local function may_lack(field)
  if field.optional ~= nil then return field.optional end
  return field.node.optional or field.node.default ~= nil
end
M.may_lack = may_lack

--- The fields that nothing is said of: `rest` is a check, or false for "there are none".
local function check_rest(value, known, rest)
  for key, inner in next, value do
    if not known[key] then
      if not rest then return "a field that the schema does not have", step(key) end
      local why, path = rest(inner)
      if why then return why, below(key, path) end
    end
  end
end

local function check_count(node, fails, value)
  local count = 0
  for _ in next, value do count = count + 1 end
  if node.min and count < node.min or node.max and count > node.max then
    return ("%s of %d"):format(fails(value), count)
  end
end

function checks.object(node, cache)
  local fails, fields, known = mismatch(node), {}, {}
  for i, field in ipairs(node.fields) do
    fields[i] = { name = field.name, check = compile_check(field.node, cache),
      may_lack = may_lack(field) }
    known[field.name] = true
  end
  local count, rest, counted = #fields, node.rest, node.min or node.max
  if rest then rest = compile_check(rest, cache) end
  return function(value)
    if not is_object(value) then return fails(value) end
    for i = 1, count do
      local field = fields[i]
      local inner = value[field.name]
      if inner == NULL then inner = nil end -- in a value that came from Lua
      if inner ~= nil or not field.may_lack then
        local why, path = field.check(inner)
        if why then return why, below(field.name, path) end
      end
    end
    if counted then
      local why = check_count(node, fails, value)
      if why then return why end
    end
    if rest ~= nil then return check_rest(value, known, rest) end
  end
end

--- What none of them takes: of one alternative that has the value's type, its own words.
local function check_alternatives(node, cache, exactly)
  local fails, list = mismatch(node), {}
  for i, inner in ipairs(node.nodes) do list[i] = compile_check(inner, cache) end
  return function(value)
    local fits, deepest, deepest_path = 0, nil, nil
    for i = 1, #list do
      local why, path = list[i](value)
      if not why then
        if not exactly then return end
        fits = fits + 1
      elseif path and (not deepest_path or #path > #deepest_path) then
        deepest, deepest_path = why, path
      end
    end
    if fits == 1 then return end
    if fits > 1 then return ("expected one of the alternatives, got what fits %d"):format(fits) end
    if deepest then return deepest, deepest_path end
    return fails(value)
  end
end

function checks.any_of(node, cache) return check_alternatives(node, cache, false) end

function checks.one_of(node, cache) return check_alternatives(node, cache, true) end

function checks.all(node, cache)
  local list = {}
  for i, inner in ipairs(node.nodes) do list[i] = compile_check(inner, cache) end
  return function(value)
    for i = 1, #list do
      local why, path = list[i](value)
      if why then return why, path end
    end
  end
end

--- Nothing fits: JSON Schema's `false`.
function checks.nothing()
  return function(value) return "expected nothing, got " .. type_of(value) end
end

--- Is a value looked at several times in it, or in what is below: by alternatives, or by all of allOf?
local function has_several(node, seen)
  if seen[node] then return false end
  seen[node] = true
  if node.nodes and node.nodes[2] or node.item and has_several(node.item, seen)
    or node.rest and has_several(node.rest, seen) then
    return true
  end
  for _, inner in ipairs(node.nodes or {}) do
    if has_several(inner, seen) then return true end
  end
  for _, field in ipairs(node.fields or {}) do
    if has_several(field.node, seen) then return true end
  end
  return false
end

--- The check of a node that several places lead to, each of which would look at the same value. Where two
--- alternatives of a schema lead back to it, each level of a value would double what it takes: what came of a
--- value is remembered until the whole is done.
local function remembering(check, cache)
  local known, why_of, path_of = nil, nil, nil
  cache.forget[#cache.forget + 1] = function() known = nil end
  return function(value)
    if type(value) ~= "table" then return check(value) end
    if not known then known, why_of, path_of = {}, {}, {} end
    if not known[value] then
      local why, path = check(value)
      known[value], why_of[value], path_of[value] = true, why, path
      cache.dirty = true
    end
    return why_of[value], path_of[value]
  end
end

--- cache: node -> its check. A schema that refers to itself is compiled once.
function compile_check(node, cache)
  local known = cache[node]
  if known then
    cache.again[node] = cache.again[node] or has_several(node, {}) and remembering(known, cache) or known
    return cache.again[node]
  end
  local check
  cache[node] = function(value) return check(value) end
  check = checks[node.kind](node, cache)
  cache[node] = check
  return check
end

--- The check of a whole value.
local function compile_whole(node)
  local cache = { again = {}, forget = {} }
  local check = compile_check(node, cache)
  if not cache.forget[1] then return check end
  local function forget_all()
    if not cache.dirty then return end
    cache.dirty = false
    for _, forget in ipairs(cache.forget) do forget() end
  end
  return function(value)
    forget_all() -- the check before may have been stopped in its middle
    local why, path = check(value)
    forget_all()
    return why, path
  end
end

-- Defaults ----------------------------------------------------------------------------------------

local function copy(value)
  if type(value) ~= "table" then return value end
  local result = {}
  for key, inner in next, value do result[key] = copy(inner) end
  if is_array(value) and next(result) == nil then return core.json_array(result) end
  return result
end
M.copy = copy

local compile_fill

local fills = {}

function fills.array(node, cache)
  local item = node.item and compile_fill(node.item, cache)
  return item and function(value)
    for i = 1, #value do value[i] = item(value[i]) end
    return value
  end
end

function fills.object(node, cache)
  local list, known, rest = {}, {}, node.rest and compile_fill(node.rest, cache)
  for _, field in ipairs(node.fields) do
    local fill = compile_fill(field.node, cache)
    if fill then list[#list + 1] = { name = field.name, fill = fill } end
    known[field.name] = true
  end
  if #list == 0 and not rest then return nil end
  return function(value)
    for i = 1, #list do
      local name = list[i].name
      value[name] = list[i].fill(value[name])
    end
    if rest then
      for key, inner in next, value do
        if not known[key] then value[key] = rest(inner) end
      end
    end
    return value
  end
end

--- The first that the value fits fills it.
local function fill_alternatives(node, cache)
  local list, any = {}, false
  for i, inner in ipairs(node.nodes) do
    local fill = compile_fill(inner, cache)
    list[i] = { check = compile_whole(inner), fill = fill }
    any = any or fill ~= nil
  end
  return any and function(value)
    for i = 1, #list do
      if not list[i].check(value) then return list[i].fill and list[i].fill(value) or value end
    end
    return value
  end
end
fills.any_of, fills.one_of = fill_alternatives, fill_alternatives

function fills.all(node, cache)
  local list = {}
  for _, inner in ipairs(node.nodes) do list[#list + 1] = compile_fill(inner, cache) end
  return #list > 0 and function(value)
    for i = 1, #list do value = list[i](value) end
    return value
  end
end

--- Has it a default, or anything in it? seen: the nodes that were looked at.
local function has_default(node, seen)
  if seen[node] then return false end
  seen[node] = true
  if node.default ~= nil or (node.item and has_default(node.item, seen))
    or (node.rest and has_default(node.rest, seen)) then
    return true
  end
  for _, inner in ipairs(node.nodes or {}) do
    if has_default(inner, seen) then return true end
  end
  for _, field in ipairs(node.fields or {}) do
    if has_default(field.node, seen) then return true end
  end
  return false
end

local function make_fill(node, cache)
  local default, passes_nil = node.default, node.kind == "all"
  local inner = fills[node.kind] and fills[node.kind](node, cache)
  return function(value)
    if value == nil and (default ~= nil or not passes_nil) then return copy(default) end
    return inner and inner(value) or value
  end
end

--- nil: there are no defaults in it. A schema that refers to itself is compiled once.
function compile_fill(node, cache)
  if cache[node] then return cache[node] end
  if not has_default(node, {}) then return nil end
  local fill
  cache[node] = function(value) return fill(value) end
  fill = make_fill(node, cache)
  return fill
end

--- How deep schemas nest: their checks call one another.
M.DEPTH_MOST = 100

--- How deep it is: counted until there is no need to go on. memo: node -> its depth; one that leads back to itself
--- is as deep as its way round.
local function depth_of(node, level, memo)
  if memo[node] then return memo[node] end
  if level > M.DEPTH_MOST then return level end
  memo[node] = 1
  local deepest = 0
  local function look(inner) deepest = math.max(deepest, depth_of(inner, level + 1, memo)) end
  if node.item then look(node.item) end
  if node.rest then look(node.rest) end
  for _, inner in ipairs(node.nodes or {}) do look(inner) end
  for _, field in ipairs(node.fields or {}) do look(field.node) end
  memo[node] = deepest + 1
  return deepest + 1
end

--- Too deep to be checked?
function M.is_too_deep(node)
  return depth_of(node, 1, {}) > M.DEPTH_MOST
end

--- The two closures of a node.
function M.compile(node)
  return compile_whole(node), compile_fill(node, {})
end

return M
