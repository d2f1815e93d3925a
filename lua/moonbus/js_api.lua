--- JetStream's API as the modules of the host call it: what passes by itself (a stream without a
--- leader, an answer that was lost with one) is tried again within the timeout.
---
---     local answer, err = js_api.call("b:keys", "STREAM.INFO.KV_b", { subjects_filter = ">" }, 5)
---     local message, err = js_api.get("js.get", "ORDERS", { seq = 7 }, 5)
---
--- err.api_code is JetStream's own, as STREAM_GONE.
local core = require("moonbus.core")
local task = require("moonbus.task")

local resumed = task.resumed

local M = { STREAM_GONE = 10059 }

--- Seconds between two tries: an election takes about a second.
local WAIT_FIRST, WAIT_MOST = 0.1, 1

--- So long one try waits for its answer, when there is time for another one.
local TRY_MOST = 2

local function encoded(request)
  return request and core.json_encode(request)
end

--- Calls core[name](binding, place, request, seconds) until it has an answer, or what will not pass.
local function within(name, binding, place, request, timeout)
  local text = encoded(request)
  local deadline = core.clock() + (timeout or core.request_timeout())
  local wait = WAIT_FIRST
  while true do
    local left = math.max(deadline - core.clock(), 0.001)
    local last = left < 2 * TRY_MOST
    local answer, err = resumed(core[name](binding, place, text, last and left or TRY_MOST))
    if answer ~= nil then return answer end
    if err.code == "unavailable" and deadline - core.clock() > wait then
      resumed(core.sleep(wait, binding))
      wait = math.min(wait * 2, WAIT_MOST)
    elseif err.code ~= "timeout" or last then
      return nil, err
    end
  end
end

--- The answer of an operation ("STREAM.INFO.ORDERS"), decoded; or nil and an error. It may be asked
--- twice: what it does must bear that.
---@param binding string for errors: what the script has called
---@param operation string
---@param request table?
---@param timeout number? seconds; default: the config's request_timeout
---@return table?, table?
function M.call(binding, operation, request, timeout)
  return within("js_api", binding, operation, request, timeout)
end

--- One stored message, read where the stream's leader is; or nil and an error: "not_found",
--- "no_stream".
---@param request table as of STREAM.MSG.GET
function M.get(binding, stream, request, timeout)
  local message, err = within("js_get", binding, stream, request, timeout)
  if message == nil and err.api_code == M.STREAM_GONE then
    err = core.error("no_stream", ("there is no stream %s: state it with js.stream, or create it"):format(stream))
    err.api_code = M.STREAM_GONE
  end
  return message, err
end

local LEVEL_AGAIN = 0.05 -- seconds; a new connection tells it in a round trip

--- True if the server's JetStream can do what needs that level; or nil and an error. Waits while that is not known.
---@param needs { level: integer, what: string }
function M.require(binding, needs, timeout)
  local deadline = core.clock() + (timeout or core.request_timeout())
  while true do
    local able, err = core.js_require(needs.level, needs.what)
    if able or err.code ~= "unavailable" or core.clock() >= deadline then return able, err end
    resumed(core.sleep(LEVEL_AGAIN, binding))
  end
end

return M
