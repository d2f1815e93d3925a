-- moonbus.kv on a real server: what is written there, and what is read.
local cjson = require "cjson"
local temp = require "spec.support.temp"
local world = require "spec.support.world"

-- A handler that runs what it is sent, with the bucket as `b`, and answers with what that returns.
local function script(bucket)
  return ([[
local bus, js, kv = require "moonbus", require "moonbus.jetstream", require "moonbus.kv"
local b = kv.bucket %s
local function plain(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, each in pairs(value) do copy[key] = plain(each) end
  return copy
end
bus.subscribe("run", function(msg)
  local chunk = assert(loadstring("local bus, js, b = ...; " .. msg.data, "=chunk"))
  local ok, value, err = pcall(chunk, bus, js, b)
  if not ok then return { raised = tostring(value) } end
  if value == nil and err then
    return { code = err.code, message = err.message, revision = err.revision }
  end
  return { value = plain(value) }
end)
]]):format(bucket)
end

describe("moonbus.kv", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function serve(bucket) return w:run(script(bucket or '{ name = "config", history = 5 }')) end

  local function ask(code)
    local reply = w.client:request("run", code)
    assert.is_nil(reply:header "Nats-Service-Error", reply:header "Nats-Service-Error")
    return reply:json()
  end

  -- The value, or an error that nobody expected.
  local function run(code)
    local got = ask(code)
    assert.is_nil(got.code or got.raised, got.message or got.raised)
    return got.value
  end

  local function at_least(major, minor)
    local a, b = w.server:monitor "varz".version:match "^(%d+)%.(%d+)"
    return tonumber(a) > major or tonumber(a) == major and tonumber(b) >= minor
  end

  describe("a bucket", function()
    it("that is absent is created as ADR-8 has it", function()
      serve [[{ name = "config", history = 3, ttl = "1h", max_bytes = "1MB", max_value_size = "64KB",
        storage = "memory", description = "what is set" }]]
      local config = w.client:stream_info("KV_config").config
      assert.same({ "$KV.config.>" }, config.subjects)
      assert.same({ 3, 3600e9, 1048576, 65536, "memory", "what is set" }, { config.max_msgs_per_subject, config.max_age,
        config.max_bytes, config.max_msg_size, config.storage, config.description })
      assert.same({ "new", true, true, true, "limits" }, { config.discard, config.deny_delete, config.allow_rollup_hdrs,
        config.allow_direct, config.retention })
      assert.equal(120e9, config.duplicate_window)
    end)

    it("keeps one value of a key, and forgets ids with its messages", function()
      serve '{ name = "config", ttl = "30s" }'
      local config = w.client:stream_info("KV_config").config
      assert.equal(1, config.max_msgs_per_subject)
      assert.equal(30e9, config.duplicate_window)
    end)

    it("that is there is used as it is, where nothing else is stated", function()
      w.client:stream("KV_config", { "$KV.config.>" }, { max_msgs_per_subject = 7, max_age = 60e9 })
      serve '{ name = "config" }'
      assert.equal(1, run 'return b:put("a", "1")')
      assert.equal(7, w.client:stream_info("KV_config").config.max_msgs_per_subject)
    end)

    it("is created with what one script states, though another that only names it comes first", function()
      local names = script '{ name = "config" }'
      local states = 'require "moonbus.kv".bucket { name = "config", history = 7 }'
      w:run { handlers = { ["a.lua"] = names, ["b.lua"] = states } }
      assert.equal(7, w.client:stream_info("KV_config").config.max_msgs_per_subject)
      w:clear()
      local host = w:run { handlers = { ["other.lua"] = 'require "moonbus".subscribe("other", function() end)' } }
      temp.write(host.folder, "handlers/a.lua", names)
      temp.write(host.folder, "handlers/b.lua", states)
      host:signal "HUP"
      host:wait_log "^a%.lua: generation %d live"
      assert.equal(7, w.client:stream_info("KV_config").config.max_msgs_per_subject)
    end)

    it("with other settings than those stated ends the host, with both values and our names", function()
      w.client:stream("KV_config", { "$KV.config.>" }, { max_msgs_per_subject = 7 })
      local failed = w:fail(script '{ name = "config", history = 5 }')
      assert.equal(2, failed.status, failed.output)
      assert.matches("max_msgs_per_subject: here 5, on the server 7", failed.output)
      assert.matches('kv.bucket calls max_msgs_per_subject \\"history\\"', failed.output, 1, true)
    end)

    it("is changed where that is allowed", function()
      w.client:stream("KV_config", { "$KV.config.>" }, { max_msgs_per_subject = 7 })
      serve '{ name = "config", history = 5, update = true }'
      assert.equal(5, w.client:stream_info("KV_config").config.max_msgs_per_subject)
    end)

    it("is made sure of while the script loads, and not in a handler", function()
      serve()
      assert.matches("kv.bucket: only while the script loads", ask('require "moonbus.kv".bucket { name = "b" }').raised)
      assert.matches("objects.bucket: only while the script loads",
        ask('require "moonbus.objects".bucket { name = "b" }').raised)
    end)

    for bad, text in pairs {
      ['{}'] = "name is required", ['{ name = "a.b" }'] = "letters, digits, _ and %-",
      ['{ name = "" }'] = "letters, digits", ['{ name = "a", history = 65 }'] = "an integer from 1 to 64",
      ['{ name = "a", max_age = "1h" }'] = "here it is ", ['{ name = "a", ttl = "x" }'] = "ttl",
      ['{ name = "a", ttl = "10ms" }'] = "a duration from 100ms on",
      ['{ name = "a", num_replicas = 3 }'] = "here it is ",
      ['{ name = "a", mirror = "b", sources = { "c" } }'] = "exclude each other",
      ['{ name = "a", limit_markers = 0.5 }'] = "at least 1000ms", ['"a"'] = "expected a table",
    } do
      it("is refused with " .. bad, function()
        local failed = w:fail(script(bad))
        assert.equal(2, failed.status, failed.output)
        assert.matches(text, failed.output)
        assert.matches("handler.lua:2: ", failed.output)
      end)
    end
  end)

  describe("a key", function()
    before_each(function() serve() end)

    it("gets a value, and gives it back with its revision", function()
      assert.equal(1, run 'return b:put("users.7", "ada")')
      assert.equal(2, run 'return b:put("users.7", { name = "ada" })')
      local entry = run 'local e = b:get("users.7") e.name = e:json().name return e'
      assert.equal("ada", entry.name)
      assert.same({ "config", "users.7", '{"name":"ada"}', 2, "PUT" },
        { entry.bucket, entry.key, entry.value, entry.revision, entry.operation })
      assert.is_true(math.abs(entry.created - os.time()) < 60)
      assert.equal("ada", run('return b:get("users.7", { revision = 1 }).value'))
    end)

    it("is any that ADR-8 allows, with any bytes for a value", function()
      assert.equal(1, run 'return b:put("a/b_C-d=e.1", "\\0\\255\\r\\n")')
      assert.same({ 0, 255, 13, 10 }, run 'return { b:get("a/b_C-d=e.1").value:byte(1, -1) }')
      run 'return b:put("nothing")'
      assert.equal("", run 'return b:get("nothing").value')
    end)

    it("has the fields of a table by their names, so that the same value is the same write in each process", function()
      local text = '{"apple":1,"berry":{"a":1,"b":2,"c":3,"d":4},"kiwi":[3,{"x":1,"y":2}],"mango":4,"zebra":5}'
      for _, call in ipairs { 'b:put("k", %s)', 'b:create("new", %s)', 'b:update("k", %s, b:get("k").revision)' } do
        run("return " .. call:format("bus.json.decode [==[" .. text .. "]==]"))
      end
      assert.equal(text, run 'return b:get("k").value')
      assert.equal(text, run 'return b:get("new").value')
      assert.equal("{}", run 'b:put("none", {}) return b:get("none").value')
      assert.matches("kv:put: fn: JSON cannot hold a function", ask('b:put("k", { fn = print })').raised)
    end)

    it("that is none is not_found, and so is one that was deleted or purged", function()
      assert.equal("not_found", ask('return b:get("a")').code)
      run 'b:put("a", "1") b:put("c", "1") b:delete("a") b:purge("c") return true'
      assert.equal("not_found", ask('return b:get("a")').code)
      assert.equal("not_found", ask('return b:get("c")').code)
      assert.equal("not_found", ask('return b:get("a", { revision = 3 })').code)
      assert.equal("not_found", ask('return b:get("a", { revision = 99 })').code)
      assert.equal("not_found", ask('return b:get("a", { revision = 2 })').code)
      assert.equal("1", run 'return b:get("a", { revision = 1 }).value')
    end)

    it("is created once, and again after it was deleted or purged", function()
      assert.equal(1, run 'return b:create("a", "1")')
      local again = ask 'return b:create("a", "2")'
      assert.same({ "exists", 1 }, { again.code, again.revision })
      run 'return b:delete("a")'
      assert.equal(3, run 'return b:create("a", "3")')
      assert.equal("exists", ask('return b:create("a", "2")').code)
      run 'return b:purge("a")'
      assert.equal(5, run 'return b:create("a", "4")')
      assert.equal("4", run 'return b:get("a").value')
    end)

    it("is updated only from the revision that it has", function()
      run 'return b:put("a", "1")'
      assert.equal(2, run 'return b:update("a", "2", 1)')
      local late = ask 'return b:update("a", "3", 1)'
      assert.same({ "wrong_sequence", 2 }, { late.code, late.revision })
      assert.matches('"a" is at revision 2, not 1', late.message)
      assert.equal("2", run 'return b:get("a").value')
      assert.equal("wrong_sequence", ask('return b:update("b", "3", 1)').code)
      assert.equal(3, run 'return b:update("b", "3", 0)')
    end)

    it("is deleted and purged, if asked only at a revision", function()
      run 'return b:put("a", "1")'
      assert.equal("wrong_sequence", ask('return b:delete("a", { revision = 7 })').code)
      assert.equal("wrong_sequence", ask('return b:purge("a", { revision = 7 })').code)
      assert.equal(2, run 'return b:delete("a", { revision = 1 })')
      assert.equal("DEL", w.client:message("KV_config", 2):header "KV-Operation")
      assert.equal(3, run 'return b:purge("a", { revision = 2 })')
      local marker = w.client:message("KV_config", 3)
      assert.same({ "PURGE", "sub" }, { marker:header "KV-Operation", marker:header "Nats-Rollup" })
      assert.equal(1, w.client:stream_info("KV_config").state.messages)
    end)

    it("has a history, oldest first, of as many as the bucket keeps", function()
      for i = 1, 6 do run(('return b:put("a", "%d")'):format(i)) end
      run 'b:put("b", "x") b:delete("a") return true'
      local seen = run [[local seen = {}
        for _, e in ipairs(b:history("a")) do seen[#seen + 1] = e.operation .. e.value .. e.revision end return seen]]
      assert.same({ "PUT33", "PUT44", "PUT55", "PUT66", "DEL8" }, seen)
      assert.same({}, run 'return b:history("none")')
    end)

    it("is listed while it has a value", function()
      run [[for _, key in ipairs { "a", "users.1", "users.2", "users.1.name", "gone", "x" } do b:put(key, "1") end
        b:delete("gone") b:purge("x") return true]]
      assert.same({ "a", "users.1", "users.1.name", "users.2" }, run 'return b:keys()')
      assert.same({ "users.1", "users.2" }, run 'return b:keys("users.*")')
      assert.same({ "users.1", "users.1.name", "users.2" }, run 'return b:keys("users.>")')
      assert.same({}, run 'return b:keys("none.*")')
    end)

    for code, text in pairs {
      ['b:get("")'] = "key: expected letters", ['b:get("a b")'] = "key: expected letters",
      ['b:get(".a")'] = "no dot at its beginning", ['b:get("a.")'] = "no dot at its beginning",
      ['b:get("a..b")'] = "two in a row", ['b:get("a.*")'] = "key: expected letters",
      ['b:get(7)'] = "key: expected a string",
      ['b.get("a")'] = "call it with a colon", ['b:put("a", 7)'] = "must be a string, a table or nil",
      ['b:put("a", "1", { ttl = "1m" })'] = "create and purge take one", ['b:update("a", "1")'] = "revision: expected",
      ['b:update("a", "1", -1)'] = "revision: expected", ['b:create("a", "1", { ttl = "10ms" })'] = "at least 1000ms",
      ['b:keys("a b")'] = "filter: expected", ['b:keys(">.a")'] = "filter: ",
      ['b:get("a", { rev = 1 })'] = 'here it is "revision"',
      ['b:put("a", "1", { id = "" })'] = "kv:put: id: expected",
      ['table.sort({ 1, 2 }, function() b:put("a", "1") end)'] = "kv:put cannot wait",
      ['b:get(("x"):rep(3000))'] = "key: ",
      ['require "moonbus.kv".bucket { name = "late" }'] = "only while the script loads",
    } do
      it("is misused by " .. code, function()
        local got = ask(code:find "require" and code or "return " .. code)
        assert.is_truthy(got.raised, cjson.encode(got))
        assert.is_truthy(got.raised:find(text, 1, true), got.raised)
      end)
    end
  end)

  describe("a bucket that is gone", function()
    it("is no_stream for all that asks, and used again when it is back", function()
      serve()
      run 'return b:put("a", "1")'
      w.client:delete_stream "KV_config"
      for _, code in ipairs { 'b:get("a")', 'b:put("a", "1")', 'b:create("a", "1")', 'b:keys()', 'b:history("a")' } do
        local failed = ask("return " .. code)
        assert.equal("no_stream", failed.code, code .. cjson.encode(failed))
        assert.matches("config", failed.message)
      end
      w.client:stream("KV_config", { "$KV.config.>" })
      assert.equal(1, run 'return b:put("a", "1")')
    end)
  end)

  describe("a handler that runs again", function()
    for _, history in ipairs { 10, 1 } do
      it("writes each value once, and creates what is gone anew, with a history of " .. history, function()
        w.client:stream("IN", { "in.>" })
        local notes = w.client:subscribe "note"
        w:run(([[
local bus, js, kv = require "moonbus", require "moonbus.jetstream", require "moonbus.kv"
local b = kv.bucket { name = "config", history = %d }
js.consume("IN", { durable = "d", backoff = { min = "10ms" } }, function(msg)
  local first = assert(b:create("lock", "mine"))
  local second = assert(b:put("n", "1"))
  local third = assert(b:put("n", "2"))
  local fourth = assert(b:delete("lock"))
  bus.publish("note", table.concat({ first, second, third, fourth }, " "))
  if msg.attempt < 3 then error "again" end
end)]]):format(history))
        w.client:store("in.a", "")
        local seen = {}
        for _, message in ipairs(notes:take(3)) do seen[#seen + 1] = message.data end
        assert.same({ "1 2 3 4", "5 2 3 6", "7 2 3 8" }, seen)
        assert.equal(8, w.client:stream_info("KV_config").state.last_seq)
      end)
    end

    it("is not told that another one has made what it created itself, when ids are forgotten", function()
      w.client:stream("IN", { "in.>" })
      w.client:stream("KV_config", { "$KV.config.>" },
        { max_msgs_per_subject = 5, duplicate_window = 100e6, allow_rollup_hdrs = true })
      local notes = w.client:subscribe "note"
      w:run [[
local bus, js, kv = require "moonbus", require "moonbus.jetstream", require "moonbus.kv"
local b = kv.bucket { name = "config" }
js.consume("IN", { durable = "d", backoff = { min = "300ms" } }, function(msg)
  local one = assert(b:create("lock", "mine"))
  local two = assert(b:create("gone", "mine"))
  local three = assert(b:update("free", "2", 2))
  bus.publish("note", table.concat({ one, two, three }, " "))
  if msg.attempt < 2 then error "again" end
end)]]
      w.client:store("$KV.config.gone", "", { ["KV-Operation"] = "DEL" })
      w.client:store("$KV.config.free", "1")
      w.client:store("in.a", "")
      local first, second = notes:next(5), notes:next(5)
      assert.equal("3 4 5", first.data)
      assert.equal("3 4 5", second.data)
    end)

    it("is not acknowledged when a write could not be stored", function()
      w.client:stream("IN", { "in.>" })
      w:run [[
local js, kv = require "moonbus.jetstream", require "moonbus.kv"
local b = kv.bucket { name = "config" }
js.consume("IN", { durable = "d", backoff = { min = "50ms", max = "50ms" } }, function(msg) b:put("a", msg.data) end)]]
      w.client:delete_stream "KV_config"
      w.client:store("in.a", "7")
      w.client:stream("KV_config", { "$KV.config.>" })
      w.client:await_settled("IN", "d")
      assert.equal("7", w.client:message("KV_config", 1).data)
    end)
  end)

  describe("a ttl of a key", function()
    it("is refused where the server has none, with what is needed", function()
      serve()
      for _, code in ipairs { 'b:create("a", "1", { ttl = "1m" })', 'b:purge("a", { ttl = "1m" })' } do
        local failed = ask("return " .. code)
        local old = not at_least(2, 11)
        assert.equal(old and "unsupported" or "mismatch", failed.code)
        assert.matches(old and "ttl needs nats%-server 2.11" or "limit_markers", failed.message)
      end
      assert.equal(0, w.client:stream_info("KV_config").state.messages)
    end)

    it("ends it, and a marker says so, on 2.11 and newer; before that the bucket is refused", function()
      if not at_least(2, 11) then
        local failed = w:fail(script '{ name = "config", limit_markers = "1h" }')
        assert.equal(2, failed.status, failed.output)
        assert.matches("limit_markers needs nats%-server 2.11 or newer", failed.output)
        return
      end
      serve '{ name = "config", history = 5, limit_markers = "1s" }'
      assert.equal(1, run 'return b:create("a", "1", { ttl = "1s" })')
      assert.equal("1s", w.client:message("KV_config", 1):header "Nats-TTL")
      require("spec.support.wait").eventually(function()
        return ask('return b:get("a")').code == "not_found"
      end, 10)
      local marker = w.client:message("KV_config", w.client:stream_info("KV_config").state.last_seq)
      assert.equal("MaxAge", marker:header "Nats-Marker-Reason")
      local history = run 'local h = {} for _, e in ipairs(b:history("a")) do h[#h + 1] = e.operation end return h'
      assert.equal("PURGE", history[#history])
      assert.same({}, run 'return b:keys()')
      assert.is_truthy(run 'return b:create("a", "2")')
      run 'return b:purge("a", { ttl = "90s" })'
      local state = w.client:stream_info("KV_config").state
      assert.equal("90s", w.client:message("KV_config", state.last_seq):header "Nats-TTL")
    end)

    it("is refused below limit_markers, to which the server would raise it", function()
      if not at_least(2, 11) then return end
      serve '{ name = "config", limit_markers = "1h" }'
      local failed = ask 'return b:create("a", "1", { ttl = "1m" })'
      assert.equal("mismatch", failed.code)
      assert.matches("limit_markers, 3600s: a ttl of 60s is less", failed.message)
    end)
  end)

  describe("a mirror", function()
    it("is read by its origin's keys, and written there", function()
      serve '{ name = "origin" }'
      run 'return b:put("a", "1")'
      w:clear()
      serve '{ name = "origin", history = 2 }'
      run 'return b:put("a", "1")'
      local copy = script '{ name = "copy", mirror = "origin" }'
      w:run { handlers = { ["mirror.lua"] = (copy:gsub('"run"', '"mirror"')) } }
      local function mirrored(code) return w.client:request("mirror", code):json() end
      require("spec.support.wait").eventually(function()
        return mirrored('return b:get("a").value').value == "1"
      end, 10)
      mirrored 'return b:put("b", "2")'
      assert.equal("2", run 'return b:get("b").value')
    end)
  end)
end)
