-- What `moonbus dev` keeps beside the handlers is for nobody else on the machine.
local posix = require "spec.support.posix"
local world = require "spec.support.world"

describe("the folder of moonbus dev", function()
  local w = world.new()
  after_each(function() w:clear() end)

  local function mode(path)
    local pipe = io.popen("stat -c %a " .. path)
    local text = pipe:read "*l"
    pipe:close()
    return text
  end

  local function dev(folder, ...)
    return w:run { command = "dev", folder = folder, handlers = { ["echo.lua"] = [[
local bus = require "moonbus"
bus.subscribe("echo", function(msg) return msg.data end)]] },
      args = { "--nats-port", tostring(posix.free_port()), ... } }
  end

  it("is opened by its owner only, also one that was made before", function()
    for _, before in ipairs { "true", "mkdir -p .moonbus && chmod 755 .moonbus" } do
      local folder = w:folder()
      os.execute(("cd %s && umask 022 && %s"):format(folder, before))
      assert.equal(0, dev(folder):stop())
      assert.equal("700", mode(folder .. "/.moonbus"))
    end
  end)

  it("is left as it is where --store names one that is there", function()
    local folder, store = w:folder(), w:folder()
    os.execute("chmod 750 " .. store)
    dev(folder, "--store", store)
    assert.equal("750", mode(store))
    assert.equal("700", mode(folder .. "/.moonbus"))
  end)
end)
