/* api_json_bindings - bus.json: what scripts call. */
#include "api/api.h"
#include "api/api_json.h"

static int core_json_encode(lua_State *L)
{
    if (lua_gettop(L) == 0)
        return api_misuse(L, "bus.json.encode: a value is missing");
    api_json_encode(L, 1, "bus.json.encode");
    return 1;
}

static int core_json_decode(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING)
        return api_misuse(L, "bus.json.decode: the text must be a string, got %s",
                          api_type_name(L, 1));
    size_t len;
    const char *text = lua_tolstring(L, 1, &len);
    struct err err;
    if (api_json_decode(L, text, len, &err) != 0)
        return api_fail(L, &err);
    return 1;
}

/* bus.json.array(table): this table is an array, also when it is empty. */
static int core_json_array(lua_State *L)
{
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    if (lua_type(L, 1) != LUA_TTABLE)
        return api_misuse(L, "bus.json.array: wants a table, got %s", api_type_name(L, 1));
    if (lua_getmetatable(L, 1) && !json_is_array(L, 1))
        return api_misuse(L, "bus.json.array: the table has a metatable already");
    lua_settop(L, 1);
    luaL_getmetatable(L, JSON_ARRAY_METATABLE);
    lua_setmetatable(L, 1);
    return 1;
}

void api_json_open(lua_State *L)
{
    luaL_newmetatable(L, JSON_ARRAY_METATABLE);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    api_json_decode_open(L);
    lua_pushcfunction(L, core_json_encode);
    lua_setfield(L, -2, "json_encode");
    lua_pushcfunction(L, core_json_decode);
    lua_setfield(L, -2, "json_decode");
    lua_pushcfunction(L, core_json_array);
    lua_setfield(L, -2, "json_array");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "json_null");
}
