-- moonbus.objects on a real server: what is stored there, what is read, and what is left behind.
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local SCRIPT = [[
local bus, js, objects = require "moonbus", require "moonbus.jetstream", require "moonbus.objects"
local b = objects.bucket { name = "files" }
local function text(size)
  local pieces = {}
  for i = 1, math.ceil(size / 8) do pieces[i] = ("%08d"):format(i) end
  return table.concat(pieces):sub(1, size)
end
bus.subscribe("run", { timeout = "1m" }, function(msg)
  local chunk = assert(loadstring("local bus, js, b, text = ...; " .. msg.data, "=chunk"))
  local ok, value, err = pcall(chunk, bus, js, b, text)
  if not ok then return { raised = tostring(value), code = type(value) == "table" and value.code or nil } end
  if value == nil and err then return { code = err.code, message = err.message } end
  return { value = value }
end)
]]

describe("moonbus.objects", function()
  local w = world.new()
  setup(function() w:open() end)
  before_each(function() w:run(SCRIPT) end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function ask(code)
    local reply = w.client:request("run", code, { timeout = 60 })
    assert.is_nil(reply:header "Nats-Service-Error", reply:header "Nats-Service-Error")
    return reply:json()
  end

  local function run(code)
    local got = ask(code)
    assert.is_nil(got.code or got.raised, got.message or got.raised)
    return got.value
  end

  -- How many messages there are of chunks, and of what is told.
  local function counts()
    local subjects = w.client:api("STREAM.INFO.OBJ_files", { subjects_filter = ">" }).state.subjects or {}
    local chunks, told = 0, 0
    for subject, count in pairs(subjects) do
      if subject:find "^%$O%.files%.C%." then chunks = chunks + count else told = told + count end
    end
    return { chunks, told }
  end

  it("has a bucket as ADR-20 has it", function()
    local config = w.client:stream_info("OBJ_files").config
    table.sort(config.subjects)
    assert.same({ "$O.files.C.>", "$O.files.M.>" }, config.subjects)
    assert.same({ "new", true, true, "file" }, { config.discard, config.allow_rollup_hdrs, config.allow_direct,
      config.storage })
    assert.is_falsy(config.deny_delete)
  end)

  it("stores an object in chunks, and gives it back", function()
    for _, size in ipairs { 0, 1, 131071, 131072, 131073, 1000000 } do
      local info = run(('return b:put("o", text(%d))'):format(size))
      assert.same({ "o", "files", size, math.ceil(size / 131072) }, { info.name, info.bucket, info.size, info.chunks })
      assert.is_true(run(('return b:get("o") == text(%d)'):format(size)), size)
      assert.same({ math.ceil(size / 131072), 1 }, counts())
    end
  end)

  it("tells of it what was said, and what it is", function()
    run [[b:put("report.txt", "hello", { description = "a report", headers = { Kind = "text", Tag = { "a", "b" } },
      metadata = { owner = "ada" } }) return true]]
    local info = run 'return b:info("report.txt")'
    assert.same({ "a report", { Kind = "text", Tag = { "a", "b" } }, { owner = "ada" } },
      { info.description, info.headers, info.metadata })
    assert.equal("SHA-256=LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", info.digest)
    assert.is_true(math.abs(info.modified - os.time()) < 60)
    assert.is_nil(info.deleted)
  end)

  it("has any name", function()
    for _, name in ipairs { "a", "a/b c.txt", "ü ö", ("x"):rep(1000), ". * >" } do
      run(('return b:put(%q, "x") ~= nil'):format(name))
      assert.equal(name, run(('return b:info(%q).name'):format(name)))
    end
    assert.same({ ". * >", "a", "a/b c.txt", ("x"):rep(1000), "ü ö" },
      run 'local names = {} for i, each in ipairs(b:list()) do names[i] = each.name end return names')
  end)

  it("takes its data from a function, and gives it in pieces to a loop", function()
    local info = run [[
      local left = 300
      return b:put("o", function() left = left - 1 return left >= 0 and ("%04d"):format(left):rep(500) or nil end)]]
    assert.equal(600000, info.size)
    assert.equal(5, info.chunks)
    local sizes = run [[local sizes, reader = {}, b:open("o")
      for piece in reader do sizes[#sizes + 1] = #piece end
      sizes[#sizes + 1] = reader.info.size return sizes]]
    assert.same({ 131072, 131072, 131072, 131072, 75712, 600000 }, sizes)
    assert.equal(600000, run 'return b:put("copy", b:open("o")).size')
    assert.is_true(run 'return b:get("copy") == b:get("o")')
  end)

  it("takes the place of what was there, whose chunks go", function()
    run 'b:put("o", text(500000)) return true'
    run 'b:put("o", text(200000)) return true'
    assert.same({ 2, 1 }, counts())
    run 'b:put("o", "") return true'
    assert.same({ 0, 1 }, counts())
  end)

  it("is gone when it is deleted, and may come again", function()
    run 'b:put("o", text(500000)) return true'
    assert.is_true(run 'return b:delete("o")')
    assert.same({ 0, 1 }, counts())
    for _, code in ipairs { 'b:get("o")', 'b:info("o")', 'b:open("o")', 'b:delete("o")', 'b:get("never")' } do
      assert.equal("not_found", ask("return " .. code).code, code)
    end
    assert.same({}, run "return b:list()")
    run 'b:put("o", "again") return true'
    assert.equal("again", run 'return (b:get("o"))')
  end)

  it("is not_found for who has opened it, when it is replaced or deleted meanwhile", function()
    for _, size in ipairs { 1, 300000 } do
      for _, change in ipairs { 'b:put("o", text(2))', 'b:delete("o")' } do
        run(('b:put("o", text(%d)) return true'):format(size))
        local code = ask(('local piece = b:open("o") %s local _, err = pcall(piece) return err.code'):format(change))
        assert.equal("not_found", code.value, size .. " " .. change)
      end
    end
  end)

  it("is not read whole when it is larger than max", function()
    run 'b:put("o", text(500000)) return true'
    assert.equal("too_large", ask('return b:get("o", { max = "400KB" })').code)
    assert.is_true(run 'return #b:get("o", { max = "500KB" }) == 500000')
  end)

  it("leaves nothing behind when what gives its pieces raises, or gives what is no string", function()
    local got = ask [[local n = 0 return b:put("o", function() n = n + 1 if n > 20 then error("no more") end
      return text(100000) end)]]
    assert.matches("chunk:1: no more", got.raised)
    got = ask 'return b:put("o", function() return 7 end)'
    assert.matches("gave a number, not a string or nil", got.raised)
    assert.same({ 0, 0 }, counts())
    assert.equal("not_found", ask('return b:get("o")').code)
  end)

  it("leaves what was there as it is when a new one is interrupted", function()
    run 'b:put("o", text(300000)) return true'
    ask 'local n = 0 return b:put("o", function() n = n + 1 if n > 9 then error("x") end return text(100000) end)'
    assert.is_true(run 'return b:get("o") == text(300000)')
    assert.same({ 3, 1 }, counts())
  end)

  it("leaves nothing behind when its handler is cancelled", function()
    w:run { handlers = { ["slow.lua"] = [[
      local bus, objects = require "moonbus", require "moonbus.objects"
      local b = objects.bucket { name = "files" }
      bus.subscribe("slow", { timeout = "1s" }, function()
        b:put("o", function() bus.sleep "10ms" return ("x"):rep(50000) end)
      end)]] } }
    w.client:request("slow", "", { timeout = 10 })
    wait.eventually(function()
      local now = counts()
      return now[1] == 0 and now[2] == 0
    end, 10, function() return ("%d chunks, %d told"):format(unpack(counts())) end)
  end)

  it("leaves nothing behind when the host stops", function()
    local graceful = wait.within(1, 0) -- it has a part of that for what it leaves
    local config = ("return { graceful_timeout = %.1f }"):format(graceful)
    local host = w:run { config = config, handlers = { ["slow.lua"] = [[
      local bus, objects = require "moonbus", require "moonbus.objects"
      local b = objects.bucket { name = "files" }
      bus.subscribe("slow", { timeout = "5m" }, function()
        bus.publish("began", "")
        b:put("o", function() bus.sleep "10ms" return ("x"):rep(50000) end)
      end)]] } }
    local began = w.client:subscribe "began"
    w.client:publish("slow", "")
    began:next(5)
    wait.eventually(function() return counts()[1] > 3 end, 10)
    host:stop(20 + graceful)
    wait.eventually(function() return counts()[1] == 0 end, 10, function() return counts()[1] end)
  end)

  it("is corrupt when its chunks are not what was stored, or not all there", function()
    run 'b:put("o", text(500000)) return true'
    local subject = "$O.files.C." .. run 'return b:info("o").nuid'
    local last = w.client:api("STREAM.MSG.GET.OBJ_files", { last_by_subj = subject }).message.seq
    w.client:api("STREAM.MSG.DELETE.OBJ_files", { seq = last })
    local got = ask 'return b:get("o")'
    assert.equal("corrupt", got.code)
    assert.matches("there are 3 of 4 chunks", got.message)
    w.client:store(subject, ("y"):rep(500000 - 3 * 131072))
    got = ask 'return b:get("o")'
    assert.equal("corrupt", got.code)
    assert.matches("is not what was stored", got.message)
    assert.equal("corrupt", ask('for _ in b:open("o") do end').code)
  end)

  it("follows links to objects, and none to buckets or in circles", function()
    w.client:stream("OBJ_other", { "$O.other.C.>", "$O.other.M.>" }, { allow_rollup_hdrs = true })
    run 'b:put("target", "hello") return true'
    local function link(bucket, name, to)
      local text = require "cjson".encode { name = name, bucket = bucket, nuid = "n" .. name, size = 0, chunks = 0,
        options = { link = to } }
      local encoded = io.popen(("printf '%%s' '%s' | base64 -w0"):format(name)):read "*a"
      w.client:store(("$O.%s.M.%s"):format(bucket, encoded), text, { ["Nats-Rollup"] = "sub" })
    end
    link("files", "near", { bucket = "files", name = "target" })
    link("files", "far", { bucket = "other", name = "back" })
    link("other", "back", { bucket = "files", name = "target" })
    link("files", "bucket", { bucket = "other" })
    link("files", "circle", { bucket = "files", name = "circle" })
    assert.equal("hello", run 'return (b:get("near"))')
    assert.equal("hello", run 'return (b:get("far"))')
    assert.same({ bucket = "other", name = "back" }, run 'return b:info("far").link')
    local got = ask 'return b:get("bucket")'
    assert.same({ "invalid", true }, { got.code, got.message:find('link to the bucket "other"', 1, true) ~= nil })
    assert.equal("invalid", ask('return b:get("circle")').code)
  end)

  it("is never read beyond the size that is told of it", function()
    run 'b:put("mine", text(500000)) return true'
    local nuid = run 'return b:info("mine").nuid'
    w.client:store("$O.files.M.b2Rk", ('{"name":"odd","nuid":"%s","size":200000,"chunks":4}'):format(nuid),
      { ["Nats-Rollup"] = "sub" })
    local got = ask 'return b:get("odd", { max = "300KB" })'
    assert.equal("corrupt", got.code)
    assert.matches("has more than the 200000 bytes that are told of it", got.message)
    assert.equal(1, run [[local count, reader = 0, b:open("odd")
      pcall(function() for _ in reader do count = count + 1 end end) return count]])
  end)

  it("is not misled by what somebody wrote of one", function()
    run 'b:put("mine", text(300000)) return true'
    local function tell(text) w.client:store("$O.files.M.b2Rk", text, { ["Nats-Rollup"] = "sub" }) end
    for text, code in pairs {
      ['{"name":"odd","nuid":">","size":300000,"chunks":3}'] = "corrupt",
      ['{"name":"odd","nuid":"*","size":1e300,"chunks":1e300}'] = "too_large",
      ['{"name":"odd","nuid":7,"size":"x","chunks":-1,"digest":{},"headers":[1],"metadata":"x"}'] = "none",
      ['{"name":"odd","options":{"link":{"bucket":"*","name":"mine"}}}'] = "bad_payload",
      ['{"name":"odd","options":{"link":7}}'] = "bad_payload", ['{"name":7}'] = "bad_payload",
      ["no JSON"] = "bad_payload", ["[]"] = "bad_payload", ["null"] = "bad_payload",
    } do
      tell(text)
      assert.equal(code, ask('return b:get("odd")').code or "none", text)
      assert.equal("mine", run "return b:list()[1].name")
      assert.equal(1, run('return b:put("odd", "x").size'), text)
    end
    assert.is_true(run 'return b:get("mine") == text(300000)')
  end)

  it("is watched: what is there, then nil, then each change in order", function()
    run 'b:put("one", "1") b:put("two", "2") b:delete("two") return true'
    local notes = w.client:subscribe "note"
    w:run { handlers = { ["watch.lua"] = [[
      local bus, objects = require "moonbus", require "moonbus.objects"
      local b = objects.bucket { name = "files" }
      b:watch(function(info)
        bus.publish("note", info and ("%s %d %s"):format(info.name, info.size, tostring(info.deleted)) or "all seen")
      end)
      b:watch({ deletes = false, updates_only = true }, function(info) bus.publish("note.updates", info.name) end)
    ]] } }
    local updates = w.client:subscribe "note.updates"
    local seen = {}
    for _, message in ipairs(notes:take(3)) do seen[#seen + 1] = message.data end
    assert.same({ "one 1 nil", "two 0 true", "all seen" }, seen)
    run 'b:put("one", "1234") b:delete("one") b:put("three", "") return true'
    seen = {}
    for _, message in ipairs(notes:take(3)) do seen[#seen + 1] = message.data end
    assert.same({ "one 4 nil", "one 0 true", "three 0 nil" }, seen)
    seen = {}
    for _, message in ipairs(updates:take(2)) do seen[#seen + 1] = message.data end
    assert.same({ "one", "three" }, seen)
  end)

  for code, text in pairs {
    ['b:watch(print)'] = "only while the script loads", ['b:watch({ history = true }, print)'] = "has none",
    ['b:get("")'] = "name: it is empty", ['b:get(7)'] = "name: expected a string",
    ['b:put("a")'] = "data: expected a string",
    ['b:put("a", {})'] = "use bus.json.encode", ['b.get("a")'] = "call it with a colon",
    ['b:put("a", "x", { headers = { ["a b"] = "x" } })'] = "no name of a header",
    ['b:put("a", "x", { metadata = { "x" } })'] = "metadata: expected texts by name",
    ['b:put("a", "x", { chunk_size = 10 })'] = "chunk_size", ['b:get("a", { max_size = 1 })'] = 'here it is "max"',
    ['b:get(("x"):rep(2000))'] = "at most 1024",
  } do
    it("is misused by " .. code, function()
      local got = ask("return " .. code)
      assert.is_truthy(got.raised and got.raised:find(text, 1, true), got.raised)
    end)
  end

  it("is no_stream when its bucket is gone", function()
    w.client:delete_stream "OBJ_files"
    for _, code in ipairs {
      'b:get("o")', 'b:put("o", "x")', 'b:put("o", text(500000))', 'b:delete("o")', "b:list()",
    } do
      local got = ask("return " .. code)
      assert.equal("no_stream", got.code, code .. tostring(got.message))
      assert.matches('no bucket "files"', got.message)
    end
  end)
end)
