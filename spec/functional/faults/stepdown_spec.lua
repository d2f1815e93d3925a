local cluster = require "spec.support.cluster"
local faulty = require "spec.support.faulty"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local DURABLES, ROUNDS = 16, faulty.pick(2, 20)
-- So many messages for a durable, or fewer: of some then one pull request has ended last, of others
-- one has begun.
local MOST = 8

describe("the durables of a cluster of three", function()
  local w = world.new()
  before_each(function()
    w.server = cluster.start(3)
    w.client = w.server:connect()
    w.client:stream("IN", { "in.>" }, { storage = "memory", num_replicas = 3 })
  end)
  after_each(function()
    w:clear()
    w:close()
  end)

  local done

  -- Each has a filter of its own, and tells what it has handled.
  local function run()
    done = w.server:subscribe(w.client, "done")
    local host = w:start { level = "info", handlers = { ["handler.lua"] = ([[
      local bus = require "moonbus"
      local js = require "moonbus.jetstream"
      for index = 1, %d do
        js.consume("IN", { durable = "d" .. index, filter = "in." .. index, concurrency = 4,
          dead_letter = "in.dead" }, function(msg)
          bus.publish("done", index .. " " .. msg.data)
        end)
      end]]):format(DURABLES) } }
    return host:wait_ready(90)
  end

  -- Some messages for each durable, one by one; all of them are handled.
  local function each_handles(host, round)
    local seen = {}
    local function handled(text, first)
      wait.eventually(function()
        for _, message in ipairs(done:arrived()) do seen[message.data] = true end
        for index = first, DURABLES do
          if not seen[index .. " " .. text] then return false end
        end
        return true
      end, 30, function() return host:explain():sub(-3000) end)
    end
    for number = 1, MOST do
      local text, first = round .. "." .. number, math.ceil((number - 1) * DURABLES / MOST) + 1
      for index = first, DURABLES do w.client:store("in." .. index, text) end
      handled(text, first)
    end
  end

  -- All leaders step down, while requests for messages are under way, and others lead.
  local function step_down()
    for index = 1, DURABLES do
      w.client:api(("CONSUMER.LEADER.STEPDOWN.IN.d%d"):format(index))
    end
    for index = 1, DURABLES do w.server:leader("IN", "d" .. index) end
  end

  it("go on at once when their leaders step down", function()
    local host = run()
    each_handles(host, 0)
    for round = 1, ROUNDS do
      step_down()
      each_handles(host, round)
    end
    local silent = {}
    for _, event in ipairs(host:logged "no message and no heartbeat") do
      silent[#silent + 1] = event.handler
    end
    -- Of one or two the request may come when the new leader does not listen yet, and no server tells of that.
    assert.is_true(#silent <= math.max(1, wait.slow) + 1, table.concat(silent, " "))
  end)
end)
