--- JSON Schema (draft 2020-12) and the nodes of moonbus.schema_read: a document is read into a node,
--- and a node is written as one. Pure: no file is opened, and no other document is referred to.
---
---     json.read(document) -> node, or nil and what is wrong, with its JSON pointer
---     json.write(node)    -> a table for JSON
---
--- What a keyword says holds for values of its type alone, as in JSON Schema: so a schema without
--- "type" is read as alternatives of all types. Of what is not known nothing is taken silently:
--- a check that is not made would let through what somebody counts on being kept out.
--- https://json-schema.org/draft/2020-12/json-schema-validation
local check = require("moonbus.schema_check")
local nearest = require("moonbus.nearest")
local show = require("moonbus.options_kinds").show

local M = {}

--- Say nothing of a value.
local ANNOTATIONS = {}
for name in ([[$schema $id $comment $defs definitions title description examples deprecated readOnly writeOnly
  format contentEncoding contentMediaType default]]):gmatch("%S+") do
  ANNOTATIONS[name] = true
end

--- Keyword -> the type that it is of.
local OF_TYPE = {
  minLength = "string", maxLength = "string",
  minimum = "number", maximum = "number", exclusiveMinimum = "number", exclusiveMaximum = "number",
  items = "array", minItems = "array", maxItems = "array",
  properties = "object", required = "object", additionalProperties = "object",
  minProperties = "object", maxProperties = "object",
}
local COMBINING = { type = true, enum = true, const = true, anyOf = true, oneOf = true, allOf = true,
  ["$ref"] = true }

local PATTERN = "x-lua-pattern" -- of what is written here

local TYPES = { "null", "boolean", "string", "number", "array", "object" }
local KNOWN_TYPES = { null = true, boolean = true, string = true, number = true, integer = true,
  array = true, object = true }

local INSTEAD = {
  pattern = "it is a regular expression, which Lua does not have: bus.schema.string { pattern = ... }",
  ["$anchor"] = 'name the place: "$ref": "#/$defs/..."',
  multipleOf = 'for whole numbers there is "type": "integer"',
}

-- Reading -----------------------------------------------------------------------------------------

--- Raised inside of this file alone.
local function fail(at, text)
  error({ refused = ("%s: %s"):format(at, text) }, 0)
end

local read

local function is_object(value)
  return type(value) == "table" and value[1] == nil and getmetatable(value) == nil
end

local function is_empty(value)
  return type(value) == "table" and next(value) == nil
end

local function need_count(at, schema, name)
  local value = schema[name]
  if value ~= nil and (type(value) ~= "number" or value % 1 ~= 0 or value < 0) then
    fail(at .. "/" .. name, "expected a count, got " .. show(value))
  end
  return value
end

local function need_number(at, schema, name)
  local value = schema[name]
  if value ~= nil and type(value) ~= "number" then
    fail(at .. "/" .. name, "expected a number, got " .. show(value))
  end
  return value
end

local function sorted(object)
  local names = {}
  for name in pairs(object) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- "~" and "/" of a JSON pointer. https://www.rfc-editor.org/rfc/rfc6901
local function escape(name)
  return (name:gsub("~", "~0"):gsub("/", "~1"))
end

--- What is said behind a keyword that is none: what does it here, or what was meant.
local function instead_of(name)
  if INSTEAD[name] then return ": " .. INSTEAD[name] end
  local known = {}
  for _, set in ipairs({ COMBINING, OF_TYPE, ANNOTATIONS }) do
    for keyword in pairs(set) do known[#known + 1] = keyword end
  end
  local near = nearest(name, known)
  return near and ": did you mean " .. show(near) .. "?" or ""
end

local function check_keywords(at, schema)
  for _, name in ipairs(sorted(schema)) do
    if not (ANNOTATIONS[name] or OF_TYPE[name] or COMBINING[name]) and name:sub(1, 2) ~= "x-" then
      fail(at, ("the keyword %s is not supported%s"):format(show(name), instead_of(name)))
    end
  end
end

local function read_list(context, at, schema, name)
  local list = schema[name]
  if type(list) ~= "table" or list[1] == nil then
    fail(at .. "/" .. name, is_empty(list) and "the list is empty: a value has to fit one of its schemas, or all"
      or "expected a list of schemas, got " .. show(list))
  end
  local all = {}
  for i, inner in ipairs(list) do all[i] = read(context, ("%s/%s/%d"):format(at, name, i - 1), inner) end
  return all
end

local function read_required(at, schema)
  local names = {}
  if schema.required == nil then return names end
  if type(schema.required) ~= "table" or is_object(schema.required) and next(schema.required) then
    fail(at .. "/required", "expected a list of names")
  end
  for i, name in ipairs(schema.required) do
    if type(name) ~= "string" then
      fail(("%s/required/%d"):format(at, i - 1), "expected a name, got " .. show(name))
    end
    names[name] = true
  end
  return names
end

local function read_rest(context, at, schema)
  local rest = schema.additionalProperties
  if rest == nil or rest == true then return nil end
  if rest == false then return false end
  return read(context, at .. "/additionalProperties", rest)
end

local of_type = {}

function of_type.object(context, at, schema)
  local node = { kind = "object", fields = {}, min = need_count(at, schema, "minProperties"),
    max = need_count(at, schema, "maxProperties"), rest = read_rest(context, at, schema) }
  local properties, required = schema.properties or {}, read_required(at, schema)
  if not is_object(properties) then fail(at .. "/properties", "expected an object of schemas") end
  for name in pairs(required) do
    if properties[name] == nil then
      node.fields[#node.fields + 1] = { name = name, node = { kind = "any" }, optional = false }
    end
  end
  for name, inner in pairs(properties) do
    local field = read(context, ("%s/properties/%s"):format(at, escape(name)), inner)
    node.fields[#node.fields + 1] = { name = name, node = field, optional = not required[name] }
  end
  table.sort(node.fields, function(a, b) return a.name < b.name end)
  return node
end

function of_type.array(context, at, schema)
  return { kind = "array", min = need_count(at, schema, "minItems"), max = need_count(at, schema, "maxItems"),
    item = schema.items ~= nil and read(context, at .. "/items", schema.items) or nil }
end

function of_type.string(context, at, schema)
  return { kind = "string", min = need_count(at, schema, "minLength"), max = need_count(at, schema, "maxLength"),
    pattern = context.own and schema[PATTERN] or nil }
end

local function read_bounds(kind, at, schema)
  return { kind = kind, min = need_number(at, schema, "minimum"), max = need_number(at, schema, "maximum"),
    above = need_number(at, schema, "exclusiveMinimum"), below = need_number(at, schema, "exclusiveMaximum") }
end

function of_type.number(_, at, schema) return read_bounds("number", at, schema) end

function of_type.integer(_, at, schema) return read_bounds("integer", at, schema) end

function of_type.boolean() return { kind = "boolean" } end

function of_type.null() return { kind = "null" } end

local function types_of(at, schema)
  local stated = schema.type
  if type(stated) == "string" then stated = { stated } end
  if type(stated) ~= "table" or stated[1] == nil then
    fail(at .. "/type", is_empty(stated) and "the list is empty: no value would fit"
      or "expected a type, or a list of types, got " .. show(stated))
  end
  for _, name in ipairs(stated) do
    if not KNOWN_TYPES[name] then
      fail(at .. "/type", ("unknown type %s: there are %s"):format(show(name), table.concat(sorted(KNOWN_TYPES), ", ")))
    end
  end
  return stated
end

--- What the type, and what the keywords of types, say; nil: nothing.
local function read_typed(context, at, schema)
  local types = schema.type ~= nil and types_of(at, schema)
  if not types then
    for name in pairs(schema) do
      if OF_TYPE[name] then types = TYPES end
    end
    if not types then return nil end
  end
  local nodes = {}
  for i, name in ipairs(types) do nodes[i] = of_type[name](context, at, schema) end
  return #nodes == 1 and nodes[1] or { kind = "any_of", nodes = nodes }
end

local function read_values(at, schema)
  local values = schema.enum
  if schema.const ~= nil then values = { schema.const } end
  if values == nil then return nil end
  local where = schema.const ~= nil and at .. "/const" or at .. "/enum"
  if type(values) ~= "table" or values[1] == nil then
    fail(where, is_empty(values) and "the list is empty: no value would fit"
      or "expected a list of values, got " .. show(values))
  end
  for _, value in ipairs(values) do
    if type(value) == "table" then fail(where, "only texts, numbers, booleans and null are supported") end
  end
  return { kind = "enum", values = values }
end

--- "#", "#/$defs/item": a place in the same document.
local function resolve(context, at, reference)
  if type(reference) ~= "string" or reference:sub(1, 1) ~= "#" then
    fail(at .. "/$ref", ("only references inside the document are supported, got %s"):format(show(reference)))
  end
  if reference ~= "#" and reference:sub(2, 2) ~= "/" then
    fail(at .. "/$ref", ('%s is a name of $anchor, which is not supported: name the place, as "#/$defs/%s"'):format(
      show(reference), reference:sub(2)))
  end
  local target = context.document
  for name in reference:sub(2):gmatch("/([^/]*)") do
    name = name:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
      :gsub("~1", "/"):gsub("~0", "~")
    local inner
    if type(target) == "table" then
      inner = target[name]
      if inner == nil and tonumber(name) then inner = target[tonumber(name) + 1] end
    end
    if inner == nil then fail(at .. "/$ref", ("nothing is at %s"):format(show(reference))) end
    target = inner
  end
  return target, reference
end

local function copy_over(node, from)
  for key in pairs(node) do node[key] = nil end
  for key, value in pairs(from) do node[key] = value end
end

local function combine(context, at, schema)
  local parts = {}
  if schema["$ref"] ~= nil then
    local target, name = resolve(context, at, schema["$ref"])
    local node = read(context, name, target)
    node.called = node.called or name:match("([^/#]+)$")
    parts[#parts + 1] = node
  end
  parts[#parts + 1] = read_typed(context, at, schema)
  parts[#parts + 1] = read_values(at, schema)
  if schema.anyOf ~= nil then
    parts[#parts + 1] = { kind = "any_of", nodes = read_list(context, at, schema, "anyOf") }
  end
  if schema.oneOf ~= nil then
    parts[#parts + 1] = { kind = "one_of", nodes = read_list(context, at, schema, "oneOf") }
  end
  if schema.allOf ~= nil then
    for _, inner in ipairs(read_list(context, at, schema, "allOf")) do parts[#parts + 1] = inner end
  end
  if #parts == 0 then return { kind = "any" } end
  -- A node that is referred to may not be whole yet: it is not copied.
  return #parts == 1 and not schema["$ref"] and parts[1] or { kind = "all", nodes = parts }
end

--- A node for each schema, once: one that refers to itself is a ring of nodes.
function read(context, at, schema)
  if schema == true then return { kind = "any" } end
  if schema == false then return { kind = "nothing" } end
  if not is_object(schema) then fail(at, "expected a schema: an object, true or false") end
  if context.nodes[schema] then return context.nodes[schema] end
  check_keywords(at, schema)
  if context.depth == check.DEPTH_MOST then
    fail("#", ("schemas nest at most %d deep"):format(check.DEPTH_MOST))
  end
  local node = { kind = "any" }
  context.nodes[schema] = node
  context.depth = context.depth + 1
  local whole = combine(context, at, schema)
  whole.called = node.called -- by what it refers to itself
  copy_over(node, whole)
  context.depth = context.depth - 1
  if schema.default ~= nil then
    node.default = schema.default
    context.defaults[#context.defaults + 1] = { node = node, at = at .. "/default" }
  end
  return node
end

--- Does a chain of $ref, allOf ... lead back to the node, with no field or element between? It would be
--- checked without end.
local function is_endless(node, on_way, done)
  if on_way[node] then return true end
  if done[node] or not node.nodes then return false end
  on_way[node] = true
  for _, inner in ipairs(node.nodes) do
    if is_endless(inner, on_way, done) then return true end
  end
  on_way[node], done[node] = nil, true
  return false
end

--- own: M.write has written it.
function M.read(document, own)
  if document == true then return { kind = "any" } end
  local context = { own = own, document = document, nodes = {}, defaults = {}, depth = 0 }
  local ok, node = pcall(read, context, "#", document)
  if not ok then
    if type(node) == "table" and node.refused then return nil, node.refused end
    error(node, 0)
  end
  for _, each in pairs(context.nodes) do
    if is_endless(each, {}, {}) then return nil, "#: a schema refers to itself with no field or element between" end
  end
  for _, each in ipairs(context.defaults) do
    local why, path = check.compile(each.node)(each.node.default)
    if why then
      return nil, ("%s: it does not fit its schema: %s%s"):format(each.at, path and path .. ": " or "", why)
    end
  end
  return node
end

-- Writing -----------------------------------------------------------------------------------------

local write

local function put_bounds(node, into, min, max)
  into[min], into[max] = node.min, node.max
end

local writers = {}

function writers.string(node, into)
  put_bounds(node, into, "minLength", "maxLength")
  if node.pattern then into[PATTERN] = node.pattern end
end

function writers.number(node, into)
  put_bounds(node, into, "minimum", "maximum")
  into.exclusiveMinimum, into.exclusiveMaximum = node.above, node.below
end
writers.integer = writers.number

function writers.array(node, into, context)
  put_bounds(node, into, "minItems", "maxItems")
  into.items = node.item and write(node.item, context)
end

function writers.object(node, into, context)
  put_bounds(node, into, "minProperties", "maxProperties")
  local required = {}
  for _, field in ipairs(node.fields) do
    into.properties = into.properties or {}
    into.properties[field.name] = write(field.node, context)
    if not check.may_lack(field) then required[#required + 1] = field.name end
  end
  if required[1] then into.required = required end
  if node.rest ~= nil then into.additionalProperties = node.rest and write(node.rest, context) end
end

local COMBINED = { any_of = "anyOf", one_of = "oneOf", all = "allOf" }

local function write_whole(node, context)
  if node.kind == "any" then return true end
  if node.kind == "nothing" then return false end
  local into = {}
  if node.kind == "enum" then
    into.enum = node.values
  elseif node.kind == "all" and not node.nodes[2] then
    into = write(node.nodes[1], context) -- a $ref alone
    if type(into) == "boolean" then return into end
  elseif COMBINED[node.kind] then
    local list = {}
    for i, inner in ipairs(node.nodes) do list[i] = write(inner, context) end
    into[COMBINED[node.kind]] = list
  else
    into.type = node.kind
    if writers[node.kind] then writers[node.kind](node, into, context) end
  end
  if node.default ~= nil then into.default = node.default end
  return into
end

--- What several places lead to stands once, and is referred to.
function write(node, context)
  local name = context.names[node]
  if not name then return write_whole(node, context) end
  if context.defs[name] == nil then
    context.defs[name] = true -- it may refer to itself
    context.defs[name] = write_whole(node, context)
  end
  return { ["$ref"] = "#/$defs/" .. name }
end

local function is_compound(node)
  return node.item or node.rest or node.nodes or node.fields and node.fields[1]
end

--- Names those to which several places lead. seen: nodes.
local function name_shared(node, seen, context)
  if seen[node] then
    if context.names[node] or not is_compound(node) then return end
    local name, number = (node.called or "schema"):gsub("[^%w_.-]", "_"), 1
    local free = name
    while context.taken[free] do
      number = number + 1
      free = name .. number
    end
    context.names[node], context.taken[free] = free, true
    return
  end
  seen[node] = true
  if node.item then name_shared(node.item, seen, context) end
  if node.rest then name_shared(node.rest, seen, context) end
  for _, inner in ipairs(node.nodes or {}) do name_shared(inner, seen, context) end
  for _, field in ipairs(node.fields or {}) do name_shared(field.node, seen, context) end
end

function M.write(node)
  local context = { names = {}, taken = {}, defs = {} }
  name_shared(node, {}, context)
  local document = write(node, context)
  if type(document) == "boolean" then return document end
  if document["$ref"] then document = { allOf = { document } } end -- what has a reference has nothing beside it
  if next(context.defs) then document["$defs"] = context.defs end
  return document
end

return M
