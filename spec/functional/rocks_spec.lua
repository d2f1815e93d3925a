-- A tree of LuaRocks beside the config: rocks in Lua are for handlers, rocks in C for what is offloaded.
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local SHARE = "lua_modules/share/lua/5.1/"

-- A module in C, made here as luarocks would make one.
local C_ROCK = [[
struct lua_State;
extern void lua_pushinteger(struct lua_State *, long);
extern void lua_createtable(struct lua_State *, int, int);
extern void lua_setfield(struct lua_State *, int, const char *);
int luaopen_crock(struct lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, 42);
    lua_setfield(L, -2, "answer");
    return 1;
}
]]

describe("Rocks in lua_modules", function()
  local w = world.new()
  setup(function() w:open { jetstream = false } end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function ask(subject) return w.client:request(subject, "", { timeout = 5 * wait.slow }).data end

  it("are found by require, as files and as folders, after lib", function()
    local host = w:run {
      config = "return {}",
      files = {
        [SHARE .. "rock.lua"] = 'return { name = "rock" }',
        [SHARE .. "folder/init.lua"] = 'return { name = "folder " .. require("folder.inner") }',
        [SHARE .. "folder/inner.lua"] = 'return "inner"',
        [SHARE .. "twice.lua"] = 'return { name = "rock" }',
        ["lib/twice.lua"] = 'return { name = "lib" }',
      },
      handlers = { ["a.lua"] = [[
        local names = {}
        for i, module in ipairs { "rock", "folder", "twice" } do names[i] = require(module).name end
        require "moonbus".subscribe("names", function() return table.concat(names, ", ") end)]] },
    }
    assert.equal("rock, folder inner, lib", ask "names")
    assert.equal(0, host:stop())
  end)

  it("are part of the scripts that use them: a change is one of these", function()
    local host = w:run {
      args = { "--watch" },
      files = { [SHARE .. "rock.lua"] = 'return { name = "one" }' },
      handlers = { ["a.lua"] = [[
        local name = require("rock").name
        require "moonbus".subscribe("name", function() return name end)]] },
    }
    assert.equal("one", ask "name")
    temp.write(host.folder, SHARE .. "rock.lua", 'return { name = "two" }')
    wait.eventually(function() return ask "name" == "two" end, 20)
    assert.equal(0, host:stop())
  end)

  it("in C are found by an offloaded module", function()
    local folder = w:folder()
    temp.write(folder, "crock.c", C_ROCK)
    temp.write(folder, "lua_modules/lib/lua/5.1/here", "")
    assert.equal(0, os.execute(("cc -shared -fPIC -o %s/lua_modules/lib/lua/5.1/crock.so %s/crock.c")
      :format(folder, folder)))
    temp.write(folder, SHARE .. "glue.lua", 'return require("crock")')
    local host = w:run {
      folder = folder,
      files = { ["lib/work.lua"] = 'return { answer = function() return require("glue").answer end }' },
      handlers = { ["a.lua"] = [[
        local bus = require "moonbus"
        local work = bus.offload "work"
        bus.subscribe("answer", function() return tostring(assert(work.answer())) end)]] },
    }
    assert.equal("42", ask "answer")
    assert.equal(0, host:stop())
  end)

  it("that are not there are not looked for", function()
    local host = w:start { handlers = { ["a.lua"] = 'require "nothing"' } }
    host:wait_log { level = "error" }
    assert.is_nil(host:output():find("lua_modules", 1, true))
  end)
end)
