-- What the specs of faults share: a script that consumes, how many runs its log tells of, and how
-- long their long forms are (SPEC_LONG=1: as long as it takes to believe it).
local faulty = { long = (os.getenv "SPEC_LONG" or "") ~= "" }

-- The value for the suite, or the one for the long form.
function faulty.pick(short, long)
  if faulty.long then return long end
  return short
end

-- A script that consumes IN as "worker", with these options and this body of the handler; OUT and
-- DEAD are there. In the body: burn(seconds) computes without yielding, and run(msg) and done(msg)
-- frame a run for faulty.runs.
function faulty.consumer(options, body, storage)
  return ([[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
for name, subject in pairs { IN = "in.>", OUT = "out.>", DEAD = "dead.>" } do
  js.stream { name = name, subjects = { subject }, storage = %q }
end
local function burn(seconds)
  local till = bus.now() + seconds
  while bus.now() < till do end
end
local function run(msg) bus.log.info(("run %%d %%d %%.4f"):format(msg.sequence, msg.attempt, bus.now())) end
local function done(msg) bus.log.info(("done %%d"):format(msg.sequence)) end
js.consume("IN", { durable = "worker", %s }, function(msg)
%s
end)]]):format(storage or "memory", options or "", body)
end

-- What a host's log says of its runs: `begun`, `ended` (how many), `of` (how often each sequence
-- was run), `overlapping` (runs of a message whose earlier run had not ended), `list` of
-- { sequence, attempt, at }.
function faulty.runs(host)
  local result = { begun = 0, ended = 0, overlapping = 0, of = {}, list = {} }
  local open = {}
  for _, event in ipairs(host:events()) do
    local sequence, attempt, at = (event.msg or ""):match "^run (%d+) (%d+) ([%d.]+)$"
    local ended = (event.msg or ""):match "^done (%d+)$"
    if sequence then
      result.begun = result.begun + 1
      result.of[tonumber(sequence)] = (result.of[tonumber(sequence)] or 0) + 1
      if open[sequence] then result.overlapping = result.overlapping + 1 end
      open[sequence] = true
      table.insert(result.list,
        { sequence = tonumber(sequence), attempt = tonumber(attempt), at = tonumber(at) })
    elseif ended then
      result.ended = result.ended + 1
      open[ended] = nil
    end
  end
  return result
end

-- How often the server has delivered to the durable: redeliveries show, joined ones too.
function faulty.deliveries(client)
  return client:consumer_info("IN", "worker").delivered.consumer_seq
end

-- Acks, naks, terms and heartbeats as the server gets them: a subscription, see faulty.verdicts.
function faulty.watch(client)
  return client:subscribe "$JS.ACK.IN.worker.>"
end

-- What has arrived at such a subscription: { { verdict, sequence, delivered }, ... }, verdict as
-- "+ACK", "-NAK", "+WPI", "+TERM".
function faulty.verdicts(watch)
  local list = {}
  for _, message in ipairs(watch:arrived()) do
    local delivered, sequence = message.subject:match "^%$JS%.ACK%.[^.]+%.[^.]+%.(%d+)%.(%d+)%."
    list[#list + 1] = { verdict = message.data:match "^%S*", text = message.data,
      delivered = tonumber(delivered), sequence = tonumber(sequence) }
  end
  return list
end

function faulty.count(list, verdict)
  local count = 0
  for _, each in ipairs(list) do
    if each.verdict == verdict then count = count + 1 end
  end
  return count
end

return faulty
