--- What is told of an object: the JSON of its last message on $O.<bucket>.M.<name> (ADR-20).
local core = require("moonbus.core")

local M = {}

local function text_of(value)
  return type(value) == "string" and value or nil
end

local function whole_of(value)
  return type(value) == "number" and value >= 0 and value % 1 == 0 and value or 0
end

local function table_of(value)
  return type(value) == "table" and value or nil
end

--- One value of each header as a text, several as a list.
local function headers_of(given)
  local headers
  for name, list in pairs(table_of(given) or {}) do
    if type(name) == "string" and type(list) == "table" and list[1] ~= nil then
      headers = headers or {}
      headers[name] = list[2] == nil and list[1] or list
    end
  end
  return headers
end

--- One token of a subject: anybody may have written it, and what it names is read and purged.
local function token_of(value)
  return type(value) == "string" and value:find("^[%w_-]+$") and value or nil
end

--- false: it leads nowhere.
local function link_of(told)
  local link = table_of(told.options) and told.options.link
  if link == nil then return nil end
  return table_of(link) and token_of(link.bucket) and { bucket = link.bucket, name = text_of(link.name) } or false
end

--- message: what is stored. The second value is its sequence; or nil, an error, and the sequence: it is
--- none.
function M.of(bucket, message)
  local told = core.json_decode(message.data)
  local link = type(told) == "table" and link_of(told)
  if type(told) ~= "table" or not text_of(told.name) or link == false then
    return nil, core.error("bad_payload", ("bucket %q: what is told of an object (sequence %d) cannot be read"):format(
      bucket, message.sequence)), message.sequence
  end
  return {
    bucket = bucket, name = told.name, description = text_of(told.description), headers = headers_of(told.headers),
    metadata = table_of(told.metadata), size = whole_of(told.size), chunks = whole_of(told.chunks),
    digest = text_of(told.digest), nuid = token_of(told.nuid), modified = message.timestamp, link = link,
    deleted = told.deleted == true or nil,
  }, message.sequence
end

local function not_empty(given)
  return given and next(given) ~= nil and given or nil
end

--- As it is written, by the names that all clients read.
function M.encode(info, chunk_size)
  local now = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(core.now()))
  return core.json_encode {
    name = info.name, description = info.description, headers = not_empty(info.headers),
    metadata = not_empty(info.metadata), options = not info.deleted and { max_chunk_size = chunk_size } or nil,
    bucket = info.bucket, nuid = info.nuid, size = info.size, mtime = now, chunks = info.chunks, digest = info.digest,
    deleted = info.deleted,
  }
end

return M
