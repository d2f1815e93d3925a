local units = require "spec.support.units"
local wait = require "spec.support.wait"

units.include "base/pool.h"
units.include "spec/support/probe.h"
local lib = units.lib

describe("The pool", function()
  it("starts jobs in the order in which they were submitted", function()
    local pool = lib.pool_new(1, nil)
    local jobs = lib.probe_jobs_new(pool, 100, 0)
    lib.probe_jobs_submit(jobs)
    wait.eventually(function() return lib.probe_jobs_done(jobs) == 100 end)
    for index = 0, 99 do
      assert.equal(index + 1, lib.probe_jobs_turn(jobs, index))
    end
    lib.pool_free(pool)
    lib.probe_jobs_free(jobs)
  end)

  it("runs each job once before it ends, and those that jobs submit meanwhile", function()
    for threads = 1, 4 do
      local pool = lib.pool_new(threads, nil)
      local jobs = lib.probe_jobs_new(pool, 200, 3)
      lib.probe_jobs_submit(jobs)
      lib.pool_free(pool)
      assert.equal(800, lib.probe_jobs_done(jobs))
      lib.probe_jobs_free(jobs)
    end
  end)

  it("leaves the threads that a share may not have to the rest", function()
    local pool = lib.pool_new(4, nil)
    local slow, others = lib.probe_jobs_new(pool, 50, 0), lib.probe_jobs_new(pool, 20, 0)
    lib.probe_jobs_let(slow, false)
    lib.probe_jobs_submit_within(slow, 2)
    lib.probe_jobs_submit(others)
    wait.eventually(function() return lib.probe_jobs_done(others) == 20 end)
    wait.eventually(function() return lib.probe_jobs_begun(slow) == 2 end)
    lib.probe_jobs_let(slow, true)
    lib.pool_free(pool)
    assert.same({ 50, 50 }, { lib.probe_jobs_begun(slow), lib.probe_jobs_done(slow) })
    lib.probe_jobs_free(slow)
    lib.probe_jobs_free(others)
  end)

  it("starts the jobs of a share in their order, too, and all of them before it ends", function()
    for threads = 1, 3 do
      local pool = lib.pool_new(threads, nil)
      local jobs = lib.probe_jobs_new(pool, 100, 0)
      lib.probe_jobs_submit_within(jobs, 1)
      lib.pool_free(pool)
      for index = 0, 99 do
        assert.equal(index + 1, lib.probe_jobs_turn(jobs, index))
      end
      lib.probe_jobs_free(jobs)
    end
  end)

  it("is stopped once, and runs nothing that comes later", function()
    local pool = lib.pool_new(2, nil)
    local jobs, late = lib.probe_jobs_new(pool, 50, 1), lib.probe_jobs_new(pool, 10, 0)
    lib.probe_jobs_submit(jobs)
    lib.pool_stop(pool)
    assert.equal(100, lib.probe_jobs_done(jobs))
    lib.probe_jobs_submit(late)
    lib.pool_stop(pool)
    lib.pool_free(pool)
    assert.equal(0, lib.probe_jobs_done(late))
    lib.probe_jobs_free(jobs)
    lib.probe_jobs_free(late)
  end)

  it("may have had nothing to do", function()
    lib.pool_free(lib.pool_new(3, nil))
    lib.pool_free(nil)
  end)

  it("needs a thread", function()
    local err = units.err()
    assert.is_true(lib.pool_new(0, err) == nil)
    assert.same({ "invalid", "a pool needs at least one thread, not 0" }, { units.read_err(err) })
  end)
end)
