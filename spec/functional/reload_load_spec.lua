-- Runs alone: it measures.
-- 100 reloads under a steady load, some of them of broken code: nothing is lost, nothing runs twice,
-- nothing runs on a version that is not live, the neighbours notice nothing, nothing is left behind.
--
-- In the suite a short form; SPEC_LONG=1: 20,000 messages a second and all of the reloads.
local cjson = require "cjson"
local ffi = require "ffi"
local faulty = require "spec.support.faulty"
local posix = require "spec.support.posix"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local RATE = faulty.long and 20000 or 4000 -- a second, on both scripts together
local RELOADS = faulty.long and 100 or 30 -- every fifth of them is of broken code
local BASELINE_S = 2
local WORKERS = 2

local clock = ffi.new "struct moonbus_spec_timespec"

local function wall()
  posix.C.clock_gettime(0, clock)
  return tonumber(clock.tv_sec) + tonumber(clock.tv_nsec) / 1e9
end

-- When the host logged something, in seconds of the epoch. Cut to milliseconds.
local function logged_at(event)
  local year, month, day, hour, min, sec = event.time:match "(%d+)-(%d+)-(%d+)T(%d+):(%d+):([%d.]+)Z"
  local as_local = os.time { year = year, month = month, day = day, hour = hour, min = min, sec = 0, isdst = false }
  local offset = os.time(os.date("*t", as_local)) - os.time(os.date("!*t", as_local))
  return as_local + offset + tonumber(sec)
end

local function script(letter, version, broken)
  return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>" }, storage = "memory" }
js.stream { name = "DEAD", subjects = { "dead" } }
js.consume("WORK", { durable = "%s", dead_letter = "dead", filter = "work.%s" }, function(msg)
  local started = bus.now()
  if msg.sequence %% 100 == 0 then bus.sleep("20ms") end -- some are under way at each switch
  bus.publish("seen.%s", msg.sequence .. " %s " .. msg.attempt .. " " .. msg.data .. " " .. started)
end)
%s]]):format(letter, letter, letter, version, broken or "")
end

local function quantile(list, share) return list[math.max(1, math.ceil(#list * share))] or 0 end

-- Puts in messages at RATE, and takes in what the handlers say of them.
local function new_load(w)
  local load = { sent = 0, seen = { a = {}, b = {} }, count = 0 }
  local since, before = wall(), 0 -- from when on it is RATE, and what had been sent then
  local subs = { a = w.client:subscribe "seen.a", b = w.client:subscribe "seen.b" }

  function load.take()
    for letter, sub in pairs(subs) do
      for _, message in ipairs(sub:arrived()) do
        local sequence, version, attempt, sent, started = message.data:match "(%d+) (%S+) (%d+) (%S+) (%S+)"
        load.count = load.count + 1
        table.insert(load.seen[letter], { sequence = tonumber(sequence), version = version,
          attempt = tonumber(attempt), sent = tonumber(sent), started = tonumber(started) })
      end
    end
  end

  -- After a pause, which is not to be made up for.
  function load.begin() since, before = wall(), load.sent end

  -- As long as not done(); at most so many seconds.
  function load.pump(done, seconds)
    local began = wall()
    repeat
      local due = before + math.floor((wall() - since) * RATE)
      for _ = 1, math.min(due - load.sent, 500) do
        load.sent = load.sent + 1
        w.client:send(load.sent % 2 == 0 and "work.a" or "work.b", ("%.6f"):format(wall()))
      end
      load.take()
      assert(wall() - began < wait.within(seconds), "not done in time")
    until done(wall() - began)
  end

  return load
end

-- How late the starts of one script's messages were, and the longest time without one beyond that
-- between their sendings.
local function judge(list)
  table.sort(list, function(x, y) return x.started < y.started end)
  local late, longest, long = {}, 0, 0
  for index, each in ipairs(list) do
    late[index] = each.started - each.sent
    local before = list[index - 1]
    if before then
      local gap = each.started - before.started - math.max(0, each.sent - before.sent)
      longest, long = math.max(longest, gap), long + (gap > 0.1 and 1 or 0)
    end
  end
  table.sort(late)
  return { gap_ms = longest * 1000, long_gaps = long, p50_ms = quantile(late, 0.5) * 1000,
    p99_ms = quantile(late, 0.99) * 1000, max_ms = (late[#late] or 0) * 1000 }
end

local function tell(what, count, seconds, a, b)
  local function late(of)
    return ("late p50 %.2f ms, p99 %.1f ms, most %.1f ms"):format(of.p50_ms, of.p99_ms, of.max_ms)
  end
  print(("%s: %d messages at %.0f/s; reloaded: %s; the other: %s, longest gap %.1f ms"):format(what,
    count, count / seconds, late(a), late(b), b.gap_ms))
end

describe("reloads under load", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("lose and repeat nothing, run every message on the live version, and leave nothing behind", function()
    local host = w:run { handlers = { ["a.lua"] = script("a", "v1"), ["b.lua"] = script("b", "v1") },
      args = { "--watch", "--workers", tostring(WORKERS) }, admin = true }
    local load = new_load(w)
    local path = host.folder .. "/handlers/a.lua"
    local version, refused, live_at = 1, 0, { v1 = 0 }

    local function save(text)
      local file = assert(io.open(path .. ".new", "w"))
      file:write(text)
      file:close()
      assert(os.rename(path .. ".new", path))
    end

    local function status()
      local _, body = posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", "/status")
      for _, each in ipairs(cjson.decode(body).scripts) do
        if each.name == "a.lua" then return each end
      end
    end

    local function reload(is_broken)
      local pattern, count
      if is_broken then
        refused = refused + 1
        save(script("a", "broken" .. refused, "error 'not this one'"))
        pattern, count = "a%.lua: refused", refused
      else
        version = version + 1
        save(script("a", "v" .. version))
        pattern, count = ("a%%.lua: generation %d live"):format(version), 1
      end
      local event
      load.pump(function()
        event = host:logged(pattern)[count]
        return event
      end, 5)
      if not is_broken then live_at["v" .. version] = logged_at(event) end
      return tonumber(event.msg:match "live in (%d+) ms")
    end

    local function settle()
      wait.eventually(function()
        load.take()
        return load.count == load.sent and status().live_generations == 1
      end, 20, function() return ("%d of %d messages"):format(load.count, load.sent) end)
    end

    -- What the machine gives without reloads, after a few that make everything warm.
    for _ = 1, 3 do reload() end
    settle()
    load.seen = { a = {}, b = {} }
    local first, began = load.sent, wall()
    load.begin()
    load.pump(function(passed) return passed > BASELINE_S end, 10)
    local count, seconds = load.sent - first, wall() - began
    settle()
    local before_mb = host:memory_mb()
    local quiet_a, quiet_b = judge(load.seen.a), judge(load.seen.b)
    print ""
    tell("without reloads", count, seconds, quiet_a, quiet_b)

    load.seen = { a = {}, b = {} }
    local took_ms = {}
    first, began = load.sent, wall()
    load.begin()
    for number = 1, RELOADS do took_ms[#took_ms + 1] = reload(number % 5 == 0) end
    count, seconds = load.sent - first, wall() - began
    settle()
    local a, b = judge(load.seen.a), judge(load.seen.b)
    tell(("over %d reloads, %d refused"):format(RELOADS, refused), count, seconds, a, b)
    table.sort(took_ms)
    print(("a reload: p50 %d ms, most %d ms"):format(quantile(took_ms, 0.5), took_ms[#took_ms]))

    local runs = {}
    for _, list in pairs(load.seen) do
      for _, each in ipairs(list) do
        runs[each.sequence] = (runs[each.sequence] or 0) + 1
        assert.equal(1, runs[each.sequence], "runs of message " .. each.sequence)
        assert.equal(1, each.attempt)
      end
    end
    assert.equal(load.sent - first, #load.seen.a + #load.seen.b)
    local late = {}
    for _, each in ipairs(load.seen.a) do
      local number = tonumber(each.version:match "^v(%d+)$")
      assert.is_truthy(number, each.version .. " ran")
      local followed = live_at["v" .. number + 1] -- it is told of after the switch, cut to milliseconds
      if followed and each.started > followed + 0.001 then
        -- A worker had taken it before the switch, and then the system gave the worker no time.
        late[number] = (late[number] or 0) + 1
        assert.is_true(late[number] <= WORKERS, ("message %d began on v%d %.1f ms after the next one was live")
          :format(each.sequence, number, (each.started - followed) * 1000))
      end
    end
    for _, durable in ipairs { "a", "b" } do
      w.client:await_settled("WORK", durable)
      assert.equal(0, w.client:consumer_info("WORK", durable).num_redelivered)
    end

    -- What a reload does each of them would do; on a busy machine others make gaps, too.
    assert.is_true(b.long_gaps <= (faulty.long and 0 or RELOADS / 10 * wait.slow),
      b.long_gaps .. " gaps over 100 ms of the other script")

    local after_mb = host:memory_mb()
    print(("generations live: %d, instances %d, memory %.1f MB before, %.1f MB after")
      :format(status().live_generations, status().instances, before_mb, after_mb))
    -- A sanitizer keeps what was freed; it has its own way to find leaks.
    if wait.slow == 1 then
      assert.is_true(after_mb < before_mb + 12, "memory grew from " .. before_mb .. " to " .. after_mb)
    end
  end)
end)
