--- A publish that is stored, for js.publish and all that is written into buckets: it waits for a
--- place in the outbox, and for the PubAck.
local core = require("moonbus.core")
local task = require("moonbus.task")

local CANCELLED = core.CANCELLED
local resumed = task.resumed

local FULL_WAIT = 0.02 -- seconds; a place in the outbox comes free as fast as the server stores

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

local send

--- What core.js_publish gave: a receipt, an error, or a full outbox, at which it waits.
local function sent(subject, data, opts, content_type, binding, receipt, err, id, derived)
  if receipt ~= nil then return receipt end
  if err.code ~= "full" then return nil, err end
  unless_cancelled(subject, core.sleep(FULL_WAIT, binding or "js.publish"))
  opts = copy(opts)
  opts.id, opts.derived = id, derived
  return send(subject, data, opts, content_type, binding)
end

--- binding: for messages; default: "js.publish".
function send(subject, data, opts, content_type, binding)
  return sent(subject, data, opts, content_type, binding,
    unless_cancelled(subject, core.js_publish(subject, data, opts, content_type, binding)))
end

--- One of opts that says trial = true, sent in the order of the calls: a receipt, which also says whether it was
--- retried; or nil and an error, which does not keep the input from counting as done. It does not wait for a place
--- in the outbox.
local function try(subject, data, opts, binding)
  return unless_cancelled(subject, core.js_publish(subject, data, opts, nil, binding))
end

return { copy = copy, send = send, try = try }
