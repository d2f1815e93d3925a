-- What moonbus test --server does about time, which cannot jump there.
local function load_live()
  local path = package.path
  package.path = "lua/?.lua;" .. path
  local live = require "moonbus.test.live"
  package.path, package.loaded["moonbus.test.live"] = path, nil
  return live
end

describe("a test with --server", function()
  local live, now
  local real = os.time

  before_each(function()
    live, now = load_live(), 1000
    os.time = function() return now end -- luacheck: ignore 122
    live.begin()
  end)
  after_each(function() os.time = real end) -- luacheck: ignore 122

  it("waits for one thing for 10 s at most", function()
    assert.equal(10000, live.most_ms({ live = true }, 3600000))
    assert.equal(500, live.most_ms({ live = true }, 500))
  end)

  it("ends as pending when all of it takes longer than a minute", function()
    now = 1060
    assert.equal(500, live.most_ms({ live = true }, 500))
    now = 1061
    local ok, why = pcall(live.most_ms, { live = true }, 500)
    assert.same({ false, "pending: all of it would take longer than 60s: time is real with --server" }, { ok, why })
    assert.equal("all of it would take longer than 60s: time is real with --server", live.reason)
    live.begin()
    assert.equal(500, live.most_ms({ live = true }, 500))
    assert.is_nil(live.reason)
  end)

  it("may take as long as it wants in simulated time", function()
    now = 5000
    assert.equal(3600000, live.most_ms({}, 3600000))
  end)
end)
