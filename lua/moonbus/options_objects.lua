--- The options of what is done with a bucket of objects, checked.
local common = require("moonbus.options_kinds")
local kinds, check, misuse, refuse = common.kinds, common.check, common.misuse, common.refuse

local M = {}

local CHUNK_SIZE = 128 * 1024 -- ADR-20; what all clients take

local function check_texts(binding, field, value)
  local texts = {}
  for name, text in pairs(kinds.table(binding, field, value)) do
    if type(name) ~= "string" or type(text) ~= "string" then
      refuse(binding, field, "texts by name, as { owner = \"ada\" }", value)
    end
    texts[name] = text
  end
  return texts
end

--- As NATS' clients keep them: a list of texts for each name.
local function check_headers(binding, field, value)
  local headers = {}
  for name, given in pairs(kinds.table(binding, field, value)) do
    if type(name) ~= "string" or not name:find("^[!-9;-~]+$") then
      misuse(("%s: %s: %s is no name of a header"):format(binding, field, common.show(name)))
    end
    local list = type(given) == "table" and given or { given }
    for _, text in ipairs(list) do
      if type(text) ~= "string" or text:find("[\r\n%z]") then
        misuse(("%s: %s: %s: expected a text without line breaks, or a list of them"):format(binding, field, name))
      end
    end
    if #list == 0 then misuse(("%s: %s: %s: it has no value"):format(binding, field, name)) end
    headers[name] = { unpack(list) }
  end
  return headers
end

local FORMS = {
  put = {
    fields = {
      description = "string", headers = { check = check_headers }, metadata = { check = check_texts },
      chunk_size = { "size", min = 1024, default = CHUNK_SIZE }, timeout = "duration",
      attempts = { "integer", max = 1000 },
    },
    hints = { max_chunk_size = "chunk_size", header = "headers", meta = "metadata" },
  },
  get = {
    fields = { max = { "size", default = 16 * 1024 * 1024 }, timeout = "duration" }, hints = { max_size = "max" },
  },
  open = { fields = { timeout = "duration" }, hints = {} },
  info = { fields = { timeout = "duration" }, hints = {} },
  list = { fields = { timeout = "duration" }, hints = {} },
  delete = { fields = { timeout = "duration" }, hints = {} },
}

--- The options of a method: "put" of "objects:put".
function M.call(method, opts)
  return check("objects:" .. method, opts, FORMS[method])
end

--- Its subject has base64 of it, and 2,000 bytes at most.
local NAME_MOST = 1024

function M.name(binding, name)
  if type(name) ~= "string" then refuse(binding, "name", "a string", name) end
  if name == "" then misuse(binding .. ": name: it is empty") end
  if #name > NAME_MOST then misuse(("%s: name: %d bytes, at most %d"):format(binding, #name, NAME_MOST)) end
  return name
end

local function is_callable(value)
  if type(value) == "function" then return true end
  local meta = type(value) == "table" and debug.getmetatable(value)
  return type(meta) == "table" and type(rawget(meta, "__call")) == "function"
end

--- What is stored: a string, or a function that gives it piece by piece.
function M.data(binding, data)
  if is_callable(data) or type(data) == "string" then return data end
  local got = data == nil and "nothing" or "a " .. type(data)
  return misuse(("%s: data: expected a string, or a function that gives pieces and then nil, got %s%s")
    :format(binding, got, type(data) == "table" and " (use bus.json.encode)" or ""))
end

return M
