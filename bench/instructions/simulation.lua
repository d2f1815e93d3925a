-- Instructions for a message, counted in virtual time: the same to some tenths of a percent, whatever else
-- the machine does. Counted are the functions of the host, and Lua: not libc and the allocator, and
-- not what stands between the host and a server (its own wire, nats.c), in whose place a broker is.
local callgrind = require "bench.instructions.callgrind"
local cases = require "bench.instructions.cases"
local process = require "spec.support.process"
local temp = require "spec.support.temp"

local simulation = {}

-- The floors of the host.
local FLOORS = { api = true, base = true, bus = true, engine = true, vm = true }

-- What is told apart: the floors, and LuaJIT with what it has compiled.
simulation.FLOORS = { "api", "engine", "bus", "vm", "base", "lua" }

-- What of them simulates.
local SIMULATES = { "world", "fiber", "strand", "thread", "sync" }
-- What the broker calls as the host does; the rest it calls as a server makes a client do things.
local SHARED = { "^base/", "^bus/packet", "^bus/wire", "^bus/header_block", "^bus/jscode" }

local function matches(text, patterns, before)
  for _, pattern in ipairs(patterns) do
    if text:find((before or "") .. pattern) then return true end
  end
end

-- "bus/link/link.c" of a path; nil for what is not in host/.
local function inside(source) return source:match "host/(%l+/.*)$" end

local function is_host(path)
  return path and FLOORS[path:match "^%l+"] and not matches(path, SIMULATES, "^base/")
end

local function is_broker(path) return path and (path:find "^broker/" or path:find "^sim/") end

-- What a dump says of host/: `own` instructions of each function, by "path:name", and who calls it:
-- by the caller's key, its path and the instructions below.
local function read(file)
  local graph = {}
  local function node(at)
    local path = inside(at.source) or at.source
    local key = path .. ":" .. at.name
    graph[key] = graph[key] or { path = path, own = 0, callers = {} }
    return key, graph[key]
  end
  callgrind.each(file, function(at, count)
    local _, own = node(at)
    own.own = own.own + count
    -- What LuaJIT has compiled is in no file.
    own.is_lua = at.object:find "libluajit" or at.object == "???"
  end, function(caller, called, count)
    local key = node(caller)
    local _, to = node(called)
    to.callers[key] = (to.callers[key] or 0) + count
  end)
  return graph
end

-- Which share of each function is the broker's: of what is shared, as much as it calls it more than
-- others do.
local function broker_shares(graph)
  local shares = {}
  for key, node in pairs(graph) do shares[key] = is_broker(node.path) and 1 or 0 end
  for _ = 1, 12 do -- as deep as calls go in what is shared
    local fresh = {}
    for key, node in pairs(graph) do
      local all, brokers = 0, 0
      for caller, count in pairs(node.callers) do
        all = all + count
        brokers = brokers + count * shares[caller]
      end
      fresh[key] = not matches(node.path, SHARED) and shares[key] or all > 0 and brokers / all or 0
    end
    shares = fresh
  end
  return shares
end

-- Adds what the host took, by floor and by function.
local function add(file, floors, functions)
  local graph = read(file)
  local shares = broker_shares(graph)
  for key, node in pairs(graph) do
    if is_host(node.path) or node.is_lua then
      local count = node.own * (1 - shares[key])
      local floor = node.is_lua and "lua" or node.path:match "^%l+"
      floors[floor] = (floors[floor] or 0) + count
      functions[key] = (functions[key] or 0) + count
    end
  end
end

local function scale(table_, by)
  for key, value in pairs(table_) do table_[key] = value / by end
end

-- What callgrind has counted of a case in the dumps that begin with `path`.
local function counts_of(path)
  -- A dump ends at each mark: the second is what lies between them.
  local counts = { total = 0, floors = {}, functions = {} }
  add(assert(callgrind.files(path)[".2"], "callgrind has written no dump"), counts.floors, counts.functions)
  scale(counts.floors, cases.MESSAGES)
  scale(counts.functions, cases.MESSAGES)
  for _, each in pairs(counts.floors) do counts.total = counts.total + each end
  return counts
end

-- Counts all cases, or those with the given names. By name: total, floors (by their name) and functions
-- ("bus/link/link.c:link_send"), each in instructions for a message.
function simulation.count(build, names)
  local folder = temp.folder()
  local command = callgrind.command(folder .. "/%p", { "--dump-before=sim_mark" })
  command[#command + 1] = build .. "/moonbus_sim"
  command[#command + 1] = "bench/instructions/simulated.lua"
  for _, case in ipairs(names or cases) do command[#command + 1] = names and case or case.name end
  local run = process.run { command = command, deadline = 120 }
  if run.status ~= 0 then error("the simulation failed:\n" .. run.stderr .. run.stdout, 0) end
  local counts = {}
  for pid, name in run.stdout:gmatch "(%d+)\t(%S+)" do counts[name] = counts_of(folder .. "/" .. pid) end
  temp.remove(folder)
  return counts
end

return simulation
