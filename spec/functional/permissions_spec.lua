-- A user made from the table of OPERATING, word by word, is enough for what a row is for.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- The subjects in a cell of the table, with what the names in them stand for. "the subject" and the like are `own`.
local function subjects_in(cell, names, own)
  local list = {}
  for subject in cell:gmatch "`([^`]+)`" do
    if subject:find "[%.>]" and not subject:find "^js%." then
      list[#list + 1] = (subject:gsub("<(%w+)>", names))
    end
  end
  if cell:find "the subject" then list[#list + 1] = own end
  return list
end

-- The rows that begin so: what each may publish and subscribe to.
local function rows(...)
  local text = temp.read "docs/OPERATING.md":match "\n### Permissions\n(.-)\n## "
  local found = {}
  for _, beginning in ipairs { ... } do
    for row in text:gmatch "\n(| [^\n]+)" do
      if row:sub(1, #beginning + 2) == "| " .. beginning then
        local publish, subscribe = row:match "^|[^|]*|([^|]*)|([^|]*)|"
        found[#found + 1] = { publish = publish, subscribe = subscribe }
      end
    end
  end
  assert(#found >= select("#", ...), "a row is not in the table")
  return found
end

local function quoted(list)
  local seen, out = {}, {}
  for _, subject in ipairs(list) do
    if not seen[subject] then out[#out + 1] = ("%q"):format(subject) end
    seen[subject] = true
  end
  return "[" .. table.concat(out, ", ") .. "]"
end

describe("a user with the permissions of the table in OPERATING", function()
  local w
  after_each(function()
    w:clear()
    w:close()
  end)

  -- grants: { { rows, names = , own = , reads = }, ... }
  local function open(grants)
    local publish, subscribe = {}, {}
    local function add(list, more) for _, subject in ipairs(more) do list[#list + 1] = subject end end
    for _, grant in ipairs(grants) do
      for _, row in ipairs(grant[1]) do
        add(publish, subjects_in(row.publish, grant.names or {}, grant.own))
        add(subscribe, subjects_in(row.subscribe, grant.names or {}, grant.own))
      end
    end
    w = world.new { login = { user = "all", password = "all" }, config = ([[
authorization { users = [
  { user: all, password: all }
  { user: few, password: few, permissions: { publish: %s, subscribe: %s } }
] }]]):format(quoted(publish), quoted(subscribe)) }
    w:open()
  end

  local function run(script)
    return w:run { handlers = { ["few.lua"] = script }, args = { "--user", "few", "--password", "few" } }
  end

  -- What nobody refused.
  local function unrefused(host)
    host:stop()
    assert.same({}, host:logged { code = "permission" })
    assert.same({}, host:logged "Permissions Violation")
  end

  local WORKER = { stream = "IN", durable = "worker" }

  it("states streams, handles messages, stores results and dead letters", function()
    open {
      { rows "always" },
      { rows "`js.stream`", names = { stream = "IN" } },
      { rows "`js.stream`", names = { stream = "OUT" } },
      { rows "`js.stream`", names = { stream = "DEAD" } },
      { rows("`js.consume` | ", "... that it creates"), names = WORKER },
      { rows "`dead_letter` |", names = { stream = "DEAD" }, own = "dead.worker" },
      { rows("`bus.publish`,", "`js.publish` that finds nobody"), names = { stream = "OUT" }, own = "out.>" },
    }
    local host = run [[
      local js = require "moonbus.jetstream"
      js.stream { name = "IN", subjects = { "in.>" } }
      js.stream { name = "OUT", subjects = { "out.>" } }
      js.stream { name = "DEAD", subjects = { "dead.>" } }
      js.consume("IN", { durable = "worker", attempts = 2, backoff = { min = "50ms" }, dead_letter = "dead.worker" },
        function(msg)
          if msg.data == "bad" then error "bad" end
          assert(js.publish("out.a", msg.data))
        end)]]
    w.client:store("in.x", "good")
    w.client:store("in.x", "bad")
    assert.equal("good", w.client:await_stored("OUT", 1)[1].data)
    assert.equal("bad", w.client:await_stored("DEAD", 1)[1].data)
    w.client:await_settled("IN", "worker", 10)
    unrefused(host)
  end)

  it("answers requests, and asks", function()
    open {
      { rows "always" },
      { rows "`bus.subscribe` |", own = "ask.>" },
      { rows "`bus.publish`,", own = "service.>" },
      { rows "the warning of a `bus.subscribe`" },
    }
    local service = w.client:subscribe "service.x"
    local host = run [[
      local bus = require "moonbus"
      bus.subscribe("ask.it", function()
        local reply = assert(bus.request("service.x", "q"))
        return "it says " .. reply.data
      end)]]
    w.client:publish("ask.it", "", nil, "_INBOX.spec")
    local answers = w.client:subscribe "_INBOX.spec"
    local request = service:take(1)[1]
    w.client:publish(request.reply, "yes")
    assert.equal("it says yes", answers:take(1)[1].data)
    unrefused(host)
  end)

  it("reads what is stored", function()
    open {
      { rows "always" },
      { rows "`bus.subscribe` |", own = "ask.>" },
      { rows "the warning of a `bus.subscribe`" },
      { rows("`js.get`", "`js.messages`,"), names = { stream = "IN", bucket = "none" } },
    }
    w.client:stream("IN", { "in.>" })
    w.client:store("in.x", "one")
    local host = run [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      bus.subscribe("ask.it", function()
        local read = { assert(js.get("IN", { last = "in.x" })).data }
        for message in js.messages("IN") do read[#read + 1] = message.data end
        return table.concat(read, " ")
      end)]]
    assert.equal("one one", w.client:request("ask.it", "").data)
    -- What read them is deleted again, for which it is permitted, too.
    wait.eventually(function() return w.client:api("CONSUMER.NAMES.IN").total == 0 end, 10)
    unrefused(host)
  end)

  it("publishes later, cancels, and has a cron line", function()
    open {
      { rows "always" },
      { rows "`bus.subscribe` |", own = "ask.>" },
      { rows "the warning of a `bus.subscribe`" },
      { rows "`js.stream`", names = { stream = "OUT" } },
      { rows "`bus.publish`,", own = "out.>" },
      { rows "`js.publish` with `after`", names = { stream = "OUT" } },
      { rows("`js.consume` | ", "... that it creates"), names = { stream = "MOONBUS_LATER", durable = "later" } },
      { rows "`js.cron`" },
      { rows "`js.stream`", names = { stream = "MOONBUS_CRON" } },
      { rows("`js.consume` | ", "... that it creates"), names = { stream = "MOONBUS_CRON", durable = "cron-job" } },
    }
    local host = run [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.stream { name = "OUT", subjects = { "out.>" } }
      js.cron("* * * * * *", { name = "job" }, function() assert(js.publish("out.cron", "")) end)
      bus.subscribe("ask.it", function()
        assert(js.cancel(assert(js.publish("out.never", "", { after = "1h" }))))
        return assert(js.publish("out.later", "", { after = "100ms" })).stream
      end)]]
    assert.equal("MOONBUS_LATER", w.client:request("ask.it", "").data)
    w.client:await_stored("OUT", 3)
    local seen = {}
    for _, message in ipairs(w.client:messages "OUT") do seen[message.subject] = true end
    assert.same({ ["out.later"] = true, ["out.cron"] = true }, seen)
    unrefused(host)
  end)

  it("needs nothing of what is published later for a timer that publishes", function()
    open { { rows "always" }, { rows "`bus.publish`,", own = "tick.>" } }
    local ticks = w.client:subscribe "tick.x"
    local host = run [[
      local bus = require "moonbus"
      bus.after("10ms", function() bus.publish("tick.x", "") end)]]
    ticks:take(1)
    unrefused(host)
  end)

  it("keeps keys and objects", function()
    local names = { bucket = "b" }
    open {
      { rows "always" },
      { rows "`bus.subscribe` |", own = "ask.>" },
      { rows "the warning of a `bus.subscribe`" },
      { rows("`kv.bucket`", "... of which keys are read", "... of which keys are written"), names = names },
      { rows("`objects.bucket`", "... of which objects are read", "... of which objects are written"), names = names },
      { rows "`js.messages`,", names = { stream = "KV_b", bucket = "none" } },
      { rows "`js.messages`,", names = { stream = "OBJ_b", bucket = "none" } },
    }
    local host = run [[
      local bus = require "moonbus"
      local b = require "moonbus.kv".bucket { name = "b" }
      local files = require "moonbus.objects".bucket { name = "b" }
      bus.subscribe("ask.it", { timeout = "15s" }, function()
        local created = assert(b:create("a", "1"))
        assert(b:update("a", "2", created))
        assert(b:put("gone", "x") and b:purge("gone"))
        assert(files:put("o", ("x"):rep(1000000)))
        assert(files:put("o", ("y"):rep(1000000)))
        assert(files:put("gone", "x") and files:delete("gone"))
        return table.concat({ b:get("a").value, table.concat(b:keys(), ","), #b:history("a"), #files:get "o",
          #files:list() }, " ")
      end)]]
    assert.equal("2 a 1 1000000 1", w.client:request("ask.it", "").data)
    wait.eventually(function() return w.client:api("CONSUMER.NAMES.OBJ_b").total == 0 end, 10)
    unrefused(host)
  end)

  it("shares locks and limits", function()
    open {
      { rows "always" },
      { rows "`bus.subscribe` |", own = "ask.>" },
      { rows "the warning of a `bus.subscribe`" },
      { rows "`bus.lock`, `bus.semaphore`," },
    }
    local host = run [[
      local bus = require "moonbus"
      bus.subscribe("ask.it", { timeout = "15s" }, function()
        assert(bus.lock("a", { cluster = true }))
        assert(bus.semaphore("a", 3, { cluster = true }))
        assert(bus.limiter("a", { rate = 5, cluster = true }):take())
        return "all"
      end)]]
    assert.equal("all", w.client:request("ask.it", "").data)
    unrefused(host)
  end)

  it("has long retries parked, and looks for them when a message comes again", function()
    open {
      { rows "always" },
      { rows "`js.stream`", names = { stream = "IN" } },
      { rows("`js.consume` | ", "... that it creates"), names = WORKER },
      { rows "`backoff.park_after`" },
      { rows("`js.consume` | ", "... that it creates"), names = { stream = "MOONBUS_RETRIES", durable = "IN=worker" } },
    }
    local parked = (w.client:api "INFO".api.level or 0) >= 2
    local host = run [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.stream { name = "IN", subjects = { "in.>" } }
      local options = { durable = "worker", attempts = 3, dead_letter = false,
        backoff = { min = "1500ms", max = "1500ms", jitter = 0, park_after = "1s" } }
      js.consume("IN", options, function(msg)
        bus.log.info("attempt " .. msg.attempt)
        if msg.attempt == 1 then return msg:nak "50ms" end
        if msg.attempt == 2 then error "later" end
      end)]]
    w.client:store("in.x", "")
    assert.equal(parked and "parked" or "nak", host:wait_log({ level = "error", msg = "later" }, 15).verdict)
    host:wait_log("^attempt 3", 15)
    w.client:await_settled("IN", "worker", 10)
    if parked then w.client:await_settled("MOONBUS_RETRIES", "IN=worker", 10) end
    unrefused(host)
  end)

  it("counts, and is pinned", function()
    open {
      { rows "always" },
      { rows("`js.consume` | ", "... that it creates", "`js.consume` with `pinned`"), names = WORKER },
      { rows("`js.count` |", "`js.counter`"), names = { stream = "HITS" }, own = "hits.>" },
    }
    if (w.client:api "INFO".api.level or 0) < 2 then pending "needs nats-server 2.12" return end
    w.client:stream("IN", { "in.>" })
    w.client:stream("HITS", { "hits.>" }, { allow_msg_counter = true })
    local host = run [[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      local options = { durable = "worker", pinned = true, backoff = { min = "50ms" }, dead_letter = false }
      js.consume("IN", options, function(msg)
        bus.log.info("counted " .. assert(js.count("hits.a")) .. " " .. assert(js.counter "hits.a"))
        if msg.attempt == 1 then error "again" end
      end)]]
    w.client:store("in.x", "")
    host:wait_log "^pinned"
    host:wait_log("^counted 1 1", 10, 2)
    w.client:await_settled("IN", "worker", 10)
    unrefused(host)
  end)
end)
