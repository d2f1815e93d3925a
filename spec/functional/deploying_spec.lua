-- What is in deploy/ holds together, and is what docs/DEPLOYING.md says of it.
local host = require "spec.support.host"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local world = require "spec.support.world"

local BUILD = host.binary():match "^(.*)/"

local function text_of(path) return (assert(temp.read(path), path)) end

local function run(...)
  local result = process.run { command = { ... }, deadline = 60 }
  return result.status, result.stdout .. result.stderr
end

local function succeed(...)
  local status, output = run(...)
  assert.equal(0, status, output)
  return output
end

describe("the systemd unit", function()
  local UNIT = "deploy/systemd/moonbus.service"
  local folder
  setup(function()
    folder = temp.folder()
    succeed("env", "DESTDIR=" .. folder, "cmake", "--install", BUILD, "--prefix", "/opt/moonbus")
  end)
  teardown(function() temp.remove(folder) end)

  -- As `make install` writes it for a version of systemd.
  local function for_systemd(version, unit)
    succeed("cmake", "-D", "UNIT=deploy/systemd/" .. (unit or "moonbus.service"), "-D", "BIN=/usr/local/bin",
      "-D", "SYSTEMD=" .. version, "-D", "DESTINATION=" .. folder, "-P", "deploy/systemd/install.cmake")
    return text_of(folder .. "/" .. (unit or "moonbus.service"))
  end

  it("exposes little: systemd-analyze gives it 2.5 at most", function()
    for _, unit in ipairs { UNIT, "deploy/systemd/moonbus@.service" } do
      local status, output = run("systemd-analyze", "security", "--offline=true", "--threshold=25", unit)
      assert.equal(0, status, output)
    end
  end)

  it("is the same for many hosts as for one, but for their folders", function()
    local one = text_of(UNIT):match "%[Unit%].*"
    local many = text_of("deploy/systemd/moonbus@.service"):match "%[Unit%].*"
    many = many:gsub(" %(%%i%)", ""):gsub("EnvironmentFile=%-/etc/default/moonbus%-%%i\n", ""):gsub("/%%i", "")
    assert.equal(one, many)
  end)

  it("waits longer for a stop than the host takes by default, and for a sign of life than a resume may take", function()
    local unit, config = text_of(UNIT), text_of "deploy/etc/moonbus.lua"
    local graceful = tonumber(config:match 'graceful_timeout = "(%d+)s"')
    assert.is_true(tonumber(unit:match "\nTimeoutStopSec=(%d+)s") > graceful)
    assert.is_true(tonumber(unit:match "\nWatchdogSec=(%d+)s") >= 4 * 5)
  end)

  it("is written for older systemds with what those understand", function()
    local new, old = for_systemd(253), for_systemd(252)
    assert.matches("\nType=notify%-reload\n", new)
    assert.is_nil(new:find("\nExecReload", 1, true))
    assert.matches("\nType=notify\nExecReload=/bin/kill %-HUP $MAINPID\n", old)
    assert.equal(old, for_systemd(0))
    assert.equal(new:gsub("Type=[^\n]*\n", ""), (old:gsub("Type=[^\n]*\nExecReload=[^\n]*\n", "")))
    assert.matches("\nExecStart=/usr/local/bin/moonbus run", new)
  end)

  it("is installed below DESTDIR, with the binary's place in it, and who runs it", function()
    local root = folder .. "/opt/moonbus"
    for _, unit in ipairs { "moonbus.service", "moonbus@.service" } do
      assert.matches("\nExecStart=/opt/moonbus/bin/moonbus run", text_of(root .. "/lib/systemd/system/" .. unit))
    end
    local user = text_of(UNIT):match "\nUser=(%S+)"
    assert.matches("\nu " .. user .. " ", text_of(root .. "/lib/sysusers.d/moonbus.conf"))
    text_of(root .. "/share/moonbus/library/moonbus.lua")
    assert.matches("moonbus", succeed(root .. "/bin/moonbus", "version"))
  end)
end)

describe("the Debian package", function()
  local folder, package
  setup(function()
    folder = temp.folder()
    succeed("cpack", "--config", BUILD .. "/CPackConfig.cmake", "-B", folder)
    package = succeed("sh", "-c", "ls " .. folder .. "/moonbus_*.deb"):match "%S+"
  end)
  teardown(function() temp.remove(folder) end)

  it("depends on the libraries of the binary, and on what its scripts call", function()
    local depends = succeed("dpkg-deb", "-f", package, "Depends")
    for _, name in ipairs { "libnats3", "libluajit%-5.1%-2", "libuv1", "libcurl4", "libmicrohttpd12",
      "init%-system%-helpers", "passwd" } do
      assert.matches(name, depends)
    end
  end)

  it("has the binary, the units, a config that is the administrator's, and a folder for handlers", function()
    local list = succeed("dpkg-deb", "-c", package)
    for _, path in ipairs { "usr/bin/moonbus", "usr/lib/sysusers.d/moonbus.conf",
      "usr/lib/systemd/system/moonbus.service", "usr/lib/systemd/system/moonbus@.service",
      "etc/moonbus/moonbus.lua", "etc/moonbus/handlers/", "usr/share/man/man1/moonbus.1.gz",
      "usr/share/doc/moonbus/copyright", "usr/share/doc/moonbus/changelog.Debian.gz" } do
      assert.is_truthy(list:find(" ./" .. path .. "\n", 1, true), path .. " in\n" .. list)
    end
    assert.is_nil(list:find("/usr/local", 1, true))
    succeed("dpkg-deb", "-e", package, folder .. "/control")
    assert.equal("/etc/moonbus/moonbus.lua\n", text_of(folder .. "/control/conffiles"))
    succeed("dpkg-deb", "-x", package, folder .. "/root")
    local unit = text_of(folder .. "/root/usr/lib/systemd/system/moonbus.service")
    assert.matches("\nExecStart=/usr/bin/moonbus run", unit)
  end)

  it("has scripts that a shell reads", function()
    for _, name in ipairs { "postinst", "prerm", "postrm" } do
      succeed("sh", "-n", "deploy/debian/" .. name)
    end
  end)
end)

describe("the config of the service", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("states what is the default, and is accepted", function()
    local served = w:run { config = text_of "deploy/etc/moonbus.lua",
      handlers = { ["hello.lua"] = text_of "examples/hello.lua" } }
    assert.same({}, served:logged { level = "warn" })
    assert.equal("hello ada", w.client:request("greet.ada", "").data)
  end)
end)
