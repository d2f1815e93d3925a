--- The notation of schemas, read into nodes.
---
---     "string"  "integer?"  "string|null"        a type; ? may be absent; | one of several
---     { "string" }                               an array of these
---     { id = "integer", note = "string?" }       an object that has at least these fields
---     s.string { max = 20 }, s.enum { "a" } ...  what the constructors of bus.schema made
---
--- A node: { kind =, optional =, default =, and by its kind: min, max, pattern, above, below, item,
--- fields = { { name =, node = } }, rest =, values =, nodes = }. Reading raises with the place in the
--- schema.
local common = require("moonbus.options_kinds")
local nearest = require("moonbus.nearest")

local show = common.show
local DEPTH_MOST = require("moonbus.schema_check").DEPTH_MOST

local TYPES = { any = true, null = true, boolean = true, string = true, number = true, integer = true,
  array = true, object = true }
local NAMES = { "any", "null", "boolean", "string", "number", "integer", "array", "object" }
local HINTS = { table = '"object", or { "string" } for an array', int = '"integer"', float = '"number"',
  bool = '"boolean"', str = '"string"', ["nil"] = '"null", or a "?" after the type', list = '"array"',
  map = "bus.schema.map", double = '"number"', text = '"string"' }

local M = {}

--- The metatable of what constructors make: { node = }.
local Schema = {}
Schema.__index = Schema
Schema.__metatable = false
Schema.__tostring = function() return "schema" end
local nodes = setmetatable({}, { __mode = "k" }) -- what a constructor made -> its node

--- What bus.schema returned stands for its definition.
function M.know(schema, node) nodes[schema] = node end

function M.wrap(node)
  local made = setmetatable({}, Schema)
  nodes[made] = node
  return made
end

local function refuse(context, text)
  common.misuse(("%s: %s%s"):format(context.binding, context.path ~= "" and context.path .. ": " or "", text))
end

local function at(context, key)
  local path = type(key) == "number" and ("[%d]"):format(key) or tostring(key)
  if context.path ~= "" and type(key) ~= "number" then path = "." .. path end
  local depth = (context.depth or 0) + 1
  if depth > DEPTH_MOST then
    common.misuse(("%s: schemas nest at most %d deep"):format(context.binding, DEPTH_MOST))
  end
  return { binding = context.binding, path = context.path .. path, read = context.read, depth = depth }
end

local function read_type(context, name)
  if TYPES[name] then return { kind = name, fields = name == "object" and {} or nil } end
  local hint = HINTS[name]
  local near = not hint and nearest(name, NAMES)
  refuse(context, ("unknown type %s: %s"):format(show(name), hint and "here it is " .. hint
    or near and ("did you mean %q?"):format(near) or "there are " .. table.concat(NAMES, ", ")))
end

local function read_text(context, text)
  local types, optional = text:match("^(.-)(%??)$")
  local list = {}
  for name in (types .. "|"):gmatch("%s*(.-)%s*|") do list[#list + 1] = read_type(context, name) end
  local node = #list == 1 and list[1] or { kind = "any_of", nodes = list }
  if optional == "?" then node.optional = true end
  return node
end

local function sorted_names(context, fields)
  local names = {}
  for name in pairs(fields) do
    if type(name) ~= "string" then
      refuse(context, ("a field is named by a text, got %s"):format(show(name)))
    end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- rest: what the other fields are: a node, false for none, nil for any.
function M.object(context, fields, rest)
  local node = { kind = "object", fields = {}, rest = rest }
  for i, name in ipairs(sorted_names(context, fields)) do
    node.fields[i] = { name = name, node = M.read(at(context, name), fields[name]) }
  end
  return node
end

local function read_array(context, list)
  for key in pairs(list) do
    if key ~= 1 then
      refuse(context, #list > 1
        and "an array has one kind of elements: write { bus.schema.any_of { ... } }"
        or ("a field beside the elements of an array: %s"):format(show(key)))
    end
  end
  return { kind = "array", item = M.read(at(context, 1), list[1]) }
end

local function read_table(context, definition)
  if definition[1] ~= nil then return read_array(context, definition) end
  return M.object(context, definition, nil)
end

--- The node of what a script wrote. A table that stands in it twice is read once.
function M.read(context, definition)
  if nodes[definition] then return nodes[definition] end
  if type(definition) == "string" then return read_text(context, definition) end
  if type(definition) ~= "table" then
    refuse(context, ('expected a type ("string?"), { "string" } for an array, or a table of fields, got a %s')
      :format(type(definition)))
  end
  local known = context.read[definition]
  if known == false then refuse(context, "the table contains itself") end
  if known then return known end
  context.read[definition] = false
  local node = read_table(context, definition)
  context.read[definition] = node
  return node
end

--- binding: what messages begin with; path: the place in the definition; read: table -> its node, false
--- while that is made.
function M.context(binding)
  return { binding = binding, path = "", read = {} }
end

M.at, M.refuse = at, refuse

return M
