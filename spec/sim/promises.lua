-- What must be true of a trial, whatever happened in it. Each promise is a function of the trial,
-- and of the history that its notes tell: it returns nothing, or what is broken.
local promises = {}

-- --- the history: what the notes say, in the order in which it happened ---

-- "$JS.ACK.IN.c1.2.17.33.1767225600000000000.0 +ACK"
local function read_verdict(text)
  local consumer, delivered, sequence, verdict =
    text:match "^%$JS%.ACK%.IN%.([^.]+)%.(%d+)%.(%d+)%.%d+%.%d+%.%d+ (.*)$"
  if not consumer then return end
  return {
    consumer = consumer, delivered = tonumber(delivered), id = tonumber(sequence),
    verdict = verdict:match "^[+-]?%u+" or "+ACK",
  }
end

-- { { ms, what = "begin" | "end" | "verdict" | "asked" | "sent" | "got", ... } }. Messages are published one
-- after the other, so that a job's id is its sequence in the stream.
local function read(notes)
  local history = {}
  for _, note in ipairs(notes) do
    local event
    if note.kind == "note" then
      local sign, consumer, id, word, run = note.text:match "^([+-v]) (%S+) (%d+) (%S+) ?(%S*)$"
      if sign == "+" then
        event = { what = "begin", consumer = consumer, id = tonumber(id), attempt = tonumber(word),
          run = run }
      elseif sign == "-" then
        event = { what = "end", consumer = consumer, id = tonumber(id), how = word, run = run }
      elseif sign == "v" then
        event = { what = "verdict", consumer = consumer, id = tonumber(id), verdict = word,
          run = run }
      else
        local asked, got = note.text:match "^r (%d+) (.*)$"
        event = { what = "asked", id = asked, got = got }
      end
    elseif note.kind == "sent" or note.kind == "got" then
      event = read_verdict(note.kind == "sent" and note.text or note.text .. " ")
      if event then event.what, event.host = note.kind, note.host end
    end
    if event then
      event.ms, event.host = note.ms, event.host or event.run and event.run:match "^%d+"
      history[#history + 1] = event
    end
  end
  return history
end

local function of_consumer(trial, name)
  for _, c in ipairs(trial.consumers) do
    if c.name == name then return c end
  end
end

-- What has been stored as a dead letter, by the sequence of its message.
local function letters_of(trial)
  local list = {}
  for _, letter in ipairs(trial.letters) do
    local id = letter.headers:match "\r\n[iI]d: (%d+)\r\n"
    list[tonumber(id)] = (list[tonumber(id)] or 0) + 1
  end
  return list
end

-- --- the promises ---

local list = {}

-- What is known of each message at some point of the history: what its handler said, the most
-- attempts, whether one has returned.
local function new_knowledge(trial)
  local known = setmetatable({}, { __index = function(all, id)
    all[id] = { attempts = 0 }
    return all[id]
  end })
  for id, count in pairs(letters_of(trial)) do known[id].letters = count end
  return known
end

local function learn(known, event)
  local one = event.id and known[event.id]
  if event.what == "begin" then
    one.attempts = math.max(one.attempts, event.attempt)
  elseif event.what == "end" and event.how == "ok" then
    one.returned = one.returned or not one[event.run]
  elseif event.what == "verdict" then
    one.said, one[event.run] = event.verdict, event.verdict
  elseif event.what == "sent" then
    one.attempts = math.max(one.attempts, event.delivered)
  end
end

-- May it be given up? On purpose, as a dead letter, or after its attempts where it has none.
local function may_be_given_up(trial, event, one)
  local c, job = of_consumer(trial, event.consumer), trial.jobs[event.id]
  return one.letters or one.said == "term"
    or not c.dead_letter and (one.attempts >= c.attempts or job.bad or one.said == "reject")
end

-- A message is acknowledged only after its handler has returned, said so, or it was given up.
function list.acked_after_return(trial, history)
  local known = new_knowledge(trial)
  for _, event in ipairs(history) do
    if event.what ~= "asked" then learn(known, event) end
    if event.what == "sent" and event.verdict == "+ACK" then
      local one = known[event.id]
      if not one.returned and one.said ~= "ack" and not may_be_given_up(trial, event, one) then
        return ("message %d of %s was acked at %g though no handler has returned"):format(event.id,
          event.consumer, event.ms)
      end
    end
  end
end

function list.terminated_on_purpose(trial, history)
  local known = new_knowledge(trial)
  for _, event in ipairs(history) do
    if event.what ~= "asked" then learn(known, event) end
    if event.what == "sent" and event.verdict == "+TERM"
      and not may_be_given_up(trial, event, known[event.id]) then
      return ("message %d of %s was terminated at %g after %d attempts"):format(event.id,
        event.consumer, event.ms, known[event.id].attempts)
    end
  end
end

-- In the end nothing waits, and each message had an end that was promised.
function list.nothing_lost(trial, history)
  if trial.inputs ~= #trial.jobs then
    return ("%d messages were stored of %d"):format(trial.inputs, #trial.jobs)
  end
  if not trial.settled then return "not every message has an end after 40 minutes" end
  local ended, known = letters_of(trial), new_knowledge(trial)
  for _, event in ipairs(history) do
    if event.what ~= "asked" then learn(known, event) end
    if event.what == "end" and event.how == "ok" or event.what == "verdict" and event.verdict == "ack"
      or event.what == "sent" and may_be_given_up(trial, event, known[event.id]) then
      ended[event.id] = true
    end
  end
  for id, job in ipairs(trial.jobs) do
    if not ended[id] then return ("message %d of %s is lost"):format(id, job.consumer.name) end
  end
end

-- What handlers publish is stored once, however often they run; and all of it when they returned.
function list.outputs_once(trial, history)
  local stored = {}
  for _, message in ipairs(trial.outputs) do
    if stored[message.data] then return ("output %s is stored twice"):format(message.data) end
    stored[message.data] = true
  end
  -- One that was given up after a run that returned, as not all of it was stored, may be acked when it comes again.
  local may_fail = trial.settings["publish.attempts"] < 20
  local settled, ended, known = {}, {}, new_knowledge(trial)
  for _, event in ipairs(history) do
    if event.what ~= "asked" then learn(known, event) end
    if event.what == "end" then ended[event.id] = event.how end
    if event.what == "sent" and event.verdict == "+ACK" and known[event.id].returned and ended[event.id] == "ok"
      and not (may_fail and may_be_given_up(trial, event, known[event.id])) then
      settled[event.id] = true
    end
  end
  for id in pairs(settled) do
    for k = 1, trial.jobs[id].outs do
      if not stored[id .. "-" .. k] then
        return ("message %d was acked, but its output %d is not stored"):format(id, k)
      end
    end
  end
end

function list.letters_once(trial)
  for id, count in pairs(letters_of(trial)) do
    if count > 1 then return ("message %d has %d dead letters"):format(id, count) end
  end
end

-- Could the lease of a message have been lost in this time? Faults that follow each other add up.
local function was_disturbed(trial, ack_wait, from, to)
  local sum = 1500
  for _, fault in ipairs(trial.faults) do
    if fault.from - ack_wait <= to and fault.from + fault.ms + ack_wait + 1500 >= from then
      if fault.what == "stop" then return true end
      sum = sum + fault.ms
    end
  end
  return sum > 1500 and sum >= ack_wait
end

-- A message is not handled twice at the same time, while its lease holds.
function list.one_at_a_time(trial, history)
  local running = {}
  for _, event in ipairs(history) do
    if event.what == "begin" then
      local other = running[event.id]
      if other then
        local c = of_consumer(trial, event.consumer)
        if other.host == event.host or not was_disturbed(trial, c.ack_wait, trial.jobs[event.id].at,
          event.ms) then
          return ("message %d of %s runs twice: since %g, and from %g on"):format(event.id,
            event.consumer, other.ms, event.ms)
        end
      end
      running[event.id] = event
    elseif event.what == "verdict" then
      if running[event.id] and running[event.id].run == event.run then
        running[event.id] = nil -- from here on it is nobody's
      end
    elseif event.what == "end" and running[event.id] and running[event.id].run == event.run then
      running[event.id] = nil
    end
  end
end

-- No handler has more runs at a time than its concurrency, in one host.
function list.concurrency_kept(trial, history)
  local running = {}
  for _, event in ipairs(history) do
    local name = event.what and event.consumer and event.consumer .. "@" .. tostring(event.host)
    if event.what == "begin" then
      running[name] = (running[name] or 0) + 1
      local c = of_consumer(trial, event.consumer)
      local most = c.concurrency * (c.kind == "batch" and c.size or 1)
      if running[name] > most then
        return ("%d runs of %s at %g, of %d"):format(running[name], event.consumer, event.ms, most)
      end
    elseif event.what == "end" then
      running[name] = running[name] - 1
    end
  end
end

-- Of a key one message at a time, in the order of the stream, within one host.
function list.order_kept(trial, history)
  local busy, last, first = {}, {}, {}
  for _, event in ipairs(history) do
    local c = (event.what == "begin" or event.what == "end") and of_consumer(trial, event.consumer)
    if c and c.kind == "order" then
      local key = ("%s %s@%s"):format(c.name, trial.jobs[event.id].key, tostring(event.host))
      if event.what == "end" then
        busy[key] = nil
      else
        if busy[key] then
          return ("messages %d and %d of key %s run at the same time, at %g"):format(busy[key],
            event.id, key, event.ms)
        end
        busy[key] = event.id
        -- What was lost in a break before anything had come is not missed (bus/consume/gap.h).
        local host = c.name .. "@" .. tostring(event.host)
        first[host] = first[host] or event.id
        if event.id < (last[key] or 0) and event.id > first[host] and trial.host_count == 1 and trial.restarts == 0
          and not trial.goes_on_without then
          return ("message %d of key %s runs after %d, at %g"):format(event.id, key, last[key],
            event.ms)
        end
        last[key] = math.max(last[key] or 0, event.id)
      end
    end
  end
end

-- Who asked gets one answer, and that is its own.
function list.replies(trial, history)
  for _, event in ipairs(history) do
    if event.what == "asked" and event.got ~= event.id and event.got ~= "timeout"
      and event.got ~= "no_responders" and event.got ~= "closed" and event.got ~= "service_error"
      and event.got ~= "disconnected" and not (trial.no_memory and event.got == "memory") then
      return ("message %s asked, and got %q"):format(event.id, event.got)
    end
  end
  for number, asked in ipairs(trial.asked) do
    if #asked > 1 then return ("request %d has %d answers"):format(number, #asked) end
    if asked[1] and asked[1] ~= "re " .. number and asked[1] ~= "503" and asked[1] ~= "" then
      return ("request %d has the answer %q"):format(number, asked[1])
    end
    if not asked[1] and #trial.faults == 0 and trial.reloads == 0 then
      return ("request %d has no answer"):format(number)
    end
  end
end

local function was_frozen(trial, from, to)
  for _, fault in ipairs(trial.faults) do
    local lasts = fault.what == "lose" and 3000 or fault.ms + 1000
    if fault.what ~= "stop" and fault.from <= to and fault.from + lasts >= from then
      return true
    end
  end
end

-- Where nothing is wrong, a start asks the server what it must, and is answered at once.
function list.starts_at_once(trial)
  if trial.started_ms > 100 * trial.host_count and not trial.no_memory then
    return ("the start took %g ms"):format(trial.started_ms)
  end
end

-- What a host has acknowledged it does not run again, when it comes again.
function list.not_run_again(trial, history)
  local acked = {}
  for _, event in ipairs(trial.host_count == 1 and trial.restarts == 0 and history or {}) do
    if event.what == "sent" and event.verdict == "+ACK" then
      acked[event.id] = event.ms
    elseif event.what == "begin" and acked[event.id] then
      return ("message %d of %s was acked at %g, and runs again at %g"):format(event.id,
        event.consumer, acked[event.id], event.ms)
    end
  end
end

-- A stop ends by its deadline; what it was is gone then, but where the server did not answer, or its
-- answer was lost: who pulls asks for CONSUMER.INFO before it hands back, and waits for that.
function list.stops_in_time(trial)
  for _, stop in ipairs(trial.stops) do
    if stop.took > stop.graceful + 100 then
      return ("a stop within %g ms took %g ms"):format(stop.graceful, stop.took)
    end
    if stop.unfinished == -1 and not stop.losing and not was_frozen(trial, stop.began, stop.began + stop.took) then
      return ("what was stopped at %g still ran at its deadline"):format(stop.began)
    end
  end
end

-- When all is settled nothing runs, and nothing waits to be sent.
function list.quiet_in_the_end(trial)
  for i, status in ipairs(trial.quiet) do
    if not trial.timer and (status.running > 0 or status.frames > 0) then
      return ("host %d has %d handlers running, %d frames"):format(i, status.running, status.frames)
    end
  end
end

-- After its verdict nothing more is sent for a delivery: a heartbeat that follows a nak would take the
-- message out of the hands of whoever has it by then.
function list.nothing_after_verdict(_, history)
  local settled = {}
  for _, event in ipairs(history) do
    if event.what == "sent" then
      local key = ("%s %d@%s"):format(event.consumer, event.id, event.host)
      local before = settled[key]
      if before and event.delivered <= before.delivered and event.verdict == "+WPI" then
        return ("a heartbeat of message %d of %s was sent at %g, after its %s at %g"):format(event.id,
          event.consumer, event.ms, before.verdict, before.ms)
      end
      if event.verdict ~= "+WPI" then settled[key] = event end
    end
  end
end

-- Once ack_wait has passed since the server could last hear of us, a message may be somebody else's:
-- only an ack is sent for it.
function list.lost_leases_are_left_alone(trial, history)
  local since = {} -- by message and host: when the lease began, or was renewed
  for _, event in ipairs(history) do
    if event.what == "sent" or event.what == "got" then
      local key = ("%s %d@%s"):format(event.consumer, event.id, event.host)
      local ack_wait = of_consumer(trial, event.consumer).ack_wait
      if event.what == "sent" and event.verdict ~= "+ACK" and event.ms - since[key] > ack_wait then
        return ("a %s of message %d of %s was sent at %g, %g ms after its lease began, with an ack_wait of %g"):format(
          event.verdict, event.id, event.consumer, event.ms, event.ms - since[key], ack_wait)
      end
      if event.what == "got" or event.verdict == "+WPI" then since[key] = event.ms end
    end
  end
end

local names = {}
for name in pairs(list) do names[#names + 1] = name end
table.sort(names)

-- nil, or "promise: what is wrong".
function promises.broken(trial)
  for _, note in ipairs(trial.notes) do
    if note.kind == "log" and (note.text:find("comes later, its key is out of order", 1, true)
      or note.text:find("the dead letter was not stored", 1, true)) then
      trial.goes_on_without = true
    end
    if note.kind == "log" and note.text:find('"msg":"BUG at', 1, true) then return note.text end
  end
  local history = read(trial.notes)
  for _, name in ipairs(names) do
    local wrong = list[name](trial, history)
    if wrong then return name .. ": " .. wrong end
  end
end

return promises
