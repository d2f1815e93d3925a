/* json_module - lua-cjson as scripts know it ("cjson" and "cjson.safe" by require), within bounds.
 *
 * lua-cjson builds a text in memory that is not the state's: no limit holds for it, a state that is
 * discarded would leave it behind, and when there is none left it ends the process. So what is to
 * be encoded is measured first, and no buffer is kept for the next text. An error that passes
 * through lua-cjson loses the memory that it works with, and "not enough memory" may come from each
 * allocation of Lua's. So what is to be read is estimated, and while lua-cjson works the limit is
 * not asked. */
#include <math.h>
#include <stdbool.h>

#include "vm/vm_private.h"

int luaopen_cjson(lua_State *L);
int luaopen_cjson_safe(lua_State *L);

#define TEXT_MAX ((size_t)64 << 20) /* no NATS server takes more */
#define NESTED_MOST 8000            /* Lua's stack has no room for more */
#define DEPTH_MAX 1000 /* deeper is refused by lua-cjson itself; no script may have it deeper */

static size_t string_size(const char *text, size_t len)
{
    size_t size = len + 2;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        size += c < 0x20 || c == 0x7f ? 5 : c == '"' || c == '\\' || c == '/';
    }
    return size;
}

/* A table's keys, as lua-cjson looks at them. */
struct keys {
    double count, last;
    bool others; /* it is no array */
};

static void note_key(lua_State *L, struct keys *keys)
{
    double key = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    keys->count++;
    if (key < 1 || floor(key) != key)
        keys->others = true;
    else if (key > keys->last)
        keys->last = key;
}

/* The bytes of a hole in an array: "null,". Upvalue 3 of encode says how many holes are too many.
 */
static size_t holes_size(lua_State *L, const struct keys *keys)
{
    if (keys->others || keys->last <= keys->count)
        return 0;
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_call(L, 0, 3);
    double ratio = lua_tonumber(L, -2), safe = lua_tonumber(L, -1);
    lua_pop(L, 3);
    /* Then it is refused, or becomes an object. */
    if (ratio > 0 && keys->last > keys->count * ratio && keys->last > safe)
        return 0;
    double size = (keys->last - keys->count) * 5;
    return size < (double)TEXT_MAX ? (size_t)size : TEXT_MAX;
}

/* Adds what the value on top takes as JSON, about; stops soon after TEXT_MAX. */
static void measure(lua_State *L, size_t *size, int depth)
{
    struct keys keys = {0};
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
    if (depth >= DEPTH_MAX || !lua_checkstack(L, 8))
        return;
    if (vm_see_through(L, -1))
        luaL_error(
            L, "Cannot serialise: a part of bus.settings in another table; bus.json.encode can");
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        measure(L, size, depth + 1);
        lua_pop(L, 1);
        *size += 2;
        note_key(L, &keys);
        if (lua_type(L, -1) == LUA_TSTRING)
            measure(L, size, depth + 1);
        if (*size > TEXT_MAX) {
            lua_pop(L, 1);
            return;
        }
    }
    *size += holes_size(L, &keys);
}

/* Calls lua-cjson's function with what is on the stack; returns its results. */
static int call_unlimited(lua_State *L, int function)
{
    struct vm *vm = vm_of(L);
    bool enforcing = vm->enforcing;
    lua_pushvalue(L, function);
    lua_insert(L, 1);
    vm->enforcing = false;
    int code = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    vm->enforcing = enforcing;
    return code ? lua_error(L) : lua_gettop(L);
}

/* Past the string that begins at text[at]. */
static size_t skip_string(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"'; at++)
        at += text[at] == '\\';
    return at;
}

/* As much as the tables and strings of a text may take, at most: a table, its place in another one,
 * which has room for twice as many, a key or a string. Nothing is read below NESTED_MOST. */
static size_t estimate(const char *text, size_t len)
{
    size_t size = len, depth = 0;
    for (size_t i = 0; i < len && depth <= NESTED_MOST; i++) {
        switch (text[i]) {
        case '[':
        case '{':
            depth++;
            size += 112;
            break;
        case ']':
        case '}':
            depth -= depth > 0;
            break;
        case ',':
        case ':':
            size += 48;
            break;
        case '"':
            i = skip_string(text, len, i);
            size += 32;
            break;
        }
    }
    return size;
}

/* decode(text). Upvalues: lua-cjson's, whether errors are returned. */
static int decode(lua_State *L)
{
    struct vm *vm = vm_of(L);
    size_t len, size;
    if (lua_type(L, 1) == LUA_TSTRING && vm->limit_bytes) {
        const char *text = lua_tolstring(L, 1, &len);
        size = estimate(text, len);
        if (!vm_has_room_for(vm, size))
            return lua_pushliteral(L, VM_NO_MEMORY), lua_error(L);
    }
    return call_unlimited(L, lua_upvalueindex(1));
}

/* encode(value). Upvalues: lua-cjson's, whether errors are returned, lua-cjson's
 * encode_sparse_array. */
static int encode(lua_State *L)
{
    size_t size = 0;
    int nargs = lua_gettop(L);
    if (nargs > 0) {
        vm_see_through(L, 1);
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
    return call_unlimited(L, lua_upvalueindex(1));
}

/* encode_max_depth([depth]). Upvalue: lua-cjson's. */
static int bound_depth(lua_State *L)
{
    if (lua_tonumber(L, 1) > DEPTH_MAX)
        return luaL_argerror(L, 1, "the host writes no deeper than 1000");
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
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
    lua_getfield(L, -3, "encode_sparse_array");
    lua_pushcclosure(L, with, 3);
    lua_setfield(L, -2, name);
}

/* The module's table on top. */
static void bound(lua_State *L, bool safe)
{
    lua_getfield(L, -1, "encode_keep_buffer");
    lua_pushboolean(L, false);
    lua_call(L, 1, 0);
    replace(L, "encode", encode, safe);
    replace(L, "decode", decode, safe);
    replace(L, "new", new_module, safe);
    replace(L, "encode_max_depth", bound_depth, safe);
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
