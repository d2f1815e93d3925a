-- A cluster of three that loses two of its servers, and what a host does meanwhile: of the specs
-- of faults/quorum_*.
local assert = require "luassert"
local cluster = require "spec.support.cluster"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local quorum = {}
quorum.__index = quorum

local HANDLER = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "IN", subjects = { "in.>" }, num_replicas = 3 }
js.stream { name = "DEAD", subjects = { "dead.>" }, num_replicas = 3 }
js.consume("IN", { durable = "worker", ack_wait = %q, dead_letter = "dead.x" }, function(msg)
  bus.publish("got", msg.data .. %q)
end)]]

function quorum.handler(ack_wait, mark) return HANDLER:format(ack_wait or "30s", mark or "") end

-- One for each test, between open and close. `world` is what the hosts are of.
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

-- The host gets what is stored.
function quorum:handles(host, data)
  local client = self.world.client
  local got = self.world.server:subscribe(client, "got")
  wait.eventually(function()
    client:store("in.x", data)
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
  wait.holds(function() return host:running() end, 15, "the host ended: " .. host:output())
  local kinds = {}
  for _, event in ipairs(host:logged { level = "warn", msg = "cannot serve yet" }) do
    assert.is_nil(kinds[event.code], host:output())
    kinds[event.code] = true
  end
  assert.same({}, host:logged { level = "error" })
  assert.same({}, host:logged "ready in")
end

return quorum
