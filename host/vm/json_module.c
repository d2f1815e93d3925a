/* json_module - lua-cjson as scripts know it ("cjson" and "cjson.safe" by require), within bounds.
 *
 * lua-cjson builds a text in memory that is not the state's: no limit holds for it, a state that is
 * discarded would leave it behind, and when there is none left it ends the process. So what is to
 * be encoded is measured first, and no buffer is kept for the next text. */
#include <stdbool.h>

#include "vm/internal.h"

int luaopen_cjson(lua_State *L);
int luaopen_cjson_safe(lua_State *L);

#define TEXT_MAX ((size_t)64 << 20) /* no NATS server takes more */
#define DEPTH_MAX 1000 /* deeper is refused by lua-cjson itself, unless told otherwise */

static size_t string_size(const char *text, size_t len)
{
    size_t size = len + 2;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        size += c < 0x20 || c == 0x7f ? 5 : c == '"' || c == '\\' || c == '/';
    }
    return size;
}

/* Adds what the value on top takes as JSON, about; stops soon after TEXT_MAX. */
static void measure(lua_State *L, size_t *size, int depth)
{
    size_t len;
    const char *text;
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        *size += string_size(text, len);
        return;
    case LUA_TTABLE:
        break;
    default:
        *size += 5;
        return;
    }
    *size += 2;
    if (depth >= DEPTH_MAX || !lua_checkstack(L, 4))
        return;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        measure(L, size, depth + 1);
        lua_pop(L, 1);
        *size += 2;
        if (lua_type(L, -1) == LUA_TSTRING)
            measure(L, size, depth + 1);
        if (*size > TEXT_MAX) {
            lua_pop(L, 1);
            return;
        }
    }
}

/* encode(value). Upvalues: lua-cjson's, whether errors are returned. */
static int encode(lua_State *L)
{
    size_t size = 0;
    int nargs = lua_gettop(L);
    if (nargs > 0) {
        lua_pushvalue(L, 1);
        measure(L, &size, 0);
        lua_pop(L, 1);
    }
    if (size > TEXT_MAX) {
        static const char refusal[] = "Cannot serialise: the JSON text would be longer than 64MB";
        if (!lua_toboolean(L, lua_upvalueindex(2)))
            return luaL_error(L, refusal);
        lua_pushnil(L);
        lua_pushstring(L, refusal);
        return 2;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, nargs, LUA_MULTRET);
    return lua_gettop(L);
}

/* encode_keep_buffer(...): it is not kept, whatever is asked for. */
static int keep_no_buffer(lua_State *L)
{
    lua_pushboolean(L, false);
    return 1;
}

static void bound(lua_State *L, bool safe);

/* new(). Upvalues: lua-cjson's, whether errors are returned. */
static int new_module(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_call(L, 0, 1);
    bound(L, lua_toboolean(L, lua_upvalueindex(2)));
    return 1;
}

static void replace(lua_State *L, const char *name, lua_CFunction with, bool safe)
{
    lua_getfield(L, -1, name);
    lua_pushboolean(L, safe);
    lua_pushcclosure(L, with, 2);
    lua_setfield(L, -2, name);
}

/* The module's table on top. */
static void bound(lua_State *L, bool safe)
{
    lua_getfield(L, -1, "encode_keep_buffer");
    lua_pushboolean(L, false);
    lua_call(L, 1, 0);
    replace(L, "encode", encode, safe);
    replace(L, "new", new_module, safe);
    lua_pushcfunction(L, keep_no_buffer);
    lua_setfield(L, -2, "encode_keep_buffer");
}

int vm_open_cjson(lua_State *L)
{
    luaopen_cjson(L);
    bound(L, false);
    return 1;
}

int vm_open_cjson_safe(lua_State *L)
{
    luaopen_cjson_safe(L);
    bound(L, true);
    return 1;
}
