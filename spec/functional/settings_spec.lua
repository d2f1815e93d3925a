-- bus.settings is the config's: it can be read like any table, in a script as by the host, and not written.
local world = require "spec.support.world"

describe("bus.settings", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local CONFIG = [[return { lib = { "/usr/share/lua/5.1/" }, settings = {
    rate = 5, nested = { deep = { flag = true, list = { "a", "b" } } }, hosts = { "one", "two", { name = "three" } },
    empty = {}, headers = { Language = "de" }, options = { timeout = "3s", queue = "q" },
  } }]]

  local function ask(body, top)
    w:run { config = CONFIG, handlers = { ["handler.lua"] = ([[
local bus = require "moonbus"
local settings = bus.settings
%s
bus.subscribe("spec", function(msg)
%s
end)]]):format(top or "", body) } }
    local reply = assert(w.client:request("spec", "", { timeout = 20 }))
    return reply:header "Nats-Service-Error" or reply.data, reply
  end

  for what, case in pairs {
    ["a name"] = { "settings.rate = 7", "bus.settings.rate" },
    ["a new name"] = { "settings.more = 7", "bus.settings.more" },
    ["a name further down"] = { "settings.nested.deep.flag = nil", "bus.settings.nested.deep.flag" },
    ["a new item of a list"] = { "settings.hosts[4] = 'x'", "bus.settings.hosts[4]" },
    ["a name inside of a list"] = { "settings.hosts[3].name = 'x'", "bus.settings.hosts[3].name" },
    ["a name that pairs came to"] = {
      "for _, v in pairs(settings.nested) do v.flag = 1 end", "bus.settings.nested.deep.flag" },
    ["an empty table's first"] = { "settings.empty.x = 1", "bus.settings.empty.x" },
  } do
    it("raises when " .. what .. " is set, with its place", function()
      local got = ask(("return select(2, pcall(function() %s end))"):format(case[1]))
      assert.is_truthy(got:find(("handler.lua:5: %s cannot be set: "):format(case[2]), 1, true), got)
      assert.matches("bus%.shared", got)
    end)
  end

  it("raises while the script loads, which is refused", function()
    local host = w:start { config = CONFIG, handlers = { ["handler.lua"] = 'require "moonbus".settings.rate = 7' } }
    assert.equal(2, host:wait(10))
    host:wait_log { level = "error", file = "handler.lua", line = 1, msg = "^bus%.settings%.rate cannot be set" }
  end)

  it("has an item of a list that was overwritten as it was, at the next look", function()
    assert.equal("one two 3", ask [[
settings.hosts[1] = "x"
table.insert(settings.hosts, 1, "y")
return settings.hosts[1] .. " " .. settings.hosts[2] .. " " .. #settings.hosts]])
  end)

  it("is read as any table: by pairs, next, ipairs, #, unpack and table.concat", function()
    assert.equal("empty,headers,hosts,nested,options,rate true true 3 one two a,b 2 true table", ask [[
local names, count = {}, 0
for name in pairs(settings) do names[#names + 1] = name end
table.sort(names)
for _ in ipairs(settings.hosts) do count = count + 1 end
local first, second = unpack(settings.hosts)
return table.concat({ table.concat(names, ","), tostring(next(settings.empty) == nil),
  tostring(next(settings.nested) == "deep"), count, first, second, table.concat(settings.nested.deep.list, ","),
  #settings.nested.deep.list, tostring(settings.nested.deep.flag), type(settings.nested) }, " ")]])
  end)

  it("is what the host reads, too: as JSON, as options, as headers, in bus.shared and in the log", function()
    local got, reply = ask([[
local bag = bus.shared "bag"
bag:set("all", settings)
bus.log.info("all", settings)
local back = bag:get "all"
back.rate = back.rate + 1 -- a copy is one's own
msg:respond(bus.json.encode { settings.nested, settings.hosts } .. back.rate .. #back.hosts,
  { headers = settings.headers })]], 'bus.subscribe("other", settings.options, function() end)')
    local json = got:match "^%[.*%]"
    assert.is_truthy(json:find('"flag":true', 1, true) and json:find('"list":["a","b"]', 1, true), json)
    assert.is_truthy(json:find('["one","two",{"name":"three"}]', 1, true), json)
    assert.matches("63$", got)
    assert.equal("de", reply:header "Language")
  end)

  it("is what cjson and a module of others read", function()
    local got = ask [[
local cjson = require "cjson"
return cjson.encode(settings.nested.deep.list) .. #cjson.encode(settings.options)
  .. (require "inspect"(settings.options):gsub("%s+", " ")) .. tostring((pcall(cjson.encode, { settings.nested })))]]
    assert.matches('^%["a","b"%]28{ queue = "q", timeout = "3s" }false$', got)
  end)
end)
