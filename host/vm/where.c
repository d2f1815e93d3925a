/* A walk over the levels of a Lua stack. */
#include "vm/where.h"

#include <stdio.h>

/* Scripts' chunks are "@file" or text, all others "=name". */
bool where_level(lua_State *L, int level, lua_Debug *debug, bool *end)
{
    *end = !lua_getstack(L, level, debug);
    if (*end || !lua_getinfo(L, "Sl", debug) || debug->source[0] == '=')
        return false;
    /* LuaJIT has lost the line when memory ran out in this very function: then its first one. */
    if (debug->currentline <= 0)
        debug->currentline = debug->linedefined > 0 ? debug->linedefined : 1;
    return true;
}

const char *where_source(const lua_Debug *debug)
{
    return debug->source[0] == '@' ? debug->source + 1 : debug->short_src;
}

bool where_find(lua_State *L, char *buf, size_t size, int *line)
{
    lua_Debug debug;
    bool end = false;
    for (int level = 0; !end; level++) {
        if (!where_level(L, level, &debug, &end))
            continue;
        snprintf(buf, size, "%s", where_source(&debug));
        *line = debug.currentline;
        return true;
    }
    return false;
}
