-- moonbus init: what it makes is a project that checks, tests and runs at once; nothing is written over.
local cjson = require "cjson"
local temp = require "spec.support.temp"
local world = require "spec.support.world"

describe("moonbus init", function()
  local w = world.new()
  after_each(function() w:clear() end)

  local function moonbus(folder, ...) return w:moonbus({ ... }, { folder = folder }) end

  -- A project in the folder "shop" of a new one; where it is.
  local function make(...)
    local folder = w:folder()
    local run = moonbus(folder, "init", "shop", ...)
    assert.equal(0, run.status, run.stderr)
    return folder .. "/shop", run
  end

  it("makes a project that checks without a warning, and whose tests pass", function()
    local shop = make()
    local check = moonbus(shop, "check", "--strict")
    assert.equal(0, check.status, check.stdout .. check.stderr)
    assert.matches("all is well", check.stdout)
    local test = moonbus(shop, "test")
    assert.equal(0, test.status, test.stdout .. test.stderr)
    assert.matches("\n3 passed, 0 failed\n", test.stdout)
  end)

  it("says what it made and what is next, truly", function()
    local shop, run = make()
    for _, path in ipairs { "moonbus.lua", "Makefile", ".luarc.json", ".gitignore", ".github/workflows/test.yml",
      "handlers/orders.lua", "handlers/orders_test.lua" } do
      assert.matches("\n  " .. path .. "\n", "\n" .. run.stdout, 1, true)
      assert.is_truthy(temp.read(shop .. "/" .. path), path)
    end
    assert.matches("next: cd shop\n", run.stdout)
    assert.matches("next: cd 'a shop'\n", moonbus(shop, "init", "a shop").stdout)
  end)

  it("has the types that editors read, as .luarc.json says", function()
    local shop = make()
    assert.same({ "types" }, cjson.decode(temp.read(shop .. "/.luarc.json"))["workspace.library"])
    for _, name in ipairs { "moonbus.lua", "moonbus/jetstream.lua", "moonbus/test.lua" } do
      assert.equal(temp.read("lua/library/" .. name), temp.read(shop .. "/types/" .. name))
    end
  end)

  it("has types of what test files and the config have besides, so that none of it is unknown to an editor", function()
    local shop = make()
    local types = temp.read(shop .. "/types/moonbus/globals.lua")
    temp.write(shop, "own_test.lua", [[
      local names = {}
      for name in pairs(_G) do names[#names + 1] = name ~= "_G" and name or nil end
      it("looks", function() print("own: " .. table.concat(names, " ")) end)]])
    local own = moonbus(shop, "test", "own_test.lua").stdout:match "own: ([^\n]*)"
    assert.matches("describe", own)
    for name in (own .. " env secret"):gmatch "%S+" do
      assert.matches("\n%-%-%-@type [^\n]+\n" .. name .. " = nil\n", types)
    end
    -- A name of luassert that none of its fields has is none to warn of.
    assert.matches("%-%-%-@field %[string%] any\n", types)
  end)

  it("runs: the handlers serve under dev as their comment says", function()
    local shop = make()
    local host = w:run { command = "dev", folder = shop, level = false }
    local url = temp.read(shop .. "/.moonbus/url"):match "%S+"
    local reply = moonbus(shop, "req", "-s", url, "orders.hello")
    assert.equal("hello, orders are billed in EUR", (reply.stdout:gsub("\n$", "")))
    assert.equal(0, host:stop())
  end)

  it("writes nothing when a file is there already, and names each", function()
    local folder = w:folder()
    temp.write(folder, "Makefile", "mine")
    temp.write(folder, "handlers/orders.lua", "mine")
    local run = moonbus(folder, "init")
    assert.equal(2, run.status)
    assert.equal("moonbus init: ./Makefile is there already\nmoonbus init: ./handlers/orders.lua is there already\n" ..
      "moonbus init: nothing was written: choose another folder, or move these away\n", run.stderr)
    assert.equal("mine", temp.read(folder .. "/Makefile"))
    assert.is_nil(temp.read(folder .. "/moonbus.lua"))
  end)

  it("leaves nothing of what it cannot end", function()
    local folder = w:folder()
    temp.write(folder, "types", "a file, where a folder should be")
    local run = moonbus(folder, "init")
    assert.equal(1, run.status)
    assert.matches("init: cannot make ./types: ", run.stderr, 1, true)
    for _, name in ipairs { "moonbus.lua", "Makefile", ".luarc.json", "handlers/orders.lua" } do
      assert.is_nil(temp.read(folder .. "/" .. name), name)
    end
  end)

  local EXAMPLES = { "fanout", "hello", "middleware", "orders", "parcels", "services", "ticker", "usage", "webhook" }
  local COOKBOOK = { "cache", "dead_letters", "enrich", "gateway", "llm", "nightly", "outbox", "rate_limit", "saga",
    "thumbnails", "totals", "webhook_fanout" }

  local function takes(name, path)
    it("takes the handlers of the example " .. name .. ", with their tests", function()
      local shop = make("--example", name)
      assert.is_nil(temp.read(shop .. "/handlers/orders.lua") and name ~= "orders" or nil)
      assert.equal(temp.read(path), temp.read(shop .. "/handlers/" .. name .. ".lua"))
      local test = moonbus(shop, "test")
      assert.equal(0, test.status, test.stdout .. test.stderr)
      local check = moonbus(shop, "check", "--strict") -- as its CI does
      assert.equal(0, check.status, check.stdout .. check.stderr)
    end)
  end
  for _, name in ipairs(EXAMPLES) do takes(name, "examples/" .. name .. ".lua") end
  for _, name in ipairs(COOKBOOK) do takes(name, "examples/cookbook/" .. name .. ".lua") end

  it("names the examples when there is none of that name", function()
    local run = moonbus(w:folder(), "init", "--example", "nope")
    assert.equal(2, run.status)
    assert.matches('no example is called "nope"; there are ' .. table.concat(EXAMPLES, ", ") .. ", " ..
      table.concat(COOKBOOK, ", "), run.stderr, 1, true)
    assert.equal(2, moonbus(w:folder(), "init", "--example", "project").status)
  end)

  it("writes the types alone, over older ones, with --types", function()
    local shop = make()
    temp.write(shop, "types/moonbus.lua", "old")
    temp.write(shop, "moonbus.lua", "return {} -- mine")
    local run = moonbus(shop, "init", "--types")
    assert.equal(0, run.status, run.stderr)
    assert.equal(temp.read "lua/library/moonbus.lua", temp.read(shop .. "/types/moonbus.lua"))
    assert.equal("return {} -- mine", temp.read(shop .. "/moonbus.lua"))
    assert.equal(2, moonbus(shop, "init", "--types", "--example", "hello").status)
  end)
end)
