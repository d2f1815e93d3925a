/* view - read-only tables (lua/moonbus/views.lua) where C walks through tables: by lua_next it
 * would see an empty one. A view's metatable has what is behind it under a key that no script can
 * make. */
#include <lauxlib.h>

#include "vm/vm_private.h"

static char behind;

bool vm_see_through(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index))
        return false;
    if (index < 0)
        index -= 1; /* from the top, which has moved */
    lua_pushlightuserdata(L, &behind);
    lua_rawget(L, -2);
    bool is_view = lua_type(L, -1) == LUA_TTABLE;
    lua_remove(L, -2);
    if (is_view)
        lua_replace(L, index);
    else
        lua_pop(L, 1);
    return is_view;
}

/* (metatable, table): of a view, what is behind it. Returns the metatable. */
static int mark(lua_State *L)
{
    lua_settop(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushlightuserdata(L, &behind);
    lua_insert(L, 2);
    lua_rawset(L, 1);
    return 1;
}

int view_open(lua_State *L)
{
    lua_pushcfunction(L, mark);
    return 1;
}
