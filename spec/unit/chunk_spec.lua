local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/link/chunk.h"
local lib = units.lib

local CHUNK = 16384

-- Reads that many bytes, as a reader would.
local function fill(input, bytes)
  assert.is_true(lib.chunk_make_room(input, bytes))
  assert.is_true(input.chunk.capacity - input.to >= bytes)
  ffi.fill(input.chunk.bytes + input.to, bytes, 120)
  input.to = input.to + bytes
end

local function take(input, bytes) input.from = input.from + bytes end

describe("memory that is read into", function()
  local input
  before_each(function() input = ffi.new "struct chunk_input" end)
  after_each(function() lib.chunk_input_clear(input) end)

  it("is shared by the messages in it, and lives as long as one of them", function()
    fill(input, 300)
    local packets = {}
    for at = 1, 3 do packets[at] = lib.chunk_hand_out(input) end
    take(input, 300)
    local chunk = input.chunk
    lib.chunk_input_clear(input)
    assert.equal(3, tonumber(chunk.references))
    for _, packet in ipairs(packets) do lib.chunk_release(packet) end
  end)

  it("is filled from its beginning again when nobody keeps any of it", function()
    fill(input, 1000)
    local chunk = input.chunk
    local packet = lib.chunk_hand_out(input)
    lib.chunk_hand_out(input)
    lib.chunk_take_back(input)
    take(input, 1000)
    fill(input, 10)
    assert.equal(1010, tonumber(input.to)) -- one is kept
    take(input, 10)
    lib.chunk_release(packet)
    fill(input, 10)
    assert.equal(chunk, input.chunk)
    assert.equal(10, tonumber(input.to))
  end)

  it("is filled again and again, however many messages there were", function()
    fill(input, 13)
    local chunk = input.chunk
    for _ = 1, 3 * CHUNK do
      local packet = lib.chunk_hand_out(input)
      take(input, 13)
      lib.chunk_release(packet)
      fill(input, 13)
      assert(input.chunk == chunk and input.stock > 0 and input.stock <= CHUNK)
    end
  end)

  it("goes on in another one when it is full, with what is not whole yet", function()
    fill(input, CHUNK - 500)
    local packet = lib.chunk_hand_out(input)
    take(input, CHUNK - 600)
    local full = input.chunk
    fill(input, 1)
    assert.is_true(full ~= input.chunk)
    assert.equal(101, tonumber(input.to - input.from))
    assert.equal(CHUNK, tonumber(input.chunk.capacity))
    assert.equal(1, tonumber(full.references))
    lib.chunk_release(packet)
  end)

  it("is a message's own when that does not fit into one", function()
    fill(input, 100)
    fill(input, 5 * CHUNK)
    assert.equal(100 + 5 * CHUNK, tonumber(input.chunk.capacity))
    local packet = lib.chunk_hand_out(input)
    take(input, 100 + 5 * CHUNK)
    local block = input.chunk
    fill(input, 1)
    assert.is_true(block ~= input.chunk)
    assert.equal(CHUNK, tonumber(input.chunk.capacity))
    assert.equal(1, tonumber(block.references))
    lib.chunk_release(packet)
  end)

  it("is never a block of that size for what comes next, though nobody keeps the message", function()
    fill(input, 5 * CHUNK)
    take(input, 5 * CHUNK)
    fill(input, 1)
    assert.equal(CHUNK, tonumber(input.chunk.capacity))
  end)

  it("has a reference for each of the shortest messages that are read", function()
    fill(input, 1)
    input.to = CHUNK
    local packets = {}
    for at = 1, math.floor(CHUNK / #"MSG a 1 0\n\r\n") do packets[at] = lib.chunk_hand_out(input) end
    assert.is_true(input.stock > 0 and input.stock <= CHUNK)
    for _, packet in ipairs(packets) do lib.chunk_release(packet) end
  end)
end)
