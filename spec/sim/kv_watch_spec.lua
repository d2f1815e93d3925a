local sim = require "spec.sim.sim"

describe("A watch of a bucket, in virtual time", function()
  local world

  before_each(function()
    world = sim.new()
    world:api("STREAM.CREATE.KV_b", { name = "KV_b", subjects = { "$KV.b.>" }, max_msgs_per_subject = 64,
      discard = "new", allow_rollup_hdrs = true, deny_delete = true, allow_direct = true })
  end)
  after_each(function() world:close() end)

  local function put(key, value, headers)
    world:publish("$KV.b." .. key, value, { headers = headers })
  end

  -- Notes each entry as "key=value@revision", a deletion with its operation, and "|" for nil.
  local WATCH = [[
    local kv = require "moonbus.kv"
    local b = kv.bucket { name = "b" }
    b:watch(%s, %s, function(entry)
      if not entry then return sim.note "|" end
      %s
      local value = entry.operation == "PUT" and entry.value or entry.operation
      sim.note(("%%s=%%s@%%d"):format(entry.key, value, entry.revision))
    end)]]

  local function script(filter, options, body)
    return sim.script(WATCH:format(filter or '">"', options or "{}", body or ""))
  end

  local function watch(...)
    local host = world:host { scripts = { ["w.lua"] = script(...) } }
    world:advance "1s"
    return host
  end

  local function said() return table.concat(world:said(), " ") end

  -- Each change once and in order, from the first to the last, whatever else was noted.
  local function each_once(first, last, from)
    local list = world:said()
    local next_one = first
    for i = from or 1, #list do
      if list[i] ~= "|" then
        assert.equal(("=%d@%d"):format(next_one, next_one), list[i]:match "=.*")
        next_one = next_one + 1
      end
    end
    assert.equal(last + 1, next_one)
  end

  it("gives what is there, then nil once, then each change", function()
    put("a", "1")
    put("b", "2")
    put("a", "3")
    watch()
    assert.equal("b=2@2 a=3@3 |", said())
    put("b", "4")
    world:advance "1s"
    assert.equal("b=2@2 a=3@3 | b=4@4", said())
  end)

  it("gives nil at once when nothing is there", function()
    watch()
    assert.equal("|", said())
  end)

  it("gives the history of each key, or only what comes next, if asked", function()
    put("a", "1")
    put("a", "2")
    watch(nil, "{ history = true }")
    assert.equal("a=1@1 a=2@2 |", said())
    local other = world:host { scripts = { ["u.lua"] = script(nil, "{ updates_only = true }") } }
    world:advance "1s"
    put("a", "3")
    world:advance "1s"
    assert.equal("a=1@1 a=2@2 | a=3@3 a=3@3", said())
    other:stop()
  end)

  it("keeps to its filter, and says which operation it was", function()
    put("x.1", "1")
    put("y.1", "1")
    watch('"x.*"')
    put("x.1", "", { ["KV-Operation"] = "DEL" })
    put("y.1", "2")
    put("x.2", "", { ["KV-Operation"] = "PURGE", ["Nats-Rollup"] = "sub" })
    world:advance "1s"
    assert.equal("x.1=1@1 | x.1=DEL@3 x.2=PURGE@5", said())
  end)

  it("leaves deletions out, if asked", function()
    watch(nil, "{ deletes = false }")
    put("a", "", { ["KV-Operation"] = "DEL" })
    put("a", "1")
    world:advance "1s"
    assert.equal("| a=1@2", said())
  end)

  it("brings keys without their values, if asked", function()
    put("a", "1")
    watch(nil, "{ meta_only = true }")
    assert.equal("a=@1 |", said())
  end)

  it("handles one change at a time, in order, however many workers there are", function()
    watch(nil, nil, 'bus.sleep(entry.revision % 3 == 0 and "30ms" or "1ms")')
    for i = 1, 60 do put("k", tostring(i)) end
    world:advance "10s"
    each_once(1, 60, 2)
  end)

  it("misses what a bucket no longer had when it came to it, and no more", function()
    watch(nil, nil, 'bus.sleep "50ms"')
    for i = 1, 300 do put("k", tostring(i)) end
    world:advance "1m"
    local list = world:said()
    assert.equal("k=300@300", list[#list])
    assert.is_true(#list > 64)
  end)

  it("goes on after a failure, which is logged", function()
    watch(nil, nil, 'if entry.revision == 1 then error("broken") end')
    put("k", "1")
    put("k", "2")
    world:advance "1s"
    assert.equal("| k=2@2", said())
    assert.matches("broken", world:logged("error")[1].message or world:logged("error")[1].msg)
  end)

  it("loses no change and doubles none when its connection is cut, again and again", function()
    watch(nil, nil, 'bus.sleep "10ms"')
    for round = 1, 30 do
      for i = 1, 10 do put("k" .. round, tostring((round - 1) * 10 + i)) end
      world:advance "35ms"
      world:cut(round % 3 == 0 and "2s" or "100ms")
      world:advance(round % 2 == 0 and "3s" or "700ms")
    end
    world:advance "1m"
    each_once(1, 300, 2)
  end)

  it("notices a message that was lost on its way, by the next one", function()
    watch()
    world:lose("$KV.b.k", 1)
    put("k", "1")
    world:advance "100ms"
    put("k", "2")
    world:advance "5s"
    assert.equal("| k=1@1 k=2@2", said())
  end)

  it("notices a message that was lost on its way, when none follows", function()
    watch()
    world:lose("$KV.b.k", 1)
    put("k", "1")
    world:advance "2m"
    assert.equal("| k=1@1", said())
  end)

  it("goes on when its consumer was deleted", function()
    watch()
    put("k", "1")
    world:advance "1s"
    local names = world:api("CONSUMER.NAMES.KV_b", {}).consumers
    world:api("CONSUMER.DELETE.KV_b." .. names[1])
    put("k", "2")
    world:advance "10s"
    assert.equal("| k=1@1 k=2@2", said())
  end)

  it("begins anew when the bucket was deleted and made again", function()
    watch()
    put("k", "1")
    world:advance "1s"
    world:api("STREAM.DELETE.KV_b")
    world:advance "10s"
    world:api("STREAM.CREATE.KV_b", { name = "KV_b", subjects = { "$KV.b.>" }, max_msgs_per_subject = 10 })
    put("k", "one")
    world:advance "30s"
    put("k", "two")
    world:advance "1s"
    assert.equal("| k=1@1 k=one@1 k=two@2", said())
  end)

  it("is stopped while its stream is looked for, and nothing of it is touched after that", function()
    local host = watch()
    world:freeze "4s"
    world:cut "100ms"
    world:advance "500ms"
    host:reload("w.lua", sim.script [[bus.subscribe("x", function() end)]])
    world:advance "30s"
    host:stop "30s"
    world:advance "5s"
    assert.is_true(host:stopped())
  end)

  it("shows in the status how far it is, and that its bucket is gone", function()
    put("a", "1")
    put("b", "2")
    local host = watch()
    local function shown() return host:status().scripts[1].handlers[1] end
    assert.equal("KV_b watch >", shown().handler)
    assert.is_true(shown().caught_up)
    assert.equal(2, shown().sequence)
    assert.equal(0, shown().behind)
    assert.is_false(shown().gone)
    world:api("STREAM.DELETE.KV_b")
    world:advance "5s"
    assert.is_true(shown().gone)
  end)

  it("goes on after a purge", function()
    watch()
    put("k", "1")
    world:advance "1s"
    world:api("STREAM.PURGE.KV_b", {})
    put("k", "2")
    world:advance "1s"
    assert.equal("| k=1@1 k=2@2", said())
  end)

  it("goes on with the next version of its script, without a gap or a second nil", function()
    local host = watch(nil, nil, 'bus.sleep "20ms"')
    for i = 1, 20 do put("k", tostring(i)) end
    world:advance "100ms"
    host:reload("w.lua", script(nil, nil, 'bus.sleep "5ms"'), true)
    for i = 21, 30 do put("k", tostring(i)) end
    world:advance "5s"
    each_once(1, 30, 2)
    assert.equal(31, #world:said())
  end)

  it("shows each version what is there, if asked", function()
    put("k", "1")
    local host = watch(nil, "{ each_version = true }")
    host:reload("w.lua", script(nil, "{ each_version = true }", 'entry.value = entry.value .. "!"'), true)
    world:advance "2s"
    assert.equal("k=1@1 | k=1!@1 |", said())
  end)

  it("ends with its script's registration, and leaves no consumer behind", function()
    local host = watch()
    host:reload("w.lua", sim.script [[bus.subscribe("x", function() end)]], true)
    world:advance "5s"
    put("k", "1")
    world:advance "1s"
    assert.equal("|", said())
    assert.equal(0, world:api("CONSUMER.NAMES.KV_b", {}).total)
  end)

  it("does not hold up a stop by what has not begun", function()
    local host = watch(nil, nil, 'bus.sleep "1s"')
    for i = 1, 50 do put("k", tostring(i)) end
    world:advance "500ms"
    host:stop "30s"
    world:advance "3s"
    assert.is_true(host:stopped())
    assert.equal("| k=1@1", said())
  end)

  it("publishes under ids that no other change has", function()
    world:api("STREAM.CREATE.OUT", { name = "OUT", subjects = { "out" } })
    watch(nil, nil, 'js.publish("out", entry.value)')
    for i = 1, 10 do put("k", tostring(i)) end
    world:advance "5s"
    assert.equal(10, world:stream("OUT").state.messages)
  end)
end)
