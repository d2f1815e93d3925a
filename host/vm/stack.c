/* The end of this thread's stack, and the checks against it. */
#include "vm/stack.h"

#include <lauxlib.h>
#include <stdint.h>

#include "base/strand.h"
#include "base/thread.h"
#include "vm/where.h"

/* The lowest address of this thread's stack; 0: not known yet. */
static _Thread_local uintptr_t bottom;
WORLD_OWN(bottom)

static void find_bottom(void)
{
    void *lowest;
    size_t bytes;
    bottom = 1; /* unknown: everything counts as room */
    if (thread_stack(&lowest, &bytes))
        bottom = (uintptr_t)lowest;
}

void stack_check(lua_State *L, size_t bytes)
{
    if (!bottom)
        find_bottom();
    if ((uintptr_t)__builtin_frame_address(0) - bottom >= bytes)
        return;
    char file[256];
    int line;
    if (where_find(L, file, sizeof file, &line))
        lua_pushfstring(L, "%s:%d: ", file, line);
    else
        lua_pushliteral(L, "");
    lua_pushliteral(L, "stack overflow (C functions or coroutines too deep inside each other)");
    lua_concat(L, 2);
    lua_error(L);
}

static int check_room(lua_State *L)
{
    stack_check(L, STACK_FOR_LUA);
    return 0;
}

int stack_open(lua_State *L)
{
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, check_room);
    lua_setfield(L, -2, "check");
    return 1;
}
