/* alike - what a function is, for another state. */
#include "vm/alike.h"

#include <stdbool.h>
#include <string.h>

#include "base/hash.h"

/* What is looked at in all. Beyond it nothing of what was closed over counts, so that the order in
 * which a table is walked does not. */
#define VALUES_MOST 1000

struct look {
    lua_State *L;
    int values; /* seen so far */
};

static uint64_t add_value(struct look *look, uint64_t hash, int index, int depth);

static uint64_t add_text(uint64_t hash, const char *text)
{
    return hash_add(hash, text, strlen(text) + 1);
}

/* The number of the entries in any order: their sum. */
static uint64_t add_table(struct look *look, uint64_t hash, int index, int depth)
{
    lua_State *L = look->L;
    uint64_t sum = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (look->values > VALUES_MOST) {
            lua_pop(L, 2);
            break;
        }
        int value = lua_gettop(L), key = value - 1;
        sum += add_value(look, add_value(look, HASH_START, key, depth + 1), value, depth + 1);
        lua_pop(L, 1);
    }
    return hash_add(hash, &sum, sizeof sum);
}

static uint64_t add_place(lua_State *L, uint64_t hash, int index)
{
    lua_Debug place;
    lua_pushvalue(L, index);
    lua_getinfo(L, ">Su", &place);
    hash = add_text(hash, place.source);
    hash = hash_add(hash, &place.linedefined, sizeof place.linedefined);
    hash = hash_add(hash, &place.lastlinedefined, sizeof place.lastlinedefined);
    return hash_add(hash, &place.nups, sizeof place.nups);
}

static uint64_t add_function(struct look *look, uint64_t hash, int index, int depth)
{
    lua_State *L = look->L;
    hash = add_place(L, hash, index);
    for (int i = 1; lua_getupvalue(L, index, i); i++) {
        hash = add_value(look, hash, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
    }
    return hash;
}

static uint64_t add_value(struct look *look, uint64_t hash, int index, int depth)
{
    lua_State *L = look->L;
    int type = lua_type(L, index);
    look->values++;
    hash = hash_add(hash, &type, sizeof type);
    if (type == LUA_TSTRING) {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        return hash_add(hash, text, len);
    }
    if (type == LUA_TNUMBER) {
        lua_Number number = lua_tonumber(L, index);
        return hash_add(hash, &number, sizeof number);
    }
    if (type == LUA_TBOOLEAN)
        return hash_add(hash, lua_toboolean(L, index) ? "t" : "f", 1);
    if (depth >= ALIKE_DEPTH - 1 || look->values > VALUES_MOST)
        return hash;
    if (type == LUA_TFUNCTION)
        return add_function(look, hash, index, depth);
    return type == LUA_TTABLE ? add_table(look, hash, index, depth) : hash;
}

uint64_t alike_function(lua_State *L, int index)
{
    struct look look = {.L = L};
    uint64_t hash = add_value(&look, HASH_START, index, 0);
    return look.values > VALUES_MOST ? add_place(L, HASH_START, index) : hash;
}
