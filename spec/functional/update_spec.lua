-- What a script states of streams and durables, and what the server has: when they differ it is said
-- what to do, and an update changes what is stated and nothing else.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("js.stream", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function script(settings)
    return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "ORDERS", subjects = { "orders.>" }, %s }]]):format(settings)
  end

  local function config() return w.client:stream_info "ORDERS".config end

  local function exists(settings) w.client:stream("ORDERS", { "orders.>" }, settings or {}) end

  it("of a stream that differs says both values, and the command that changes it", function()
    exists { max_age = 7200e9 }
    for stated, remedy in pairs {
      ['max_age = "1h"'] = "max_age: here 1h, on the server 2h .*run: nats stream edit ORDERS %-%-max%-age=1h%)",
      ["max_msgs = 10"] = "max_msgs: here 10, on the server %-1 .*nats stream edit ORDERS %-%-max%-msgs=10%)",
      ["deny_delete = true"] = "deny_delete: .*nats stream edit ORDERS %-%-deny%-delete%)",
      ["no_ack = true"] = "no_ack: .*nats stream edit ORDERS %-%-no%-ack%)",
      ['description = "all orders"'] = "description: .*nats stream edit ORDERS %-%-description='all orders'%)",
    } do
      local failed = w:fail(script(stated))
      assert.equal(2, failed.status, failed.output)
      local found
      for _, event in ipairs(failed.events) do
        found = found or (event.level == "error" and event.msg:find(remedy) and
          event.msg:find "state what the server has, allow update = true, or run")
      end
      assert.is_truthy(found, failed.output)
    end
    assert.equal(7200e9, config().max_age)
  end)

  it("with update = true changes what is stated, and keeps what other clients set", function()
    exists { max_age = 7200e9, description = "theirs", max_msgs = 1000, deny_delete = false }
    w.client:store("orders.1", "kept")
    local host = w:run(script 'max_age = "1h", update = true')
    local now = config()
    assert.same({ 3600e9, "theirs", 1000, "memory" }, { now.max_age, now.description, now.max_msgs, now.storage })
    assert.equal(1, w.client:stream_info "ORDERS".state.messages)
    assert.equal(1, #host:logged { level = "info",
      msg = "^stream ORDERS: updated on the server: max_age: here 1h, on the server 2h$" })
  end)

  it("with update = true changes several settings at once, subjects among them", function()
    exists { max_age = 7200e9 }
    w:run(script 'max_age = "1h", max_msgs = 7, duplicate_window = "1m", update = true'
      :gsub('"orders.>"', '"orders.>", "bills.>"'))
    local now = config()
    assert.same({ 3600e9, 7, 60e9, 2 }, { now.max_age, now.max_msgs, now.duplicate_window, #now.subjects })
  end)

  it("with update = true of a stream that agrees sends nothing", function()
    exists { max_age = 3600e9 }
    local updates = w.client:subscribe "$JS.API.STREAM.UPDATE.ORDERS"
    w.client:flush()
    w:run(script 'max_age = "1h", update = true')
    w.client:flush()
    assert.is_nil(updates:next(0.05))
  end)

  it("says what cannot be updated, in the server's words", function()
    exists { storage = "memory" }
    local failed = w:fail(script 'storage = "file", update = true')
    assert.equal(2, failed.status)
    assert.matches('handler%.lua:2: ORDERS: stream \\"ORDERS\\" cannot be updated: storage: here \\"file\\", on the ' ..
      'server \\"memory\\".*storage type', (failed.output:gsub('\\\\\\"', '\\"')))
  end)

  it("is not changed by update = false, nor by anything that is no boolean", function()
    exists { max_age = 7200e9 }
    assert.equal(2, w:fail(script 'max_age = "1h", update = false').status)
    local failed = w:fail(script 'max_age = "1h", update = "yes"')
    assert.equal(2, failed.status)
    assert.matches('js%.stream: update: expected true or false, got \\"yes\\"', failed.output)
    assert.equal(7200e9, config().max_age)
  end)

  it("updates at a reload as well", function()
    local host = w:run { handlers = { ["handler.lua"] = script 'max_age = "2h"' }, admin = true }
    temp.write(host.folder, "handlers/handler.lua", script 'max_age = "1h"')
    local refused = w:moonbus { "reload", "--admin", host.admin }
    assert.equal(1, refused.status)
    assert.matches("nats stream edit ORDERS %-%-max%-age=1h", refused.stderr)
    temp.write(host.folder, "handlers/handler.lua", script 'max_age = "1h", update = true')
    assert.equal(0, w:moonbus({ "reload", "--admin", host.admin }).status)
    assert.equal(3600e9, config().max_age)
  end)

  it("updates by itself in dev, where the server is the scripts' own", function()
    local folder = w:folder()
    temp.write(folder, "handlers/handler.lua", script 'max_age = "2h"')
    local function run() return w:run { command = "dev", folder = folder, args = { "--no-watch" } } end
    assert.equal(0, run():stop())
    temp.write(folder, "handlers/handler.lua", script 'max_age = "1h"')
    local host = run()
    host:wait_log "stream ORDERS: updated on the server: max_age: here 1h, on the server 2h"
    assert.equal(0, host:stop())
    temp.write(folder, "handlers/handler.lua", script 'max_age = "3h", update = false')
    local refused = w:start { command = "dev", folder = folder, args = { "--no-watch" } }
    wait.eventually(function() return refused:output():find "exists with other settings" end)
  end)
end)

describe("js.consume", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function script(options)
    return ([[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "ORDERS", subjects = { "orders.>" } }
js.consume("ORDERS", { durable = "billing", %s }, function(msg) end)]]):format(options)
  end

  local function config() return w.client:consumer_info("ORDERS", "billing").config end

  it("of a durable that differs says both values, and the command that changes it", function()
    w.client:stream("ORDERS", { "orders.>" })
    w.client:consumer("ORDERS", "billing", { ack_wait = 7e9, filter_subject = "orders.a" })
    for stated, remedy in pairs {
      ['ack_wait = "9s", filter = "orders.a"'] = "nats consumer edit ORDERS billing %-%-wait=9s%)",
      ['filter = "orders.b"'] = "nats consumer edit ORDERS billing %-%-filter=orders%.b%)",
      ['max_ack_pending = 5'] = "nats consumer edit ORDERS billing %-%-max%-pending=5%)",
    } do
      local failed = w:fail(script(stated))
      assert.equal(2, failed.status, failed.output)
      assert.matches("state what the server has, allow update = true, or run: " .. remedy, failed.output)
    end
  end)

  it("of its own durable with other settings is treated alike at a restart and at a reload", function()
    local host = w:run { handlers = { ["handler.lua"] = script 'ack_wait = "7s"' }, admin = true }
    assert.equal(7e9, config().ack_wait)
    temp.write(host.folder, "handlers/handler.lua", script 'ack_wait = "8s"')
    assert.equal(0, w:moonbus({ "reload", "--admin", host.admin }).status)
    assert.equal(8e9, config().ack_wait)
    assert.equal(0, host:stop())
    local again = w:run(script 'ack_wait = "9s"')
    assert.equal(9e9, config().ack_wait)
    again:wait_log { level = "info", msg = "^updated on the server: ack_wait: here 9s, on the server 8s$" }
  end)

  it("changes no durable of another script, and keeps what others have set", function()
    w:run { handlers = { ["other.lua"] = script 'ack_wait = "7s"' } }:stop()
    local failed = w:fail(script 'ack_wait = "9s"')
    assert.equal(2, failed.status)
    assert.matches("ack_wait: here 9s, on the server 7s", failed.output)
    assert.equal(7e9, config().ack_wait)
  end)

  it("with update = false is refused at a restart and at a reload", function()
    local host = w:run { handlers = { ["handler.lua"] = script 'ack_wait = "7s"' }, admin = true }
    temp.write(host.folder, "handlers/handler.lua", script 'ack_wait = "8s", update = false')
    assert.equal(1, w:moonbus({ "reload", "--admin", host.admin }).status)
    assert.equal(0, host:stop())
    assert.equal(2, w:fail(script 'ack_wait = "9s", update = false').status)
    assert.equal(7e9, config().ack_wait)
  end)
end)
