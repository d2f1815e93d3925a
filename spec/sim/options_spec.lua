-- Each option that a binding takes is in the reference and in the annotations for editors (lua/library). The bindings
-- are those that there are, and tell their options by the error of one that they do not have; so neither a binding nor
-- an option has to be named here.
local cjson = require "cjson"
local sim = require "spec.sim.sim"
local temp = require "spec.support.temp"

local SCRIPT = [[
local kv, objects = require "moonbus.kv", require "moonbus.objects"
local found = {}
local function fn() end

-- Options that no binding has, at each place, among arguments that bindings may want.
local ODD = { ["no such option"] = true }
local ARGUMENTS = {
  { ODD }, { ODD, fn }, { "s.a", ODD }, { "s.a", ODD, fn }, { "s.a", "data", ODD }, { "S", ODD }, { "S", ODD, fn },
  { "* * * * *", ODD, fn }, { "start", ODD, fn }, { "k", 1, ODD }, { "k", "v", 1, ODD },
}

local function learn(name, err)
  local text = (tostring(err):match 'unknown option "no such option": there are (.*)$' or ""):gsub(" and ", ", ")
  for option in text:gmatch "[%w_]+" do
    found[name] = found[name] or {}
    found[name][option] = true
  end
end

-- self: of a method.
local function ask(name, binding, self)
  for _, arguments in ipairs(ARGUMENTS) do
    local list = { unpack(arguments, 1, 4) }
    if self then table.insert(list, 1, self) end
    local ok, err = pcall(binding, unpack(list, 1, 5))
    if not ok then learn(name, err) end
  end
end

local function ask_all(prefix, functions, self)
  for name, value in pairs(functions) do
    if type(value) == "function" and name ~= "use" and not name:find "^__" then ask(prefix .. name, value, self)
    elseif type(value) == "table" and name ~= "settings" and not self then ask_all(prefix .. name .. ".", value) end
  end
end

local function ask_modules()
  for prefix, module in pairs { ["bus."] = bus, ["js."] = js, ["kv."] = kv, ["objects."] = objects } do
    ask_all(prefix, module)
  end
end

-- The script is trusted, and so sees behind the metatables.
local function ask_object(class, object)
  local index = (debug.getmetatable(object) or {}).__index
  if type(object) == "table" then ask_all(class .. ":", object, object) end
  if type(index) == "table" then return ask_all(class .. ":", index, object) end
  for i = 1, index and 60 or 0 do
    local name, value = debug.getupvalue(index, i)
    if type(value) == "table" and (name == "methods" or name == "") then ask_all(class .. ":", value, object) end
  end
end

ask_modules() -- what is called while a script loads
js.stream { name = "S", subjects = { "s.*" } }
bus.subscribe("echo", function() return "" end)
local bucket, files = kv.bucket { name = "b" }, objects.bucket { name = "b" }
local service = bus.service { name = "s", version = "1.0.0" }
for class, object in pairs { Bucket = bucket, ObjectBucket = files, Service = service } do ask_object(class, object) end
js.consume("S", { durable = "d", filter = "s.in" }, function(msg)
  ask_modules()
  bucket:put("k", "v")
  files:put("k", "v")
  for class, object in pairs {
    Message = msg, Timer = bus.after("1h", fn), HttpClient = bus.http.client { base = "http://127.0.0.1" },
    Shared = bus.shared "s", Cache = bus.cache("c", { load = function() return 1 end, ttl = "1s" }),
    Lock = bus.lock "l", Permit = bus.semaphore("p", 2), Limiter = bus.limiter("r", { rate = 1 }),
    Replies = bus.request_many "echo", Messages = js.messages "S", Bucket = bucket, Entry = bucket:get "k",
    ObjectBucket = files, Object = files:open "k", Schema = bus.schema "any",
  } do ask_object(class, object) end
  sim.note(bus.json.encode(found))
end)
]]


-- Where the reference has what is no heading of its own: "Bucket:get" is under "kv:get", and what holds for all methods
-- under "kv.bucket".
local UNDER = {
  Bucket = { "kv:%s", "kv.bucket" }, ObjectBucket = { "objects.%s", "objects:%s", "objects.bucket" },
  Entry = { "kv:get" }, HttpClient = { "bus.http" }, Message = { "Methods" }, Service = { "bus.service" },
  Shared = { "bus.shared" }, ["bus.http"] = { "bus.http" }, ["bus.json"] = { "bus.json" },
  ["bus.schema"] = { "bus.schema" },
}

-- "bus.lock and bus.semaphore" -> its text, up to the next heading.
local function sections(page)
  local list, heading = {}, nil
  for line in page:gmatch "[^\n]*" do
    heading = line:match "^###? (.*)$" or heading
    if heading then list[heading] = (list[heading] or "") .. line .. "\n" end
  end
  return list
end

local function anchor_of(heading) return (heading:lower():gsub("[^%w%-_ ]", ""):gsub(" ", "-")) end

-- Where a binding is described: its own section, and those that this one leads to.
local function described(all, binding)
  local class, method = binding:match "^(.*)[.:]([%w_]+)$"
  local text = ""
  for _, name in ipairs(UNDER[class] or { binding }) do
    for heading, section in pairs(all) do
      local at = heading:find(name:format(method), 1, true)
      if at and not heading:sub(at + #name:format(method)):find "^[%w_]" then text = text .. section end
    end
  end
  for target in text:gmatch "%]%(#([^)]+)%)" do
    for heading, section in pairs(all) do
      if anchor_of(heading) == target then text = text .. section end
    end
  end
  return text
end

-- `timeout`, or `{ revision, timeout }`.
local function is_named(text, option)
  for code in text:gmatch "`([^`\n]+)`" do
    if code:find("%f[%w_]" .. option .. "%f[^%w_]") then return true end
  end
  return false
end

local function library()
  local pipe = io.popen "cat $(find lua/library -name '*.lua' ! -name test.lua | sort)"
  local text = "\n" .. pipe:read "*a"
  pipe:close()
  return text
end

-- "moonbus.LockOptions" -> { ttl = true }, with those that it has from others.
local function classes(text)
  local list, parents, class = {}, {}, nil
  for line in text:gmatch "[^\n]+" do
    local name, parent = line:match "^%-%-%-@class ([%w.]+)%s*:?%s*([%w.]*)"
    class = name or line:find "^%-%-%-" and class or nil
    if name then list[name], parents[name] = list[name] or {}, parent end
    local field = line:match "^%-%-%-@field ([%w_]+)"
    if class and field then list[class][field] = true end
  end
  for name, fields in pairs(list) do
    local parent = parents[name]
    while parent and list[parent] do
      for field in pairs(list[parent]) do fields[field] = true end
      parent = parents[parent]
    end
  end
  return list
end

-- What stands above a function, or the line of a field that is one.
local function annotation(text, binding)
  local holder, separator, name = binding:match "(%w+)([.:])([%w_]+)$"
  local at = text:find(("\nfunction %s%s%s("):format(holder, separator, name), 1, true)
  if at then return text:sub(1, at):match ".*\n\n(.*)$" end
  local lines = {}
  for line in text:gmatch("\n(%-%-%-@field " .. name .. " fun%([^\n]*)") do lines[#lines + 1] = line end
  return table.concat(lines, "\n")
end

local function is_annotated(text, all, option)
  if text:find("[{,]%s*" .. option .. "%??:") then return true end
  for class in text:gmatch "moonbus[%w.]+" do
    if all[class] and all[class][option] then return true end
  end
  return false
end

-- Taken by what reads the options, and then refused or without a meaning: `bus.http.get` has its method.
local function is_others(binding, option)
  return option == "method" and not binding:find "request$" or binding == "bus.json.decode" and option == "strict"
end

describe("Each option of each binding", function()
  local found
  setup(function()
    local world = sim.new()
    world:host { settings = { trust = true }, scripts = { ["s.lua"] = sim.script(SCRIPT) } }
    world:publish "s.in"
    world:advance "1m"
    found = cjson.decode(world:said()[1] or error(cjson.encode(world:logged "warn")))
    world:close()
  end)

  local function missing(has)
    local list, count = {}, 0
    for binding, options in pairs(found) do
      for option in pairs(options) do
        count = count + 1
        local named = is_others(binding, option) or has(binding, option)
        if not named then list[#list + 1] = binding .. ": " .. option end
      end
    end
    table.sort(list)
    assert.is_true(count > 200, count)
    return list
  end

  it("is in the reference", function()
    local all, texts = sections(temp.read "docs/REFERENCE.md"), {}
    assert.same({}, missing(function(binding, option)
      texts[binding] = texts[binding] or described(all, binding)
      return is_named(texts[binding], option)
    end))
  end)

  it("is in the annotations for editors", function()
    local text = library()
    local all = classes(text)
    assert.same({}, missing(function(binding, option)
      return is_annotated(annotation(text, binding), all, option)
    end))
  end)
end)
