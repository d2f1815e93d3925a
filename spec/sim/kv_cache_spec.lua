local sim = require "spec.sim.sim"

describe("The cache of a bucket, in virtual time", function()
  local world

  local function make()
    world:api("STREAM.CREATE.KV_b", { name = "KV_b", subjects = { "$KV.b.>" }, max_msgs_per_subject = 1,
      discard = "new", allow_rollup_hdrs = true, deny_delete = true, allow_direct = true })
  end
  before_each(function()
    world = sim.new()
    make()
  end)
  after_each(function() world:close() end)

  local function put(key, value, headers)
    world:publish("$KV.b." .. key, value, { headers = headers })
    world:settle()
  end

  local function serve(cache, body)
    local host = world:host { scripts = { ["c.lua"] = sim.script(([[
      local kv = require "moonbus.kv"
      local b = kv.bucket { name = "b", cache = %s }
      bus.subscribe("get", { timeout = "5m" }, function(msg)
        local entry, err = b:get(msg.data)
        if not entry then return err.code .. (err.stale and " stale" or "") end
        return entry.value .. (entry.stale and " stale" or "") .. (entry.stale == nil and entry.operation or "")
      end)
      bus.subscribe("get.own", function(msg) %s end)]]):format(cache or "true", body or ""))
    } }
    world:advance "1s"
    return host
  end

  -- From outside of the host's connections, which may be cut: nobody else asks.
  local function get(key) return world:request("get", key, { timeout = "1m" }).data end

  -- No answer of the API comes through: what is answered all the same is answered from the cache.
  local function without_server() world:lose("_INBOX.*.*", 1000000) end

  it("answers without the server, also that there is no such key", function()
    put("a", "1")
    serve()
    without_server()
    assert.equal("1PUT", get "a")
    assert.equal("not_found", get "b")
  end)

  it("follows what others write, delete and purge", function()
    put("a", "1")
    serve()
    without_server()
    put("a", "2")
    assert.equal("2PUT", get "a")
    put("a", "", { ["KV-Operation"] = "DEL" })
    assert.equal("not_found", get "a")
    put("a", "3")
    assert.equal("3PUT", get "a")
    put("a", "", { ["KV-Operation"] = "PURGE", ["Nats-Rollup"] = "sub" })
    assert.equal("not_found", get "a")
  end)

  it("has what the host itself has written, at once", function()
    serve(nil, [[
      local told = {}
      local function note() local e, err = b:get "k" told[#told + 1] = e and e.value or err.code end
      b:put("k", "1") note()
      b:delete "k" note()
      b:create("k", "2") note()
      b:update("k", "3", 3) note()
      b:purge "k" note()
      return table.concat(told, " ")
    ]])
    world:delay(50, "1m")
    assert.equal("1 not_found 2 3 not_found", world:request("get.own", "", { timeout = "1m" }).data)
  end)

  it("asks the server for a revision", function()
    put("a", "1")
    serve(nil, 'return (b:get("a", { revision = 1 }) or {}).value or "none"')
    assert.equal("1", world:request("get.own", "").data)
  end)

  it("is said to be stale while the server is away, and then asks it", function()
    put("a", "1")
    world:host { scripts = { ["c.lua"] = sim.script [[
      local kv = require "moonbus.kv"
      local b = kv.bucket { name = "b", cache = { max_age = "10s" } }
      bus.every("1s", function()
        local entry, err = b:get("a", { timeout = "100ms" })
        sim.note(entry and entry.value .. (entry.stale and " stale" or "") or err.code)
      end)]] } }
    world:advance "2500ms"
    world:down "20s"
    world:advance "20s"
    world:advance "10s"
    local said, last = world:said(), nil
    local phases = {}
    for _, each in ipairs(said) do
      if each ~= last then phases[#phases + 1] = each end
      last = each
    end
    assert.equal("1", phases[1])
    assert.equal("1 stale", phases[2])
    assert.matches("disconnected", phases[3] .. "disconnected or timeout")
    assert.is_true(phases[3] == "disconnected" or phases[3] == "timeout", phases[3])
    assert.equal("1", phases[#phases])
  end)

  it("is right again after an outage in which others wrote", function()
    put("a", "1")
    serve()
    world:cut "5s"
    put("a", "2")
    put("b", "1")
    world:advance "20s"
    without_server()
    assert.equal("2PUT", get "a")
    assert.equal("1PUT", get "b")
  end)

  it("forgets all when the bucket was deleted and made again", function()
    put("a", "1")
    put("b", "2")
    serve()
    world:api("STREAM.DELETE.KV_b")
    world:advance "5s"
    make()
    put("b", "3")
    world:advance "30s"
    assert.equal("not_found", get "a")
    assert.equal("3PUT", get "b")
  end)

  it("asks the server for a bucket that was deleted, and says that there is none", function()
    put("a", "1")
    serve()
    world:api("STREAM.DELETE.KV_b")
    world:advance "5s"
    assert.same({ "no_stream", "no_stream" }, { get "a", get "none" })
  end)

  it("notices within half a minute that somebody has purged the whole bucket", function()
    put("a", "1")
    put("b", "1")
    serve()
    world:api("STREAM.PURGE.KV_b", { filter = "$KV.b.>" })
    world:advance "1m"
    without_server()
    assert.equal("not_found", get "a")
  end)

  it("asks the server for what had no room", function()
    for i = 1, 50 do put("k" .. i, ("x"):rep(100)) end
    serve "{ max_bytes = 4096 }"
    assert.equal(("x"):rep(100) .. "PUT", get "k1")
    assert.equal(("x"):rep(100) .. "PUT", get "k50")
    assert.equal("not_found", get "k51")
    put("k1", ("y"):rep(100))
    assert.equal(("y"):rep(100) .. "PUT", get "k1")
  end)

  it("does not answer with what has lived its time", function()
    world:api("STREAM.UPDATE.KV_b", { name = "KV_b", subjects = { "$KV.b.>" }, max_msgs_per_subject = 1,
      discard = "new", allow_rollup_hdrs = true, deny_delete = true, allow_direct = true, max_age = 5e9 })
    put("a", "1")
    serve()
    without_server()
    assert.equal("1PUT", get "a")
    world:advance "6s"
    assert.equal("not_found stale", get "a") -- heartbeats are lost as well
  end)

  it("serves all versions and instances of its script", function()
    put("a", "1")
    local host = serve()
    host:reload("c.lua", sim.script [[
      local kv = require "moonbus.kv"
      local b = kv.bucket { name = "b", cache = true }
      bus.subscribe("get", function(msg) return "new " .. b:get(msg.data).value end)]], true)
    without_server()
    assert.equal("new 1", get "a")
    assert.equal(1, world:api("CONSUMER.NAMES.KV_b", {}).total)
  end)

  it("ends with the script that has it", function()
    local host = serve()
    host:reload("c.lua", sim.script [[bus.subscribe("get", function() return "none" end)]], true)
    world:advance "5s"
    assert.equal("none", get "a")
    assert.equal(0, world:api("CONSUMER.NAMES.KV_b", {}).total)
  end)
end)
