-- The cookbook: its page shows the files as they are, and each line to try does what the page says, on one host
-- that serves all of them by the config of the page.
local host_of = require "spec.support.host"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local web = require "spec.support.web"
local world = require "spec.support.world"

local PAGE = assert(temp.read "docs/COOKBOOK.md")
local FOLDER = "examples/cookbook/"

-- The names of the handlers, of the tests, and of the modules.
local function files()
  local handlers, tests, modules = {}, {}, {}
  local pipe = io.popen("cd " .. FOLDER .. " && find . -name '*.lua' | sort")
  for path in pipe:lines() do
    local name = path:sub(3)
    local list = name:find "/" and modules or name:find "_test%.lua$" and tests or handlers
    list[#list + 1] = name
  end
  pipe:close()
  return handlers, tests, modules
end

local HANDLERS, TESTS, MODULES = files()

-- A file as the page shows it: without the comment that it begins with.
local function shown(name)
  local text = assert(temp.read(FOLDER .. name))
  local rest
  repeat
    rest = text
    text = text:gsub("^%-%-[^\n]*\n", ""):gsub("^\n", "")
  until text == rest
  return "-- handlers/" .. name .. "\n" .. text
end

describe("The cookbook", function()
  it("has twelve handlers, each with its test", function()
    assert.equal(12, #HANDLERS)
    for _, name in ipairs(HANDLERS) do
      assert.is_truthy(temp.read(FOLDER .. name:gsub("%.lua$", "_test.lua")), name)
    end
    assert.equal(12, #TESTS)
  end)

  for _, list in ipairs { HANDLERS, MODULES } do
    for _, name in ipairs(list) do
      it("shows " .. name .. " as it is", function()
        local fence
        for text in PAGE:gmatch "\n```lua\n(.-\n)```\n" do
          if text:find("-- handlers/" .. name .. "\n", 1, true) == 1 then fence = text end
        end
        assert.equal(shown(name), fence)
      end)
    end
  end

  it("says first what a handler shows, and how to try it", function()
    for _, name in ipairs(HANDLERS) do
      local text = temp.read(FOLDER .. name)
      assert.equal(1, (text:find("-- " .. name:gsub("%.lua$", "") .. ": ", 1, true)), name)
      assert.is_truthy(text:find("\n-- Try it:  ", 1, true), name)
    end
  end)
end)

-- What stands for PostgreSQL's driver: rows of a file, and the ids that were sent in another.
local DRIVER = [[
  local function lines(path)
    local list, file = {}, io.open(path)
    for line in file and file:lines() or function() end do list[#list + 1] = line end
    if file then file:close() end
    return list
  end
  local connection = {}
  function connection:execute(sql)
    local ids = sql:match "IN %((.-)%)"
    if ids then
      local file = assert(io.open("sent", "a"))
      for id in ids:gmatch "%d+" do file:write(id, "\n") end
      file:close()
      return 1
    end
    local sent, rows = {}, {}
    for _, id in ipairs(lines "sent") do sent[id] = true end
    for _, line in ipairs(lines "rows") do
      local id, subject, payload = line:match "(%d+) (%S+) (.*)"
      if not sent[id] then rows[#rows + 1] = { id = id, subject = subject, payload = payload } end
    end
    return { fetch = function() return table.remove(rows, 1) end, close = function() end }
  end
  function connection:close() end
  return { postgres = function()
    return { connect = function(_, dsn) return dsn == "host=db" and connection or nil, "no such host" end }
  end }
]]

-- And for ImageMagick: the "image" as it came; a text is none.
local CONVERT = [[#!/bin/sh
for last; do case "$last" in *'[0]') from="${last%'[0]'}" ;; esac; done
grep -q TEXT "$from" && { echo "convert: no decode delegate" >&2; exit 1; }
cp "$from" "${last#png:}"
]]

describe("Each line of the cookbook to try", function()
  local w = world.new()
  local dev, server, folder, env

  setup(function()
    server, folder = web.start(), temp.folder()
    for _, list in ipairs { HANDLERS, MODULES } do
      for _, name in ipairs(list) do temp.write(folder, "handlers/" .. name, temp.read(FOLDER .. name)) end
    end
    temp.write(folder, "moonbus.lua", PAGE:match "```lua\n%-%- moonbus.lua\n(.-)```")
    temp.write(folder, "lib/luasql/postgres.lua", DRIVER)
    temp.write(folder, "rows", '1 shop.order.paid {"order":1}\n2 shop.order.sent {"order":1}\n')
    temp.write(folder, "cat.jpg", "CAT")
    temp.write(folder, "bin/convert", CONVERT)
    os.execute("chmod +x " .. folder .. "/bin/convert")
    w.server = { jetstream = false, close = function() end }
    env = {
      PATH = folder .. "/bin:" .. os.getenv "PATH", OUTBOX_DSN = "host=db", ALERTS_URL = server:url "/flaky/0/alerts",
      GEOCODE_URL = server:url "/json", GEOCODE_KEY = "k1", LLM_URL = server:url "/chat", LLM_KEY = "k2",
      SHOP_URL = server.base, SHOP_TOKEN = "k3",
    }
    dev = w:run { command = "dev", folder = folder, args = { "handlers" }, level = false, format = false,
      server = false, env = env }
    w.client = require("spec.support.client").connect(temp.read(folder .. "/.moonbus/url"):match "%S+")
  end)
  teardown(function()
    w:clear()
    w:close()
    server:close()
    temp.remove(folder)
  end)

  -- What stands in the place of the internet, and of what runs in another shell.
  local function line_of(text)
    return (text:gsub("%s+#.*", ""):gsub("https://httpbin.org/post", server:url "/flaky/0/hook")
      :gsub("http%.get%.here%.LICENSE", "http.get.shop.json"))
  end

  -- Runs the lines of a section that begin with one of moonbus' commands; what they print, each.
  local function try(heading)
    local section = assert(PAGE:match("\n## " .. heading .. "\n(.-)\n## ")
      or PAGE:match("\n## " .. heading .. "\n(.*)$"), heading)
    local printed = {}
    for fence in section:gmatch "\n```sh\n(.-)```" do
      for line in fence:gmatch "[^\n]+" do
        local command = line_of(line):gsub("moonbus ", host_of.binary() .. " ", 1)
        if not line:find "second shell" and not line:find "examples/cookbook" then
          local run = process.run { command = { "sh", "-c", command }, folder = folder, env = env }
          assert.equal(line:find "# error" and 1 or 0, run.status, line .. "\n" .. run.stderr .. dev:stderr())
          printed[#printed + 1] = run.stdout
        end
      end
    end
    return printed
  end

  local function stored(stream, count)
    wait.eventually(function() return w.client:stream_info(stream).state.messages >= count end, 15,
      function() return stream .. "\n" .. dev:stderr() end)
    return w.client:messages(stream)
  end

  it("posts an event to its subscribers", function()
    try "Webhook fan%-out"
    wait.eventually(function() return server:stats().hook == 1 end, 10, function() return dev:stderr() end)
    wait.eventually(function() return w.client:settled("DELIVERIES", "webhooks") end)
  end)

  it("makes thumbnails of an image, and gives up what is none", function()
    try "Resize images"
    local made = stored("THUMBNAILS", 2)
    assert.same({ "thumbnails.cat.64", "CAT", "image/png" },
      { made[1].subject, made[1].data, made[1]:header "Content-Type" })
    w.client:store("images.text", "TEXT")
    wait.eventually(function() return dev:stderr():find "no image: convert: no decode delegate" end, 10)
  end)

  it("calls an API as often as it may be called", function()
    local began = wait.now()
    try "A rate%-limited API"
    assert.same({ name = "ada", list = { 1, 2 } }, stored("FOUND", 20)[20]:json())
    assert.is_true(wait.now() - began > 2.5) -- five at once, then five a second
    wait.eventually(function() return w.client:request("geocode.now", "berlin").data:find '"name":"ada"' end, 5)
  end)

  it("books a trip, or cancels what was booked", function()
    try "A saga"
    local trips = {}
    for _, message in ipairs(stored("TRIPS", 4)) do trips[message.subject .. " " .. message:json().id] = true end
    assert.is_true(trips["trips.booked t1"])
    assert.is_true(trips["trips.failed t2"])
  end)

  it("puts back a dead letter that may live, and tells of the other", function()
    try "Triage of dead letters"
    wait.eventually(function() return server:stats().alerts end, 10, function() return dev:stderr() end)
    wait.eventually(function()
      for _, message in ipairs(w.client:messages "DEAD") do
        if message:header "Moonbus-Code" == "no_responders" then return false end
      end
      return w.client:stream_info("MOONBUS_LATER").state.messages == 1
    end, 10, function() return dev:stderr() end)
  end)

  it("adds up", function()
    try "Totals by key"
    wait.eventually(function()
      return w.client:request("totals.berlin", ""):json().cents == 2500
    end, 10, function() return dev:stderr() end)
    assert.equal(10, w.client:request("totals.berlin", ""):json().count)
  end)

  it("makes a report at any time of day", function()
    try "A nightly job"
    assert.equal("reports.2026-01-31", stored("REPORTS", 1)[1].subject)
  end)

  it("keeps what a service has said, until it has changed", function()
    local printed = try "A cache in front of a service"
    assert.matches('"cents":300', printed[1])
    wait.eventually(function() return w.client:request("products.get.tea", ""):json().cents == 400 end)
  end)

  it("enriches an order", function()
    try "Enrich and forward"
    assert.same({ name = "ada", country = "GB", tier = 1 }, stored("ENRICHED", 1)[1]:json().customer)
  end)

  it("calls an HTTP service for whoever asks", function()
    assert.matches('"name":"ada"', try("A request gateway")[1])
    w.client:request("http.get.shop.echo", "")
    assert.matches("Authorization: Bearer k3", w.client:request("http.get.shop.echo", "").data)
  end)

  it("publishes what is in a table, once", function()
    stored("SHOP", 2)
    try "An outbox in PostgreSQL"
    wait.eventually(function() return temp.read(folder .. "/sent") == "1\n2\n" end)
    local rows = w.client:messages "SHOP"
    assert.same({ 2, "shop.order.sent", "outbox:2" }, { #rows, rows[2].subject, rows[2]:header "Nats-Msg-Id" })
  end)

  it("asks a language model, and tells of it while it answers", function()
    local progress = w.client:subscribe "progress.*"
    try "A call to an LLM"
    assert.equal("progress.p1", progress:take(1)[1].subject)
    assert.same({ text = "Because of air." }, stored("ANSWERS", 1)[1]:json())
  end)

  it("has shown no key in the log", function()
    for _, key in ipairs { "k1", "k2", "k3" } do assert.is_nil(dev:stderr():find("Bearer " .. key, 1, true)) end
  end)
end)

describe("A call of the cookbook to a language model, whose host dies", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A crash shows after 2 s here.
  local TEXT = temp.read(FOLDER .. "llm.lua"):gsub('timeout = "10m",', 'timeout = "10m", ack_wait = "2s",')

  it("is not made again, until a person says so", function()
    local server = web.start()
    local function serve(path)
      local host = w:run { handlers = { ["llm.lua"] = TEXT, ["parts/sse.lua"] = temp.read(FOLDER .. "parts/sse.lua") },
        config = ('return { settings = { llm = { url = "%s" } } }'):format(server:url(path)) }
      return host
    end
    local function calls() return server:stats().requests end
    local before = calls()
    local first = serve "/hang"
    w.client:store("prompts.p1", '{"text":"Why?"}')
    wait.eventually(function() return calls() == before + 1 end, 10, function() return first:explain() end)
    first:signal "KILL"
    first:wait()

    local second = serve "/chat"
    wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end, 20,
      function() return second:explain() end)
    assert.matches("begun by a run that did not end", w.client:message("DEAD", 1):header "Moonbus-Error")
    assert.equal(before + 1, calls())

    local function moonbus(...)
      local run = w:moonbus { "-s", w.server.url, ... }
      assert.equal(0, run.status, run.stderr)
    end
    moonbus("pub", "-J", "$KV.llm_calls.p1", "", "-H", "KV-Operation: DEL")
    moonbus("redrive", "DEAD", "--subject", "prompts.p1")
    wait.eventually(function() return w.client:stream_info("ANSWERS").state.messages == 1 end, 10,
      function() return second:explain() end)
    assert.equal(before + 2, calls())
    server:close()
  end)
end)
