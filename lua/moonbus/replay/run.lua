-- One handler on one message, in a host of its own, where it is served alone: its outcome.
local messages = require "moonbus.test.messages"
local outside = require "moonbus.replay.outside"
local script = require "moonbus.test.script"

local M = {}

-- The subjects of its stream: as far as the durable needs them, and without a filter as far as the message does.
local function subjects_for(handler, message, of_stream)
  if #handler.filters > 0 then return handler.filters end
  for _, pattern in ipairs(of_stream or {}) do
    if messages.matches(pattern, message.subject) then return of_stream end
  end
  return { message.subject }
end

-- The stream of a durable; and one that takes its dead letters, without which it would not start: they come
-- to `outside`.
local function streams_for(handler, subjects)
  local list = { { name = handler.stream, subjects = subjects } }
  for _, pattern in ipairs(handler.dead_letter and subjects or {}) do
    if messages.matches(pattern, handler.dead_letter) then return list end
  end
  if handler.dead_letter then
    local name = handler.stream == "LETTERS" and "LETTERS_2" or "LETTERS"
    list[2] = { name = name, subjects = { handler.dead_letter } }
  end
  return list
end

-- One that somebody else makes, with bind = true.
local function make_durable(loaded, handler)
  local config = { durable_name = handler.durable, ack_policy = "explicit", deliver_policy = "all" }
  if #handler.filters == 1 then config.filter_subject = handler.filters[1] end
  if #handler.filters > 1 then config.filter_subjects = handler.filters end
  loaded:ask(("CONSUMER.DURABLE.CREATE.%s.%s"):format(handler.stream, handler.durable),
    { stream_name = handler.stream, config = config })
end

-- A host that serves the handler, and has not begun. options: server, real, inbox, stubs (a function), seed,
-- subjects (of the real stream, where it is to take other messages, too).
function M.open(handler, message, options)
  local subjects = handler.durable and subjects_for(handler, message, options.subjects) or {}
  local streams = handler.durable and streams_for(handler, subjects) or nil
  local loaded = script.new(handler.path, { only = handler.handler, now = true, streams = streams,
    seed = options.seed, max_payload = options.server and options.server.max_payload() })
  local world = outside.new(options.server, options.real, options.inbox)
  world:watch(loaded)
  if handler.bind then make_durable(loaded, handler) end
  if options.stubs then options.stubs(loaded) end
  return { script = loaded, outside = world, handler = handler, subjects = subjects }
end

-- Does the stream of this host take such messages?
function M.takes(host, subject)
  for _, pattern in ipairs(host.subjects) do
    if messages.matches(pattern, subject) then return true end
  end
  return false
end

-- attempt: nil for the message's own, else 1. Raises a sentence where the run does not come to an end.
function M.deliver(host, message, attempt)
  local loaded, world = host.script, host.outside
  loaded:start()
  world:begin(loaded)
  local began = os.clock()
  if host.handler.durable then attempt = attempt or message.attempt or 1 else attempt = nil end
  local result = loaded:deliver(message, { handler = host.handler.handler, attempt = attempt })
  result.cpu_ms = (os.clock() - began) * 1000
  world.live = false
  result.start_failed = loaded.start_failed
  result.missing = world.missing
  world.missing = {}
  for _, each in ipairs(result.published) do each.receipt = world:receipt(each) end
  for _, each in ipairs(result.dead_letters) do each.receipt = world:receipt(each) end
  return result
end

function M.close(host) host.script:close() end

-- Was it a success? That of a request is one, too.
function M.is_well(result) return result.verdict == "ack" or result.verdict == "ok" end

return M
