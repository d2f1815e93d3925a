-- Cases in virtual time, to be counted: moonbus_sim bench/instructions/simulated.lua NAME...
--
-- Each runs in a process of its own, as what ran before in the same one changes the count by some percent: a
-- fork of this one, which has loaded what all of them need. Its id and name go to standard output.
--
-- The real engine, bindings and bus, one worker, a broker in the place of the server, all on one OS
-- thread in an order that does not change: so the count of a case is nearly the same in each run. Two
-- calls of sim_mark stand around `MESSAGES` messages.
package.path = "./?.lua;" .. package.path
local cases = require "bench.instructions.cases"
local ffi = require "ffi"
local sim = require "spec.sim.sim"

ffi.cdef [[
  void sim_mark(void);
  int fork(void);
  int waitpid(int pid, int *status, int options);
]]

local WARM = 500

-- Messages in one burst: what is sent to a server that stands still goes out when it goes on.
local function send(world, case, messages, mark)
  local data = cases.payload(case)
  world:freeze "20ms"
  for number = 1, messages do
    world:publish(case.each and case.subject .. number or case.subject, data, { reply = case.reply })
  end
  mark()
  world:advance "1s"
  mark()
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function must_have(world, case, count)
  local got
  if case.durable then
    local durable = world:consumer("IN", "bench")
    got = durable.ack_floor.stream_seq
  else
    got = world.hosts[1]:status().scripts[1].handlers[1].ok - (case.each and 1 or 0) -- a watch begins with a mark
  end
  assert(got == count, ("%s: %s of %d messages"):format(case.name, tostring(got), count))
  if case.stores then
    local stored = world:stream("OUT").state.messages
    assert(stored == count, ("%s: %d of %d are stored"):format(case.name, stored, count))
  end
end

local function count(case)
  local world = sim.new { seed = 1, yields = 0, false_wakes = 0 }
  if case.durable then
    world:api("STREAM.CREATE.IN", { name = "IN", subjects = { "bench.js.in" }, storage = "memory" })
    world:api("STREAM.CREATE.OUT", { name = "OUT", subjects = { "bench.js.out" }, storage = "memory" })
  end
  world:host {
    scripts = { ["bench.lua"] = read("bench/handlers/" .. case.handler .. ".lua") },
    settings = { workers = 1 }, bus_settings = { durable = "bench", concurrency = 1000, per_mark = 256 },
  }
  send(world, case, WARM, function() end)
  send(world, case, cases.MESSAGES, ffi.C.sim_mark)
  must_have(world, case, WARM + cases.MESSAGES)
  world:close()
end

local status = ffi.new "int[1]"
for _, name in ipairs(arg) do
  local pid = ffi.C.fork()
  if pid == 0 then
    count(cases.by_name[name])
    os.exit(0)
  end
  assert(pid > 0, "fork fails")
  print(pid, name)
  io.flush() -- else the next process says it, too
  if ffi.C.waitpid(pid, status, 0) ~= pid or status[0] ~= 0 then os.exit(1) end
end
