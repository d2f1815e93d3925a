-- moonbus test: buckets of objects of handlers, which a test prepares and looks at, and locks that others hold.
local temp = require "spec.support.temp"
local world = require "spec.support.world"

local SCRIPT = [[
local bus, objects = require "moonbus", require "moonbus.objects"
local photos = objects.bucket { name = "photos" }
bus.subscribe("copy.*", function(msg)
  local name = msg.subject:match "[^.]+$"
  local photo, err = photos:get(name)
  if not photo then return nil, err end
  local info = assert(photos:info(name))
  assert(photos:put(name .. ".copy", photo, { description = info.description, headers = info.headers,
    metadata = info.metadata }))
  return info.digest
end)
bus.subscribe("drop.*", function(msg) return tostring(assert(photos:delete(msg.subject:match "[^.]+$"))) end)]]

describe("moonbus test, of objects", function()
  local w = world.new()
  after_each(function() w:clear() end)

  local function run(body, ...)
    local folder = w:folder()
    temp.write(folder, "handlers/photos.lua", SCRIPT)
    temp.write(folder, "handlers/photos_test.lua", 'local test = require "moonbus.test"\n' ..
      'local s = test.load "handlers/photos.lua"\nit("holds", function()\n' .. body .. "\nend)\n")
    return w:moonbus({ "test", ... }, { folder = folder, deadline = 60 })
  end

  local BODY = [[
      local photos = s:objects "photos"
      assert.same({}, photos:list())
      local data = ("0123456789"):rep(30000)
      photos:put("p1", data, { description = "a photo", headers = { Kind = "jpeg" }, metadata = { of = "ada" } })
      photos:put("empty")
      photos:put("json", { a = 1 })
      local r = s:deliver "copy.p1"
      assert.equal(photos:get "p1".digest, r.reply)
      assert.same({ "empty", "json", "p1", "p1.copy" }, photos:list())
      local copy = photos:get "p1.copy"
      assert.same({ data, 300000, "a photo", { Kind = "jpeg" }, { of = "ada" } },
        { copy.raw, copy.size, copy.description, copy.headers, copy.metadata })
      assert.same({ "", { a = 1 } }, { photos:get "empty".raw, photos:get "json".data })
      assert.equal("ok", s:deliver("copy.empty").verdict)
      photos:put("p1", "other")
      assert.equal("other", photos:get "p1".raw)
      photos:delete "p1"
      assert.is_nil(photos:get "p1")
      assert.equal("not_found", s:deliver("copy.p1").error.code)
      s:deliver "drop.json"
      assert.same({ "empty", "empty.copy", "p1.copy" }, photos:list())]]

  for _, more in ipairs { {}, { "--server" } } do
    it("lets a test put what the handler finds, and get what it has put" .. (more[1] and ", on a real server" or ""),
      function()
        local ended = run(BODY, unpack(more))
        assert.same({ 0, "" }, { ended.status, ended.stderr }, ended.stdout)
        assert.matches("1 passed, 0 failed\n$", ended.stdout)
      end)
  end

  it("names what is misused", function()
    for body, said in pairs {
      ['s:objects "none"'] = '_test.lua:4: photos.lua: there is no bucket "none" of objects: the script states it ' ..
        "with objects.bucket",
      ['s:objects "photos":get(7)'] = "_test.lua:4: objects: get: the name of an object of photos is a string, got 7",
      ['s:objects "photos":delete "x"'] = '_test.lua:4: objects: delete: photos has no object "x"',
      ['s:objects "photos":put("x", "y", { header = {} })'] = 'unknown option "header": here it is "headers"',
      ['s:objects "photos":fetch "x"'] = 'a bucket of objects has no "fetch"',
    } do
      local ended = run(body)
      assert.is_truthy(ended.stdout:find(said, 1, true), said .. "\n" .. ended.stdout)
    end
  end)
end)

describe("moonbus test, of locks of the cluster", function()
  local w = world.new()
  after_each(function() w:clear() end)

  for _, more in ipairs { {}, { "--server" } } do
    it("lets another host hold one, give it back, and die" .. (more[1] and ", on a real server" or ""), function()
      local folder = w:folder()
      temp.write(folder, "a.lua", [[
        local bus = require "moonbus"
        bus.subscribe("now", function()
          local lock, err = bus.lock("a b", { cluster = true, wait = 0 })
          return lock and "mine" or err.code
        end)
        bus.subscribe("wait", function()
          return bus.lock("a b", { cluster = true, wait = "5s" }, function(lock) return tostring(lock.token > 0) end)
        end)]])
      temp.write(folder, "a_test.lua", [[
        local s = require "moonbus.test".load "a.lua"
        it("holds", function()
          assert.equal("mine", s:deliver "now".reply)
          s:hold_lock "a b"
          assert.equal("timeout", s:deliver "now".reply)
          s:release_lock "a b"
          assert.equal("mine", s:deliver "now".reply)
          s:hold_lock("a b", { ttl = "1s" })
          assert.equal("true", s:deliver "wait".reply)
        end)
        it("tells of no lock among what was sent", function()
          s:release_lock "a b"
          local r = s:deliver "now"
          assert.same({ "mine", 0, 0 }, { r.reply, #r.requests, #r.published })
        end)
        it("is misused", function()
          assert.has_error(function() s:hold_lock(7) end)
          assert.has_error(function() s:hold_lock("a", { cluster = "none" }) end)
        end)]])
      local shown = w:moonbus({ "test", "a_test.lua", unpack(more) }, { folder = folder, deadline = 60 })
      assert.same({ 0, "" }, { shown.status, shown.stderr }, shown.stdout)
    end)
  end
end)
