--- The last message of each subject, as the host reads them (core.reader): also of one that is written
--- meanwhile, and whose message was not there at first.
local core = require("moonbus.core")
local resumed = require("moonbus.task").resumed

--- core[name](ticket), which gives false when it is to be called again.
local function patiently(name, ticket)
  local first, err
  repeat
    first, err = resumed(core[name](ticket))
  until first ~= false
  return first, err
end

--- Calls each(message). True; or nil and an error, when they could not be read whole.
---@param headers_only boolean the messages have no data
return function(stream, filter, headers_only, timeout, each)
  local ticket, err = core.reader(stream, { filter }, headers_only, nil, nil, nil, timeout)
  if not ticket then return nil, err end
  local open, why = patiently("reader_await", ticket)
  while open do
    local message
    message, why = patiently("reader_next", ticket)
    if not message then break end
    each(message)
  end
  core.reader_close(ticket)
  if why then return nil, why end
  return true
end
