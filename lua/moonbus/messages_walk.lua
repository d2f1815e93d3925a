--- js.messages where no consumer can be made for it: of a work queue, beside those that work on it; and with
--- a list of filters on a server before 2.10. The messages are asked for one by one, at the stream's leader.
local js_api = require("moonbus.js_api")

local BINDING = "js.messages"

--- The first message of any of the filters from that sequence on; nil, and an error if it is one.
local function first_from(stream, filters, sequence, timeout)
  local first
  for _, filter in ipairs(filters) do
    local message, err = js_api.get(BINDING, stream, { seq = sequence, next_by_subj = filter }, timeout)
    if message and (not first or message.sequence < first.sequence) then first = message end
    if not message and err.code ~= "not_found" then return nil, err end
  end
  return first
end

--- A function that gives the next message; nil when that was all; nil and an error. Or nil and an error.
--- spec: the options of js.messages; from, to: { sequence } or { time } or neither.
return function(stream, spec, from, to)
  local info, err = js_api.call(BINDING, "STREAM.INFO." .. stream, nil, spec.timeout)
  if not info then return nil, err end
  local filters = spec.filter or { ">" }
  local last = math.min(to.sequence or math.huge, info.state.last_seq)
  local sequence, count = from.sequence or 1, 0
  return function()
    while sequence <= last and count < (spec.max or math.huge) do
      local message, why = first_from(stream, filters, sequence, spec.timeout)
      if not message then return nil, why end
      sequence = message.sequence + 1
      if message.sequence > last or to.time and message.timestamp > to.time then return nil end
      if not from.time or message.timestamp >= from.time then
        count = count + 1
        return message
      end
    end
  end
end
