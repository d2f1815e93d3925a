-- The socket of a service manager, as the environment names it.
local ffi = require "ffi"
local manager = require "spec.support.manager"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local units = require "spec.support.units"

units.include "base/notify.h"
local lib = units.lib
if not pcall(function() return ffi.C.setenv end) then
  ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"
end

describe("the service manager's socket", function()
  local ERR_FULL = -13
  local folder
  before_each(function() folder = temp.folder() end)
  after_each(function() temp.remove(folder) end)

  -- With this environment: what was opened, and what was wrong with it.
  local function open(environment)
    for name, value in pairs(environment) do ffi.C.setenv(name, value, 1) end
    local err = units.err()
    local notify = lib.notify_open(err)
    return notify ~= nil and notify or nil, units.read_err(err)
  end

  it("is none where nobody asks", function()
    for _, environment in ipairs { {}, { NOTIFY_SOCKET = "" }, { WATCHDOG_USEC = "1000000" } } do
      local notify, code = open(environment)
      assert.same({ nil, "none" }, { notify, code == "" and "none" or code })
    end
  end)

  it("gets each message as one datagram, until it is full", function()
    local m = manager.listen(folder .. "/notify")
    local notify = open(m:env())
    assert.equal(0, lib.notify_send(notify, "READY=1\nSTATUS=a b"))
    assert.equal("a b", m:wait("READY", "^1$").STATUS)
    local code, count = 0, 0
    while code == 0 do
      code, count = lib.notify_send(notify, "STATUS=" .. count), count + 1
    end
    assert.equal(ERR_FULL, code)
    m:heard()
    assert.equal(0, lib.notify_send(notify, "STATUS=last"))
    assert.equal("last", m:wait("STATUS", "last").STATUS)
    lib.notify_close(notify)
    m:close()
  end)

  it("may be of the file system or abstract, and nothing else", function()
    local long = ("x"):rep(107)
    for _, name in ipairs { "@moonbus-spec" .. folder, "@" .. long } do
      local m = manager.listen(name)
      local notify = open(m:env())
      assert.equal(0, lib.notify_send(notify, "READY=1"))
      m:wait "READY"
      lib.notify_close(notify)
      m:close()
    end
    for _, name in ipairs { "relative", "/", "@", "vsock:2:99", "/" .. long } do
      local notify, code, message = open { NOTIFY_SOCKET = name }
      assert.same({ nil, "invalid" }, { notify, code })
      assert.matches("NOTIFY_SOCKET is", message)
    end
  end)

  it("is taken out of the environment, with what belongs to it", function()
    open { NOTIFY_SOCKET = "rubbish", WATCHDOG_USEC = "1", WATCHDOG_PID = "1" }
    for _, name in ipairs { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" } do
      assert.is_nil(os.getenv(name))
    end
  end)

  describe("says how long it waits for a sign of life", function()
    local function watchdog_ns(us, pid)
      local environment = { NOTIFY_SOCKET = folder .. "/notify", WATCHDOG_USEC = us, WATCHDOG_PID = pid }
      local notify = open(environment)
      local ns = tonumber(lib.notify_watchdog_ns(notify))
      lib.notify_close(notify)
      return ns
    end

    it("of this process alone", function()
      local own = tostring(posix.C.getpid())
      assert.equal(30e9, watchdog_ns("30000000"))
      assert.equal(30e9, watchdog_ns("30000000", own))
      assert.equal(0, watchdog_ns("30000000", "1"))
      assert.equal(0, watchdog_ns("30000000", "rubbish"))
    end)

    it("and does not wait where it says nothing, or rubbish", function()
      for _, us in ipairs { "", "0", "-1", "1s", "99999999999999999999999", "18446744073709551615" } do
        assert.equal(0, watchdog_ns(us))
      end
      assert.equal(0, watchdog_ns(nil))
    end)
  end)
end)
