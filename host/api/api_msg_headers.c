/* api_msg_headers - the headers of a message object: read where they lie, each time, but for the
 * table of them, which is made once, into the userdata's environment table. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/api.h"

#define HEADERS_METATABLE "moonbus.headers"

/* So many fields are compared with each other; of more, which somebody may send to keep a worker
 * busy, the names are kept in a table. */
#define COMPARED_MOST 32

/* Is a field before `before` of the same name? */
static bool came_before(const struct header_block *block, size_t before, struct span name)
{
    struct header_field field;
    size_t position = 0;
    while (header_block_next(block, &position, &field) && position < before) {
        if (span_same(field.name, name))
            return true;
    }
    return false;
}

/* The same by the table on top of the stack, which has the names in lower case. Notes this one. */
static bool was_noted(lua_State *L, struct span name)
{
    luaL_Buffer lower;
    luaL_buffinit(L, &lower);
    for (size_t i = 0; i < name.len; i++)
        luaL_addchar(&lower, (char)(name.at[i] >= 'A' && name.at[i] <= 'Z' ? name.at[i] - 'A' + 'a'
                                                                           : name.at[i]));
    luaL_pushresult(&lower);
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    bool noted = !lua_isnil(L, -1);
    lua_pop(L, 1);
    lua_pushboolean(L, true);
    lua_rawset(L, -3);
    return noted;
}

/* Pushes a table {name = value}: of several of one name, in any case, the first, named as it came.
 */
static void push_header_table(lua_State *L, const struct header_block *block)
{
    struct header_field field;
    size_t position = 0;
    lua_newtable(L);
    luaL_getmetatable(L, HEADERS_METATABLE);
    lua_setmetatable(L, -2);
    int table = lua_gettop(L);
    for (int count = 0; header_block_next(block, &position, &field); count++) {
        if (count == COMPARED_MOST) {
            lua_newtable(L);
            struct header_field earlier;
            size_t before = 0;
            while (header_block_next(block, &before, &earlier) && before < position)
                was_noted(L, earlier.name);
        }
        if (count < COMPARED_MOST ? came_before(block, position, field.name)
                                  : was_noted(L, field.name))
            continue;
        lua_pushlstring(L, field.name.at, field.name.len);
        lua_pushlstring(L, field.value.at, field.value.len);
        lua_rawset(L, table);
    }
    lua_settop(L, table);
}

void api_push_headers(lua_State *L, struct message *message)
{
    if (message->cached) {
        lua_getfenv(L, 1);
        lua_getfield(L, -1, "headers");
        return;
    }
    lua_createtable(L, 0, 1);
    push_header_table(L, &message->headers);
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
    struct span value = header_block_find(&message->headers, header_name(L, "header"));
    if (value.at)
        lua_pushlstring(L, value.at, value.len);
    else
        lua_pushnil(L);
    return 1;
}

/* All values, also of names that differ in case only; an empty list when there are none. */
static int method_header_values(lua_State *L)
{
    struct message *message = api_message(L, "header_values");
    const char *name = header_name(L, "header_values");
    struct header_field field;
    size_t position = 0;
    int count = 0;
    lua_newtable(L);
    while (header_block_next(&message->headers, &position, &field)) {
        if (!span_is(field.name, name))
            continue;
        lua_pushlstring(L, field.value.at, field.value.len);
        lua_rawseti(L, -2, ++count);
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
