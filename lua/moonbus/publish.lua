--- A publish that is stored, for js.publish and all that is written into buckets: it waits for a
--- place in the outbox, and for the PubAck.
local core = require("moonbus.core")
local task = require("moonbus.task")

local CANCELLED = core.CANCELLED
local js_publish = core.js_publish
local resumed = task.resumed

local function copy(from)
  local to = {}
  for key, value in pairs(from or {}) do to[key] = value end
  return to
end

--- Raises when it was cancelled: then the input must not count as done.
local function unless_cancelled(subject, first, ...)
  if first == CANCELLED then core.js_abandoned(subject) end
  return resumed(first, ...)
end

--- A receipt of what core.js_publish says of a stored message. That its keys stand here, with a value, makes it a copy
--- of a table that is there already.
local function receipt_of(seq, stream, duplicate, val, retried)
  local receipt = { stream = stream, seq = seq, duplicate = false }
  if duplicate then receipt.duplicate = true end
  if val then receipt.val = val end
  if retried ~= nil then receipt.retried = retried end
  return receipt
end

local function sent(subject, seq, ...)
  if seq == CANCELLED then return unless_cancelled(subject, seq, ...) end
  if not seq then return nil, (...) end
  return receipt_of(seq, ...)
end

local send

--- There were too many bytes in the outbox, and now there is room; or the data are a table, of which the text is to
--- wait for that. It has its id already.
local function send_again(subject, data, opts, content_type, binding, id, derived, ticket, text)
  opts = copy(opts)
  opts.id, opts.derived, opts.ticket = id or opts.id, derived, ticket
  if text then data, content_type = text, content_type or "application/json" end
  return send(subject, data, opts, content_type, binding)
end

--- A receipt; or nil and an error. It waits for its place in the outbox, if there are many. One of opts that says
--- trial = true does not wait for that, its receipt also says whether it was sent more than once, and its failure does
--- not keep the input from counting as done. binding: for messages; default: "js.publish".
function send(subject, data, opts, content_type, binding)
  local seq, stream, again, val, retried, ticket, text = js_publish(subject, data, opts, content_type, binding)
  if not seq and again then
    return send_again(subject, data, opts, content_type, binding, val, retried, ticket, text)
  end
  return sent(subject, seq, stream, again, val, retried)
end

return { copy = copy, send = send }
