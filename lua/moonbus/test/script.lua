-- A script under test: a host of its own, with a server inside the process, in simulated time.
local blame = require "moonbus.test.blame"
local bucket = require "moonbus.test.bucket"
local checks = require "moonbus.test.checks"
local core = require "moonbus.core"
local handle = require "moonbus.test.handle"
local live = require "moonbus.test.live"
local locks = require "moonbus.test.locks"
local messages = require "moonbus.test.messages"
local objects = require "moonbus.test.objects"
local offloaded = require "moonbus.test.offloaded"
local record = require "moonbus.test.record"
local stage = require "moonbus.test.stage"
local laid = require "moonbus.test.streams"
local stubs = require "moonbus.test.stubs"
local told = require "moonbus.test.told"
local web = require "moonbus.test.web"

local script = {}
script.__index = script

local MOST_MS = 3600 * 1000 -- of simulated time that a handler is waited for
local MINUTE_MS = 60 * 1000
local ANSWER_MS = 5000

-- --- what happens ---

function script:check(ok, why)
  if not ok then blame("%s: %s", self.name, tostring(why)) end
end

local function take_notes(self)
  for line in self.stage:notes():gmatch "[^\n]+" do
    self.happened = self.happened + 1
    local text = line:match "^[%d.]+\tlog\t(.*)$"
    if text then record.hear(self.record, text) end
  end
end

local function take_sent(self)
  local any = false
  for sent in function() return self.stage:sent() end do
    self.happened = self.happened + 1
    local message = record.see(self.record, sent)
    if message and self.on_sent then self:on_sent(sent, message) end
    if sent.diverted then
      any = true
      stubs.answer(self, sent)
    end
  end
  return any
end

local function take_replies(self)
  for came in function() return self.stage:take() end do
    local headers, status = messages.read_block(came.headers)
    self.replies[came.subject] = messages.message(came.subject, came.data, headers)
    self.replies[came.subject].status = status
  end
end

-- Everything that can happen at this time.
function script:settle()
  repeat
    self:check(self.stage:settle())
    take_notes(self)
    take_replies(self)
    local asked = take_sent(self)
    local called = web.answer_all(self)
    local away = offloaded.answer_all(self)
  until not (asked or called or away)
end

-- Time goes on until is_so(), or for so long at most. False: it did not come. quiet: and nothing else is under way.
function script:wait(is_so, most_ms, quiet)
  local until_ms = self.stage:now() + most_ms
  while true do
    self:settle()
    if quiet and live.is_quiet(self, is_so) or not quiet and is_so() then return true end
    if self.stage:now() >= until_ms then return false end
    self:check(self.stage:step(until_ms))
  end
end

-- Asks the server's API.
function script:ask(operation, request)
  self.asked = self.asked + 1
  local inbox = "_OUTSIDE.api." .. self.asked
  self.stage:publish("$JS.API." .. operation, request and core.json_encode(request) or "", nil, inbox)
  self:wait(function() return self.replies[inbox] end, ANSWER_MS)
  local reply = self.replies[inbox]
  self.replies[inbox] = nil
  return reply and reply.data
end

-- --- its beginning and end ---

-- The durables of the script whose stream is none would be waited for as long as a server that is
-- about to have it.
local function check_streams(self)
  local declared = {}
  for _, each in ipairs(self.registrations) do
    if each.binding == "js.stream" and not self.only then declared[each.handler:match "%S+$"] = true end
  end
  self.streams = laid.known(self)
  for _, each in ipairs(self.registrations) do
    local served = not self.only or each.handler == self.only
    if each.durable and served and not declared[each.stream] and not self.streams[each.stream] then
      blame('%s: %s: there is no stream "%s" in this test: load(path, { streams = { { name = "%s", ' ..
        'subjects = { ... } } } })', self.name, each.handler, each.stream, each.stream)
    end
  end
end

-- path: of a file that is there. options: streams, seed; settings, as JSON; only: the one handler that is served, whose
-- requests and publishes to JetStream all come to script:unanswered where no stub takes them; now: its
-- time of day begins with the real one.
function script.new(path, options)
  local self = setmetatable({
    path = path, name = path:match "[^/]+$", stubbed = {}, web = {}, offloaded = {}, replies = {}, asked = 0,
    happened = 0, record = record.new(), only = options.only,
  }, script)
  self.stage = stage.new(options.seed, options.now, options.only, options.max_payload)
  self.live = self.stage:live()
  laid.make(self, options.streams or {})
  local ok, why = self.stage:load(path, self.name, options.settings)
  if not ok then
    self:close()
    blame("%s", (tostring(why):gsub("^load: ", "")))
  end
  self.registrations = self.stage:registrations()
  return self
end

-- Begins to serve: the first use does so by itself. "start" hooks run here.
function script:start()
  if self.served then return self end
  self.served = true
  check_streams(self)
  local ok, why = self.stage:serve()
  if not ok then blame("%s", (tostring(why):gsub("^serve: ", ""))) end
  local ended = self:wait(function() return not self.stage:busy() end, live.most_ms(self, MOST_MS), true)
  if not ended then live.check_late(self, "what begins with it") end
  local failed = self.record.failures[1]
  self.start_failed = failed and failed.error
  if failed and not self.only then
    blame('%s: %s failed: %s:%d: %s', self.name, failed.event.handler, tostring(failed.error.file),
      failed.error.line or 0, failed.error.message)
  end
  self.streams = laid.known(self)
  return self
end

function script:close()
  if self.stage then self.stage:close() end
  self.closed = true
end

-- Not from inside of its own stub: there its handler waits, and time stands.
local function check_here(self, what)
  if self.closed then blame("%s: it has been closed: load it again", self.name) end
  if self.answering then
    blame("%s: not inside of a stub of the same script (%s): its handler waits there for the answer; return it, " ..
      "and call %s in the test", what, self.answering, what)
  end
end

-- What is told of from here on; messages that were sent since are part of it.
local function begin(self, what)
  check_here(self, what)
  self:start()
  if self.sending then return end
  self:settle()
  self.record = record.new()
end

-- --- messages ---
local HINTS = { header = "headers", durable = "consumer", delivery = "attempt", redelivered = "attempt",
  reply_to = "reply", timeout = "it belongs to the handler", seed = "it belongs to load",
  streams = "it belongs to load" }

local function check_reply(binding, field, value)
  if value ~= false and type(value) ~= "string" then
    checks.refuse(binding, field, "false (none is asked for), or a subject", value)
  end
  return value and checks.kinds.subject(binding, field, value)
end

local DELIVER = {
  fields = { headers = "headers", stream = "string", consumer = "string", handler = "string",
    attempt = { "integer", max = 2 ^ 31 }, reply = { check = check_reply } },
  hints = HINTS,
}
local SEND = { fields = { headers = "headers", reply = { check = check_reply } }, hints = HINTS }

local function takes_messages(each)
  return each.durable ~= nil or each.binding == "bus.subscribe" or each.binding == "service:endpoint"
end
script.takes_messages = takes_messages

local function check_named(self, options)
  local handlers, streams, consumers = {}, {}, {}
  for _, each in ipairs(self.registrations) do
    if takes_messages(each) then handlers[each.handler] = true end
    if each.durable then streams[each.stream], consumers[each.durable] = true, true end
  end
  checks.named(self, "handler", options.handler, handlers)
  checks.named(self, "stream", options.stream, streams)
  checks.named(self, "consumer", options.consumer, consumers)
end

local function is_meant(each, options)
  return takes_messages(each) and (not options.handler or each.handler == options.handler)
    and (not options.stream or each.stream == options.stream)
    and (not options.consumer or each.durable == options.consumer)
end

local function takes(self, each, subject)
  if not each.durable then return messages.matches(each.subject, subject) end
  local patterns = #each.filters > 0 and each.filters or { ">" }
  local found, stored = false, false
  for _, pattern in ipairs(patterns) do found = found or messages.matches(pattern, subject) end
  for _, pattern in ipairs(self.streams[each.stream] or {}) do
    stored = stored or messages.matches(pattern, subject)
  end
  return found and stored
end

local function names_of(list)
  local names = {}
  for _, each in ipairs(list) do names[#names + 1] = each.handler end
  return table.concat(names, ", ")
end

-- The handler that takes it.
local function find(self, subject, options)
  check_named(self, options)
  local found, meant, able = {}, {}, {}
  for _, each in ipairs(self.registrations) do
    if takes_messages(each) then able[#able + 1] = each end
    if is_meant(each, options) then
      meant[#meant + 1] = each
      if takes(self, each, subject) then found[#found + 1] = each end
    end
  end
  if #found == 1 then return found[1] end
  if #found > 1 then
    blame('several handlers of %s take "%s": say which, as { handler = "..." }: %s', self.name, subject,
      names_of(found))
  end
  if #meant > 0 and #meant < #able then
    blame('%s does not take "%s"; %s has: %s', names_of(meant), subject, self.name, names_of(able))
  end
  blame('no handler of %s takes "%s"; it has: %s', self.name, subject,
    #able > 0 and names_of(able) or "none that takes messages")
end

local function check_meant(target, options)
  if options.attempt and not target.durable then
    blame("deliver: attempt: %s is no durable: its messages come once", target.handler)
  end
  if options.reply ~= nil and target.durable then
    blame("deliver: reply: %s is a durable: nobody waits for a reply", target.handler)
  end
end

-- Hands it to the server; returns the name of the inbox for what is answered.
local function publish(self, what, subject, data, options, reply)
  local text, kind = checks.payload(what, data)
  local headers = {}
  if kind then headers["content-type"] = kind end
  for name, value in pairs(options.headers or {}) do
    if name:lower() == "content-type" then headers["content-type"] = nil end
    headers[name] = value
  end
  local block = messages.block(headers)
  checks.size(what, text, block)
  self.asked = self.asked + 1
  local inbox = reply == nil and "_OUTSIDE.reply." .. self.asked or reply or nil
  self.stage:publish(subject, text, block, inbox)
  return inbox
end

-- What a stream answered: its sequence.
local function store(self, what, subject, data, options)
  local inbox = publish(self, what, subject, data, options)
  self:wait(function() return self.replies[inbox] end, ANSWER_MS)
  local ack = self.replies[inbox] and self.replies[inbox].data
  if type(ack) ~= "table" or not ack.seq then
    blame('%s: the message to "%s" was not stored: %s', what:find "^load" and what or self.name, subject,
      type(ack) == "table" and ack.error and ack.error.description or "no stream takes it")
  end
  return ack.seq
end

-- What the streams hold before the script is served.
function script:fill(list)
  laid.fill(list, function(subject, data, options) store(self, "load: stored", subject, data, options) end)
end

-- The run that is told of: the first of this handler since the message was sent.
local function first_run(self, target, subject, sequence)
  for _, run in ipairs(self.record.runs) do
    if run.handler == target.handler and (sequence and run.sequence == sequence
      or not sequence and run.subject == subject) then
      return run
    end
  end
end

local function wait_for_run(self, target, subject, sequence)
  local most_ms = live.most_ms(self, math.max(MOST_MS, target.timeout_ms + MINUTE_MS)) -- its timeout ends it
  local came = self:wait(function()
    return first_run(self, target, subject, sequence) and not self.stage:busy()
  end, most_ms, true)
  if not came then
    live.check_late(self, target.handler)
    blame('%s: %s did not end within %g minutes of simulated time, or never began, with "%s"', self.name,
      target.handler, most_ms / MINUTE_MS, subject)
  end
  return first_run(self, target, subject, sequence)
end

-- A message as it lay in a real stream, which this durable takes: it lies here in the same place.
local function lay(self, target, message)
  local ok, why = self.stage:place { stream = target.stream, durable = target.durable, sequence = message.sequence,
    time = message.time, subject = message.subject, block = message.block, data = message.data }
  self:check(ok, why)
  return message.sequence
end

local function is_placed(target, message)
  return message.stream == target.stream and message.sequence and message.time
end

-- What test.fixture gives, in the place of a subject and data.
local function take_fixture(message, options)
  local taken = { headers = message.block and messages.read_block(message.block) }
  for key, value in pairs(options or {}) do taken[key] = value end
  if message.consumer and not taken.handler then
    taken.stream, taken.consumer = taken.stream or message.stream, taken.consumer or message.consumer
  end
  return taken
end

local function check_delivered(self, subject, options)
  checks.kinds.subject("deliver", "subject", subject)
  options = checks.check("deliver", options, DELIVER)
  check_here(self, "deliver")
  return options
end

-- One message to the handler that takes it, and one run of that. A nak stays until script:run or
-- advance.
function script:deliver(subject, data, options)
  local fixture = type(subject) == "table" and type(subject.subject) == "string" and subject or nil
  if fixture then
    if type(data) ~= "table" and data ~= nil then
      blame("deliver: behind what test.fixture gives there are options, not data")
    end
    options = take_fixture(fixture, data)
    subject, data = fixture.subject, fixture.data
  end
  options = check_delivered(self, subject, options)
  self.sending = false
  begin(self, "deliver")
  local target = find(self, subject, options)
  local attempt = options.attempt or fixture and target.durable and fixture.attempt
  check_meant(target, options)
  self:check(self.stage:hold_naks(true))
  local sequence, inbox
  if target.durable then
    if attempt then live.check_attempt(self, attempt) end
    if attempt then self.stage:count_from(target.stream, target.durable, attempt - 1) end
    local placed = not self.live and fixture and is_placed(target, fixture)
    sequence = placed and lay(self, target, fixture) or store(self, "deliver", subject, data, options)
  else
    inbox = publish(self, "deliver", subject, data, options, options.reply)
  end
  local result = record.result(self.record, wait_for_run(self, target, subject, sequence))
  local reply = inbox and self.replies[inbox]
  if reply and not reply.status then
    result.reply, result.reply_headers, result.raw_reply = reply.data, reply.headers, reply.raw
  end
  return result
end

-- A message that nobody waits for: script:run does.
function script:send(subject, data, options)
  checks.kinds.subject("send", "subject", subject)
  options = checks.check("send", options, SEND)
  begin(self, "send")
  self.sending = true
  publish(self, "send", subject, data, options, options.reply or false)
  return self
end

-- --- time ---

local function let_go(self)
  self:check(self.stage:hold_naks(false))
end

-- Until every message has its end: redeliveries, batches, dead letters.
function script:run()
  begin(self, "run")
  self.sending = false
  let_go(self)
  local quiet = self:wait(function() return not self.stage:busy() and live.unsettled(self) == 0 end,
    live.most_ms(self, MOST_MS), true)
  if not quiet then
    live.check_late(self, live.left(live.unsettled(self)))
    blame("%s: after an hour of simulated time %d messages are not settled: they wait for an attempt, without a " ..
      "dead_letter again and again; use script:advance", self.name, self.stage:unsettled())
  end
  return record.result(self.record)
end

function script:advance(duration)
  local seconds = core.duration(duration, "advance", "duration")
  live.check_advance(self, seconds, duration)
  begin(self, "advance")
  self.sending = false
  let_go(self)
  self:wait(function() return false end, seconds * 1000)
  return record.result(self.record)
end

-- --- what others would answer ---

function script:stub(subject, answer, options)
  stubs.add(self, subject, answer, options)
  return self
end

function script:stub_http(url, answer, options)
  web.add(self, url, answer, options)
  return self
end

-- For buckets, to prepare and to look at: a function that stores a message of the test's own.
local function beside(self, what)
  check_here(self, what)
  begin(self, what)
  return function(subject, data, options) return store(self, what, subject, data, options) end
end

-- What is written there is sent: the next run or advance tells what came of it, as what a watch did.
local function sending(self, what)
  local put = beside(self, what)
  return function(...)
    begin(self, what)
    self.sending = true
    return put(...)
  end
end

function script:kv(name) return bucket.new(self, name, sending(self, "kv")) end
function script:objects(name) return objects.new(self, name, sending(self, "objects")) end

-- Another host holds a lock of the cluster, or gives it back.
function script:hold_lock(name, options)
  locks.hold(self, name, options, beside(self, "hold_lock"))
  return self
end

function script:release_lock(name, options)
  locks.release(self, name, options, beside(self, "release_lock"))
  return self
end

function script:stub_offload(module, functions, options)
  offloaded.add(self, module, functions, options)
  return self
end

-- What a stream holds: a list of messages with their sequence.
function script:stored(stream)
  checks.kinds.name("stored", "stream", stream, { what = "stream" })
  check_here(self, "stored")
  self:start()
  local info = self:ask("STREAM.INFO." .. stream)
  if type(info) ~= "table" or info.error then
    blame('%s: there is no stream "%s"; there are %s', self.name, stream, laid.names(self))
  end
  local list = {}
  for sequence = info.state.first_seq, info.state.last_seq do
    local got = self:ask("STREAM.MSG.GET." .. stream, { seq = sequence })
    if got and got.message then list[#list + 1] = stubs.stored(got.message) end
  end
  return list
end

-- What tests hold of one.
script.handle = handle.kind("script", script, { "deliver", "send", "run", "advance", "stub", "stub_http",
  "stub_offload", "kv", "objects", "hold_lock", "release_lock",
  "stored", "start", "close" }, told.result)

return script
