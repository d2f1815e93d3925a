/* api_values - what of the bindings is about values alone, for a state of the host's that runs no
 * script: what tests state is checked as scripts' values are. */
#include "api/api.h"

#include "base/value.h"
#include "bus/wire.h"

/* values.duration(value, binding, field): seconds. */
static int values_duration(lua_State *L)
{
    lua_settop(L, 3);
    int64_t ns = api_duration(L, 1, luaL_checkstring(L, 2), luaL_optstring(L, 3, "duration"), -1);
    lua_pushnumber(L, (double)ns / NS_PER_S);
    return 1;
}

/* values.json_decode(text): the value, null as bus.json.null; or nil and an error. */
static int values_json_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    struct json_reading reading = {.remedy = "{ big = \"string\" }"};
    struct err err;
    if (api_json_decode(L, text, len, &reading, &err) != 0)
        return api_fail(L, &err);
    return 1;
}

/* values.check_headers(table): nil, or what is wrong. */
static int values_check_headers(lua_State *L)
{
    struct headers headers = {0};
    struct err err;
    lua_settop(L, 1);
    int code = api_headers(L, 1, NULL, &headers, &err);
    headers_clear(&headers);
    if (code)
        lua_pushstring(L, err.message);
    return code ? 1 : 0;
}

/* values.is_message(value): there are none here. */
static int values_is_message(lua_State *L)
{
    lua_pushboolean(L, 0);
    return 1;
}

int api_open_values(lua_State *L)
{
    static const luaL_Reg functions[] = {{"duration", values_duration},
                                         {"json_decode", values_json_decode},
                                         {"check_headers", values_check_headers},
                                         {"is_message", values_is_message},
                                         {NULL, NULL}};
    lua_newtable(L);
    api_errors_open(L);
    api_json_open(L);
    api_check_open(L);
    api_digest_open(L);
    luaL_register(L, NULL, functions);
    return 1;
}
