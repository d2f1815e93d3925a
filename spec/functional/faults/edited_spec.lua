local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a durable that somebody edits on the server, under the running host,", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local handled

  local function script(options, body)
    return ([[
      local bus, js = require "moonbus", require "moonbus.jetstream"
      js.consume("IN", { dead_letter = "dead", %s }, function(msg)
        %s
        bus.publish("handled", msg.data)
      end)]]):format(options:find "durable" and options or 'durable = "worker", ' .. options, body or "")
  end

  local function make_streams()
    w.client:stream("IN", { "in.>" })
    w.client:stream("DEAD", { "dead" })
    handled = w.client:subscribe "handled"
  end

  local function run(options, body)
    make_streams()
    return w:run { admin = true, handlers = { ["handler.lua"] = script(options, body) } }
  end

  local function reload(host, options)
    temp.write(host.folder, "handlers/handler.lua", script(options))
    local result = w:moonbus { "reload", "--admin", host.admin }
    assert.equal(0, result.status, result.stderr)
  end

  local function get(host, path)
    local status, body = posix.http(tonumber(host.admin:match ":(%d+)$"), "GET", path)
    return status, cjson.decode(body)
  end

  local function handler_status(host)
    local _, body = get(host, "/status")
    return body.scripts[1].handlers[1]
  end

  local function config(durable) return w.client:consumer_info("IN", durable or "worker").config end

  -- Its settings with these changed; false: taken out.
  local function edit(changes, durable)
    local changed = config(durable)
    for key, value in pairs(changes) do changed[key] = value or nil end
    w.client:consumer("IN", durable or "worker", changed)
  end

  -- A message that is handled has the host ask about the durable soon.
  local function handle(data)
    w.client:store("in.a", data)
    assert.equal(data, handled:next(10).data)
  end

  local function not_ready(host, why)
    wait.eventually(function()
      local status, body = get(host, "/readyz")
      return status == 503 and table.concat(body.reasons, "\n"):find(why, 1, true)
    end, 10, function() return host:explain() end)
  end

  local function ready(host)
    wait.eventually(function() return (get(host, "/readyz")) == 200 end, 10)
  end

  it("by its filter_subject, backoff, max_deliver or ack_wait is an error, said once, and a reason in /readyz " ..
    "until it is mended", function()
    local edits = {
      max_deliver = { to = { max_deliver = 3 }, why = "drops messages silently" },
      backoff = { to = { backoff = { 1e9, 2e9 }, max_deliver = 5 }, why = "overrides ack_wait" },
      filter_subject = { to = { filter_subject = "in.b" },
        why = "filter: here in.filter_subject, on the server in.b" },
      ack_wait = { to = { ack_wait = 9e9 }, why = "ack_wait: here 20s, on the server 9s" },
    }
    local handlers = {}
    for field in pairs(edits) do
      handlers[field .. ".lua"] = script(('durable = %q, filter = "in.%s", ack_wait = "20s"'):format(field, field))
    end
    make_streams()
    local host = w:run { admin = true, handlers = handlers }
    local function handle_each(data)
      for field in pairs(edits) do w.client:store("in." .. field, data) end
      for _ in pairs(edits) do assert.equal(data, handled:next(10).data) end
    end
    local function edited(name)
      local _, body = get(host, "/status")
      for _, each in ipairs(body.scripts) do
        if each.name == name .. ".lua" then return each.handlers[1].edited end
      end
    end
    handle_each "1"
    for field, case in pairs(edits) do edit(case.to, field) end
    for field in pairs(edits) do
      if field ~= "filter_subject" then w.client:store("in." .. field, "2") end
    end
    for _, case in pairs(edits) do not_ready(host, case.why) end
    for field, case in pairs(edits) do assert.matches(case.why, edited(field), 1, true) end
    for field in pairs(edits) do
      edit({ max_deliver = -1, ack_wait = 20e9, backoff = false, filter_subject = "in." .. field }, field)
      w.client:store("in." .. field, "3")
    end
    ready(host)
    for field in pairs(edits) do
      assert.is_nil(edited(field))
      assert.equal(1, #host:logged { level = "error", msg = "was edited on the server", consumer = field })
      host:wait_log { msg = "as it is stated here, again", consumer = field }
    end
  end)

  it("is put back where update = true allows it", function()
    local host = run 'filter = "in.a", ack_wait = "20s", update = true'
    handle "1"
    edit { max_deliver = 3, ack_wait = 9e9 }
    handle "2"
    wait.eventually(function() return config().max_deliver == -1 and config().ack_wait == 20e9 end, 10)
    host:wait_log { level = "warn", msg = "edited on the server: .*; put back" }
    ready(host)
    assert.same({}, host:logged { level = "error" })
  end)

  it("is put back where a reload has allowed it", function()
    local host = run 'filter = "in.a", ack_wait = "20s"'
    reload(host, 'filter = "in.a", ack_wait = "20s", update = true')
    handle "1"
    edit { ack_wait = 9e9 }
    handle "2"
    wait.eventually(function() return config().ack_wait == 20e9 end, 10)
  end)

  it("is changed by a reload that states a default, too", function()
    local host = run ""
    edit { ack_wait = 9e9 }
    reload(host, 'ack_wait = "30s"')
    assert.equal(30e9, config().ack_wait)
  end)

  it("is not put back again and again: who edits it again means it", function()
    local host = run 'filter = "in.a", ack_wait = "20s", update = true'
    handle "1"
    edit { ack_wait = 9e9 }
    handle "2"
    wait.eventually(function() return config().ack_wait == 20e9 end, 10)
    edit { ack_wait = 9e9 }
    handle "3"
    not_ready(host, "ack_wait: here 20s, on the server 9s")
    assert.equal(9e9, config().ack_wait)
    host:wait_log { level = "error", msg = "or run: nats consumer edit IN worker" }
  end)

  it("has its heartbeats by the new ack_wait at once, also of what is held", function()
    local host = run('ack_wait = "60s"', [[ if msg.data == "long" then bus.sleep "6s" end ]])
    w.client:store("in.a", "long")
    wait.eventually(function() return handler_status(host).running == 1 end)
    edit { ack_wait = 4e9 }
    handle "short"
    assert.equal("long", handled:next(15).data)
    wait.eventually(function() return w.client:settled("IN", "worker") end)
    assert.equal(2, w.client:consumer_info("IN", "worker").delivered.consumer_seq, "it was redelivered")
  end)

  it("or deletes and makes again with another ack_policy, is an error, too", function()
    w.client:stream("IN", { "in.>" })
    w.client:consumer("IN", "worker", { max_deliver = -1 })
    local host = run "bind = true" -- the host shall not make it again before the other does
    handle "1"
    w.client:delete_consumer("IN", "worker")
    w.client:consumer("IN", "worker", { ack_policy = "none" })
    not_ready(host, "ack_policy: here explicit, on the server none")
    host:wait_log { level = "error", msg = "ack_policy: here explicit, on the server none" }
  end)

  it("or pauses, is shown as paused", function()
    local till = os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + 600)
    local host = run ""
    handle "1"
    local answer = w.client:request("$JS.API.CONSUMER.PAUSE.IN.worker",
      cjson.encode { pause_until = till }, { timeout = 1 })
    if not answer then return end -- there is no pause before 2.11
    wait.eventually(function() return handler_status(host).paused end, 10)
    ready(host)
    host:wait_log "paused on the server"
    w.client:api("CONSUMER.PAUSE.IN.worker", {})
    w.client:store("in.a", "2")
    assert.equal("2", handled:next(10).data)
    wait.eventually(function() return not handler_status(host).paused end, 10)
  end)
end)
