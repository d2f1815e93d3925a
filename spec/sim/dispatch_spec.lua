local ffi = require "ffi"

-- As in looks.h.
if not pcall(ffi.typeof, "struct looks") then
  ffi.cdef [[
    struct looks { int sleepers, before, meanwhile; bool looking, takes; };
    int looks_woken(const struct looks *looks);
  ]]
end

-- With workers: hand_spec.lua.
describe("The ready queue", function()
  local function woken(trial) return ffi.C.looks_woken(ffi.new("struct looks", trial)) end

  it("wakes one worker for each thing that is ready, as long as one sleeps", function()
    assert.equal(1, woken { sleepers = 2, meanwhile = 1 })
    assert.equal(2, woken { sleepers = 2, meanwhile = 2 })
    assert.equal(2, woken { sleepers = 2, meanwhile = 5 })
    assert.equal(0, woken { sleepers = 0, meanwhile = 3 })
  end)

  describe("beside a worker that gives back what it had, and takes the next itself,", function()
    it("wakes nobody for that", function()
      assert.equal(0, woken { sleepers = 2, meanwhile = 1, looking = true, takes = true })
    end)

    it("wakes one for each thing that is left", function()
      assert.equal(2, woken { sleepers = 3, meanwhile = 3, looking = true, takes = true })
      assert.equal(1, woken { sleepers = 1, meanwhile = 3, looking = true, takes = true })
    end)

    it("wakes one for each thing when nothing is taken", function()
      assert.equal(2, woken { sleepers = 3, meanwhile = 2, looking = true })
      assert.equal(0, woken { sleepers = 3, meanwhile = 0, looking = true })
    end)

    it("wakes nobody more for what was ready before", function()
      assert.equal(0, woken { sleepers = 2, before = 2, looking = true, takes = true })
      assert.equal(0, woken { sleepers = 2, before = 1, meanwhile = 1, looking = true, takes = true })
    end)
  end)
end)
