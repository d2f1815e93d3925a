local bus, kv = require "moonbus", require "moonbus.kv"

local bucket = kv.bucket { name = "bench", storage = "memory", cache = bus.settings.cache }

local UNDER_WAY = 64
local KEYS = 1000

local operations = {
  get = function(key) return bucket:get(key) end,
  put = function(key, data) return bucket:put(key, data) end,
}

-- So many of an operation, 64 at a time; how long they took.
bus.subscribe("bench.kv", { timeout = "2m" }, function(msg)
  local job, number = msg:json(), 0
  local operation, data = operations[job.operation], ("x"):rep(job.size)
  local function work()
    while number < job.count do
      number = number + 1
      assert(operation("k" .. number % KEYS, data))
    end
  end
  local workers = {}
  for i = 1, UNDER_WAY do workers[i] = work end
  local began = bus.now()
  bus.gather(workers)
  return { seconds = bus.now() - began }
end)
