-- Who writes handlers saves broken files all the time: `dev` is there for them, and stays.
local cjson = require "cjson"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("moonbus dev", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local GOOD = [[require "moonbus".subscribe("good", function() return "here" end)]]
  local MENDED = [[require "moonbus".subscribe("mended", function() return "here" end)]]

  local function dev(handlers)
    return w:run { command = "dev", handlers = handlers, server = false, args = { "handlers" } }
  end

  local function req(host, subject)
    return w:moonbus({ "req", subject, "--timeout", "5s" }, { folder = host.folder })
  end

  -- Its greeting is there, which standard output has a moment after the log.
  local function greeted(host)
    wait.eventually(function() return host:stdout():find "does not serve" end)
  end

  local function mends(broken, pattern)
    local host = dev { ["good.lua"] = GOOD, ["broken.lua"] = broken }
    local event = host:wait_log { level = "error" }
    assert.matches(pattern, (event.file or "") .. " " .. event.msg)
    greeted(host)
    assert.matches("good%.lua +good +request/reply", host:stdout())
    assert.matches("broken%.lua +does not serve", host:stdout())
    assert.equal("here\n", req(host, "good").stdout)
    temp.write(host.folder, "handlers/broken.lua", MENDED)
    host:wait_log "broken%.lua: generation %d live"
    assert.equal("here\n", req(host, "mended").stdout)
    assert.equal("here\n", req(host, "good").stdout)
    assert.equal(0, host:stop())
  end

  it("greets with lines to try that work, whatever kinds of handlers there are", function()
    local host = dev { ["a.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
js.cron("0 3 * * *", { name = "nightly", dead_letter = "dead" }, function() end)
bus.service({ name = "s", version = "1.0.0" }):endpoint("e", { subject = "ask.*" }, function() return "here" end)
js.consume("WORK", { durable = "d", dead_letter = "dead", filter = "work.*" }, function() end)]] }
    wait.eventually(function() return host:stdout():find "edit a%.lua" end)
    assert.same({ "ask.ada", "work.ada" },
      { host:stdout():match "moonbus req (%S+)", host:stdout():match "moonbus pub %-J (%S+)" })
    assert.equal("here\n", req(host, "ask.ada").stdout)
    assert.equal(0, host:stop())
  end)

  it("proposes payloads that the schemas of handlers take", function()
    local host = dev { ["a.lua"] = [[
local bus, js = require "moonbus", require "moonbus.jetstream"
local s = bus.schema
js.stream { name = "WORK", subjects = { "work.>", "dead" } }
bus.subscribe("ask", { schema = { name = s.string { min = 5, max = 6 }, count = s.integer { above = 4 },
  note = "string?" } }, function(_, body) return body end)
js.consume("WORK", { durable = "d", dead_letter = "dead", filter = "work.a", schema = {
  code = s.string { pattern = "^[A-Z][A-Z]%d$" }, kind = s.enum { "it's", "b" },
  share = s.number { above = 0, below = 1 },
  any = s.any_of { s.string { min = 3 }, "integer" }, list = { { sku = "string" } }, extra = "boolean|null",
} }, function(_, body) bus.log.warn("taken " .. body.kind) end)]] }
    wait.eventually(function() return host:stdout():find "edit a%.lua" end)
    local function typed(pattern)
      local json = host:stdout():match(pattern .. " '(.-)'\n"):gsub("'\\''", "'")
      return json
    end
    local asked = typed "moonbus req ask"
    assert.same({ name = "name" .. "a", count = 5 }, cjson.decode(asked))
    local reply = w:moonbus({ "req", "ask", asked }, { folder = host.folder })
    assert.same({ name = "namea", count = 5 }, cjson.decode(reply.stdout))
    w:moonbus({ "pub", "-J", "work.a", typed "moonbus pub %-J work%.a" }, { folder = host.folder })
    host:wait_log "taken it's"
    assert.equal(0, host:stop())
  end)

  it("proposes nothing to a handler whose schema takes nothing that it finds", function()
    local host = dev { ["a.lua"] = [[
local bus = require "moonbus"
bus.subscribe("ask", { schema = { code = bus.schema.string { pattern = "^%d$", min = 2 } } },
  function() return "" end)]] }
    wait.eventually(function() return host:stdout():find "edit a%.lua" end)
    assert.is_nil(host:stdout():find "moonbus req")
    assert.matches("\ntry:  edit a%.lua", host:stdout())
    assert.equal(0, host:stop())
  end)

  it("serves what loads when a file is broken at its start, and the rest when that is mended", function()
    mends("local x = = 1", "broken%.lua .*unexpected symbol")
  end)

  it("does so when the server refuses one of them", function()
    mends([[
require "moonbus.jetstream".consume("NOWHERE", { durable = "d", dead_letter = "dead" }, print)]], "NOWHERE")
  end)

  it("does so when two of them handle one durable", function()
    local text = [[
local js = require "moonbus.jetstream"
js.stream { name = "WORK", subjects = { "work", "dead" } }
js.consume("WORK", { durable = "d", dead_letter = "dead", filter = "work" }, function() end)]]
    local host = dev { ["a.lua"] = text, ["b.lua"] = text }
    host:wait_log { level = "error", script = "b.lua", msg = "already" }
    greeted(host)
    assert.matches("a%.lua +WORK/d", host:stdout())
    assert.matches("b%.lua +does not serve", host:stdout())
    temp.write(host.folder, "handlers/b.lua", MENDED)
    host:wait_log "b%.lua: generation 2 live"
  end)

  it("waits for the save also when nothing loads at all", function()
    local host = dev { ["broken.lua"] = "error 'not today'" }
    host:wait_log { level = "error", msg = "not today" }
    temp.write(host.folder, "handlers/broken.lua", MENDED)
    host:wait_log "broken%.lua: generation %d live"
    assert.equal("here\n", req(host, "mended").stdout)
  end)

  it("forgets what the server refused at its start when its file is gone, and serves it when it is back", function()
    local host = w:run { command = "dev", server = false, admin = true, args = { "handlers" }, handlers = {
      ["good.lua"] = GOOD, ["broken.lua"] = [[
require "moonbus.jetstream".consume("NOWHERE", { durable = "d", dead_letter = "dead" }, print)]] } }
    greeted(host)
    local function names()
      local body = posix.http_get(tonumber(host.admin:match "%d+$"), "/status")
      local list = {}
      for _, script in ipairs(cjson.decode(body).scripts) do list[#list + 1] = script.script or script.name end
      table.sort(list)
      return table.concat(list, " ")
    end
    assert.equal("broken.lua good.lua", names())
    os.remove(host.folder .. "/handlers/broken.lua")
    wait.eventually(function() return names() == "good.lua" end, 20, names)
    temp.write(host.folder, "handlers/broken.lua", MENDED)
    host:wait_log "broken%.lua: generation %d live"
    assert.equal("here\n", req(host, "mended").stdout)
    assert.equal("broken.lua good.lua", names())
    os.remove(host.folder .. "/handlers/broken.lua")
    wait.eventually(function() return names() == "good.lua" end, 20, names)
    assert.equal(0, host:stop())
  end)

  it("says whose a port is that is taken", function()
    local port = posix.free_port()
    local first = w:run { command = "dev", server = false, admin = true, handlers = { ["good.lua"] = GOOD },
      args = { "handlers", "--nats-port", tostring(port) } }
    local folder = w:folder()
    temp.write(folder, "handlers/good.lua", GOOD)
    local run = w:moonbus({ "dev", "--nats-port", tostring(port), "--admin", "off" }, { folder = folder })
    assert.equal(1, run.status)
    local said = run.stdout .. run.stderr
    assert.matches(("port %d is taken by nats%%-server, process %%d+ in "):format(port), said)
    assert.is_truthy(said:find(first.folder .. ": choose another with --nats-port", 1, true), said)
    local second = w:run { command = "dev", server = false, handlers = { ["good.lua"] = GOOD },
      admin = false, args = { "handlers", "--admin", first.admin } }
    local event = second:wait_log("cannot listen")
    assert.matches(("Address already in use by moonbus, process %d in "):format(first.pid), event.msg)
  end)
end)

describe("moonbus run", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("ends with 2 when a file is broken at its start: what is deployed half is not served", function()
    assert.equal(2, w:fail({ handlers = { ["broken.lua"] = "local x = = 1", ["good.lua"] = "" } }).status)
  end)
end)
