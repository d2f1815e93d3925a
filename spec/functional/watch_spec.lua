-- What counts as a change on disk: editors, deployments and half-written files.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

describe("watching", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function answers(text, subject)
    return ('require "moonbus".subscribe(%q, function() return %q end)'):format(subject or "version", text)
  end

  -- Answers what a module says.
  local function asks(module, subject)
    return ('local m = require %q require "moonbus".subscribe(%q, function() return m end)')
      :format(module, subject or "version")
  end

  local function watching(options)
    if type(options) == "string" then options = { handlers = { ["handler.lua"] = options } } end
    options.args = options.args or {}
    table.insert(options.args, "--watch")
    return w:run(options)
  end

  local function save(host, text, path) temp.write(host.folder, path or "handlers/handler.lua", text) end
  local function sh(host, command)
    assert.equal(0, os.execute(("cd %s && %s"):format(host.folder or host, command)))
  end

  local function says(text, subject)
    wait.eventually(function()
      return (w.client:request(subject or "version", "") or {}).data == text
    end, 5, function() return "it said " .. text end)
  end

  -- The version that serves now is that generation, and no other.
  local function is_generation(host, number)
    host:wait_log(("handler%%.lua: generation %d live"):format(number))
    assert.equal(0, #host:logged(("handler%%.lua: generation %d live"):format(number + 1)))
  end

  it("never runs half of a file that is written slowly", function()
    local host = watching(answers "one")
    local file = assert(io.open(host.folder .. "/handlers/handler.lua", "w"))
    file:setvbuf "no"
    for line in ("local bus = require 'moonbus'\nlocal function answer()\n  return 'two'\nend\n" ..
      "bus.subscribe('version', answer)\n"):gmatch "[^\n]*\n" do
      file:write(line)
      if line:find "subscribe" then break end -- the last one
      wait.holds(function() return w.client:request("version", "").data == "one" end, 0.02)
    end
    file:close()
    says "two"
  end)

  it("does not end what is served for a file that is empty for a moment", function()
    local host = watching(answers "one")
    for _, text in ipairs { "", "local bus = require 'moonbus'\n" } do
      save(host, text)
      local count = #host:logged "refused"
      wait.eventually(function() return #host:logged "refused" > count end)
      host:wait_log "refused, generation 1 keeps running: it no longer registers anything"
      says "one"
    end
    save(host, answers "two")
    says "two"
  end)

  it("says of a file that stays half that it is refused, and goes on with the old one", function()
    local host = watching(answers "one")
    save(host, "local bus = require 'moonbus'\nbus.subscribe('version', function()")
    host:wait_log "refused, generation 1 keeps running: handler.lua:2: 'end' expected"
    says "one"
    save(host, answers "one")
    host:wait_log "handler%.lua: generation 2 live"
  end)

  -- A reload that somebody asks for is mostly faster than the watch, which looks after its debounce.
  local function reloaded_before_the_watch(host, text, pattern)
    for try = 1, 5 do
      local before = #host:logged(pattern)
      save(host, text:format(try))
      host:signal "HUP"
      host:wait_log(pattern, 5, before + 1)
      if pcall(wait.holds, function() return #host:logged(pattern) == before + 1 end, 0.7) then return end
    end
    error("each time it was loaded twice\n" .. host:explain())
  end

  local SLOW = "local began = os.clock() while os.clock() - began < 0.2 do end "

  it("does not refuse once more what a reload has refused", function()
    local host = watching(answers "one")
    reloaded_before_the_watch(host, "error 'no %d'", "refused, generation 1 keeps running")
    reloaded_before_the_watch(host, SLOW .. "error 'slowly %d'", "refused, generation 1 keeps running")
  end)

  it("does not load once more what a reload is loading", function()
    local host = watching(answers "one")
    reloaded_before_the_watch(host, SLOW .. answers "%d", "generation %d+ live")
  end)

  it("takes 50 files that are renamed over each other as one change", function()
    local host = watching(answers "0")
    local before, took
    repeat -- a burst within the debounce: on a busy machine that may need another try
      before = #host:logged "generation %d+ live"
      local began = wait.now()
      for i = 1, 50 do
        local file = assert(io.open(host.folder .. "/new", "w"))
        file:write(answers(i .. " " .. began))
        file:close()
        assert(os.rename(host.folder .. "/new", host.folder .. "/handlers/handler.lua"))
      end
      took = wait.now() - began
      says("50 " .. began)
      host:wait_log("generation %d+ live", 5, before + 1)
    until took < 0.025
    assert.is_true(#host:logged "generation %d+ live" <= before + 2, "a reload for each change")
  end)

  it("reloads nothing for a file that is only touched, or saved as it was", function()
    local host = watching(answers "one")
    sh(host, "touch handlers/handler.lua")
    save(host, answers "one")
    save(host, answers "one", "new")
    sh(host, "mv new handlers/handler.lua && chmod 600 handlers/handler.lua")
    -- A debounce, and more; a reload would be the second generation.
    wait.holds(function() return #host:logged "generation 2" == 0 end, 0.2)
    save(host, answers "two")
    says "two"
    is_generation(host, 2)
  end)

  it("goes on with a file that is gone for a moment", function()
    local host = watching(answers "0")
    local path = host.folder .. "/handlers/handler.lua"
    local began, took, gone
    repeat -- half a second is the moment: on a busy machine that may need another try
      gone, began = #host:logged "the file is gone", wait.now()
      save(host, answers("after " .. began), "new")
      os.remove(path)
      wait.holds(function() return w.client:request("version", "").data ~= "" end, 0.1)
      os.rename(host.folder .. "/new", path)
      took = wait.now() - began
      says("after " .. began)
    until took < 0.4
    assert.equal(gone, #host:logged "the file is gone")
  end)

  it("refuses a file that nobody may read any more, and takes it when it may be read again", function()
    local host = watching(answers "one")
    if io.popen "id -u":read "*n" == 0 then -- root may read everything; not a folder, though
      sh(host, "mv handlers/handler.lua kept && mkdir handlers/handler.lua")
    else
      sh(host, "chmod 000 handlers/handler.lua")
    end
    host:wait_log "handler%.lua: refused, generation 1 keeps running: .*cannot read handlers/handler%.lua"
    says "one"
    sh(host, "rm -rf handlers/handler.lua")
    save(host, answers "two")
    says "two"
  end)

  it("refuses what comes back as something that cannot be read, too", function()
    local host = watching(answers "one")
    sh(host, "mv handlers/handler.lua kept")
    wait.holds(function() return w.client:request("version", "").data == "one" end, 0.15, "gone for a moment")
    sh(host, "mkdir handlers/handler.lua")
    host:wait_log "handler%.lua: refused, generation 1 keeps running: .*cannot read handlers/handler%.lua"
    sh(host, "rmdir handlers/handler.lua && mv kept handlers/handler.lua")
    save(host, answers "two")
    says "two"
  end)

  it("follows a folder that is removed and made again", function()
    local host = watching { handlers = { ["handler.lua"] = asks "m" }, files = { ["lib/m.lua"] = "return 'one'" } }
    sh(host, "rm -r handlers lib && mkdir handlers lib")
    save(host, asks "m")
    save(host, "return 'two'", "lib/m.lua")
    says "two"
    save(host, "return 'three'", "lib/m.lua")
    says "three"
  end)

  describe("a folder that is switched as a whole", function()
    -- handlers/ and lib/ as Kubernetes mounts a ConfigMap: links into ..data, which is one itself.
    local function mount(folder, revision, files)
      for name, text in pairs(files) do temp.write(folder, revision .. "/" .. name, text) end
      sh(folder, ("ln -sfn %s ..data_tmp && mv -T ..data_tmp ..data"):format(revision))
      for name in pairs(files) do sh(folder, ("ln -sfn ..data/%s %s"):format(name, name)) end
    end

    for _, old in ipairs { "removed", "kept" } do
      it("as of a ConfigMap is loaded anew, the old revision being " .. old, function()
        local folder = w:folder()
        mount(folder .. "", "..r1", { ["handler.lua"] = asks "m", ["m.lua"] = "return 'one'" })
        local host = w:run { folder = folder, args = { ".", "--watch" } }
        says "one"
        mount(folder, "..r2", { ["handler.lua"] = asks "m", ["m.lua"] = "return 'two'" })
        if old == "removed" then sh(folder, "rm -r ..r1") end
        says "two"
        mount(folder, "..r3", { ["handler.lua"] = answers "three", ["m.lua"] = "return 'two'" })
        if old == "removed" then sh(folder, "rm -r ..r2") end
        says "three"
        assert.equal(0, #host:logged "the file is gone")
      end)
    end

    it("as of a release is loaded anew when only a module differs, by SIGHUP too", function()
      local folder = w:folder()
      for revision, text in pairs { r1 = "one", r2 = "two", r3 = "three" } do
        temp.write(folder, revision .. "/handlers/handler.lua", asks "m")
        temp.write(folder, revision .. "/lib/m.lua", ("return %q"):format(text))
      end
      sh(folder, "ln -s r1 current")
      temp.write(folder, "moonbus.lua",
        'return { handlers = { "current/handlers" }, lib = { "current/lib" } }')
      w:run { folder = folder, args = { "--watch" } }
      says "one"
      sh(folder, "ln -s r2 next && mv -T next current")
      says "two"
      for _, host in ipairs(w.hosts) do host:stop() end
      local host = w:run { folder = folder }
      sh(folder, "ln -s r3 next && mv -T next current")
      host:signal "HUP"
      says "three"
    end)
  end)

  describe("modules", function()
    it("reloads the two scripts that require one through another", function()
      local host = watching { handlers = { ["a.lua"] = asks("outer", "a"), ["b.lua"] = asks("outer", "b"),
        ["c.lua"] = answers("here", "c") },
        files = { ["lib/outer.lua"] = "return require 'inner'", ["lib/inner.lua"] = "return 'one'" } }
      save(host, "return 'two'", "lib/inner.lua")
      says("two", "a")
      says("two", "b")
      assert.equal(0, #host:logged "c%.lua: generation 2")
    end)

    it("loads a refused script when the module that it misses appears", function()
      local host = watching(answers "one")
      save(host, asks "tax.rates")
      host:wait_log "refused, generation 1 keeps running: handler%.lua:1: .*tax/rates"
      save(host, "return 'two'", "lib/tax/rates.lua")
      says "two"
    end)

    it("loads a refused script when the module that is broken is mended", function()
      local host = watching(answers "one")
      save(host, "return = 1", "lib/m.lua")
      save(host, asks "m")
      host:wait_log "refused, generation 1 keeps running: lib/m%.lua:1:"
      save(host, "return 'two'", "lib/m.lua")
      says "two"
    end)

    it("takes one that appears where it is looked for first", function()
      local host = watching { handlers = { ["handler.lua"] = asks "m" }, files = { ["lib/m.lua"] = "return 'lib'" } }
      says "lib"
      sh(host, "mkdir handlers/m")
      save(host, "return 'own'", "handlers/m/init.lua")
      says "own"
      sh(host, "rm -r handlers/m")
      says "lib"
    end)

    it("reloads a script whose handler requires one only when it runs", function()
      local host = watching { handlers = { ["handler.lua"] =
        'require "moonbus".subscribe("version", function() return require "m" end)' },
        files = { ["lib/m.lua"] = "return 'one'" } }
      says "one"
      save(host, "return 'two'", "lib/m.lua")
      says "two"
      is_generation(host, 2)
    end)

    it("reloads by SIGHUP a script whose handler has required one since", function()
      local host = w:run { handlers = { ["handler.lua"] =
        'require "moonbus".subscribe("version", function() return require "m" end)' },
        files = { ["lib/m.lua"] = "return 'one'" } }
      says "one"
      save(host, "return 'two'", "lib/m.lua")
      host:signal "HUP"
      says "two"
    end)
  end)

  it("tells files of one name in several folders apart", function()
    local host = watching { handlers = {}, args = { "one", "two" },
      files = { ["one/h.lua"] = answers("1", "one"), ["two/h.lua"] = answers("1", "two") } }
    save(host, answers("2", "two"), "two/h.lua")
    says("2", "two")
    assert.equal("1", w.client:request("one", "").data)
    host:wait_log "^two/h%.lua: generation 2 live"
    assert.equal(0, #host:logged "^h%.lua: generation 2 live")
    os.remove(host.folder .. "/two/h.lua")
    host:wait_log "^two/h%.lua: the file is gone"
    says("1", "one")
  end)
end)
