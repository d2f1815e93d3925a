--- Which keys of a bucket have a value: the last message of each subject is looked at, its headers
--- alone, and those that are deletions are left out.
local entries = require("moonbus.kv_entry")
local last_ones = require("moonbus.last_ones")

--- A list of keys, sorted; or nil and an error. prefix: of the subjects, "$KV.b.".
return function(stream, prefix, filter, timeout)
  local list = {}
  local ok, err = last_ones(stream, prefix .. filter, true, timeout, function(message)
    if entries.operation_of(message) == "PUT" then list[#list + 1] = message.subject:sub(#prefix + 1) end
  end)
  if not ok then return nil, err end
  table.sort(list)
  return list
end
