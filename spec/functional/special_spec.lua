-- What is called like a script, a module or a config, and is no regular file. Opening a FIFO waits for
-- somebody who writes to it, so nobody must open one for its name alone.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("a FIFO", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local ECHO = 'require "moonbus".subscribe("here", function() return "yes" end)'
  local CONFIG = 'return { admin = "off", settings = { greeting = "hello" } }'

  local function sh(folder, command)
    assert.equal(0, os.execute(("cd %s && %s"):format(folder, command)))
  end

  -- A folder with ECHO in handlers/, and what the command makes in it.
  local function folder_with(command)
    local folder = w:folder()
    temp.write(folder, "handlers/echo.lua", ECHO)
    sh(folder, "mkdir -p lib && " .. command)
    return folder
  end

  local function here() return (w.client:request("here", "") or {}).data end

  it("among the handlers ends the start with status 2, as what cannot be loaded does", function()
    for _, command in ipairs { "mkfifo handlers/x.lua", "ln -s /dev/zero handlers/x.lua" } do
      local failed = w:fail { folder = folder_with(command) }
      assert.equal(2, failed.status, failed.output)
      assert.matches("cannot read [^ ]*handlers/x%.lua: not a regular file", failed.output)
    end
  end)

  it("that is named as a handler ends the start as well", function()
    local failed = w:fail { folder = folder_with "mkfifo x.lua", args = { "x.lua" } }
    assert.equal(2, failed.status, failed.output)
    assert.matches("cannot read x%.lua: not a regular file", failed.output)
  end)

  it("is no module: require says so, and where it was", function()
    local failed = w:fail { folder = folder_with "mkfifo lib/m.lua && echo 'require \"m\"' > handlers/x.lua" }
    assert.equal(2, failed.status, failed.output)
    assert.matches("lib/m%.lua: not a regular file", failed.output)
  end)

  it("is no module for an offload thread, which goes on", function()
    w:run { folder = folder_with [[mkfifo lib/m.lua && cat > handlers/x.lua <<'END'
local bus = require "moonbus"
bus.subscribe("off", { timeout = "20s" }, function()
  local value, err = bus.offload("m", { timeout = "10s" }).f()
  return value or err.message
end)
END
]] }
    assert.matches("lib/m%.lua: not a regular file", w.client:request("off", "", { timeout = 15 }).data)
  end)

  for _, how in ipairs { "a reload", "the watch" } do
    it(("that is put among the handlers is refused by %s, and holds up nobody"):format(how), function()
      local host = w:run { handlers = { ["echo.lua"] = ECHO }, admin = true,
        args = how == "the watch" and { "--watch" } or {} }
      sh(host.folder, "mkfifo handlers/x.lua")
      if how == "a reload" then
        local result = w:moonbus { "reload", "--admin", host.admin }
        assert.equal(1, result.status, result.stdout .. result.stderr)
      end
      local event = host:wait_log { level = "error", msg = "^x%.lua: refused" }
      assert.matches("cannot read [^ ]*x%.lua: not a regular file", event.msg)
      assert.equal("yes", here())
      assert.equal(0, w:moonbus({ "status", "--admin", host.admin }).status)
      -- In its place a script is one.
      os.remove(host.folder .. "/handlers/x.lua")
      temp.write(host.folder, "handlers/x.lua", (ECHO:gsub("here", "there")))
      if how == "a reload" then
        assert.equal(0, w:moonbus({ "reload", "--admin", host.admin }).status)
      end
      host:wait_log "^x%.lua: generation %d+ live"
      assert.equal("yes", w.client:request("there", "").data)
      assert.equal(1, #host:logged { level = "error" })
    end)
  end

  it("in the place of a running script is refused, and the old version goes on", function()
    local host = w:run { handlers = { ["echo.lua"] = ECHO }, args = { "--watch" } }
    sh(host.folder, "mkfifo new && mv new handlers/echo.lua")
    host:wait_log "^echo%.lua: refused, generation 1 keeps running: .*echo%.lua: not a regular file"
    assert.equal("yes", here())
  end)

  describe("as the config file", function()
    local function configured(...)
      return w:run { args = { "-c", "config", ... }, admin = true, folder = (function()
        local folder = w:folder()
        temp.write(folder, "handlers/greet.lua", 'local bus = require "moonbus"\n' ..
          'bus.subscribe("greet", function() return bus.settings.greeting .. " 1" end)')
        temp.write(folder, "text", CONFIG)
        sh(folder, "mkfifo config && (cat text > config &)")
        return folder
      end)() }
    end

    local function greets(text)
      wait.eventually(function() return w.client:request("greet", "").data == text end)
    end

    it("is read at start", function()
      configured()
      greets "hello 1"
    end)

    for _, watch in ipairs { "--watch", "--no-watch" } do
      it(("is not read again: a reload looks at the scripts, %s"):format(watch), function()
        local host = configured(watch)
        temp.write(host.folder, "handlers/greet.lua", 'local bus = require "moonbus"\n' ..
          'bus.subscribe("greet", function() return bus.settings.greeting .. " 2" end)')
        local result = w:moonbus { "reload", "--admin", host.admin }
        assert.equal(0, result.status, result.stdout .. result.stderr)
        greets "hello 2"
        host:wait_log "^config: not a regular file; it is read once, at start"
      end)
    end
  end)
end)
