--- What options tables are checked with: kinds of values, names of options and their hints.
---
---     check(binding, value, { fields = { queue = "name", timeout = { "duration", default = 20 } },
---                             hints = { group = "queue" }, later = { schema = true } })
---
--- A field is a kind's name, or { kind, default =, required =, min =, max = ... }, or
--- { check = function(binding, field, value) ... end }. A hint is the name of one of the fields, or
--- a sentence.
local nearest = require("moonbus.nearest")
local tostring = require("moonbus.tostring")
local core = package.loaded["moonbus.core"]

--- Raises text with the place of the innermost line of a script.
---@param text string
local function misuse(text)
  local level = 2
  local info = debug.getinfo(level, "Sl")
  while info do
    if info.source:sub(1, 1) ~= "=" and info.currentline > 0 then
      error(("%s:%d: %s"):format(info.source:gsub("^@", ""), info.currentline, text), 0)
    end
    level = level + 1
    info = debug.getinfo(level, "Sl")
  end
  error(text, 0)
end

local function show(value)
  if type(value) == "string" then return (("%q"):format(value):gsub("\\\n", "\\n")) end
  return type(value) == "table" and "a table" or tostring(value)
end

--- "an integer from 1 to 64, got 0"
local function refuse(binding, field, wanted, value)
  local got = value == nil and "nothing" or show(value)
  if value ~= nil and type(value) ~= "number" and type(value) ~= "string" then
    got = "a " .. type(value)
  end
  return misuse(("%s: %s: expected %s, got %s"):format(binding, field, wanted, got))
end

-- Kinds of values ---------------------------------------------------------------------------------
-- Each: function(binding, field, value, spec) -> the value in its one form.

local kinds = {}

function kinds.duration(binding, field, value, spec)
  local seconds = core.duration(value, binding, field)
  local min = spec.min or 0.001
  if seconds < min then refuse(binding, field, ("at least %gms"):format(min * 1000), value) end
  return seconds
end

--- Of a message that is published by a handler of batches.
function kinds.batched(binding, field, value)
  if not core.is_message(value) then
    refuse(binding, field, "the message of the batch that this comes from", value)
  end
  return value
end

function kinds.integer(binding, field, value, spec)
  local min, max = spec.min or 1, spec.max or 2 ^ 31 - 1
  if type(value) ~= "number" or value % 1 ~= 0 or value < min or value > max then
    refuse(binding, field, ("an integer from %d to %.0f"):format(min, max), value)
  end
  return value
end

function kinds.size(binding, field, value, spec)
  if spec.unlimited and value == -1 then return value end
  local bytes, why = core.size(value)
  if not bytes then misuse(("%s: %s: %s"):format(binding, field, why)) end
  if bytes < (spec.min or 0) then
    refuse(binding, field, ("at least %d bytes"):format(spec.min), value)
  end
  return bytes
end

function kinds.boolean(binding, field, value)
  if type(value) ~= "boolean" then refuse(binding, field, "true or false", value) end
  return value
end

function kinds.string(binding, field, value, spec)
  if type(value) ~= "string" then refuse(binding, field, "a string", value) end
  if spec.values and not spec.values[value] then
    local list = {}
    for name in pairs(spec.values) do list[#list + 1] = show(name) end
    table.sort(list)
    refuse(binding, field, table.concat(list, " or "), value)
  end
  return value
end

--- Goes into a header: no line breaks.
function kinds.token(binding, field, value)
  if type(value) ~= "string" or value == "" or value:find("[%c]") then
    refuse(binding, field, "a string that is not empty and has no control characters", value)
  end
  return value
end

function kinds.table(binding, field, value)
  if type(value) ~= "table" then refuse(binding, field, "a table", value) end
  return value
end

local function check_subject(binding, field, value, wildcards)
  if type(value) ~= "string" then refuse(binding, field, "a subject", value) end
  local why = core.check_subject(value, wildcards)
  if why then misuse(("%s: %s: %s"):format(binding, field, why)) end
  return value
end

function kinds.subject(binding, field, value)
  return check_subject(binding, field, value, false)
end

function kinds.pattern(binding, field, value)
  return check_subject(binding, field, value, true)
end

--- One pattern, or a list of them: always a list.
function kinds.patterns(binding, field, value)
  if type(value) == "string" then return { check_subject(binding, field, value, true) } end
  if type(value) ~= "table" or #value == 0 then
    refuse(binding, field, "a subject or a list of subjects", value)
  end
  local list = {}
  for i = 1, #value do
    list[i] = check_subject(binding, ("%s[%d]"):format(field, i), value[i], true)
  end
  for key in pairs(value) do
    if list[key] == nil then refuse(binding, field, "a list of subjects", value) end
  end
  return list
end

function kinds.name(binding, field, value, spec)
  if type(value) ~= "string" then refuse(binding, field, "a name", value) end
  local why = core.check_name(spec.what or field, value)
  if why then misuse(("%s: %s"):format(binding, why)) end
  return value
end

--- Texts by name, as NATS' metadata are (ADR-33).
function kinds.metadata(binding, field, value)
  kinds.table(binding, field, value)
  local copy = {}
  for key, text in pairs(value) do
    if type(key) ~= "string" or type(text) ~= "string" then
      misuse(("%s: %s: expected strings by name, as { region = \"eu\" }, got [%s] = %s"):format(binding, field,
        show(key), show(text)))
    end
    copy[key] = text
  end
  return copy
end

-- Names of options --------------------------------------------------------------------------------

local function names_of(known)
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function refuse_unknown(binding, name, form)
  if type(name) ~= "string" then
    misuse(("%s: options have names, but there is one with the key %s"):format(binding, show(name)))
  end
  if form.later and form.later[name] then
    misuse(("%s: %s: not in this version of moonbus"):format(binding, name))
  end
  local hint = form.hints and form.hints[name]
  if not hint then
    local names = names_of(form.fields)
    local near = nearest(name, names)
    hint = near and ("did you mean %q?"):format(near) or "there are " .. table.concat(names, ", ")
  elseif form.fields[hint] then
    hint = ("here it is %q"):format(hint)
  end
  misuse(("%s: unknown option %q: %s"):format(binding, name, hint))
end

local NONE = {}

--- The fields that are something when they are not stated: names and specs in turn. Of each form once, as most
--- calls of a handler state next to nothing.
local function unstated_of(form)
  local list = {}
  for name, spec in pairs(form.fields) do
    if type(spec) == "table" and (spec.required or spec.default ~= nil) then
      list[#list + 1] = name
      list[#list + 1] = spec
    end
  end
  form.unstated = list
  return list
end

--- A copy of value in which every field has its one form. form.as_it_is: no field has another form than the one that
--- was given, and none is something when it is not stated; then it is value itself.
local function check(binding, value, form, prefix)
  if value == nil then value = {} end
  if type(value) ~= "table" then
    misuse(("%s: expected a table of options, got a %s"):format(binding, type(value)))
  end
  local result = form.as_it_is and value or {}
  for name, given in pairs(value) do
    local spec = form.fields[name]
    if not spec then refuse_unknown(binding, name, form) end
    local kind = type(spec) == "string" and kinds[spec] or spec.check or kinds[spec[1]]
    local field = prefix and prefix .. "." .. name or name
    given = kind(binding, field, given, type(spec) == "table" and spec or NONE)
    if result ~= value then result[name] = given end
  end
  local unstated = form.unstated or unstated_of(form)
  for index = 1, #unstated, 2 do
    local name, spec = unstated[index], unstated[index + 1]
    if result[name] == nil then
      if spec.required then misuse(("%s: %s is required"):format(binding, name)) end
      result[name] = spec.default
    end
  end
  return result
end

--- Durations inside NATS' own settings: its JSON counts nanoseconds.
local function nanoseconds(binding, field, value)
  return math.floor(core.duration(value, binding, field) * 1e9 + 0.5)
end

local PLAIN_DEPTH_MOST = 32

local function copy_plain(binding, field, value, _, depth)
  local kind = type(value)
  if kind == "table" then
    local result = {}
    depth = (depth or 0) + 1
    if depth > PLAIN_DEPTH_MOST then
      misuse(("%s: %s: tables in tables, deeper than %d"):format(binding, field:sub(1, 60), PLAIN_DEPTH_MOST))
    end
    for key, inner in pairs(value) do
      result[key] = copy_plain(binding, field .. "." .. tostring(key), inner, nil, depth)
    end
    return result
  elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    refuse(binding, field, "a string, number, boolean or table", value)
  end
  return value
end

local function need_function(binding, opts, fn, what)
  if fn == nil and type(opts) == "function" then opts, fn = nil, opts end
  if type(fn) ~= "function" then
    misuse(("%s: expected a function as %s, got %s"):format(binding, what,
      fn == nil and "nothing" or "a " .. type(fn)))
  end
  return opts, fn
end

return {
  misuse = misuse, refuse = refuse, show = show, kinds = kinds, check = check,
  nanoseconds = nanoseconds, copy_plain = copy_plain, need_function = need_function,
}
