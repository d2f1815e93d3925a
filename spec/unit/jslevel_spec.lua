local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/request/jslevel.h"
local lib = units.lib

-- nil when that level will do, else the code and the sentence.
local function refused(have, needed, what)
  local err = units.err()
  if lib.jslevel_check(have, needed, what, err) ~= 0 then return { units.read_err(err) } end
end

describe("the API level of JetStream", function()
  it("suffices when it is as high as what is needed, or higher", function()
    assert.is_nil(refused(2, 2, "js.count"))
    assert.is_nil(refused(5, 2, "js.count"))
    assert.is_nil(refused(0, 0, "js.count"))
  end)

  it("that is too low is named, with what needs more, and the release that has it", function()
    assert.same({ "unsupported", "js.count needs nats-server 2.12 or newer (JetStream API level 2); this server has " ..
      "level 0" }, refused(0, ffi.C.JSLEVEL_2_12, "js.count"))
    assert.same({ "unsupported", "a repeated schedule needs nats-server 2.14 or newer (JetStream API level 4); this " ..
      "server has level 2" }, refused(2, ffi.C.JSLEVEL_2_14, "a repeated schedule"))
  end)

  it("that is not known yet may be known soon", function()
    local found = refused(-1, ffi.C.JSLEVEL_2_11, "a message's ttl")
    assert.equal("unavailable", found[1])
    assert.matches("^a message's ttl needs nats%-server 2%.11 or newer .*has not told its level yet", found[2])
    assert.is_true(lib.err_passes(ffi.C.ERR_UNAVAILABLE))
  end)

  it("tells the first release that has it", function()
    local releases = {}
    for level = 0, 6 do releases[level] = ffi.string(lib.jslevel_release(level)) end
    assert.same({ [0] = "2.9", "2.11", "2.12", "2.14", "2.14", "2.15", "later than 2.15" }, releases)
  end)
end)
