-- What a shadow run counts and finds, and how it is told.
local shown = require "moonbus.replay.shown"

local tally = {}
tally.__index = tally

local M = {}

local KEPT_MOST, PRINTED_MOST = 1000, 50

-- none: why there is no input, where that is known.
function M.new(options, none)
  return setmetatable({ options = options, none = none, inputs = 0, differing = 0, not_comparable = 0,
    core_published = 0, compared = {}, list = {}, found = 0, unanswered = {}, unanswered_names = {},
    losses = {} }, tally)
end

function tally:input(input)
  self.inputs = self.inputs + 1
  self.first = self.first or input.sequence
  self.last = input.sequence
  self.compared[input.id] = input
end

function tally:incomparable(input, what)
  self.compared[input.id] = nil
  self.not_comparable = self.not_comparable + 1
  if not self.unanswered[what] then self.unanswered_names[#self.unanswered_names + 1] = what end
  self.unanswered[what] = (self.unanswered[what] or 0) + 1
end

-- An output that its stream may have had, and keeps no longer.
function tally:lost(input, stream)
  input.lost = true
  self.losses[stream] = (self.losses[stream] or 0) + 1
end

function tally:core() self.core_published = self.core_published + 1 end

-- kind: "verdict", "differs", "missing", "additional", "subject", "no_stream".
function tally:differs(input, subject, kind, what)
  if not input.differs then self.differing = self.differing + 1 end
  input.differs = true
  self.found = self.found + 1
  if #self.list < KEPT_MOST then
    self.list[#self.list + 1] = { sequence = input.sequence, subject = subject, kind = kind, what = what }
  end
end

-- --- telling ---

local function put(format, ...) io.stdout:write(format:format(...), "\n") end

local function plural(number, word) return ("%s %s%s"):format(shown.count(number), word, number == 1 and "" or "s") end

local function equal(self) return self.inputs - self.differing - self.not_comparable end

local function put_differences(self)
  for index, each in ipairs(self.list) do
    if index > PRINTED_MOST then break end
    put("#%.0f %s%s", each.sequence, each.subject and shown.line(each.subject) .. ": " or "", shown.line(each.what))
  end
  if self.found > PRINTED_MOST then
    put("and %s; --json has %s", plural(self.found - PRINTED_MOST, "difference"),
      self.found > KEPT_MOST and "the first " .. shown.count(KEPT_MOST) or "all of them")
  end
end

local function put_losses(self)
  local streams = {}
  for stream in pairs(self.losses) do streams[#streams + 1] = stream end
  table.sort(streams)
  for _, stream in ipairs(streams) do
    put("not comparable: %s of %s, which keeps them no longer, if it has had them",
      plural(self.losses[stream], "output"), stream)
  end
end

local function put_notes(self)
  put_losses(self)
  table.sort(self.unanswered_names)
  for index, what in ipairs(self.unanswered_names) do
    if index > 10 then break end
    put("not comparable: %s without an answer to %s: --stub FILE", plural(self.unanswered[what], "input"),
      shown.line(what))
  end
  if self.core_published > 0 then
    put("not compared: %s to core NATS, which nothing keeps", plural(self.core_published, "message"))
  end
  if self.unhandled then
    put("ended at #%.0f: the durable on the server has got no further", self.unhandled)
  elseif self.inputs >= self.options.count then
    put("ended after %s (--count)", plural(self.inputs, "input"))
  end
end

local function print_all(self, handler, streams)
  if self.inputs == 0 then
    put("no input of %s since %s ago%s", handler.handler, self.options.since_shown,
      self.none and ": " .. self.none or "")
  else
    put("%s #%.0f to #%.0f, %s of %s, compared with %s", handler.stream, self.first, self.last, handler.durable,
      handler.script, #streams > 0 and table.concat(streams, ", ") or "nothing: it publishes to no stream")
  end
  put_differences(self)
  put_notes(self)
  put("%s: %s equal, %s differ%s", plural(self.inputs, "input"), shown.count(equal(self)), shown.count(self.differing),
    self.not_comparable > 0 and (", %s not comparable"):format(shown.count(self.not_comparable)) or "")
end

local function print_json(self, handler, streams)
  local unanswered = {}
  for index, what in ipairs(self.unanswered_names) do
    unanswered[index] = { what = what, inputs = self.unanswered[what] }
  end
  io.stdout:write(shown.encode(shown.clean {
    stream = handler.stream, durable = handler.durable, script = handler.script, first = self.first, last = self.last,
    inputs = self.inputs, equal = equal(self), differ = self.differing, not_comparable = self.not_comparable,
    outputs = shown.list(streams), differences = shown.list(self.list), found = self.found,
    not_answered = shown.list(unanswered),
    lost = next(self.losses) and self.losses, core_published = self.core_published, unhandled_after = self.unhandled,
  }), "\n")
end

-- Where nothing else differs, what is lost is not known.
local function count_lost(self)
  for _, input in pairs(self.compared) do
    if input.lost and not input.differs then self.not_comparable = self.not_comparable + 1 end
  end
end

-- True: all that could be compared is equal, and something could.
function tally:report(handler, streams)
  count_lost(self)
  table.sort(streams)
  table.sort(self.list, function(a, b)
    if a.sequence ~= b.sequence then return a.sequence < b.sequence end
    return a.what < b.what
  end)
  if self.options.json then print_json(self, handler, streams) else print_all(self, handler, streams) end
  return self.differing == 0 and equal(self) > 0
end

return M
