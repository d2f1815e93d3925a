-- moonbus shadow: what new code does on stored inputs, compared with what is stored. A function
-- (options) -> exit status; host/cli/replay/shadow.c calls it. options: handlers, stream, since,
-- since_shown, count, handler (a durable), outputs, ignored, stub, json, inbox, secrets.
local compare = require "moonbus.replay.compare"
local given_stubs = require "moonbus.replay.given"
local handlers = require "moonbus.replay.handlers"
local messages = require "moonbus.test.messages"
local run = require "moonbus.replay.run"
local server = require "moonbus.replay.server"
local shown = require "moonbus.replay.shown"
local source = require "moonbus.replay.source"
local stored = require "moonbus.replay.stored"
local tally = require "moonbus.replay.tally"

local OK, FAILED, UNUSABLE = 0, 1, 2

-- Outputs that wait to be compared, and inputs that one host takes: what they have grows.
local OUTPUTS_MOST, BYTES_MOST, HOST_INPUTS_MOST = 500, 8 * 1024 * 1024, 1000

local function complain(status, format, ...)
  server.say(shown.hide(format:format(...)))
  return status
end

-- --- which handler ---

local function names_of(list)
  local names = {}
  for _, each in ipairs(list) do names[#names + 1] = each.durable end
  return table.concat(names, ", ")
end

local function explain_none(path, stream, all)
  local names = {}
  for _, each in ipairs(all) do
    if each.stream then names[#names + 1] = each.stream .. "/" .. each.durable end
  end
  table.sort(names)
  return ("no durable of %s is of the stream %s: %s"):format(path, stream,
    #names == 0 and "it has no durable" or "there are " .. table.concat(names, ", "))
end

local function choose(options)
  local found, why = handlers.load(options.handlers)
  if not found then return nil, why end
  if found.failures[1] then
    return nil, ("%s does not load: %s"):format(found.failures[1].path, found.failures[1].why)
  end
  local able, chosen = {}, {}
  for _, each in ipairs(found.handlers) do
    if each.stream == options.stream then
      able[#able + 1] = each
      local name = options.handler
      if not name or name == each.durable or name == each.handler then chosen[#chosen + 1] = each end
    end
  end
  local path = options.handlers[1]
  if #able == 0 then return nil, explain_none(path, options.stream, found.handlers) end
  if #chosen == 0 then
    return nil, ('%s has no durable "%s" of %s: there are %s'):format(path, options.handler, options.stream,
      names_of(able))
  end
  if #chosen > 1 then
    return nil, ("%s has several durables of %s: say which, with --durable: %s"):format(path, options.stream,
      names_of(chosen))
  end
  return chosen[1]
end

-- --- running ---

local shadow = {}
shadow.__index = shadow

local function is_letter_id(id) return id:sub(-5) == ":dead" end

local function host_for(self, message)
  local host = self.host
  if host and (host.tired or host.inputs >= HOST_INPUTS_MOST or not run.takes(host, message.subject)) then
    pcall(run.close, host)
    host = nil
  end
  host = host or run.open(self.handler, message, { server = server, inbox = self.options.inbox,
    stubs = self.options.stubs, subjects = self.subjects })
  host.inputs = (host.inputs or 0) + 1
  self.host = host
  return host
end

-- The result of one input; nil and why there is none.
local function run_input(self, message)
  local ok, result = pcall(function() return run.deliver(host_for(self, message), message, 1) end)
  -- What was not acknowledged would come again beside those that follow.
  if not ok or result.verdict ~= "ack" then self.host.tired = true end
  if ok then return result end
  return nil, tostring(result)
end

-- A message with its headers as a block, as they would be stored.
local function as_output(message)
  return { subject = message.subject, id = message.id, raw = message.raw, block = message.block }
end

local function take_outputs(self, input, result)
  for _, message in ipairs(result.published) do
    if not message.id then
      self.tally:core()
    else
      local receipt = message.receipt
      if receipt and receipt.stream then
        self.stored:add(receipt.stream)
        self.waiting[#self.waiting + 1] = { input = input, output = as_output(message), stream = receipt.stream }
        self.waiting_bytes = self.waiting_bytes + #message.raw
      else
        self.tally:differs(input, message.subject, "no_stream", "no stream takes it")
      end
    end
  end
end

local function why_not(result)
  if not result.error then return result.verdict end
  return ("%s: %s"):format(result.verdict == "dead_letter" and "dead letter" or result.verdict, result.error.message)
end

local function compare_verdict(self, input, result)
  local dead = self.stored.places[input.id .. ":dead"]
  if result.verdict == "ack" or result.verdict == "term" then
    if dead then
      self.tally:differs(input, nil, "verdict", ("verdict: was a dead letter (%s #%.0f), now %s"):format(dead.stream,
        dead.sequence, result.verdict))
    end
  elseif not dead then
    self.tally:differs(input, nil, "verdict", "verdict: was no dead letter, now " .. why_not(result))
  end
end

local function do_input(self, message)
  local input = { sequence = message.sequence, seconds = message.seconds,
    id = ("%s:%s:%s:%.0f"):format(message.stream, message.stamp, self.handler.durable, message.sequence) }
  self.tally:input(input)
  local result, why = run_input(self, message)
  if not result then return self.tally:differs(input, nil, "verdict", "no verdict: " .. why) end
  if #result.missing > 0 then return self.tally:incomparable(input, result.missing[1].what) end
  compare_verdict(self, input, result)
  take_outputs(self, input, result)
end

-- --- comparing ---

-- What is parked until its time comes lies elsewhere then.
local function is_later(output)
  return output.block and (output.block:find "\nMoonbus%-Later%-At:" or output.block:find "\nNats%-Schedule:")
end

local function compare_waiting(self)
  for _, each in ipairs(self.waiting) do
    local output = each.output
    local was = self.stored:get(output.id)
    self.seen[output.id] = true
    if is_later(output) then
      self.tally:lost(each.input, each.stream)
    elseif not was and self.stored:may_have_lost(each.stream, output.subject, each.input.seconds) then
      self.tally:lost(each.input, each.stream)
    elseif not was then
      self.tally:differs(each.input, output.subject, "additional",
        ("additional, to %s: %s"):format(each.stream, shown.data(output.raw)))
    elseif was.subject ~= output.subject then
      self.tally:differs(each.input, output.subject, "subject",
        ("subject: was %s, now %s"):format(was.subject, output.subject))
    else
      for _, what in ipairs(compare.messages(was, output, self.ignored)) do
        self.tally:differs(each.input, output.subject, "differs", what)
      end
    end
  end
  self.waiting, self.waiting_bytes = {}, 0
end

-- What the old code has stored and the new one would not, of all inputs that were compared.
local function find_missing(self)
  for id, input in pairs(self.tally.compared) do
    for _, output in ipairs(self.stored.of_input[id] or {}) do
      if not self.seen[output] and not is_letter_id(output) then
        local was = self.stored:get(output)
        if was then
          self.tally:differs(input, was.subject, "missing", ("missing (%s #%.0f): %s"):format(was.stream, was.sequence,
            shown.data(was.data)))
        end
      end
    end
  end
end

-- --- all of them ---

local function takes(handler, subject)
  for _, filter in ipairs(handler.filters) do
    if messages.matches(filter, subject) then return true end
  end
  return #handler.filters == 0
end

-- Up to where the old code has got; nil: nobody knows.
local function delivered(handler)
  local consumer = server.consumer(handler.stream, handler.durable)
  return consumer and consumer.delivered
end

local function go_through(self, first, last)
  local handler, options = self.handler, self.options
  local filter = #handler.filters == 1 and handler.filters[1] or ">"
  local sequence, upto = first, delivered(handler)
  while sequence <= last and self.tally.inputs < options.count do
    local message, code, why = server.read(options.stream, sequence, filter)
    if not message and code == "not_found" then break end
    if not message then error(("%s: %s"):format(code, why), 0) end
    sequence = message.sequence + 1
    if message.sequence > last then break end
    if upto and message.sequence > upto then
      self.tally.unhandled = upto
      break
    end
    if takes(handler, message.subject) then do_input(self, message) end
    if #self.waiting >= OUTPUTS_MOST or self.waiting_bytes >= BYTES_MOST then compare_waiting(self) end
  end
  compare_waiting(self)
  find_missing(self)
end

local function shadow_all(options, handler)
  local info, why = source.info(server, options.stream)
  if not info then return complain(FAILED, "%s", why) end
  local since = os.time() - options.since
  local first
  first, why = stored.find_time(server, options.stream, info, since)
  if not first then return complain(FAILED, "%s", why) end
  local none
  if info.messages == 0 then none = "the stream is empty" end
  if info.messages > 0 and first > info.last then none = "what the stream holds is older (--since)" end
  local ignored = assert(compare.ignoring(options.ignored))
  local self = setmetatable({ options = options, handler = handler, waiting = {}, waiting_bytes = 0,
    seen = {}, subjects = info.subjects, tally = tally.new(options, none), ignored = ignored,
    stored = stored.new(server, options.stream, handler.durable, since) }, shadow)
  local ok, failed = pcall(function()
    for _, stream in ipairs(options.outputs) do self.stored:add(stream) end
    local letters = handler.dead_letter and server.stream_of(handler.dead_letter)
    if letters then self.stored:add(letters) end
    go_through(self, first, info.last)
  end)
  if self.host then pcall(run.close, self.host) end
  if not ok then return complain(FAILED, "%s", tostring(failed)) end
  local same = self.tally:report(handler, self.stored.names)
  for _, name in ipairs(compare.unmet(ignored)) do
    server.note(('--ignore %s: no output that was compared has it'):format(name))
  end
  return same and OK or FAILED
end

return function(options)
  shown.hide_all(options.secrets)
  local why
  options.stubs, why = given_stubs.load(options.stub)
  if why then return complain(UNUSABLE, "--stub: %s", why) end
  local ignored
  ignored, why = compare.ignoring(options.ignored)
  if not ignored then return complain(UNUSABLE, "--ignore: %s", why) end
  local handler
  handler, why = choose(options)
  if not handler then return complain(UNUSABLE, "%s", why) end
  local opened, status = server.open()
  if not opened then return status end
  return shadow_all(options, handler)
end
