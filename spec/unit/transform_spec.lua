local ffi = require "ffi"
local units = require "spec.support.units"

units.include "bus/transform.h"
local lib = units.lib

describe("a subject transform, backwards,", function()
  local function undo(src, dest, subject, size)
    local out, err = ffi.new("char[?]", size or 256), units.err()
    local code = lib.transform_undo(src, dest, subject, out, size or 256, err)
    if code == 1 then return ffi.string(out) end
    if code == 0 then return nil, "no" end
    return nil, units.read_err(err)
  end

  it("gives what had to be published", function()
    for _, case in ipairs {
      { "orders.>", "sales.>", "sales.eu.7", "orders.eu.7" },
      { "orders.*", "sales.{{wildcard(1)}}", "sales.eu", "orders.eu" },
      { "orders.*.*", "sales.{{Wildcard(2)}}.{{ wildcard( 1 ) }}", "sales.7.eu", "orders.eu.7" },
      { "orders.*.>", "sales.$1.x.>", "sales.eu.x.a.b", "orders.eu.a.b" },
      { "a", "b", "b", "a" },
      { ">", "all.>", "all.x.y", "x.y" },
      { "", "all.>", "all.x.y", "x.y" },
      { "o.*", "{{wildcard(1)}}.{{wildcard(1)}}", "x.x", "o.x" },
      { "o.*", "p.{{partition(3,1)}}.{{wildcard(1)}}", "p.2.x", "o.x" },
      { "o.*", "p.{{ partition(10, 1) }}.$1", "p.2.x", "o.x" },
    } do
      assert.equal(case[4], (undo(case[1], case[2], case[3])), case[2])
    end
    assert.equal("x.y", (undo(nil, "all.>", "all.x.y")))
  end)

  it("gives nothing of a subject that it does not make", function()
    for _, case in ipairs {
      { "orders.>", "sales.>", "orders.eu" }, { "orders.>", "sales.>", "sales" },
      { "o.*", "s.{{wildcard(1)}}", "s.a.b" }, { "o.*", "s.{{wildcard(1)}}", "s" },
      { "o.*", "{{wildcard(1)}}.{{wildcard(1)}}", "x.y" }, { "a", "b", "c" }, { ">", "", "a" },
    } do
      assert.same({ nil, "no" }, { undo(case[1], case[2], case[3]) })
    end
    assert.same({ nil, "no" }, { undo(">", nil, "a") })
  end)

  it("says when it cannot be told what was there", function()
    for _, case in ipairs {
      { "o.*.*", "s.{{wildcard(1)}}", "s.a" }, { "o.*", "s.{{left(1,3)}}", "s.abc" },
      { "o.*", "s.{{split(1,-)}}", "s.a" }, { "o.*", "s", "s" },
      { "o.*", "s.{{nonsense}}", "s.a" }, { "o.*", "s.{{wildcard(x)}}", "s.a" },
    } do
      local out, code = undo(case[1], case[2], case[3])
      assert.is_nil(out)
      assert.equal("invalid", code, case[2])
    end
    assert.equal("invalid", select(2, undo("a.>", "b.>", "b." .. ("x"):rep(100), 50)))
  end)

  it("knows which subjects it would take", function()
    assert.is_true(lib.transform_takes("orders.>", "orders.a"))
    assert.is_false(lib.transform_takes("orders.>", "sales.a"))
    assert.is_true(lib.transform_takes("", "anything"))
    assert.is_true(lib.transform_takes(nil, "anything"))
  end)
end)
