/* api_mirror - the caches of buckets, for the modules of the Lua side (moonbus.kv_cache). No script
 * reaches it: its arguments have been checked there. */
#include <stdlib.h>

#include "api/api.h"
#include "base/value.h"
#include "engine/bindings.h"

#define MIRROR_METATABLE "moonbus.mirror"

struct mirror_handle {
    struct vm_held held;
    struct mirror *mirror; /* a reference, or NULL */
    const struct mirror_value
        *value; /* a reference, while it is pushed, which may raise; or NULL */
};

static void end_value(struct mirror_handle *handle)
{
    const struct mirror_value *value = handle->value;
    handle->value = NULL;
    if (value)
        mirror_value_release(handle->mirror, value);
}

static void drop_handle(struct vm_held *held)
{
    struct mirror_handle *handle = (struct mirror_handle *)held;
    end_value(handle);
    mirror_release(handle->mirror);
}

static int collect_handle(lua_State *L)
{
    struct mirror_handle *handle = lua_touserdata(L, 1);
    if (!handle->mirror)
        return 0;
    vm_unhold(&handle->held);
    end_value(handle);
    mirror_release(handle->mirror);
    handle->mirror = NULL;
    return 0;
}

/* core.mirror(stream): what mirror_get and mirror_note take; of this script. */
static int core_mirror(lua_State *L)
{
    const char *stream = luaL_checkstring(L, 1);
    struct mirror_handle *handle = lua_newuserdata(L, sizeof *handle);
    *handle = (struct mirror_handle){0};
    luaL_getmetatable(L, MIRROR_METATABLE);
    lua_setmetatable(L, -2);
    handle->mirror = binding_mirror(instance_of(L), stream);
    if (!handle->mirror)
        return luaL_error(L, "not enough memory");
    vm_hold(L, &handle->held, drop_handle);
    return 1;
}

static struct mirror_handle *handle_at(lua_State *L, int index)
{
    struct mirror_handle *handle = luaL_checkudata(L, index, MIRROR_METATABLE);
    if (!handle->mirror)
        luaL_error(L, "the cache of this bucket has ended");
    return handle;
}

/* value, revision, created, stale */
static int push_value(lua_State *L, struct mirror_handle *handle, bool stale)
{
    const struct mirror_value *value = handle->value;
    lua_pushlstring(L, value->data, value->len);
    lua_pushnumber(L, (double)value->revision);
    lua_pushnumber(L, (double)value->timestamp_ns / NS_PER_S);
    lua_pushboolean(L, stale);
    end_value(handle);
    return 4;
}

/* core.mirror_get(mirror, subject): nil: the server must be asked. false, stale: the key has no
 * value. Else the value, its revision, when it was stored (seconds), and whether it may be old. */
static int core_mirror_get(lua_State *L)
{
    struct mirror_handle *handle = handle_at(L, 1);
    const char *subject = luaL_checkstring(L, 2);
    bool stale;
    end_value(handle); /* of a call that raised */
    switch (binding_mirror_get(instance_of(L), handle->mirror, subject, &handle->value, &stale)) {
    case MIRROR_HAS:
        return push_value(L, handle, stale);
    case MIRROR_HAS_NOT:
        lua_pushboolean(L, false);
        lua_pushboolean(L, stale);
        return 2;
    case MIRROR_UNKNOWN:
        break;
    }
    return 0;
}

/* core.mirror_note(mirror, subject, data or nil, revision): this process has written it. */
static int core_mirror_note(lua_State *L)
{
    size_t len = 0;
    struct mirror *mirror = handle_at(L, 1)->mirror;
    const char *data = lua_isnoneornil(L, 3) ? NULL : luaL_checklstring(L, 3, &len);
    mirror_note(mirror, luaL_checkstring(L, 2), data, len, (uint64_t)luaL_checknumber(L, 4),
                clock_wall_ns());
    return 0;
}

void api_mirror_open(lua_State *L)
{
    api_collected(L, MIRROR_METATABLE, collect_handle);
    lua_pushcfunction(L, core_mirror);
    lua_setfield(L, -2, "mirror");
    lua_pushcfunction(L, core_mirror_get);
    lua_setfield(L, -2, "mirror_get");
    lua_pushcfunction(L, core_mirror_note);
    lua_setfield(L, -2, "mirror_note");
}
