--- Which keys of a bucket have a value: the last message of each subject is looked at, its headers
--- alone, and those that are deletions are left out.
local core = require("moonbus.core")
local entries = require("moonbus.kv_entry")
local resumed = require("moonbus.task").resumed

--- core[name](ticket), which gives false when it is to be called again.
local function patiently(name, ticket)
  local first, err
  repeat
    first, err = resumed(core[name](ticket))
  until first ~= false
  return first, err
end

--- A list of keys, sorted; or nil and an error. prefix: of the subjects, "$KV.b.".
return function(stream, prefix, filter, timeout)
  local ticket, err = core.reader(stream, { prefix .. filter }, true, nil, nil, nil, timeout)
  if not ticket then return nil, err end
  local open, why = patiently("reader_await", ticket)
  local list = {}
  while open do
    local message
    message, why = patiently("reader_next", ticket)
    if not message then break end
    if entries.operation_of(message) == "PUT" then list[#list + 1] = message.subject:sub(#prefix + 1) end
  end
  core.reader_close(ticket)
  if why then return nil, why end
  table.sort(list)
  return list
end
