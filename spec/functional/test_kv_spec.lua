-- moonbus test: buckets of handlers, which a test prepares and looks at.
local temp = require "spec.support.temp"
local world = require "spec.support.world"

local SCRIPT = [[
local bus, js, kv = require "moonbus", require "moonbus.jetstream", require "moonbus.kv"
local limits = kv.bucket { name = "limits" }
local locks = kv.bucket { name = "locks", limit_markers = "1s" }
js.stream { name = "ORDERS", subjects = { "orders.>" } }
js.consume("ORDERS", { durable = "d" }, function(msg)
  local order = msg:json()
  local limit, err = limits:get("most." .. order.region)
  if not limit then return nil, err end
  if order.count > limit:json().most then limits:put("state." .. order.region, "full") end
end)
limits:watch("watched", { updates_only = true }, function(entry)
  if entry.value == "bad" then error "it is bad" end
  bus.publish("limits.changed", entry.value)
end)
bus.subscribe("lock", function(msg)
  local revision, err = locks:create(msg.data, "me", { ttl = "1m" })
  return revision and "got it" or err.code
end)]]

describe("moonbus test, of buckets", function()
  local w = world.new()
  after_each(function() w:clear() end)

  local function run(body)
    local folder = w:folder()
    temp.write(folder, "handlers/orders.lua", SCRIPT)
    temp.write(folder, "handlers/orders_test.lua", 'local test = require "moonbus.test"\n' ..
      'local s = test.load "handlers/orders.lua"\nit("holds", function()\n' .. body .. "\nend)\n")
    return w:moonbus({ "test" }, { folder = folder })
  end

  local function holds(body)
    local ended = run(body)
    assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
    assert.matches("1 passed, 0 failed\n$", ended.stdout)
  end

  it("lets a test write what the handler finds, and read what it has written", function()
    holds [[
      local limits = s:kv "limits"
      assert.equal("not_found", s:deliver("orders.a", { region = "eu", count = 1 }).error.code)
      assert.equal(1, limits:put("most.eu", { most = 5 }))
      assert.equal("ack", s:deliver("orders.a", { region = "eu", count = 3 }).verdict)
      assert.is_nil(limits:get "state.eu")
      s:deliver("orders.a", { region = "eu", count = 9 })
      assert.equal("full", limits:get("state.eu").data)
      assert.same({ most = 5 }, limits:get("most.eu").data)
      assert.same({ "most.eu", "state.eu" }, limits:keys())
      limits:delete "most.eu"
      limits:purge "state.eu"
      assert.same({}, limits:keys())
      assert.is_nil(limits:get "most.eu")]]
  end)

  it("tells at the next run or advance what a watch did with what was written", function()
    holds [[
      local limits = s:kv "limits"
      limits:put("watched", "one")
      limits:put("watched", "two")
      local r = s:run()
      assert.equal("limits.changed", r.published[1].subject)
      assert.same({ "one", "two", 2 }, { r.published[1].data, r.published[2].data, #r.published })
      assert.is_nil(r.error)
      limits:put("watched", "bad")
      r = s:advance "1s"
      assert.equal("it is bad", r.error.message)
      assert.equal(0, #r.published)
      limits:put("watched", "three")
      assert.equal("got it", s:deliver("lock", "a").reply) -- tells of itself alone
      assert.equal(0, #s:run().published)
    ]]
  end)

  it("has keys that end by their ttl, as time goes on", function()
    holds [[
      assert.equal("got it", s:deliver("lock", "a").reply)
      assert.equal("exists", s:deliver("lock", "a").reply)
      s:advance "61s"
      assert.is_nil(s:kv("locks"):get "a")
      assert.equal("got it", s:deliver("lock", "a").reply)]]
  end)

  it("says which bucket is not there, and which key is none", function()
    local none = run 's:kv "other"'
    assert.equal(1, none.status)
    local said = 'there is no bucket "other": the script states it with kv.bucket'
    assert.is_truthy(none.stdout:find(said, 1, true), none.stdout)
    local bad = run 's:kv("limits"):put("a.", "x")'
    assert.is_truthy(bad.stdout:find("kv: put: a key of limits has", 1, true), bad.stdout)
    assert.is_truthy(bad.stdout:find("orders_test.lua:4:", 1, true), bad.stdout)
  end)
end)
