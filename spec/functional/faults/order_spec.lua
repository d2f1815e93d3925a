local faulty = require "spec.support.faulty"
local proxy = require "spec.support.proxy"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local KEYS = { "a", "b", "c", "d", "e" }
local CUTS, BETWEEN = faulty.pick(3, 30), 200

describe("order_by, when the connection is cut with messages on their way,", function()
  local w = world.new()
  local front
  setup(function() w:open() end)
  before_each(function() front = proxy.start(w.server) end)
  after_each(function()
    w:clear()
    front:close()
  end)
  teardown(function() w:close() end)

  -- Tells in its log what it runs, in the order in which it does.
  local function run(options)
    w.client:stream("IN", { "in.>" })
    w.client:stream("DEAD", { "dead.>" })
    return w:run { server = front, level = "info", handlers = { ["handler.lua"] = ([[
      local bus = require "moonbus"
      require("moonbus.jetstream").consume("IN", { durable = "worker", dead_letter = "dead.x",
        concurrency = 8, %s }, function(msg)
        bus.log.info("run " .. msg.subject .. " " .. msg.sequence)
      end)]]):format(options) } }
  end

  local stored = 0

  local function store(count)
    for _ = 1, count do
      stored = stored + 1
      w.client:send("in." .. KEYS[math.random(#KEYS)], ("number %d;"):format(stored))
    end
    w.client:flush()
  end

  -- Stores messages, and has the connection cut when a certain one is on its way.
  local function cut(host)
    local connected = #host:logged "consume connection back on"
    front:cut_at(("number %d;"):format(stored + BETWEEN / 2))
    for _ = 1, BETWEEN / 10 do store(10) end
    host:wait_log("consume connection back on", 20, connected + 1)
  end

  -- What was run: for each key its sequences, in this order.
  local function runs(host)
    local keys, count = {}, 0
    for _, event in ipairs(host:events()) do
      local key, sequence = (event.msg or ""):match "^run (%S+) (%d+)$"
      if key then
        keys[key] = keys[key] or {}
        table.insert(keys[key], tonumber(sequence))
        count = count + 1
      end
    end
    return keys, count
  end

  local function all_run(host)
    wait.eventually(function() return w.client:settled("IN", "worker") end, 30, function()
      return host:explain():sub(-3000)
    end)
    wait.eventually(function() return select(2, runs(host)) >= stored end)
  end

  local function in_order(sequences)
    for index = 2, #sequences do
      if sequences[index] < sequences[index - 1] then
        return false, ("%d after %d"):format(sequences[index], sequences[index - 1])
      end
    end
    return true
  end

  it("keeps each key's messages in the order of the stream", function()
    stored = 0
    local host = run 'order_by = "subject", ack_wait = "2s"'
    for _ = 1, CUTS do
      cut(host)
      store(BETWEEN)
    end
    all_run(host)
    for key, sequences in pairs((runs(host))) do
      local ordered, which = in_order(sequences)
      assert.is_true(ordered, ("%s: %s\n%s"):format(key, tostring(which), host:explain():sub(-3000)))
    end
  end)

  it("holds nothing back when the durable is shared, and loses nothing", function()
    stored = 0
    local host = run 'order_by = "subject", ack_wait = "2s"'
    local other = run 'order_by = "subject", ack_wait = "2s"'
    store(BETWEEN)
    wait.eventually(function() return w.client:settled("IN", "worker") end, 20)
    for _ = 1, CUTS do
      store(BETWEEN)
      front:down()
      front:pass()
      store(BETWEEN)
    end
    wait.eventually(function() return w.client:settled("IN", "worker") end, 30)
    wait.eventually(function()
      return select(2, runs(host)) + select(2, runs(other)) >= stored
    end)
    assert.same({}, host:logged "lost on the way here")
  end)

  it("goes on when what was lost is not there any more", function()
    stored = 0
    local host = run 'order_by = "subject", ack_wait = "2s"'
    store(10)
    wait.eventually(function() return w.client:settled("IN", "worker") end)
    front:cut_at "number 11;"
    store(1)
    host:wait_log("consume connection back on", 20)
    w.client:purge "IN"
    store(10)
    wait.eventually(function() return select(2, runs(host)) == 20 end, 15, function()
      return host:explain()
    end)
    assert.is_true(in_order(runs(host)["in.a"] or {}))
  end)

  -- Something is missing, and newer messages are held back.
  local function held_back(options)
    stored = 0
    local host = run(options)
    store(10)
    wait.eventually(function() return w.client:settled("IN", "worker") end)
    front:cut_at "number 11;"
    store(1)
    host:wait_log("consume connection back on", 20)
    store(50)
    host:wait_log("lost on the way here: 1 message;", 10)
    assert.equal(10, (select(2, runs(host))))
    return host
  end

  it("hands back what is held back when the host stops", function()
    local first = held_back 'order_by = "subject", ack_wait = "3s"'
    assert.equal(0, first:stop())
    local second = run 'order_by = "subject", ack_wait = "3s"'
    all_run { events = function()
      local all = {}
      for _, each in ipairs { first, second } do
        for _, event in ipairs(each:events()) do all[#all + 1] = event end
      end
      return all
    end, explain = function() return second:explain() end }
  end)

  it("keeps the order over a reload", function()
    local host = held_back 'order_by = "subject", ack_wait = "3s"'
    local path = "handlers/handler.lua"
    temp.write(host.folder, path, temp.read(host.folder .. "/" .. path) .. "\n-- changed\n")
    host:signal "HUP"
    host:wait_log "generation 2 live"
    all_run(host)
    for key, sequences in pairs((runs(host))) do
      assert.is_true(in_order(sequences), key .. ": " .. table.concat(sequences, " "))
    end
  end)

  it("has room for what is missing, however large what is held back is", function()
    stored = 0
    local host = run 'order_by = "subject", ack_wait = "3s"'
    store(10)
    wait.eventually(function() return w.client:settled("IN", "worker") end)
    front:cut_at "number 11;"
    store(1)
    host:wait_log("consume connection back on", 20)
    local large = (" "):rep(900000)
    for _ = 1, 60 do -- 54 MB, of which a consumer holds 32
      stored = stored + 1
      w.client:send("in.a", large)
    end
    w.client:flush()
    all_run(host)
    assert.same({}, host:logged "did not come again")
    for key, sequences in pairs((runs(host))) do
      assert.is_true(in_order(sequences), key .. ": " .. table.concat(sequences, " "))
    end
  end)
end)
