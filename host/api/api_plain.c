/* api_plain - what a binding holds of plain values while it hands them to Lua: pushing may raise,
 * so they hang on a userdata. */
#include "api/api.h"

#define GRIP_METATABLE "moonbus.plain"

static void drop_grip(struct vm_held *held)
{
    plain_release(((struct grip *)held)->plain);
}

static int collect_grip(lua_State *L)
{
    grip_release(lua_touserdata(L, 1));
    return 0;
}

struct grip *grip_push(lua_State *L)
{
    struct grip *grip = lua_newuserdata(L, sizeof *grip);
    *grip = (struct grip){0};
    luaL_getmetatable(L, GRIP_METATABLE);
    lua_setmetatable(L, -2);
    return grip;
}

void grip_fill(lua_State *L, struct grip *grip, struct plain *plain)
{
    grip->plain = plain;
    vm_hold(L, &grip->held, drop_grip);
}

struct grip *grip_at(lua_State *L, int index)
{
    return luaL_checkudata(L, index, GRIP_METATABLE);
}

void grip_release(struct grip *grip)
{
    struct plain *plain = grip->plain;
    grip->plain = NULL;
    vm_unhold(&grip->held);
    plain_release(plain);
}

void api_plain_open(lua_State *L)
{
    api_collected(L, GRIP_METATABLE, collect_grip);
}
