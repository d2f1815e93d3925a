-- moonbus and nats.js, the client for Node, on one server.
local node = require "spec.support.node"
local world = require "spec.support.world"

describe("beside nats.js", function()
  if not node.found() then
    pending(node.missing)
    return
  end

  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("a handler answers its requests", function()
    w:run [[require "moonbus".subscribe("greet.*", function(msg) return "hello " .. msg.data end)]]
    assert.same({ "hello ada" }, node.run(w.server.url, [[
      say((await nc.request("greet.it", args[0])).string());
    ]], { "ada" }))
  end)
end)
