--- The chunks of an object on their way into the stream: some at a time, cut to one size, counted and
--- digested. What gives the pieces runs in the handler; what is published, in one child of it, so that
--- how many there are counts in no message id.
---
---     handler: cut ─▶ queue (bounded) ─▶ child ─┬─ publish
---                                              ├─ publish
---                                              └─ ...
local core = require("moonbus.core")
local publish = require("moonbus.publish")
local task = require("moonbus.task")

--- So many chunks are published at a time, and so many wait.
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

--- The next chunk; nil when there will be none.
local function take(self)
  while #self.queue == 0 and not self.closed and not self.failure do
    local idle = self.idle
    task.wait_for(function(parking) idle[#idle + 1] = parking end)
  end
  if self.failure then return nil end
  local chunk = table.remove(self.queue, 1)
  wake(self, "full")
  return chunk
end

local function wake_idle(self)
  local idle = self.idle
  self.idle = {}
  for _, parking in ipairs(idle) do core.wake(parking) end
end

local function publisher(self)
  for chunk in take, self do
    local opts = { id = ("%s.%d"):format(self.nuid, chunk.number), timeout = self.timeout, attempts = self.attempts }
    local receipt, err = publish.send(self.subject, chunk.data, opts, nil, self.binding)
    if not receipt then
      self.failure = self.failure or err
      wake(self, "full")
      wake_idle(self)
    end
  end
end

local function run(self)
  local functions = {}
  for i = 1, AT_A_TIME do functions[i] = function() publisher(self) end end
  task.gather(functions)
end

local function hand_over(self, data)
  while #self.queue >= AT_A_TIME and not self.failure do wait(self, "full") end
  self.chunks = self.chunks + 1
  self.queue[#self.queue + 1] = { data = data, number = self.chunks }
  wake_idle(self)
end

--- options: subject, nuid, chunk_size, timeout, attempts, binding.
local function new(options)
  local self = setmetatable({
    queue = {}, idle = {}, rest = {}, rest_size = 0, size = 0, chunks = 0, digest = core.digest(),
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

--- All has been added, and is stored: or the error.
function Upload:finish()
  if self.rest_size > 0 and not self.failure then hand_over(self, table.concat(self.rest)) end
  self.closed = true
  wake_idle(self)
  self.child:wait()
  if self.failure then return self.failure end
  self.digest = core.digest_text(self.digest)
end

--- Nothing more is published.
function Upload:give_up()
  self.failure = self.failure or core.error("cancelled", "the object is not stored")
  wake_idle(self)
  self.child:wait()
end

return new
