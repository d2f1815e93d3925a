-- Tests of nightly.lua: nights that pass in a moment. Time begins at 2026-01-01T00:00:00Z.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("nightly", function()
  local script
  before_each(function() script = test.load "nightly.lua" end)

  it("counts the visits of the day before, at 3:15 in Berlin", function()
    script:send("visits.home"):send("visits.home"):send "visits.shop"
    test.advance "26h10m" -- 2026-01-02, 03:10 in Berlin
    script:send "visits.home"
    assert.equal(1, #script:stored "REPORTS") -- of the night before
    test.advance "10m"
    local made = script:stored("REPORTS")[2]
    assert.equal("reports.2026-01-01", made.subject)
    assert.same({ day = "2026-01-01", visits = { home = 2, shop = 1 } }, made.data)
  end)

  it("is made once a night, under the day that it is of", function()
    test.advance "169h"
    local reports = script:stored "REPORTS"
    assert.same({ 7, "reports.2025-12-31", "reports.2026-01-06" },
      { #reports, reports[1].subject, reports[7].subject })
  end)

  it("is tried again a minute or so later, when it fails", function()
    local refused = { stream = "REPORTS", seq = 0, error = { code = 503, err_code = 10047, description = "full" } }
    script:stub("reports.*", refused)
    local r = test.advance "2h16m"
    assert.same({ "nak", 1 }, { r.runs[1].verdict, #r.runs })
    script:stub("reports.*", { stream = "REPORTS", seq = 1 })
    r = test.advance "3m"
    assert.same({ "ack", 2 }, { r.runs[1].verdict, r.runs[1].attempt })
  end)

  it("replaces the report that is made a second time, by hand", function()
    test.needs "virtual time" -- whose first day it is
    assert.equal(1, script:deliver("nightly.report", { day = "2026-01-01" }).reply.sequence)
    script:send "visits.home"
    assert.equal(2, script:deliver("nightly.report", { day = "2026-01-01" }).reply.sequence)
    local reports = script:stored "REPORTS"
    assert.same({ 1, { home = 1 } }, { #reports, reports[1].data.visits })
  end)

  it("refuses what is no day", function()
    local r = script:deliver("nightly.report", { day = "yesterday" })
    assert.equal("400", r.reply_headers["Nats-Service-Error-Code"])
  end)
end)
