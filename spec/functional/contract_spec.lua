local client = require "spec.support.client"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

-- The pieces of Lua that the public contract shows, as they stand there, are in spec/contract/.
local function piece(name) return assert(temp.read("spec/contract/" .. name)) end

-- The Lua in a Markdown document.
local function fences(document)
  local list = {}
  for code in ("\n" .. document):gmatch "\n```lua\n(.-)\n```" do list[#list + 1] = code end
  return list
end

describe("the code that is shown", function()
  local w = world.new()
  w.server = { jetstream = false, close = function() end }
  after_each(function()
    w:clear()
    if w.client then w.client:close() end
    w.client = nil
  end)

  local function dev(options)
    options.command, options.level, options.format, options.server = "dev", false, false, false
    local host = w:run(options)
    w.client = client.connect(temp.read(host.folder .. "/.moonbus/url"):match "%S+")
    return host
  end

  it("in the contract runs under `moonbus dev` as written", function()
    local host = dev { handlers = { ["orders.lua"] = piece "orders.lua" },
      config = piece "moonbus.lua" }
    local run = w:moonbus({ "req", "greet.ada" }, { folder = host.folder })
    assert.same({ 0, "hello ada\n" }, { run.status, run.stdout })
    run = w:moonbus({ "pub", "-J", "orders.created", '{"id":1}' }, { folder = host.folder })
    assert.equal(0, run.status)
    wait.eventually(function()
      return w.client:stream_info("INVOICES").state.messages == 1
    end, 10)
    assert.same({ order = 1, total = 42 }, w.client:message("INVOICES", 1):json())
    wait.eventually(function() return w.client:settled("ORDERS", "billing") end)
    assert.is_nil(host:stderr():find "ERROR" or host:stderr():find '"level":"error"')
    assert.equal(0, host:stop(30))
  end)

  it("in the contract sends what it cannot read to the dead letter", function()
    local host = dev { handlers = { ["orders.lua"] = piece "orders.lua" } }
    w:moonbus({ "pub", "-J", "orders.created", "{" }, { folder = host.folder })
    wait.eventually(function() return w.client:stream_info("DEAD").state.messages == 1 end, 10)
    assert.equal("bad_payload", w.client:message("DEAD", 1):header "Moonbus-Code")
  end)

  for index, code in ipairs(fences(temp.read "README.md" or "")) do
    it("in the README, piece " .. index .. ", runs under `moonbus dev` as written", function()
      local is_config = code:find "^%s*return {" ~= nil
      local host = dev {
        handlers = { ["readme.lua"] = is_config and piece "orders.lua" or code },
        config = is_config and code or nil,
      }
      wait.holds(function() return host:running() end, 0.2)
      local log = host:stderr()
      assert.is_nil(log:find "ERROR" or log:find '"level":"error"', log)
      assert.equal(0, host:stop(30))
    end)
  end
end)
