-- A cluster of three that loses two of its servers, and what hosts do meanwhile: of
-- faults/quorum_spec.lua.
local assert = require "luassert"
local cluster = require "spec.support.cluster"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local quorum = {}
quorum.__index = quorum

local HANDLER = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN_$name", subjects = { "in.$name" }, num_replicas = 3 }
js.stream { name = "DEAD_$name", subjects = { "dead.$name" }, num_replicas = 3 }
js.consume("IN_$name", { durable = "worker", ack_wait = "$wait", dead_letter = "dead.$name" }, function(msg)
  bus.publish("got.$name", msg.data .. "$mark")
end)]]

-- `name` is in the names of its streams, so that a cluster has many of them.
function quorum.handler(name, ack_wait, mark)
  return (HANDLER:gsub("%$(%w+)", { name = name, wait = ack_wait or "30s", mark = mark or "" }))
end

-- Between open and close. `world` is what the hosts are of.
function quorum.new()
  return setmetatable({ world = world.new() }, quorum)
end

function quorum:open()
  local w = self.world
  w.server = cluster.start(3)
  w.client = w.server:connect()
end

-- The cluster may be unable to delete its streams; it goes, with all of them.
function quorum:close()
  local w = self.world
  w.client:close()
  w.client = nil
  w:clear()
  w:close()
end

-- Who leads the cluster answers as before, until it notices that the others are gone.
function quorum:lose_two()
  local servers = self.world.server.servers
  for _, name in ipairs { 2, 3 } do servers[name]:down "KILL" end
  local left = servers[1]:connect()
  wait.eventually(function()
    local reply = left:request("$JS.API.STREAM.NAMES", "", { timeout = 1 })
    return not reply or reply:json().error ~= nil
  end, 60, "the cluster still has a leader")
  left:close()
end

function quorum:both_back()
  for _, name in ipairs { 2, 3 } do self.world.server.servers[name]:up() end
end

-- The host of that handler gets what is stored.
function quorum:handles(host, name, data)
  local client = self.world.client
  local got = self.world.server:subscribe(client, "got." .. name)
  wait.eventually(function()
    client:store("in." .. name, data)
    return true
  end, 30)
  wait.eventually(function()
    local message = got:next(1)
    return message and message.data:sub(1, #data) == data
  end, 30, function() return host:explain() end)
end

-- For longer than any single try takes, and than JetStream of a single server takes to come up.
function quorum.goes_on_waiting(host)
  host:wait_log({ level = "warn", msg = "cannot serve yet, still trying: handler%.lua:%d: IN" }, 30)
  wait.holds(function() return host:running() end, 15 - (wait.now() - host.began),
    "the host ended: " .. host:output())
  local kinds = {}
  for _, event in ipairs(host:logged { level = "warn", msg = "cannot serve yet" }) do
    assert.is_nil(kinds[event.code], host:output())
    kinds[event.code] = true
  end
  assert.same({}, host:logged { level = "error" })
  assert.same({}, host:logged "ready in")
end

return quorum
