-- Tests of usage.lua: what is offloaded runs for real.
--
-- Try it:  moonbus test examples/
local test = require "moonbus.test"

describe("usage.of", function()
  local usage = test.load "usage.lua"

  it("counts a folder", function()
    local r = usage:deliver("usage.of", ".")
    assert.equal(".", r.reply.folder)
    assert.is_true(r.reply.kilobytes > 0)
  end)

  it("says of what is no folder why not", function()
    assert.equal("failed", usage:deliver("usage.of", "/no/such/folder").verdict)
  end)
end)
