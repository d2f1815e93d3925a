/* api_shared - bus.shared: stores of the process (engine/shared.h), as objects with methods. An
 * object holds nothing: the store outlives every Lua state. */
#include <math.h>
#include <string.h>

#include "api/api.h"
#include "base/value.h"

#define STORE_METATABLE "moonbus.shared"

/* core.shared(name, size, evict): the store's object. evict: "lru", "none", or nil. */
static int core_shared(lua_State *L)
{
    struct err err;
    size_t len = 0;
    lua_settop(L, 3);
    if (lua_type(L, 1) != LUA_TSTRING)
        return api_misuse(L, "bus.shared: the name must be a string, got %s", api_type_name(L, 1));
    const char *name = lua_tolstring(L, 1, &len);
    if (len == 0 || len > SHARED_NAME_MAX || strlen(name) != len)
        return api_misuse(L, "bus.shared: a name has 1 to %d bytes, and no NUL among them",
                          SHARED_NAME_MAX);
    enum store_evict evict = lua_isnil(L, 3)                          ? EVICT_AS_IT_IS
                             : strcmp(lua_tostring(L, 3), "lru") == 0 ? EVICT_LRU
                                                                      : EVICT_NONE;
    struct store **object = lua_newuserdata(L, sizeof(struct store *));
    *object = binding_store(instance_of(L), name, (size_t)lua_tonumber(L, 2), evict, &err);
    if (!*object)
        return api_misuse(L, "bus.shared: %s", err.message);
    luaL_getmetatable(L, STORE_METATABLE);
    lua_setmetatable(L, -2);
    return 1;
}

/* The store at index 1 of a method. Raises. */
static struct store *check_store(lua_State *L, const char *method)
{
    struct store **object = lua_touserdata(L, 1);
    bool good = object && lua_type(L, 1) == LUA_TUSERDATA && lua_getmetatable(L, 1);
    if (good) {
        luaL_getmetatable(L, STORE_METATABLE);
        good = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    if (!good)
        api_misuse(L, "%s: call it with a colon, on what bus.shared returned", method);
    return *object;
}

/* The same, and its key at 2. Raises. */
static struct store *check_call(lua_State *L, const char *method, struct store_key *key)
{
    struct store *store = check_store(L, method);
    if (lua_type(L, 2) != LUA_TSTRING)
        api_misuse(L, "%s: the key must be a string, got %s%s", method, api_type_name(L, 2),
                   lua_type(L, 2) == LUA_TNUMBER ? " (use tostring)" : "");
    key->text = lua_tolstring(L, 2, &key->len);
    if (key->len > SHARED_KEY_MAX)
        api_misuse(L, "%s: the key has %d bytes; a key has at most %d", method, (int)key->len,
                   SHARED_KEY_MAX);
    api_task(L, method);
    return store;
}

/* A ttl in seconds, which moonbus.options has checked. */
static int64_t ttl_of(lua_State *L, int index)
{
    return lua_isnoneornil(L, index) ? 0 : llround(lua_tonumber(L, index) * (double)NS_PER_S);
}

/* store:get(key): its value, or nil. */
static int shared_get(lua_State *L)
{
    struct store_key key;
    struct store_value value = {0};
    bool is_number = false;
    lua_settop(L, 2);
    struct store *store = check_call(L, "shared:get", &key);
    bool found = store_peek(store, key, &value.number, &is_number);
    if (found && !is_number) {
        struct grip *grip = grip_push(L);
        found = store_get(store, key, &value); /* it may be another one by now */
        if (found && value.plain) {
            grip_fill(L, grip, value.plain);
            int count = plain_push(L, value.plain);
            grip_release(grip);
            return count;
        }
    }
    if (found)
        lua_pushnumber(L, value.number);
    else
        lua_pushnil(L);
    return 1;
}

/* The value at index 3; raises for what is not plain. */
static int check_value(lua_State *L, const struct store *store, const char *method,
                       struct store_value *value, struct err *err)
{
    *value = (struct store_value){0};
    if (lua_isnoneornil(L, 3))
        api_misuse(L, "%s: the value is missing (nil); shared:delete removes a key", method);
    if (lua_type(L, 3) == LUA_TNUMBER) {
        value->number = lua_tonumber(L, 3);
        return 0;
    }
    const struct plain_rules rules = {.verb = "stored",
                                      .limit_bytes = store_size_bytes((struct store *)store)};
    value->plain = plain_copy(L, 3, 1, &rules, err);
    if (!value->plain && err->code == ERR_INVALID)
        api_misuse(L, "%s: %s", method, err->message);
    return value->plain ? 0 : err->code;
}

/* Both: (store, key, value, ttl). */
static int put(lua_State *L, const char *method, enum store_mode mode)
{
    struct store_key key;
    struct store_value value;
    struct err err;
    bool done = false;
    lua_settop(L, 4);
    struct store *store = check_call(L, method, &key);
    int code = check_value(L, store, method, &value, &err);
    if (code == 0)
        code = store_put(store, mode, key, value, ttl_of(L, 4), &done, &err);
    if (code)
        return api_fail(L, &err);
    lua_pushboolean(L, done);
    return 1;
}

/* store:set(key, value, ttl): true, or nil and an error. */
static int shared_set(lua_State *L)
{
    return put(L, "shared:set", STORE_SET);
}

/* store:add(key, value, ttl): false when the key is there already. */
static int shared_add(lua_State *L)
{
    return put(L, "shared:add", STORE_ADD);
}

/* store:replace(key, value, ttl): false when the key is not there. */
static int shared_replace(lua_State *L)
{
    return put(L, "shared:replace", STORE_REPLACE);
}

static double number_at(lua_State *L, int index, const char *what, double otherwise)
{
    if (lua_isnoneornil(L, index))
        return otherwise;
    if (lua_type(L, index) != LUA_TNUMBER || !isfinite(lua_tonumber(L, index)))
        api_misuse(L, "shared:incr: %s must be a number, got %s", what,
                   lua_type(L, index) == LUA_TNUMBER ? "one that is not finite"
                                                     : api_type_name(L, index));
    return lua_tonumber(L, index);
}

/* store:incr(key, by, init, ttl): the sum, or nil and an error. */
static int shared_incr(lua_State *L)
{
    struct store_key key;
    struct err err;
    double sum = 0;
    lua_settop(L, 5);
    struct store *store = check_call(L, "shared:incr", &key);
    double by = number_at(L, 3, "what is added", 1);
    double init = number_at(L, 4, "init", 0);
    int code = store_incr(store, key, by, init, ttl_of(L, 5), &sum, &err);
    if (code == ERR_INVALID)
        return api_misuse(L, "shared:incr: %s", err.message);
    if (code)
        return api_fail(L, &err);
    lua_pushnumber(L, sum);
    return 1;
}

/* store:delete(key): was it there? */
static int shared_delete(lua_State *L)
{
    struct store_key key;
    lua_settop(L, 2);
    struct store *store = check_call(L, "shared:delete", &key);
    lua_pushboolean(L, store_delete(store, key));
    return 1;
}

/* store:ttl(key): seconds; false: for ever; nil: it is not there. */
static int shared_ttl(lua_State *L)
{
    struct store_key key;
    int64_t ttl_ns = 0;
    lua_settop(L, 2);
    struct store *store = check_call(L, "shared:ttl", &key);
    if (!store_ttl(store, key, &ttl_ns))
        lua_pushnil(L);
    else if (ttl_ns)
        lua_pushnumber(L, (double)ttl_ns / (double)NS_PER_S);
    else
        lua_pushboolean(L, false);
    return 1;
}

/* store:expire(key, ttl): is it there? ttl: nil: for ever. */
static int shared_expire(lua_State *L)
{
    struct store_key key;
    struct err err;
    bool there = false;
    lua_settop(L, 3);
    struct store *store = check_call(L, "shared:expire", &key);
    if (store_expire(store, key, ttl_of(L, 3), &there, &err) != 0)
        return api_fail(L, &err);
    lua_pushboolean(L, there);
    return 1;
}

/* store:keys(most): a list. */
static int shared_keys(lua_State *L)
{
    lua_settop(L, 2);
    struct store *store = check_store(L, "shared:keys");
    unsigned most = (unsigned)luaL_checkinteger(L, 2);
    api_task(L, "shared:keys");
    size_t size = store_keys_bytes(store, most), len;
    char *buf = lua_newuserdata(L, size);
    unsigned count = store_keys(store, most, buf, size);
    lua_createtable(L, (int)count, 0);
    for (unsigned i = 1; i <= count; i++) {
        memcpy(&len, buf, sizeof len);
        lua_pushlstring(L, buf + sizeof len, len);
        lua_rawseti(L, -2, (int)i);
        buf += sizeof len + len;
    }
    return 1;
}

/* store:flush(): how many keys there were. */
static int shared_flush(lua_State *L)
{
    struct store *store = check_store(L, "shared:flush");
    api_task(L, "shared:flush");
    lua_pushinteger(L, (lua_Integer)store_flush(store));
    return 1;
}

/* store:stats(): a table of numbers. */
static int shared_stats(lua_State *L)
{
    struct store_stat stat;
    struct store *store = check_store(L, "shared:stats");
    api_task(L, "shared:stats");
    store_count(store, &stat);
    const struct {
        const char *name;
        double value;
    } fields[] = {
        {"entries", stat.entries},         {"bytes", (double)stat.used_bytes},
        {"size", (double)stat.size_bytes}, {"hits", (double)stat.hits},
        {"misses", (double)stat.misses},   {"evicted", (double)stat.evicted},
    };
    lua_createtable(L, 0, sizeof fields / sizeof *fields);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        lua_pushnumber(L, fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

static int shared_tostring(lua_State *L)
{
    struct store **object = luaL_checkudata(L, 1, STORE_METATABLE);
    lua_pushfstring(L, "shared \"%s\"", store_name(*object));
    return 1;
}

static int shared_newindex(lua_State *L)
{
    return api_misuse(L, "a shared store has no fields: write store:set(key, value)");
}

void api_shared_open(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"get", shared_get},         {"set", shared_set},       {"add", shared_add},
        {"replace", shared_replace}, {"incr", shared_incr},     {"delete", shared_delete},
        {"ttl", shared_ttl},         {"expire", shared_expire}, {"keys", shared_keys},
        {"flush", shared_flush},     {"stats", shared_stats},   {NULL, NULL},
    };
    luaL_newmetatable(L, STORE_METATABLE);
    lua_newtable(L);
    for (const luaL_Reg *f = methods; f->name; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, -4, "shared_methods"); /* the Lua side wraps those with options */
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, shared_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushcfunction(L, shared_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "shared");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_pushcfunction(L, core_shared);
    lua_setfield(L, -2, "shared");
}
