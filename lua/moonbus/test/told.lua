-- What tests read: results, and the runs, messages, calls and errors in them. A name that none of its kind has is
-- a slip of the pen, which would be nil for ever: it is said at once.
local blame = require "moonbus.test.blame"
local handle = require "moonbus.test.handle"

local M = {}

local function set_of(text)
  local set = {}
  for name in text:gmatch "%S+" do set[name] = true end
  return set
end

local ONE = "verdict attempt stream consumer sequence handler subject delay"
-- What each kind has, though perhaps not this one of it.
local NAMES = {
  ["a result"] = ONE .. [[ error reply raw_reply reply_headers published requests http offloaded dead_letters
    dead_letter logged runs]],
  ["a run"] = ONE .. " error",
  ["a message"] = "subject data raw headers id sequence",
  ["a call"] = "method url headers raw data",
  ["an offloaded call"] = "module name arguments",
  ["a line of the log"] = "level message fields code file line verdict",
  ["an error"] = "code message file line traceback",
  ["an entry"] = "key data raw revision",
  ["an object"] = "name data raw size digest description headers metadata",
}
local OF_ONE = set_of(ONE)
local OF_A_REPLY = set_of "reply raw_reply reply_headers"

local metas = {}
for what, text in pairs(NAMES) do
  local names = set_of(text)
  metas[what] = { names = names, __index = function(_, name)
    if not names[name] then return handle.unknown(what, name, names) end
  end }
end

local error_meta = metas["an error"]
error_meta.__tostring = function(self) return self.message end

local of_all = { __index = function(_, name)
  if OF_ONE[name] then
    blame('the result of run and advance is of all runs: "%s" is of one of them: r.runs[1].%s', name, name)
  elseif OF_A_REPLY[name] then
    blame('the result of run and advance is of all runs: deliver gives "%s"', name)
  end
  return metas["a result"].__index(nil, name)
end }

-- what: as NAMES has it. Of nil: nil.
---@param what string
---@param value table|nil
function M.one(what, value)
  return value and setmetatable(value, metas[what])
end

---@param what string
---@param list table[]
function M.each(what, list)
  for _, value in ipairs(list) do setmetatable(value, metas[what]) end
  return list
end

local LISTS = { published = "a message", requests = "a message", dead_letters = "a message", http = "a call",
  offloaded = "an offloaded call", logged = "a line of the log", runs = "a run" }

-- A result as tests get it. Other values as they are.
function M.result(result)
  if type(result) ~= "table" or not rawget(result, "runs") then return result end
  for name, what in pairs(LISTS) do M.each(what, result[name]) end
  return setmetatable(result, rawget(result, "verdict") and metas["a result"] or of_all)
end

return M
