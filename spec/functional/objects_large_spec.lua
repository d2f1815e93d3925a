-- Objects that are larger than the memory of the script that writes and reads them. SPEC_LONG=1: of 1 GB, with
-- 64 MB.
local world = require "spec.support.world"

local long = os.getenv "SPEC_LONG"
local SIZE = (long and 1024 or 64) * 1024 * 1024
local MEMORY = long and "64MB" or "16MB"

local HANDLER = [[
local bus, objects = require "moonbus", require "moonbus.objects"
bus.script { memory = "%s" }
local b = objects.bucket { name = "large" }
local SIZE = %d
local PIECE = ("0123456789abcdef"):rep(4096)
bus.subscribe("put", { timeout = "10m" }, function()
  local left = SIZE / #PIECE
  local info = assert(b:put("o", function() left = left - 1 return left >= 0 and PIECE or nil end))
  return { size = info.size, chunks = info.chunks }
end)
bus.subscribe("copy", { timeout = "10m" }, function()
  return { size = assert(b:put("copy", assert(b:open("o")))).size, same = b:info("copy").digest == b:info("o").digest }
end)
bus.subscribe("get", function() return select(2, b:get("o")).code end)]]

describe("An object that is larger than the memory of its script", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("goes through its handler, in and out", function()
    w:run { level = "info", handlers = { ["large.lua"] = HANDLER:format(MEMORY, SIZE) } }
    local seconds = long and 300 or 60
    local put = w.client:request("put", "", { timeout = seconds })
    assert.is_nil(put:header "Nats-Service-Error", put:header "Nats-Service-Error")
    assert.same({ size = SIZE, chunks = SIZE / 131072 }, put:json())
    local copy = w.client:request("copy", "", { timeout = seconds })
    assert.is_nil(copy:header "Nats-Service-Error", copy:header "Nats-Service-Error")
    assert.same({ size = SIZE, same = true }, copy:json())
    assert.equal("too_large", w.client:request("get", "").data)
  end)
end)
