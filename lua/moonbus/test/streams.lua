-- The streams of the server beside a script under test, and what they hold before the script is served.
local blame = require "moonbus.test.blame"
local checks = require "moonbus.test.checks"

local M = {}

-- Those that another script declares.
function M.make(script, streams)
  for _, config in ipairs(streams) do
    local made = script:ask("STREAM.CREATE." .. config.name, config)
    if type(made) ~= "table" or made.error then
      blame("load: the stream %s cannot be made: %s", config.name,
        made and made.error and made.error.description or "no answer")
    end
  end
end

-- name -> subjects
function M.known(script)
  local names, known = script:ask("STREAM.NAMES", {}), {}
  for _, name in ipairs(type(names) == "table" and names.streams or {}) do
    local info = script:ask("STREAM.INFO." .. name)
    known[name] = info and info.config and info.config.subjects or {}
  end
  return known
end

-- Of those, for people.
function M.names(script)
  local names = {}
  for name in pairs(M.known(script)) do names[#names + 1] = name end
  table.sort(names)
  return names[1] and table.concat(names, ", ") or "none"
end

local MESSAGE = {
  fields = { subject = { "subject", required = true }, headers = "headers",
    data = { check = function(_, _, value) return value end } },
  hints = { payload = "data", body = "data", raw = "data", header = "headers", sequence = "they are counted from 1",
    stream = "the subject decides" },
}

-- What is stored before the script is served: a list of { subject, data, headers }. store(subject, data, options)
function M.fill(list, store)
  if list.subject then
    blame('load: stored: it is a list: { { subject = "%s", data = ... } }', tostring(list.subject))
  end
  for index, message in ipairs(list) do
    local what = ("load: stored[%d]"):format(index)
    if type(message) ~= "table" then blame('%s: a message is { subject = "orders.created", data = ... }', what) end
    checks.check(what, message, MESSAGE)
    store(message.subject, message.data, { headers = message.headers })
  end
end

return M
