-- Tests of thumbnails.lua, with a stub in the place of ImageMagick.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("thumbnails", function()
  local script
  before_each(function() script = test.load "thumbnails.lua" end)

  it("stores one of each width", function()
    script:stub_offload("slow.image", { resize = function(data, width) return data .. width end })
    local r = script:deliver("images.cat", "JPG")
    assert.equal("ack", r.verdict)
    local stored = script:stored "THUMBNAILS"
    assert.same({ "thumbnails.cat.64", "thumbnails.cat.256" }, { stored[1].subject, stored[2].subject })
    assert.same({ "JPG64", "JPG256" }, { stored[1].raw, stored[2].raw })
    assert.equal("image/png", stored[1].headers["Content-Type"])
  end)

  it("gives up at once what is no image", function()
    script:stub_offload("slow.image", { resize = function() return nil, "no image: it is a text" end })
    local r = script:deliver("images.cat", "hello")
    assert.equal("dead_letter", r.verdict)
    assert.matches("it is a text", r.error.message)
    assert.equal(1, #r.offloaded)
  end)

  it("tries again when the tool is not there, or hangs", function()
    script:stub_offload("slow.image", { resize = { error = "convert ended with 127" } })
    assert.equal("nak", script:deliver("images.cat", "JPG").verdict)
    script:stub_offload("slow.image", { resize = { error = "timeout" } })
    local r = script:deliver("images.dog", "JPG")
    assert.same({ "nak", "timeout" }, { r.verdict, r.error.code })
  end)

  it("stores nothing twice when the second width fails at first", function()
    script:stub_offload("slow.image", { resize = function(data, width)
      if width == 64 then return data .. width end
      script:stub_offload("slow.image", { resize = function(again, wide) return again .. wide end })
      return nil, { code = "memory" }
    end })
    script:send("images.cat", "JPG")
    script:run()
    assert.equal(2, #script:stored "THUMBNAILS")
    assert.equal(1, script:stored("THUMBNAILS")[1].sequence) -- that of the first attempt
  end)
end)
