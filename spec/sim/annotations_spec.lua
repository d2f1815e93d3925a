-- What editors know of the bindings (lua/library) is what there is, both ways: a binding or method
-- without an annotation is completed by nobody, and an annotation without one promises what is not.
local cjson = require "cjson"
local host = require "spec.support.host"
local process = require "spec.support.process"
local sim = require "spec.sim.sim"
local temp = require "spec.support.temp"

local FILES = {
  "moonbus.lua", "moonbus/jetstream.lua", "moonbus/kv.lua", "moonbus/objects.lua", "moonbus/replies.lua",
  "moonbus/schema.lua", "moonbus/service.lua", "moonbus/shared.lua", "moonbus/time.lua",
}
-- The tables of functions, by what the annotations call them.
local TABLES = { bus = "bus", js = "js", kv = "kv", objects = "objects", log = "bus.log", json = "bus.json",
  schema = "bus.schema", test = "test" }
-- Classes whose functions are fields: ---@field get fun(...)
local FIELDS = { ["moonbus.Http"] = "bus.http", ["moonbus.HttpClient"] = "HttpClient:" }

-- "bus.publish" -> true, "Message:ack" -> true: all that is annotated.
local function annotated(files)
  local found = setmetatable({}, { __index = { parents = {} } })
  for _, name in ipairs(files) do
    local text, class = temp.read("lua/library/" .. name), nil
    for line in text:gmatch "[^\n]+" do
      local holder, separator, member = line:match "^function (%w+)([.:])([%w_]+)%("
      class = line:match "^%-%-%-@class ([%w.]+)" or class
      local field = line:match "^%-%-%-@field ([%w_]+) fun%("
      local child, parent = line:match "^%-%-%-@class moonbus%.(%w+)%s*:%s*moonbus%.(%w+)"
      if child then found.parents[child] = parent end
      if holder and separator == "." then
        found[assert(TABLES[holder], holder) .. "." .. member] = true
      elseif holder then
        found[holder .. ":" .. member] = true
      elseif field and FIELDS[class] then
        found[FIELDS[class]:find ":" and FIELDS[class] .. field or FIELDS[class] .. "." .. field] = true
      end
    end
  end
  return found
end

-- All functions of the modules and of the tables in them, and all methods of the objects. A script
-- that is trusted sees behind the metatables: methods are in __index, or in the table that its
-- function has closed over.
local SCRIPT = [[
local kv, objects = require "moonbus.kv", require "moonbus.objects"
local names = {}
local function walk(prefix, value)
  for key, inner in pairs(value) do
    if type(inner) == "function" then names[#names + 1] = prefix .. "." .. key
    elseif type(inner) == "table" and key ~= "settings" then walk(prefix .. "." .. key, inner) end
  end
end
walk("bus", bus)
walk("js", js)
walk("kv", kv)
walk("objects", objects)
local function add_methods(class, methods)
  for key, value in pairs(methods) do
    if type(value) == "function" and not key:find "^__" then names[#names + 1] = class .. ":" .. key end
  end
end
local function look(class, object)
  local index = (debug.getmetatable(object) or {}).__index
  if type(object) == "table" then add_methods(class, object) end
  if type(index) == "table" then return add_methods(class, index) end
  for i = 1, index and 60 or 0 do
    local name, value = debug.getupvalue(index, i)
    if type(value) == "table" and (name == "methods" or name == "") then add_methods(class, value) end
  end
end
js.stream { name = "S", subjects = { "s.*" } }
bus.subscribe("echo", function() return "" end)
local service = bus.service { name = "s", version = "1.0.0" }
local bucket, files = kv.bucket { name = "b" }, objects.bucket { name = "b" }
js.consume("S", { durable = "d", filter = "s.in" }, function(msg)
  bucket:put("k", "v")
  files:put("k", "v")
  for class, object in pairs {
    Message = msg, Timer = bus.after("1h", function() end), Future = bus.spawn(function() end),
    PublishFuture = js.publish_async("s.out", ""), HttpClient = bus.http.client { base = "http://127.0.0.1" },
    Shared = bus.shared "s", Cache = bus.cache("c", { load = function() return 1 end, ttl = "1s" }),
    Lock = bus.lock "l", Permit = bus.semaphore("p", 2), Limiter = bus.limiter("r", { rate = 1 }),
    Schema = bus.schema "any", Replies = bus.request_many "echo", Messages = js.messages "S", Service = service,
    Bucket = bucket, Entry = bucket:get "k", ObjectBucket = files, Object = files:open "k",
  } do look(class, object) end
  sim.note(bus.json.encode(names))
end)
]]

-- Its objects come with answers of servers, of which there are none here.
local ELSEWHERE = { ["HttpAnswer:json"] = true, ["HttpAnswer:header_values"] = true }

-- there: a list of names. What either of them has alone.
local function differences(there, stated)
  local known, list = {}, {}
  for _, name in ipairs(there) do
    known[name] = true
    local class, method = name:match "^(%w+):(.*)$"
    local parent = stated.parents[class]
    if not stated[name] and not (parent and stated[parent .. ":" .. method]) then
      list[#list + 1] = "no annotation: " .. name
    end
  end
  for name in pairs(stated) do
    if not known[name] and not ELSEWHERE[name] then list[#list + 1] = "no binding: " .. name end
  end
  table.sort(list)
  return list
end

describe("The annotations for editors", function()
  local world
  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  it("have each binding and each method that there is, and no others", function()
    world:host { settings = { trust = true }, scripts = { ["s.lua"] = sim.script(SCRIPT) } }
    world:publish "s.in"
    world:advance "1s"
    local there = cjson.decode(world:said()[1] or error(cjson.encode(world:logged "warn")))
    assert.same({}, differences(there, annotated(FILES)))
    assert.is_true(#there > 90, #there)
  end)

  it("have what tests get, and nothing else", function()
    local folder = temp.folder()
    temp.write(folder, "a.lua", [[require("moonbus.kv").bucket { name = "b" }
      require("moonbus.objects").bucket { name = "b" }]])
    temp.write(folder, "a_test.lua", [[
      local test, names = require "moonbus.test", {}
      local function look(class, object)
        for i = 1, 60 do
          local name, value = debug.getupvalue(debug.getmetatable(object).__index, i)
          for key in pairs(name == "methods" and value or {}) do names[#names + 1] = class .. ":" .. key end
        end
      end
      it("looks", function()
        for key in pairs(test) do names[#names + 1] = "test." .. key end
        local script = test.load "a.lua"
        look("script", script)
        look("bucket", script:kv "b")
        look("objects", script:objects "b")
        print("names " .. require("cjson").encode(names))
      end)]])
    local ended = process.run { command = { host.binary(), "test", "a_test.lua" }, folder = folder }
    local names = cjson.decode(ended.stdout:match "names (%b[])" or error(ended.stdout .. ended.stderr))
    temp.remove(folder)
    assert.same({}, differences(names, annotated { "moonbus/test.lua" }))
    assert.is_true(#names > 18)
  end)
end)
