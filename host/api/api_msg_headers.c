/* api_msg_headers - the headers of a message object: read once from nats.c's message, into the
 * userdata's environment table, and found there whatever their case. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/api.h"

#define HEADERS_METATABLE "moonbus.headers"

/* Pushes a table {name = first value}, with the names as they came. msg may be NULL. */
static void push_header_table(lua_State *L, natsMsg *msg)
{
    lua_newtable(L);
    luaL_getmetatable(L, HEADERS_METATABLE);
    lua_setmetatable(L, -2);
    const char **keys = NULL;
    int count = 0;
    if (!msg || natsMsgHeader_Keys(msg, &keys, &count) != NATS_OK)
        return;
    /* keys is nats.c's list, in memory of our own: copied before Lua can run out of its own. */
    const char **list = count > 0 ? lua_newuserdata(L, (size_t)count * sizeof *list) : NULL;
    if (list)
        memcpy(list, keys, (size_t)count * sizeof *list);
    for (int i = 0; i < count; i++) {
        const char *value = NULL;
        if (natsMsgHeader_Get(msg, list[i], &value) != NATS_OK)
            continue;
        lua_pushstring(L, list[i]);
        lua_pushstring(L, value ? value : "");
        lua_rawset(L, -4);
    }
    if (list)
        lua_pop(L, 1);
    free((void *)keys);
}

void api_push_headers(lua_State *L, struct message *message)
{
    if (message->cached) {
        lua_getfenv(L, 1);
        lua_getfield(L, -1, "headers");
        return;
    }
    lua_createtable(L, 0, 1);
    push_header_table(L, message->msg);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "headers");
    lua_pushvalue(L, -2);
    lua_setfenv(L, 1);
    message->cached = true;
}

/* __index of the headers: the names as they came have not matched; without case they may. */
static int headers_index(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TTABLE || lua_type(L, 2) != LUA_TSTRING)
        return 0;
    const char *name = lua_tostring(L, 2);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        if (lua_type(L, -2) == LUA_TSTRING && strcasecmp(lua_tostring(L, -2), name) == 0)
            return 1;
        lua_pop(L, 1);
    }
    return 0;
}

static const char *header_name(lua_State *L, const char *method)
{
    if (lua_type(L, 2) != LUA_TSTRING) {
        api_misuse(L, "msg:%s: the name must be a string, got %s", method, api_type_name(L, 2));
        return NULL;
    }
    return lua_tostring(L, 2);
}

static int method_header(lua_State *L)
{
    struct message *message = api_message(L, "header");
    const char *name = header_name(L, "header");
    const char *value = message->msg ? wire_header(message->msg, name) : NULL;
    if (!value)
        lua_pushnil(L);
    else
        lua_pushstring(L, value);
    return 1;
}

static void append_values(lua_State *L, natsMsg *msg, const char *key)
{
    const char **values = NULL;
    int count = 0;
    if (natsMsgHeader_Values(msg, key, &values, &count) != NATS_OK)
        return;
    int list = lua_gettop(L);
    const char **copy = count > 0 ? lua_newuserdata(L, (size_t)count * sizeof *copy) : NULL;
    if (copy)
        memcpy(copy, values, (size_t)count * sizeof *copy);
    int have = (int)lua_objlen(L, list);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, copy[i] ? copy[i] : "");
        lua_rawseti(L, list, have + i + 1);
    }
    lua_settop(L, list);
    free((void *)values);
}

/* All values, also of names that differ in case only; an empty list when there are none. */
static int method_header_values(lua_State *L)
{
    struct message *message = api_message(L, "header_values");
    const char *name = header_name(L, "header_values");
    api_push_headers(L, message);
    int headers = lua_gettop(L);
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, headers)) {
        lua_pop(L, 1);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
        if (key && strcasecmp(key, name) == 0) {
            lua_pushvalue(L, -2);
            append_values(L, message->msg, key);
            lua_pop(L, 1);
        }
    }
    return 1;
}

void api_msg_headers_open(lua_State *L)
{
    lua_pushcfunction(L, method_header);
    lua_setfield(L, -2, "header");
    lua_pushcfunction(L, method_header_values);
    lua_setfield(L, -2, "header_values");

    luaL_newmetatable(L, HEADERS_METATABLE);
    lua_pushcfunction(L, headers_index);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "headers");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
