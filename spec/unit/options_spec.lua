-- The defaults of options, as the handlers' own library fills them in, without a host.
local stub = {
  duration = function(value) return tonumber(value) end,
  size = tonumber,
  check_name = function() end,
  check_subject = function() end,
  is_message = function() return false end,
}

local MODULES = {
  "moonbus.core", "moonbus.options", "moonbus.options_core", "moonbus.options_kinds",
  "moonbus.options_group", "moonbus.options_publish", "moonbus.nearest",
}

local function load_options()
  local path, kept = package.path, {}
  for _, name in ipairs(MODULES) do
    kept[name], package.loaded[name] = package.loaded[name], nil
  end
  package.path, package.loaded["moonbus.core"] = "lua/?.lua;" .. path, stub
  local options = require "moonbus.options"
  package.path = path
  for _, name in ipairs(MODULES) do
    package.loaded[name] = kept[name]
  end
  return options
end

describe("by default", function()
  local options = load_options()
  local function handler() end

  it("a JetStream handler has five minutes, a core handler twenty seconds", function()
    assert.equal(300, options.consume("S", { durable = "d" }, handler).timeout)
    assert.equal(20, options.subscribe("s", handler).timeout)
  end)

  it("an offloaded call states no time of its own: it has what its handler has left", function()
    assert.is_nil(options.offload("m").timeout)
    assert.equal(3, options.offload("m", { timeout = 3 }).timeout)
  end)

  it("a message has five attempts, and no dead letter", function()
    local spec = options.consume("S", { durable = "d" }, handler)
    assert.equal(5, spec.attempts)
    assert.is_nil(spec.dead_letter)
    assert.same({ min = 1, max = 60, factor = 2, jitter = 0.2 }, spec.backoff)
  end)

  it("a batch has a size: what is no table is told the form", function()
    local ok, why = pcall(options.consume, "S", { durable = "d", batch = 50 }, handler)
    assert.is_false(ok)
    assert.matches('batch: expected { size = 100, wait = "50ms" }, got 50', why, 1, true)
  end)

  it("a core handler replies", function()
    assert.is_true(options.subscribe("s", handler).reply)
  end)
end)
