--- bus.request_many: the iterator over the replies to one request. They wait in the host (core.replies_*).
local core = require("moonbus.core")
local logged = require("moonbus.logged")
local nearest = require("moonbus.nearest")
local options = require("moonbus.options")
local resumed = require("moonbus.task").resumed
local misuse = core.misuse

local BINDING = "bus.request_many"

--- replies -> { ticket, sentinel, count, ended, error }; without ended they go on.
local states = setmetatable({}, { __mode = "k" })

local function end_by(state, why, err)
  state.ended, state.error = why, err
  core.replies_warn(state.ticket)
  core.replies_close(state.ticket)
end

--- A message, and the error that it is if a service sent one; nil at the end, and an error if there was one.
local function next_reply(replies)
  local state = states[replies]
  if state.ended then return nil, state.error end
  local msg, failure
  repeat
    msg, failure = resumed(core.replies_next(state.ticket, BINDING))
  until msg ~= false
  if msg == nil then
    local why, _, _, err = core.replies_outcome(state.ticket)
    end_by(state, why, err)
    return nil, err
  end
  if state.sentinel and state.sentinel(msg, failure) then
    end_by(state, "sentinel")
    return nil
  end
  state.count = state.count + 1
  return msg, failure
end

local methods = {}

--- No more of them: what has come and was not taken is dropped.
function methods.close(replies)
  local state = states[replies]
  if not state then misuse("replies:close: call it with a colon, on what bus.request_many returned") end
  if not state.ended then end_by(state, "left") end
end

local fields = {
  count = function(state) return state.count end,
  dropped = function(state) return state.ticket and select(3, core.replies_outcome(state.ticket)) or 0 end,
  ended = function(state) return state.ended end,
  error = function(state) return state.error end,
}
local NAMES = { "close", "count", "dropped", "ended", "error" }
local ELSEWHERE = { err = "error", stop = "close", cancel = "close", received = "count" }

local Replies = {
  __call = next_reply,
  __index = function(replies, name)
    if methods[name] then return methods[name] end
    if fields[name] then return fields[name](states[replies]) end
    local shown = type(name) == "string" and "." .. name or ("[%s]"):format(logged(name))
    local meant = ELSEWHERE[name] or type(name) == "string" and nearest(name, NAMES)
    return misuse(("replies%s: there is no such field: %s"):format(shown,
      meant and ("did you mean %q?"):format(meant) or "there are " .. table.concat(NAMES, ", ")))
  end,
  __newindex = function() misuse("replies: its fields cannot be set") end,
  __tostring = function(replies) return "replies (" .. (states[replies].ended or "going on") .. ")" end,
  __metatable = "replies",
}

return function(subject, data, opts)
  opts = options.request_many(opts)
  local sentinel = opts.sentinel
  local ticket, err =
    core.replies_ask(subject, data, opts.timeout, opts.headers, opts.stall, opts.max, sentinel == true)
  local replies = setmetatable({}, Replies)
  states[replies] = {
    ticket = ticket, count = 0, sentinel = sentinel ~= true and sentinel or nil,
    ended = err and "error" or nil, error = err,
  }
  return replies
end
