-- Several real nats-servers that are one cluster, each of them a spec.support.server: streams with
-- replicas, leaders that are elected, servers that die and come back with their stores. One for each
-- test: nats-server 2.9 that comes back where a stream was deleted and made anew under its name does
-- not follow the new one.
local cjson = require "cjson"
local client = require "spec.support.client"
local posix = require "spec.support.posix"
local server = require "spec.support.server"
local wait = require "spec.support.wait"

local cluster = {}
cluster.__index = cluster

local function routes(self, own)
  local list = {}
  for index, port in ipairs(self.route_ports) do
    if index ~= own then list[#list + 1] = ('"nats-route://127.0.0.1:%d"'):format(port) end
  end
  return table.concat(list, ", ")
end

local function configuration(self, index)
  return ([[cluster { name: spec, listen: "127.0.0.1:%d", routes: [ %s ] }]])
    :format(self.route_ports[index], routes(self, index))
end

local function close_servers(self)
  if self.client then self.client:close() end
  for _, one in ipairs(self.servers) do one:close() end
end

-- Takes free ports and starts them all, until they take a stream. Raises when they do not: someone
-- else may have taken a port since.
local function launch(self, size)
  self.servers, self.route_ports, self.urls, self.client = {}, {}, {}, nil
  for index = 1, size do self.route_ports[index] = posix.free_port() end
  for index = 1, size do
    local one = server.start { start = false, name = "s" .. index, config = configuration(self, index) }
    self.servers[index], self.urls[index] = one, one.url
  end
  for _, one in ipairs(self.servers) do one:up() end
  self.url = self.urls[1]
  self.client = self:connect()
  wait.eventually(function()
    self.client:stream("PROBE", { "probe" }, { num_replicas = size })
    return self.client:delete_stream "PROBE"
  end, 15, "a cluster that takes no stream")
end

-- It stands where a world has its server: `url` is the first one's, `urls` are all.
function cluster.start(size)
  local self = setmetatable({ jetstream = true }, cluster)
  for try = 3, 1, -1 do
    local ok, reason = pcall(launch, self, size)
    if ok then return self end
    close_servers(self)
    if try == 1 then error(reason, 2) end
  end
end

-- A client that goes from server to server, as they die.
function cluster:connect()
  local connected = client.connect(self.urls)
  connected.patient = true
  return connected
end

-- A subscription of `connect`'s client that hears what is published on any of the servers that run.
-- The other servers are told of a subscription when the client's own has answered already: what
-- is published on them before is lost.
function cluster:subscribe(connected, subject)
  local subscription = connected:subscribe(subject)
  for index, one in ipairs(self.servers) do
    if one.process:running() then
      local there, mark = one:connect(), "heard on server " .. index
      wait.eventually(function()
        there:publish(subject, mark)
        local message = subscription:next(0.1)
        while message and message.data ~= mark do message = subscription:next(0.1) end
        return message
      end, 30, "no interest in " .. subject .. " on server " .. index)
      there:close()
    end
  end
  subscription:arrived()
  return subscription
end

local function named(self, name)
  for _, one in ipairs(self.servers) do
    if one.name == name then return one end
  end
end

-- The server that leads the stream, or its durable.
function cluster:leader(stream, durable)
  return wait.eventually(function()
    local info = durable and self.client:consumer_info(stream, durable)
      or self.client:stream_info(stream)
    local one = info.cluster and named(self, info.cluster.leader)
    return one and one.process:running() and one
  end, 30, "no leader of " .. stream)
end

-- Asks for other leaders until `victim` leads the stream, or its durable.
function cluster:led_by(victim, stream, durable)
  local operation = durable and ("CONSUMER.LEADER.STEPDOWN.%s.%s"):format(stream, durable)
    or "STREAM.LEADER.STEPDOWN." .. stream
  wait.eventually(function()
    if self:leader(stream, durable) == victim then return true end
    self.client:api(operation)
  end, 30, victim.name .. " does not get to lead " .. stream)
end

-- All replicas are there, and have everything.
function cluster:whole(stream, durable)
  local info
  wait.eventually(function()
    info = (durable and self.client:consumer_info(stream, durable)
      or self.client:stream_info(stream)).cluster
    for _, replica in ipairs(info.replicas) do
      if not replica.current or replica.offline then return false end
    end
    return info.leader ~= nil and #info.replicas == #self.servers - 1
  end, 60, function()
    local text = { "replicas of ", stream, " lag: ", cjson.encode(info) }
    for _, replica in ipairs(info.replicas) do
      if not replica.current then text[#text + 1] = named(self, replica.name).process:stderr() end
    end
    return table.concat(text)
  end)
end

function cluster:close() close_servers(self) end

return cluster
