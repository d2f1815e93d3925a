-- The thinking of `moonbus tune`: host/cli/tune/ plays rounds and measures, this says which, and what follows. The
-- two talk in JSON. Pure, but for the state between two calls.
local cjson = require "cjson"
local measure = require "moonbus.tune_measure"
local plan = require "moonbus.tune_plan"
local report = require "moonbus.tune_report"
local streams = require "moonbus.tune_streams"

local tune = {}

local input, names, rounds

local calls = {}

-- What the scripts register, and the stream. Gives its handlers, and the subjects to play; or an error.
function calls.subjects(asked)
  local answer, problem = streams.subjects(asked.found, asked.stream, asked.subject)
  return answer or { error = problem }
end

-- What is asked for. Gives the streams that the server needs before the host starts, the first round, and the head
-- of the table.
function calls.open(asked)
  input, names = asked, {}
  local handlers = {}
  for _, handler in ipairs(asked.found.handlers) do
    if handler.stream == asked.stream then
      local batch = handler.stated.batch > 0 and handler.stated.batch or nil
      handlers[#handlers + 1] = {
        handler = handler.handler, concurrency = handler.stated.concurrency, batch = batch,
        timeout = handler.stated.timeout_ns / 1e9, ack_wait = handler.stated.ack_wait_ns / 1e9,
      }
      names[#names + 1] = handler.handler
    end
  end
  input.handlers = handlers
  rounds = plan.new(input)
  return {
    first = (rounds:next()), head = report.head(),
    streams = streams.needed(asked.found, asked.stream, asked.played, asked.copied, asked.outputs),
  }
end

-- A round has been played. Gives the next one, or none; and a line about the one that was.
function calls.next(played)
  local round = measure.round(played, names)
  local next_round = rounds:next(round)
  return { next = next_round, line = report.round(round) }
end

-- All that there is: as text, or as JSON. good: there is a recommendation that held, or what was tried did.
function calls.report(asked)
  local result = rounds:result()
  local good = not result.problem
  if result.tried then
    good = not result.tried.broke and not result.tried.slow_player
  else
    good = good and result.confirmed ~= nil and not result.confirmed.broke
  end
  local text
  if asked.json then
    text = cjson.encode(report.table(input, result, asked.interrupted)) .. "\n"
  else
    text = report.text(input, result, asked.interrupted)
  end
  return { text = text, good = good }
end

---@param what "subjects"|"open"|"next"|"report"
---@param json string
---@return string json
function tune.call(what, json)
  return cjson.encode(calls[what](cjson.decode(json)))
end

return tune
