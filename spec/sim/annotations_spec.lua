-- What editors know of the bindings (lua/library) is what there is, both ways: a binding without an
-- annotation is completed by nobody, and an annotation without its binding promises what is not.
local cjson = require "cjson"
local sim = require "spec.sim.sim"
local temp = require "spec.support.temp"

local FILES = {
  "moonbus.lua", "moonbus/jetstream.lua", "moonbus/replies.lua", "moonbus/schema.lua", "moonbus/service.lua",
  "moonbus/shared.lua", "moonbus/time.lua",
}
-- The tables of functions, by what the annotations call them.
local TABLES = { bus = "bus", js = "js", log = "bus.log", json = "bus.json", schema = "bus.schema" }
-- Classes whose functions are fields: ---@field get fun(...)
local FIELDS = { ["moonbus.Http"] = "bus.http", ["moonbus.HttpClient"] = "HttpClient:" }

-- "bus.publish" -> true, "Message:ack" -> true: all that is annotated.
local function annotated()
  local found = {}
  for _, name in ipairs(FILES) do
    local text, class = temp.read("lua/library/" .. name), nil
    for line in text:gmatch "[^\n]+" do
      local holder, separator, member = line:match "^function (%w+)([.:])([%w_]+)%("
      class = line:match "^%-%-%-@class ([%w.]+)" or class
      local field = line:match "^%-%-%-@field ([%w_]+) fun%("
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

-- All functions of the two modules and of the tables in them, and which of the methods that are
-- asked for the objects have.
local SCRIPT = [[
local names, methods = {}, bus.json.decode(%q)
local function walk(prefix, value)
  for key, inner in pairs(value) do
    if type(inner) == "function" then names[#names + 1] = prefix .. "." .. key
    elseif type(inner) == "table" and key ~= "settings" then walk(prefix .. "." .. key, inner) end
  end
end
walk("bus", bus)
walk("js", js)
js.stream { name = "S", subjects = { "s.*" } }
bus.subscribe("echo", function() return "" end)
local service = bus.service { name = "s", version = "1.0.0" }
js.consume("S", { durable = "d", filter = "s.in" }, function(msg)
  local objects = {
    Message = msg, Timer = bus.after("1h", function() end), Future = bus.spawn(function() end),
    PublishFuture = js.publish_async("s.out", ""), HttpClient = bus.http.client { base = "http://127.0.0.1" },
    Shared = bus.shared "s", Cache = bus.cache("c", { load = function() return 1 end, ttl = "1s" }),
    Lock = bus.lock "l", Permit = bus.semaphore("p", 2), Limiter = bus.limiter("r", { rate = 1 }),
    Schema = bus.schema "any", Replies = bus.request_many "echo", Messages = js.messages "S", Service = service,
  }
  for _, method in ipairs(methods) do
    local class, name = method:match "^(%%w+):([%%w_]+)$"
    local ok, found = pcall(function() return objects[class][name] end)
    if ok and type(found) == "function" then names[#names + 1] = method end
  end
  sim.note(bus.json.encode(names))
end)
]]

-- Its objects come with answers of servers, of which there are none here.
local ELSEWHERE = { ["HttpAnswer:json"] = true, ["HttpAnswer:header_values"] = true }

describe("The annotations for editors", function()
  local world
  before_each(function() world = sim.new() end)
  after_each(function() world:close() end)

  it("have each binding and each method that there is, and no others", function()
    local stated, methods = annotated(), {}
    for name in pairs(stated) do
      if name:find ":" and not ELSEWHERE[name] then methods[#methods + 1] = name end
    end
    world:host { scripts = { ["s.lua"] = sim.script(SCRIPT:format(cjson.encode(methods))) } }
    world:publish "s.in"
    world:advance "1s"
    local missing, there = {}, {}
    for _, name in ipairs(cjson.decode(world:said()[1])) do
      there[name] = true
      if not stated[name] then missing[#missing + 1] = "no annotation: " .. name end
    end
    for name in pairs(stated) do
      if not there[name] and not ELSEWHERE[name] then missing[#missing + 1] = "no binding: " .. name end
    end
    table.sort(missing)
    assert.same({}, missing)
    assert.is_true(#methods > 40)
  end)
end)
