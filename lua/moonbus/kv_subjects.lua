--- The subjects of a bucket: what its keys are read under, and what they are written to.
local core = require("moonbus.core")

--- read, write: prefixes. Subjects of a mirror are those of its origin, which writes go to (ADR-8).
---@param name string of the bucket
---@param config table of its stream, as the server has it
return function(name, config)
  local mirror = config.mirror
  local origin = mirror and mirror.name:match "^KV_(.+)$" or name
  local read = ("$KV.%s."):format(origin)
  local external = mirror and mirror.external and mirror.external.api
  if external then return read, external .. "." .. read end
  -- A prefix of the API, or a domain, leads to another account or server: writes have to go there, too.
  local write = core.js_subject(read)
  return read, write:find("^%$JS%.API%.") and read or write
end
