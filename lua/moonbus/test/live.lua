-- What is other beside a real server (moonbus test --server): time cannot jump, so what would take long is not run,
-- and what happens is waited for.
local M = {}

-- So long one thing is waited for, in real time; and moved on with test.advance.
local WAIT_MS, ADVANCE_MS = 10000, 5000
-- So long may all of a test take.
local TEST_S = 60
-- Nothing has happened for so long: nothing more does by itself.
local QUIET_MS = 10
-- A digit of the delivery's subject has room for so many.
local ATTEMPTS_MOST = 9

M.reason = nil -- why, when a test has been given up
local began = os.time() -- the test that runs

function M.begin()
  M.reason, began = nil, os.time()
end

-- What was given up was only a try of a test that has failed already.
function M.forget()
  M.reason = nil
end

-- Ends the test that runs as one that was not run.
function M.give_up(reason)
  M.reason = reason
  error("pending: " .. reason, 0)
end

local function needs_time(what)
  M.give_up(what .. ": time is real with --server")
end

-- test.needs "virtual time": the rest of a test makes sense only there. live: does time not jump?
function M.needs(live, what)
  if live then needs_time("it needs " .. what) end
end

-- For how long something is waited for. A test that does one thing after the other, as a property with its hundred
-- values, is not gone on with for ever.
function M.most_ms(script, most_ms)
  if not script.live then return most_ms end
  if os.time() - began > TEST_S then needs_time(("all of it would take longer than %gs"):format(TEST_S)) end
  return math.min(most_ms, WAIT_MS)
end

function M.left(count)
  return count == 1 and "what is left, one message," or ("what is left, %d messages,"):format(count)
end

-- What was waited for did not come.
function M.check_late(script, what)
  if script.live then needs_time(("%s would take longer than %gs"):format(what, WAIT_MS / 1000)) end
end

function M.check_advance(script, seconds, duration)
  if script.live and seconds * 1000 > ADVANCE_MS then needs_time(('advance("%s")'):format(tostring(duration))) end
end

-- Of a stub. Seconds.
function M.check_delay(script, delay)
  if script.live and delay * 1000 > ADVANCE_MS then needs_time(("a stub with a delay of %gs"):format(delay)) end
end

function M.check_attempt(script, attempt)
  if script.live and attempt > ATTEMPTS_MOST then
    M.give_up(("attempt = %d: with --server at most %d"):format(attempt, ATTEMPTS_MOST))
  end
end

-- Does is_so() hold, and nothing happens any more?
function M.is_quiet(script, is_so)
  if not script.live then return is_so() end
  if not is_so() then return false end
  local before, until_ms = script.happened, script.stage:now() + QUIET_MS
  while script.stage:now() < until_ms do script:check(script.stage:step(until_ms)) end
  script:settle()
  return script.happened == before and is_so()
end

-- How many messages of durables have no end as yet.
function M.unsettled(script)
  if not script.live then return script.stage:unsettled() end
  local count, names = 0, script:ask("STREAM.NAMES", {})
  for _, stream in ipairs(type(names) == "table" and type(names.streams) == "table" and names.streams or {}) do
    local list = script:ask("CONSUMER.LIST." .. stream, {})
    for _, each in ipairs(type(list) == "table" and type(list.consumers) == "table" and list.consumers or {}) do
      count = count + each.num_pending + each.num_ack_pending
    end
  end
  return count
end

return M
