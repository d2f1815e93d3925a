-- What tests state is checked here, with the kinds that scripts' options are checked with.
local blame = require "moonbus.test.blame"
local core = require "moonbus.core"
local messages = require "moonbus.test.messages"
local nearest = require "moonbus.nearest"
local options_kinds = require "moonbus.options_kinds"

local M = { check = options_kinds.check, refuse = options_kinds.refuse, kinds = options_kinds.kinds,
  show = options_kinds.show }
local refuse = M.refuse

M.DELAY = { "duration", min = 0 }

-- The server's, and a real one's unless it is told another.
local MAX_PAYLOAD = 1024 * 1024

function M.headers(binding, field, value)
  local why = core.check_headers(value)
  if why then blame("%s: %s: %s", binding, field, why) end
  return value
end

-- A text for people, or an error that a service would answer with.
local ERROR = {
  fields = { message = "string", code = "string", status = { "integer", min = 100, max = 999 } },
  hints = { text = "message", error = "message" },
}

function M.error_answer(binding, err, known)
  if type(err) == "table" then
    if err.message == nil and err.code == nil then
      blame("%s: error: it has no message: { error = { message = \"...\", status = 500 } }", binding)
    end
    M.check(binding .. ": error", { message = err.message, code = err.code, status = err.status }, ERROR)
    return
  end
  if type(err) ~= "string" or err == "" then
    refuse(binding, "error", "a text, or { message = ..., status = ... }", err)
  end
  local near = not known[err] and not err:find "%s" and nearest(err, messages.sorted(known))
  if near then
    blame('%s: error: "%s": did you mean "%s"? If it is a text: { error = { message = "%s" } }', binding, err, near,
      err)
  end
end

-- What is sent: text and its content type; raises in the test's line.
function M.payload(binding, value)
  if type(value) == "number" or type(value) == "boolean" or type(value) == "function" then
    blame("%s: data is a string or a table, not a %s%s", binding, type(value),
      type(value) == "number" and " (use tostring)" or "")
  end
  local text, kind = messages.encode(value)
  if not text then blame("%s: %s", binding, kind) end
  return text, kind
end

function M.size(binding, text, block)
  local size = #text + #(block or "")
  if size > MAX_PAYLOAD then
    blame("%s: the message has %d bytes with its headers, and a server takes %d (max_payload)", binding, size,
      MAX_PAYLOAD)
  end
end

-- --- which handler is meant ---

-- A name of the options that no handler has.
function M.named(script, field, value, names)
  if value == nil or names[value] then return end
  local list = messages.sorted(names)
  local near = nearest(value, list)
  blame('deliver: %s: no handler of %s has the %s "%s": %s', field, script.name, field, value,
    near and ('did you mean "%s"?'):format(near)
    or #list > 0 and "there are " .. table.concat(list, ", ") or "it has none that takes messages")
end

-- --- streams that another script declares ---

-- The settings as NATS takes them.
function M.stream(index, config)
  local where = ("load: streams[%d]"):format(index)
  if type(config) ~= "table" then
    blame('%s: expected { name = "ORDERS", subjects = { "orders.>" } }, got %s', where, M.show(config))
  end
  local options = require "moonbus.options"
  for key in pairs(config) do
    local near = type(key) == "string" and not options.stream_fields[key] and
      nearest(key, messages.sorted(options.stream_fields))
    if near then blame('%s: unknown setting "%s": did you mean "%s"?', where, key, near) end
  end
  local ok, result = pcall(options.stream, config)
  if not ok then
    blame("%s", (tostring(result):gsub("^.-:%d+: ", "", 1):gsub("^js%.stream: ", where .. ": ", 1)))
  end
  return result.settings
end

function M.streams(list)
  if list == nil then return {} end
  if type(list) ~= "table" or (next(list) ~= nil and #list == 0) then
    blame('load: streams: expected a list, { { name = "ORDERS", subjects = { "orders.>" } } }, got %s',
      type(list) == "table" and "one stream, or a table with names" or M.show(list))
  end
  local result = {}
  for index, config in ipairs(list) do result[index] = M.stream(index, config) end
  return result
end

-- bus.settings as the config file would have it: JSON of an object; nil: it is not stated.
function M.settings(value)
  if value == nil then return nil end
  local text, why = messages.encode(value)
  if not text then blame("load: settings: %s", why) end
  if not text:find "^{" then blame("load: settings: a table with names, as in the config file, not a list") end
  return text
end

M.kinds.headers = M.headers

return M
