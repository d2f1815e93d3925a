local faulty = require "spec.support.faulty"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local consumer = faulty.consumer

describe("a poison message", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function count(stream) return w.client:stream_info(stream).state.messages end

  local function letters(number, deadline)
    wait.eventually(function() return count "DEAD" >= number end, deadline)
    return w.client:messages "DEAD"
  end

  local function settled(deadline)
    wait.eventually(function() return w.client:settled("IN", "worker") end, deadline)
  end

  it("is run as often as attempts says, at the backoff's times, then has one dead letter", function()
    w.client:stream("IN", { "in.>" })
    local watch = faulty.watch(w.client)
    local host = w:run(consumer([[attempts = 4, dead_letter = "dead.worker",
      backoff = { min = "200ms", max = "600ms", factor = 2, jitter = 0 }]],
      'run(msg) error("no way")'))
    w.client:store("in.a", "the data", { K = "v" })
    local letter = letters(1, 10)[1]
    settled()
    local runs = faulty.runs(host).list
    assert.equal(4, #runs)
    for index, delay in ipairs { 0.2, 0.4, 0.6 } do
      local took = runs[index + 1].at - runs[index].at
      assert.is_true(took >= delay - 0.001 and took < wait.within(delay),
        ("attempt %d came after %.3f s"):format(index + 1, took))
      assert.equal(index + 1, runs[index + 1].attempt)
    end
    assert.same({ "dead.worker", "the data", "v", "IN", "worker", "1", "in.a", "4", "handler_error" },
      { letter.subject, letter.data, letter:header "K", letter:header "Moonbus-Stream",
        letter:header "Moonbus-Consumer", letter:header "Moonbus-Sequence",
        letter:header "Moonbus-Subject", letter:header "Moonbus-Attempt",
        letter:header "Moonbus-Code" })
    assert.matches("no way", letter:header "Moonbus-Error")
    assert.matches("^%d+$", letter:header "Moonbus-Timestamp")
    -- Three naks, each with its delay, then the end.
    local verdicts = {}
    for _, each in ipairs(faulty.verdicts(watch)) do verdicts[#verdicts + 1] = each.text end
    assert.same({ '-NAK {"delay": 200000000}', '-NAK {"delay": 400000000}',
      '-NAK {"delay": 600000000}', "+TERM" }, verdicts)
    assert.is_nil(w.client:message("DEAD", 2))
  end)

  it("does not hold up the others", function()
    local host = w:run(consumer([[attempts = 3, dead_letter = "dead.x", concurrency = 2,
      backoff = { min = "500ms", max = "500ms", jitter = 0 }]], [[
      run(msg)
      if msg.data == "bad" then error "no way" end
      done(msg)
    ]]))
    for _ = 1, 20 do w.client:store("in.x", "bad") end
    for _ = 1, 20 do w.client:store("in.x", "good") end
    settled(10)
    -- The good ones are through before a bad one has its last attempt.
    local good = 0
    for _, event in ipairs(host:events()) do
      if (event.msg or ""):find "^done " then good = good + 1 end
      if (event.msg or ""):find "^run %d+ 3 " then assert.equal(20, good) end
    end
    assert.equal(20, count "DEAD")
    assert.equal(20 + 3 * 20, faulty.runs(host).begun)
  end)

  local FULL = [[
js.stream { name = "FULL", subjects = { "full.>" }, storage = "memory", max_msgs = 1,
  discard = "new" }
]]

  -- A host whose dead letters go to a stream that has room for one.
  local function with_room_for_one(ack_wait, tries)
    w.client:stream("FULL", { "full.>" }, { max_msgs = 1, discard = "new" })
    w.client:store("full.x", "the one")
    local host = w:run { handlers = { ["handler.lua"] = consumer(
      [[attempts = 2, dead_letter = "full.worker", ack_wait = ]] .. (ack_wait or '"1s"') .. [[,
        backoff = { min = "100ms", max = "100ms", jitter = 0 }]],
      'run(msg) error("no way")'):gsub("js.consume", FULL .. "js.consume") },
      config = ('return { publish = { attempts = %d, backoff = { min = "50ms", max = "50ms" } } }')
        :format(tries or 2) }
    w.client:store("in.x", "the input")
    return host
  end

  it("is not lost while the dead letter's stream is full", function()
    local watch
    w.client:stream("IN", { "in.>" })
    watch = faulty.watch(w.client)
    local host = with_room_for_one()
    host:wait_log { level = "error", msg = "dead letter was not stored" }
    host:wait_log({ level = "error", msg = "dead letter was not stored" }, 5, 3)
    assert.equal(0, faulty.count(faulty.verdicts(watch), "+TERM"))
    assert.equal("the one", w.client:message("FULL", 1).data)
    w.client:purge "FULL"
    wait.eventually(function() return count "FULL" == 1 end, 10)
    settled()
    assert.equal("the input", w.client:messages "FULL"[1].data)
    assert.equal(1, count "FULL")
    assert.equal(1, faulty.count(faulty.verdicts(watch), "+TERM"))
  end)

  it("is run no more than attempts says, though its dead letter is not stored", function()
    local host = with_room_for_one()
    host:wait_log({ level = "error", msg = "dead letter was not stored" }, 5, 3)
    assert.equal(2, faulty.runs(host).begun)
  end)

  it("is run by the next version of its script, when its dead letter could not be stored", function()
    local host = with_room_for_one()
    host:wait_log { level = "error", msg = "dead letter was not stored" }
    local path = host.folder .. "/handlers/handler.lua"
    local mended = temp.read(path):gsub('error%("no way"%)', 'print "mended"')
    temp.write(host.folder, "handlers/handler.lua", mended)
    host:signal "HUP"
    host:wait_log "^mended$"
    settled()
    assert.equal(1, count "FULL")
  end)

  it("is run by the next version also when that came while its dead letter was under way", function()
    local host = with_room_for_one(nil, 20)
    host:wait_log { level = "error", msg = "to the dead letter", attempt = 2 }
    local path = host.folder .. "/handlers/handler.lua"
    temp.write(host.folder, "handlers/handler.lua",
      (temp.read(path):gsub('error%("no way"%)', 'print "mended"')))
    host:signal "HUP"
    host:wait_log "generation 2 live"
    assert.same({}, host:logged "dead letter was not stored")
    host:wait_log({ level = "error", msg = "dead letter was not stored" }, 20)
    host:wait_log "^mended$"
    settled()
    assert.equal(1, count "FULL")
  end)

  it("is handed back when the host stops while its dead letter is under way", function()
    local host = with_room_for_one('"1m"', 1000)
    host:wait_log { level = "error", msg = "to the dead letter", attempt = 2 }
    assert.equal(0, host:stop())
    w.client:purge "FULL"
    w:run { handlers = { ["handler.lua"] = consumer(
      'attempts = 2, dead_letter = "full.worker", ack_wait = "1m"', "run(msg)") } }
    settled(2)
  end)

  it("of a batch is not nak'd by the stop that its dead letter outlives", function()
    w.client:stream("IN", { "in.>" })
    w.client:stream("FULL", { "full.>" }, { max_msgs = 1, discard = "new" })
    w.client:store("full.x", "the one")
    local watch = faulty.watch(w.client)
    local host = w:run { handlers = { ["handler.lua"] = consumer(
      'batch = { size = 2, wait = "50ms" }, dead_letter = "full.worker", ack_wait = "1m"', [[
        local msgs = msg
        msgs[1]:reject "no"
        bus.sleep "1m"
      ]]):gsub("js.consume", FULL .. "js.consume") },
      config = 'return { publish = { attempts = 1000, backoff = { min = "10ms", max = "10ms" } } }',
      args = { "--graceful-timeout", "2s" } }
    w.client:store("in.x", "1")
    w.client:store("in.x", "2")
    host:wait_log { level = "error", msg = "no; to the dead letter" }
    host:signal "TERM"
    host:wait_log "unfinished at the graceful deadline"
    w.client:purge "FULL"
    assert.equal(3, host:wait(5))
    -- One verdict for each: the letter's for the first (stored, or given up at the end), a nak for the
    -- other. When the letter was stored too late for its verdict, it comes again to the same letter.
    local said = { {}, {} }
    for _, each in ipairs(faulty.verdicts(watch)) do
      if each.verdict ~= "+WPI" then table.insert(said[each.sequence], each.verdict) end
    end
    local stored = count "FULL" == 1
    local verdict = stored and "+TERM" or "-NAK"
    assert.equal(verdict, said[1][1] or verdict)
    assert.is_nil(said[1][2])
    assert.same({ "-NAK" }, said[2])
  end)

  it("keeps its lease while its dead letter is under way", function()
    w.client:stream("FULL", { "full.>" }, { max_msgs = 1, discard = "new" })
    w.client:store("full.x", "the one")
    local host = w:run { handlers = { ["handler.lua"] = consumer(
      'attempts = 1, dead_letter = "full.worker", ack_wait = "1500ms"',
      'run(msg) error("no way")'):gsub("js.consume", FULL .. "js.consume") } }
    w.client:store("in.x", "the input")
    wait.eventually(function() return faulty.runs(host).begun == 1 end)
    wait.holds(function() return faulty.deliveries(w.client) == 1 end, 3)
    w.client:purge "FULL"
    wait.eventually(function() return count "FULL" == 1 end, 10)
    settled()
    assert.equal(1, faulty.runs(host).begun)
  end)

  it("of the largest size has a dead letter that refers to it", function()
    local host = w:run(consumer('attempts = 1, dead_letter = "dead.worker"', 'run(msg) error("no way")'))
    w.client:store("in.x", ("x"):rep(1024 * 1024))
    local letter = letters(1)[1]
    settled()
    assert.same({ "", "true", "IN", "1" }, { letter.data, letter:header "Moonbus-Reference",
      letter:header "Moonbus-Stream", letter:header "Moonbus-Sequence" })
    assert.equal(1024 * 1024, #w.client:message("IN", 1).data)
    host:wait_log { level = "warn", msg = "too large for the dead letter" }
    assert.equal(1, count "DEAD")
  end)

  it("of almost the largest size has a dead letter with all its data", function()
    w:run(consumer('attempts = 1, dead_letter = "dead.worker"', 'error(("no way "):rep(100))'))
    local data = ("x"):rep(1024 * 1024 - 600)
    w.client:store("in.x", data)
    local letter = letters(1)[1]
    settled()
    assert.is_true(letter.data == data)
    assert.is_true(#letter:header "Moonbus-Error" <= 120)
  end)
end)
