---@meta moonbus.schema

--- What a constructor of `bus.schema` made: a part of a definition.
---@class moonbus.SchemaPart

--- A type ("integer", "string?", "string|null"), { "string" } for an array, a table of fields, the name of a file of
--- JSON Schema ("order.schema.json"), or what a constructor made.
---@alias moonbus.SchemaDefinition string|table|moonbus.SchemaPart

---@class moonbus.Schema
local Schema = {}

--- The value, with the schema's defaults in it, or nil and an error with the code `bad_payload`.
---@param value any
---@return any? value
---@return moonbus.Error? err
function Schema:check(value) end

---@class moonbus.SchemaConstructors
---@operator call(moonbus.SchemaDefinition): moonbus.Schema
local schema = {}

---@param opts? { min?: integer, max?: integer, pattern?: string } counts of characters; a pattern of Lua
---@return moonbus.SchemaPart
function schema.string(opts) end

---@param opts? { min?: number, max?: number, above?: number, below?: number }
---@return moonbus.SchemaPart
function schema.number(opts) end

---@param opts? { min?: number, max?: number, above?: number, below?: number }
---@return moonbus.SchemaPart
function schema.integer(opts) end

---@param item moonbus.SchemaDefinition
---@param opts? { min?: integer, max?: integer } counts of elements
---@return moonbus.SchemaPart
function schema.array(item, opts) end

--- An object with any names, whose values fit.
---@param value moonbus.SchemaDefinition
---@param opts? { min?: integer, max?: integer } counts of fields
---@return moonbus.SchemaPart
function schema.map(value, opts) end

---@param fields table<string, moonbus.SchemaDefinition>
---@param opts? { extra?: boolean } false: there must be no other fields
---@return moonbus.SchemaPart
function schema.object(fields, opts) end

---@param values (string|number|boolean)[]
---@return moonbus.SchemaPart
function schema.enum(values) end

---@param alternatives moonbus.SchemaDefinition[]
---@return moonbus.SchemaPart
function schema.any_of(alternatives) end

---@param definition moonbus.SchemaDefinition
---@return moonbus.SchemaPart
function schema.optional(definition) end

--- Where it is absent it is this value.
---@param definition moonbus.SchemaDefinition
---@param value any
---@return moonbus.SchemaPart
function schema.default(definition, value) end

return schema
