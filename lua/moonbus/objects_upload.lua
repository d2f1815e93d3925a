--- The chunks of an object on their way into the stream: some at a time, cut to one size, counted and
--- digested. What gives the pieces runs in the handler; what is published, in one child of it, so that
--- how many there are counts in no message id.
---
---     handler: cut ─▶ queue (bounded) ─▶ child ─┬─ publish ─▶ sent (bounded) ─▶ settled
---                                              ├─ publish
---                                              └─ ...
---
--- In the stream they must lie in order, and each once: that is what every client reads. What is sent in
--- one go is stored in that order, unless one of them is refused or lost, and only those behind it are
--- stored. So each is tried once; and when one fails, or its sequence is not behind the one before it, the
--- rest is waited for, and from there on they are placed: one at a time, each where nothing of the object
--- lies behind the one before. A chunk is kept until it is settled: all up to it are in their places.
local core = require("moonbus.core")
local js_api = require("moonbus.js_api")
local publish = require("moonbus.publish")
local task = require("moonbus.task")

--- So many chunks are sent and not settled at a time, and so many wait.
local AT_A_TIME = 8

local Upload = {}
Upload.__index = Upload

local function wake(self, which)
  local parking = self[which]
  self[which] = nil
  if parking then core.wake(parking) end
end

local function wait(self, which)
  task.wait_for(function(parking) self[which] = parking end)
end

local function wake_idle(self)
  local idle = self.idle
  self.idle = {}
  for _, parking in ipairs(idle) do core.wake(parking) end
end

local function fail(self, err)
  self.failure = self.failure or err
  wake(self, "full")
  wake_idle(self)
end

-- Placing -----------------------------------------------------------------------------------------

local function id_of(self, chunk)
  return ("%s.%d%s"):format(self.nuid, chunk.number, chunk.removed and "." .. chunk.removed or "")
end

--- It is one of those behind, or a copy that the stream took for another message: it goes. A stream does
--- not take an id again that it has seen.
local function remove(self, message)
  for _, chunk in ipairs(self.sent) do
    if id_of(self, chunk) == message:header("Nats-Msg-Id") then chunk.removed = (chunk.removed or 0) + 1 end
  end
  local request = { seq = message.sequence, no_erase = true }
  local ok, err = js_api.call(self.binding, "STREAM.MSG.DELETE." .. self.stream, request, self.timeout)
  if ok or err.api_code then return true end -- or it is gone: then its place says so
  return nil, err
end

local function no_place(self, chunk)
  return core.error("unavailable", ("the stream %s has changed while chunk %d was stored in it: put the object again")
    :format(self.stream, chunk.number))
end

--- Stores it behind the last one that is settled: its sequence, or nil and an error.
local function place(self, chunk)
  for _ = 0, 2 * AT_A_TIME do
    local opts = {
      id = id_of(self, chunk), timeout = self.timeout, attempts = self.attempts,
      expect = { last_subject_sequence = self.last },
    }
    local receipt, err = publish.send(self.subject, chunk.data, opts, nil, self.binding)
    -- A duplicate is the copy that was sent before: behind others, maybe, which go then.
    if receipt and receipt.seq > self.last and not receipt.duplicate then return receipt.seq end
    if err and err.code ~= "wrong_sequence" then return nil, err end
    local behind = { seq = self.last + 1, next_by_subj = self.subject }
    local message, why = js_api.get(self.binding, self.stream, behind, self.timeout)
    if not message then return nil, why.code == "not_found" and no_place(self, chunk) or why end
    if message:header("Nats-Msg-Id") == id_of(self, chunk) then return message.sequence end
    local removed, reason = remove(self, message)
    if not removed then return nil, reason end
  end
  return nil, no_place(self, chunk)
end

local function settle(self, sequence)
  self.last = sequence
  table.remove(self.sent, 1)
end

--- All that are sent, and are not where they belong. Nothing is on its way.
local function place_all(self)
  self.doubtful = true
  while self.sent[1] and not self.failure do
    local sequence, err = place(self, self.sent[1])
    if not sequence then return fail(self, err) end
    settle(self, sequence)
  end
  self.disturbed = false
end

-- Sending -----------------------------------------------------------------------------------------

local function may_send(self)
  return #self.queue > 0 and #self.sent < AT_A_TIME and not self.disturbed
end

--- The next chunk; nil when there will be none.
local function take(self)
  while not may_send(self) and not self.failure and not (self.closed and #self.queue == 0) do
    local idle = self.idle
    task.wait_for(function(parking) idle[#idle + 1] = parking end)
  end
  if self.failure or #self.queue == 0 then return nil end
  local chunk = table.remove(self.queue, 1)
  self.sent[#self.sent + 1] = chunk
  wake(self, "full")
  return chunk
end

--- Is one of those behind it stored in front of it?
local function is_overtaken(self, first)
  for _, chunk in ipairs(self.sent) do
    if chunk.sequence and chunk.sequence > self.last and chunk.sequence < first.sequence then return true end
  end
  return false
end

--- In the order of their numbers, however their receipts come.
local function settle_received(self)
  local first = self.sent[1]
  while first and first.sequence and first.sequence > self.last and not is_overtaken(self, first) do
    settle(self, first.sequence)
    first = self.sent[1]
  end
  if first and first.sequence then self.disturbed = true end
end

local function publisher(self)
  for chunk in take, self do
    self.on_their_way = self.on_their_way + 1
    local opts = { id = id_of(self, chunk), timeout = self.timeout, attempts = 1, trial = true }
    local receipt = publish.send(self.subject, chunk.data, opts, nil, self.binding)
    self.on_their_way = self.on_their_way - 1
    if receipt then
      chunk.sequence, self.doubtful = receipt.seq, self.doubtful or receipt.retried
    else
      self.disturbed = true
    end
    settle_received(self)
    if self.disturbed and self.on_their_way == 0 and not self.failure then place_all(self) end
    wake_idle(self)
  end
end

local function publish_all(self)
  local functions = {}
  for i = 1, AT_A_TIME do functions[i] = function() publisher(self) end end
  task.gather(functions)
end

--- A publisher that raises, as for want of memory, ends the upload: nobody takes a chunk any more, which who
--- adds must not wait for. The error itself is raised where the child is waited for.
local function run(self)
  local ok, raised = task.attempt(publish_all, self)
  if ok then return end
  self.failure = self.failure or raised.value or "an error without a value"
  wake(self, "full")
  task.raise_again(raised, "run by objects:put")
end

local function hand_over(self, data)
  while #self.queue >= AT_A_TIME and not self.failure do wait(self, "full") end
  self.chunks = self.chunks + 1
  self.queue[#self.queue + 1] = { data = data, number = self.chunks }
  wake_idle(self)
end

--- options: stream, subject, nuid, chunk_size, timeout, attempts, binding.
local function new(options)
  local self = setmetatable({
    queue = {}, sent = {}, idle = {}, on_their_way = 0, last = 0, rest = {}, rest_size = 0, size = 0, chunks = 0,
    digest = core.digest(),
  }, Upload)
  for name, value in pairs(options) do self[name] = value end
  self.child = task.spawn(run, self)
  return self
end

--- Takes a piece of any size; an error that ends it.
function Upload:add(piece)
  core.digest_add(self.digest, piece)
  self.size = self.size + #piece
  self.rest[#self.rest + 1] = piece
  self.rest_size = self.rest_size + #piece
  if self.rest_size < self.chunk_size then return self.failure end
  local text, at = table.concat(self.rest), 1
  while #text - at + 1 >= self.chunk_size and not self.failure do
    hand_over(self, text:sub(at, at + self.chunk_size - 1))
    at = at + self.chunk_size
  end
  self.rest, self.rest_size = { text:sub(at) }, #text - at + 1
  return self.failure
end

--- What was sent twice may be stored twice, where a stream has forgotten the id meanwhile.
local function count(self)
  local request = { subjects_filter = self.subject }
  local answer, err = js_api.call(self.binding, "STREAM.INFO." .. self.stream, request, self.timeout)
  if not answer then return err end
  local subjects = type(answer.state) == "table" and answer.state.subjects
  local stored = type(subjects) == "table" and subjects[self.subject] or 0
  if stored == self.chunks then return nil end
  return core.error("unavailable", ("the stream %s has %s messages of %d chunks: put the object again"):format(
    self.stream, tostring(stored), self.chunks))
end

--- All has been added, and is stored: or the error.
function Upload:finish()
  if self.rest_size > 0 and not self.failure then hand_over(self, table.concat(self.rest)) end
  self.closed = true
  wake_idle(self)
  self.child:wait()
  if not self.failure and self.doubtful then self.failure = count(self) end
  if self.failure then return self.failure end
  self.digest = core.digest_text(self.digest)
end

--- Nothing more is published. It does not raise what a publisher raised: something else went wrong.
function Upload:give_up()
  self.failure = self.failure or core.error("cancelled", "the object is not stored")
  wake_idle(self)
  task.attempt(self.child.wait, self.child)
end

return new
