/* api_json_bindings - bus.json: what scripts call. */
#include <stdatomic.h>
#include <string.h>

#include "api/api.h"
#include "api/api_json.h"

static int core_json_encode(lua_State *L)
{
    if (lua_gettop(L) == 0)
        return api_misuse(L, "bus.json.encode: a value is missing");
    api_json_encode(L, 1, "bus.json.encode");
    return 1;
}

/* json_encode_for(value, what): what its errors name. */
static int core_json_encode_for(lua_State *L)
{
    api_json_encode(L, 1, luaL_checkstring(L, 2));
    return 1;
}

/* Raises for names that are none. strict: whether that one is. */
static void check_names(lua_State *L, int index, const char *binding, bool strict)
{
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        const char *given = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?";
        if (strcmp(given, "big") == 0 || (strict && strcmp(given, "strict") == 0))
            continue;
        api_misuse(L, "%s: unknown option \"%.64s\": there %s", binding, given,
                   strict ? "are big and strict" : "is big");
    }
}

struct json_reading api_json_reading(lua_State *L, int index, const char *binding,
                                     const char *remedy, bool strict)
{
    struct json_reading reading = {.remedy = remedy};
    reading.big = binding_json_big(instance_of(L));
    if (lua_isnoneornil(L, index))
        return reading;
    if (lua_type(L, index) != LUA_TTABLE)
        api_misuse(L, "%s: the options must be a table, got %s", binding, api_type_name(L, index));
    check_names(L, index, binding, strict);
    lua_getfield(L, index, "big");
    bool named =
        lua_type(L, -1) == LUA_TSTRING && number_big_named(lua_tostring(L, -1), &reading.big);
    if (!named && !lua_isnil(L, -1))
        api_misuse(L, "%s: big must be \"error\", \"string\" or \"number\"", binding);
    lua_pop(L, 1);
    return reading;
}

/* strict: the options may have that, for the caller. */
static int decode(lua_State *L, bool strict)
{
    if (lua_type(L, 1) != LUA_TSTRING)
        return api_misuse(L, "bus.json.decode: the text must be a string, got %s",
                          api_type_name(L, 1));
    size_t len;
    const char *text = lua_tolstring(L, 1, &len);
    struct json_reading reading = api_json_reading(
        L, 2, "bus.json.decode", "bus.json.decode(text, { big = \"string\" })", strict);
    struct err err;
    if (api_json_decode(L, text, len, &reading, &err) != 0)
        return api_fail(L, &err);
    return 1;
}

/* core.json_decode(text, options): the value, null as bus.json.null; or nil and an error. */
static int core_json_decode(lua_State *L)
{
    return decode(L, false);
}

/* core.json_read(text, options): the same, for modules whose own options have `strict`. */
static int core_json_read(lua_State *L)
{
    return decode(L, true);
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
    lua_pushcfunction(L, core_json_encode);
    lua_setfield(L, -2, "json_encode");
    lua_pushcfunction(L, core_json_encode_for);
    lua_setfield(L, -2, "json_encode_for");
    lua_pushcfunction(L, core_json_read);
    lua_setfield(L, -2, "json_read");
    lua_pushcfunction(L, core_json_decode);
    lua_setfield(L, -2, "json_decode");
    lua_pushcfunction(L, core_json_array);
    lua_setfield(L, -2, "json_array");
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "json_null");
}
