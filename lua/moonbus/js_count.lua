--- Counters (ADR-49): a stream with allow_msg_counter adds up what is published to each of its subjects.
local core = require("moonbus.core")
local js_api = require("moonbus.js_api")

local M = {}

local WHOLE = 2 ^ 53 -- from there on a number may be another's

--- A number if that holds it exactly, else its digits.
local function exact(digits)
  local number = tonumber(digits)
  return number and math.abs(number) < WHOLE and number or digits
end

--- What a message of the stream says that the sum was with it.
local function sum_in(message)
  local digits = message.data:match '"val"%s*:%s*"(%-?%d+)"'
  if digits then return exact(digits) end
  return nil, core.error("invalid", ("%q of the stream %s is no counter"):format(message.subject, message.stream))
end

--- The sum that a receipt tells, or, where it was counted before, the one at that time; if that message is gone,
--- the present one.
---@param receipt table as of js.publish
---@return number|string?, table?
function M.sum(subject, receipt, timeout)
  if receipt.val then return exact(receipt.val) end
  local message, err = js_api.get("js.count", receipt.stream, { seq = receipt.seq }, timeout)
  if not message and err.code == "not_found" then
    message, err = js_api.get("js.count", receipt.stream, { last_by_subj = subject }, timeout)
  end
  if not message then return nil, err end
  return sum_in(message)
end

local function stream_of(subject, timeout)
  local answer, err = js_api.call("js.counter", "STREAM.NAMES", { subject = subject }, timeout)
  if not answer then return nil, err end
  local name = type(answer.streams) == "table" and answer.streams[1]
  if name then return name end
  return nil, core.error("no_stream", ("no stream takes %q: state one with js.stream { allow_msg_counter = true }")
    :format(subject))
end

--- What was counted of the subject so far.
---@return number|string?, table?
function M.read(subject, opts)
  local stream, err = opts.stream, nil
  if not stream then stream, err = stream_of(subject, opts.timeout) end
  if not stream then return nil, err end
  local message
  message, err = js_api.get("js.counter", stream, { last_by_subj = subject }, opts.timeout)
  if message then return sum_in(message) end
  if err.code == "not_found" then return 0 end
  return nil, err
end

return M
