-- Tests of saga.lua: what is asked of whom, and in which order, when something fails.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("saga", function()
  local script
  before_each(function() script = test.load "saga.lua" end)

  local function asked(r)
    local list = {}
    for index, request in ipairs(r.requests) do list[index] = request.subject:gsub("^travel%.", "") end
    return table.concat(list, " ")
  end

  local function run(days) return script:send("trips.wanted", { id = "t1", days = days or 3 }):run() end
  local function outcome()
    local stored = script:stored "TRIPS"
    return stored[#stored].subject
  end

  it("books all of it", function()
    local r = run()
    assert.equal("flight.book hotel.book car.book", asked(r))
    assert.equal("t1:hotel:book", r.requests[2].headers["Idempotency-Key"])
    assert.equal("trips.booked", outcome())
  end)

  it("cancels what was booked, from the last to the first, when a service says no", function()
    assert.equal("flight.book hotel.book car.book car.cancel hotel.cancel flight.cancel", asked(run(90)))
    assert.same({ id = "t1", why = "car: no car for so long" }, script:stored("TRIPS")[2].data)
  end)

  it("asks again, under the same key, what may pass", function()
    local calls = 0
    script:stub("travel.hotel.book", function()
      calls = calls + 1
      if calls < 3 then return nil, "busy" end
      return "done"
    end)
    local r = run()
    assert.equal(3, calls)
    assert.equal(r.requests[2].headers["Idempotency-Key"], r.requests[4].headers["Idempotency-Key"])
    assert.equal("trips.booked", outcome())
  end)

  it("cancels also what may have been booked, after four attempts", function()
    script:stub("travel.hotel.book", { error = "timeout" })
    local r = run()
    assert.matches("hotel.book hotel.cancel flight.cancel$", asked(r))
    local attempts = 0
    for _, one in ipairs(r.runs) do attempts = math.max(attempts, one.attempt) end
    assert.equal(4, attempts)
    assert.equal("trips.failed", outcome())
  end)

  it("books nothing any more once it cancels, until each has said yes", function()
    script:stub("travel.hotel.cancel", { error = "no_responders" })
    script:send("trips.wanted", { id = "t1", days = 90 })
    test.advance "30s"
    script:stub("travel.hotel.cancel", "done")
    local r = script:run()
    assert.equal("car.cancel hotel.cancel flight.cancel", asked(r))
    assert.equal("trips.failed", outcome())
  end)

  it("goes to the dead letter when a cancellation cannot be done", function()
    script:stub("travel.flight.cancel", { error = "no_responders" })
    assert.equal("20", run(90).dead_letter.headers["Moonbus-Attempt"])
    assert.equal("bad_payload", script:deliver("trips.wanted", { id = "a b", days = 3 }).error.code)
  end)
end)
