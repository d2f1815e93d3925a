--- bus.schema: what a payload must look like. The constructors for what the notation of
--- moonbus.schema_read cannot say, and a schema as handlers use it.
---
---     schema.of(binding, definition) ─▶ { check =, fill =, json() }
---     schema.around(schema, spec, fn) ─▶ fn(msg, body), for a handler
local core = require("moonbus.core")
local common = require("moonbus.options_kinds")
local late = require("moonbus.late")
local methods_of = require("moonbus.methods")
local check = late("moonbus.schema_check")
local json = late("moonbus.schema_json")
local read = late("moonbus.schema_read")

local refuse_option = common.refuse

local M = {}

-- Constructors ------------------------------------------------------------------------------------

local COUNT = { "integer", min = 0, max = 2 ^ 53 }

local function kind_number(binding, field, value)
  if type(value) ~= "number" or value ~= value then refuse_option(binding, field, "a number", value) end
  return value
end

--- Are captures ended, as they are begun? What matches nothing is not looked at to its end by string.find.
local function is_closed(pattern)
  local plain = pattern:gsub("%%.", ""):gsub("%[%^?%]?[^%]]*%]", "")
  local depth = 0
  for bracket in plain:gmatch("[()]") do
    depth = depth + (bracket == "(" and 1 or -1)
    if depth < 0 then return false end
  end
  return depth == 0
end

local function kind_pattern(binding, field, value)
  if type(value) ~= "string" or not pcall(string.find, "", value) or not is_closed(value) then
    refuse_option(binding, field, "a pattern of Lua", value)
  end
  return value
end

local NUMBER = { check = kind_number }
local BOUNDS = { hints = { minimum = "min", maximum = "max", length = "max", min_length = "min",
  max_length = "max", size = "max", regex = "pattern", match = "pattern", enum = "write bus.schema.enum" } }
local FORMS = {
  string = { fields = { min = COUNT, max = COUNT, pattern = { check = kind_pattern } } },
  number = { fields = { min = NUMBER, max = NUMBER, above = NUMBER, below = NUMBER } },
  integer = { fields = { min = NUMBER, max = NUMBER, above = NUMBER, below = NUMBER } },
  array = { fields = { min = COUNT, max = COUNT } },
  map = { fields = { min = COUNT, max = COUNT } },
  object = { fields = { extra = "boolean" } },
}

local function options_of(name, opts)
  local form = { fields = FORMS[name].fields, hints = BOUNDS.hints }
  local binding = "bus.schema." .. name
  local node = common.check(binding, opts, form)
  if node.min and node.max and node.min > node.max then
    common.misuse(("%s: min (%.17g) is more than max (%.17g)"):format(binding, node.min, node.max))
  end
  local least = math.max(node.min or -math.huge, node.above or -math.huge)
  local most = math.min(node.max or math.huge, node.below or math.huge)
  if least > most or least == most and (node.above == least or node.below == most) then
    node.kind = name
    common.misuse(("%s: no value would fit: %s"):format(binding, check.describe(node)))
  end
  return node
end

local constructors = {}

for _, name in ipairs({ "string", "number", "integer" }) do
  constructors[name] = function(opts)
    local node = options_of(name, opts)
    node.kind = name
    return read.wrap(node)
  end
end

local function check_depth(binding, node)
  if check.is_too_deep(node) then
    common.misuse(("%s: schemas nest at most %d deep"):format(binding, check.DEPTH_MOST))
  end
end

local function inner(name, definition, what)
  if definition == nil then
    common.misuse(("bus.schema.%s: %s is missing"):format(name, what))
  end
  return read.read(read.context("bus.schema." .. name), definition)
end

function constructors.array(item, opts)
  local node = options_of("array", opts)
  node.kind, node.item = "array", inner("array", item, "what its elements are")
  return read.wrap(node)
end

function constructors.map(value, opts)
  local node = options_of("map", opts)
  node.kind, node.fields, node.rest = "object", {}, inner("map", value, "what its values are")
  return read.wrap(node)
end

function constructors.object(fields, opts)
  local binding = "bus.schema.object"
  if type(fields) ~= "table" then refuse_option(binding, "fields", "a table of fields", fields) end
  local extra = options_of("object", opts).extra
  local rest
  if extra == false then rest = false end
  return read.wrap(read.object(read.context(binding), fields, rest))
end

--- A list with something in it.
local function need_list(binding, field, wanted, value)
  if type(value) == "table" and next(value) == nil then
    common.misuse(("%s: %s: the list is empty: no value would fit"):format(binding, field))
  end
  if type(value) ~= "table" or #value == 0 then refuse_option(binding, field, wanted, value) end
end

function constructors.enum(values)
  local binding = "bus.schema.enum"
  need_list(binding, "values", "a list of texts, numbers or booleans", values)
  local list = {}
  for i, value in ipairs(values) do
    if type(value) ~= "string" and type(value) ~= "number" and type(value) ~= "boolean" then
      refuse_option(binding, ("values[%d]"):format(i), "a text, a number or a boolean", value)
    end
    list[i] = value
  end
  return read.wrap({ kind = "enum", values = list })
end

function constructors.any_of(list)
  need_list("bus.schema.any_of", "alternatives", "a list of schemas", list)
  local context, all = read.context("bus.schema.any_of"), {}
  for i, definition in ipairs(list) do all[i] = read.read(read.at(context, i), definition) end
  return read.wrap({ kind = "any_of", nodes = all })
end

local function copied(node)
  local copy = {}
  for key, value in pairs(node) do copy[key] = value end
  return copy
end

function constructors.optional(definition)
  local node = copied(inner("optional", definition, "a schema"))
  node.optional = true
  return read.wrap(node)
end

function constructors.default(definition, value)
  local node = copied(inner("default", definition, "a schema"))
  common.copy_plain("bus.schema.default", "value", value)
  value = check.copy(value)
  if node.kind == "array" and type(value) == "table" and next(value) == nil then
    value = core.json_array({}) -- `{}` is an object otherwise
  end
  check_depth("bus.schema.default", node)
  local why, path = check.compile(node)(value)
  if why then
    common.misuse(("bus.schema.default: the value does not fit: %s%s"):format(
      path and path .. ": " or "", why))
  end
  node.default = value
  return read.wrap(node)
end

-- A schema ----------------------------------------------------------------------------------------

local function compile(binding, node)
  check_depth(binding, node)
  local fits, fill = check.compile(node)
  return { node = node, check = fits, fill = fill }
end

--- "order.schema.json" is a file, beside the script or where `lib` leads.
local function is_file(definition)
  return type(definition) == "string" and definition:find("%.json$") ~= nil
end

--- The schema that an option of `binding` states.
function M.of(binding, definition)
  local context = read.context(binding)
  if not is_file(definition) then return compile(binding, read.read(context, definition)) end
  local text, path = require("moonbus.loader").read_beside(definition)
  if not text then
    common.misuse(("%s: cannot read %s: %s"):format(binding, definition, path))
  end
  if text:find('"const"%s*:%s*null') then -- the decoder leaves out null
    common.misuse(("%s: %s: const: null is written \"type\": \"null\""):format(binding, path))
  end
  local document, err = core.json_decode(text)
  if err then
    local why = err.message:gsub("; [^;]* keeps them", "; no value beyond it fits a schema: leave that bound out")
    common.misuse(("%s: %s: %s"):format(binding, path, why))
  end
  local node, why = json.read(document)
  if not node then common.misuse(("%s: %s: %s"):format(binding, path, why)) end
  return compile(binding, node)
end

--- As JSON Schema, in JSON.
function M.json(schema)
  return core.json_encode(json.write(schema.node))
end

-- Handlers ----------------------------------------------------------------------------------------

--- The value with its defaults, or nil and what is wrong. Of `null` alone there may be one that fits.
local function fit(schema, value)
  local node = schema.node
  if value == core.json_null then value = nil end
  if value == nil and (node.optional or node.default ~= nil or node.kind == "any") then
    return schema.fill and schema.fill(nil)
  end
  local why, path = schema.check(value)
  if why then return nil, path and path .. ": " .. why or why end
  if schema.fill then value = schema.fill(value) end
  return value
end

--- What the handler itself could do for integers beyond 2^53 comes too late here.
local BIG_REMEDY = '; with a schema: "integer|string" there, and json.big = "string" in the config'

local function body_of(schema, msg)
  local body, err = msg:json({ strict = false })
  if err then
    return nil, (err.message:gsub("; [^;]* keeps them", BIG_REMEDY))
  end
  if body == core.json_null then body = nil end
  return fit(schema, body)
end

local function around_one(schema, fn)
  return function(msg, ...)
    local body, why = body_of(schema, msg)
    if why then
      msg:reject(why)
      return
    end
    return fn(msg, body, ...)
  end
end

--- What does not fit is rejected by itself; the handler gets the others.
local function around_batch(schema, fn)
  return function(msgs, ...)
    local kept, bodies = {}, {}
    for _, msg in ipairs(msgs) do
      local body, why = body_of(schema, msg)
      if why then
        msg:reject(why)
      else
        kept[#kept + 1] = msg
        bodies[#kept] = body
      end
    end
    if kept[1] then return fn(kept, bodies, ...) end
  end
end

--- A handler that gets what fits: fn(msg, body), or fn(msgs, bodies) of a batch.
function M.around(schema, is_batch, fn)
  return (is_batch and around_batch or around_one)(schema, fn)
end

-- bus.schema --------------------------------------------------------------------------------------

local Validator = { __metatable = false }
Validator.__index = methods_of(Validator, "schema", { validate = "check", parse = "check", test = "check" })

local schemas = setmetatable({}, { __mode = "k" })

--- The value, with the schema's defaults in it, or nil and an error with the code "bad_payload".
function Validator:check(value)
  local schema = schemas[self]
  if not schema then common.misuse("schema:check: call it with a colon, on what bus.schema returned") end
  local result, why = fit(schema, value)
  if why then return nil, core.error("bad_payload", why) end
  return result
end

local ELSEWHERE = { text = "string", int = "integer", float = "number", list = "array", dict = "map", record = "object",
  one_of = "enum", union = "any_of", nullable = "optional" }

M.public = methods_of(constructors, "bus.schema", ELSEWHERE, nil, {
  __call = function(_, definition)
    if definition == nil then common.misuse("bus.schema: a schema is missing") end
    local validator = setmetatable({}, Validator)
    schemas[validator] = M.of("bus.schema", definition)
    read.know(validator, schemas[validator].node)
    return validator
  end,
  __metatable = false,
})

return M
