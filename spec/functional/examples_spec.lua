local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local web = require "spec.support.web"
local world = require "spec.support.world"

local EXAMPLES = { "hello.lua", "orders.lua", "ticker.lua", "fanout.lua", "usage.lua", "webhook.lua",
  "middleware.lua", "parcels.lua", "services.lua" }

describe("the examples", function()
  local w = world.new()
  local dev, folder

  -- They run as a newcomer runs them: `moonbus dev examples/`, in a copy so that no store is left.
  setup(function()
    folder = temp.folder()
    for _, name in ipairs(EXAMPLES) do
      temp.write(folder, "examples/" .. name, assert(temp.read("examples/" .. name)))
    end
    temp.write(folder, "examples/slow/usage.lua", assert(temp.read "examples/slow/usage.lua"))
    w.server = { jetstream = false, close = function() end }
    dev = w:run { command = "dev", folder = folder, args = { "examples/" }, level = false,
      format = false, server = false }
    local url = temp.read(folder .. "/.moonbus/url"):match "%S+"
    w.client = require("spec.support.client").connect(url)
  end)
  teardown(function()
    w:clear()
    w:close()
    temp.remove(folder)
  end)

  local function moonbus(...) return w:moonbus({ ... }, { folder = folder }) end

  it("say first what they show and how to try it", function()
    for _, name in ipairs(EXAMPLES) do
      local text = temp.read("examples/" .. name)
      assert.matches("^%-%- " .. name:match "^%l+" .. ": ", text)
      assert.matches("\n%-%- Try it:  moonbus dev examples/\n", text)
    end
  end)

  it("are greeted with lines that are true", function()
    local greeting = dev:stdout()
    local address = greeting:match "^moonbus %d+%.%d+%.%d+ dev · nats (127%.0%.0%.1:%d+) · ready in %d+ ms\n"
    assert.is_string(address, greeting)
    local url = temp.read(folder .. "/.moonbus/url"):match "%S+"
    assert.equal("nats://" .. address, url)
    assert.matches("\n +hello%.lua +greet%.%* +request/reply\n", greeting)
    assert.matches("\n +orders%.lua +ORDERS/billing +orders%.created\n", greeting)
    assert.matches("\ntry: +%S*moonbus req greet%.ada\n", greeting)
    assert.matches("\n +%S*moonbus pub %-J orders%.created '{\"id\":1}'\n", greeting)
  end)

  it("answer what the greeting says to try", function()
    local run = moonbus("req", "greet.ada")
    assert.same({ 0, "hello ada\n" }, { run.status, run.stdout })
    assert.equal("hallo bob\n", moonbus("req", "greet.bob", "-H", "Language: de").stdout)
    assert.equal(1, moonbus("req", "greet.bob", "-H", "Language: tlh").status)
  end)

  it("have one answer for one request", function()
    local inbox = w.client:subscribe "inbox"
    w.client:publish("greet.eve", "", nil, "inbox")
    inbox:take(1)
    assert.is_nil(inbox:next(0.1))
  end)

  it("process an order: progress, nak and publish are in the log", function()
    assert.equal(0, moonbus("pub", "-J", "orders.created", '{"id":1}').status)
    wait.eventually(function() return w.client:stream_info("INVOICES").state.messages == 1 end, 10)
    assert.same({ order = 1, total = 42 }, w.client:message("INVOICES", 1):json())
    wait.eventually(function() return w.client:settled("ORDERS", "billing") end)
    for _, text in ipairs { "charging", "nak", "in progress", "invoice published" } do
      wait.eventually(function() return dev:stderr():find(text, 1, true) end, 5,
        function() return text .. " in\n" .. dev:stderr() end)
    end
  end)

  it("put an order that is not JSON into the dead letter", function()
    assert.equal(0, moonbus("pub", "-J", "orders.created", "not JSON").status)
    wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end, 10)
    assert.equal("not JSON", w.client:message("DEAD", 1).data)
  end)

  it("count down", function()
    local count = w.client:subscribe "ticker.count"
    local run = moonbus("req", "ticker.countdown", "3")
    assert.same({ 0, "lift-off\n" }, { run.status, run.stdout }, run.stderr)
    local numbers = {}
    for index, message in ipairs(count:take(3)) do numbers[index] = message.data end
    assert.same({ "3", "2", "1" }, numbers)
  end)

  it("ask three shops at once", function()
    local answer = w.client:request("quote.bread", ""):json()
    assert.same({ "bread", "south", 290 }, { answer.item, answer.best, answer.cents })
    assert.is_true(answer.seconds < wait.within(0.25, 0))
  end)

  it("post an event to a URL", function()
    local server = web.start()
    assert.equal(0, moonbus("pub", "-J", "webhooks.order",
      ('{"url":"%s","event":{"id":1}}'):format(server:url "/flaky/1/hook")).status)
    wait.eventually(function() return dev:stderr():find("delivered", 1, true) end, 10, function()
      return dev:stderr()
    end)
    assert.equal(2, server:stats().hook)
    server:close()
  end)

  it("measure a folder beside the handlers", function()
    assert.is_true(w.client:request("usage.of", folder):json().kilobytes > 0)
    assert.matches("No such file", w.client:request("usage.of", "/no'where"):header "Nats-Service-Error")
  end)

  it("find the services that there are", function()
    local found = w.client:request("services.list", ""):json()
    assert.same({ "weather", "weather.*" }, { found[1].name, found[1].subjects[1] })
    assert.equal(14, w.client:request("weather.rome", ""):json().degrees)
  end)

  it("quote what fits, and say of the rest what is wrong with it", function()
    local run = moonbus("req", "postage.quote", '{"country":"PT","grams":500}')
    assert.same({ 0, '{"cents":400}\n' }, { run.status, run.stdout }, run.stderr)
    run = moonbus("req", "postage.quote", '{"country":"Portugal","grams":500}')
    assert.equal(1, run.status)
    assert.matches("country: ", run.stderr)
  end)

  it("let in who has the token", function()
    local run = moonbus("req", "vault.open", "-H", "Token: sesame")
    assert.same({ 0, "it is open\n" }, { run.status, run.stdout }, run.stderr)
    assert.equal(1, moonbus("req", "vault.open").status)
  end)

  it("end cleanly, with their nats-server", function()
    local address = dev:stdout():match "127%.0%.0%.1:(%d+)"
    assert.equal(0, dev:stop(30))
    assert.is_nil(posix.http_get(tonumber(address), "/"))
  end)
end)
