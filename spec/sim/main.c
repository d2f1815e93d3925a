/* moonbus_sim - LuaJIT with the host and its simulation inside, for specs: moonbus_sim FILE ARG...
 * runs a Lua file as luajit does; what sim.h declares is in ffi.C. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>

#include "sim/sim.h"

/* jemalloc's: what a world gave back the next one takes, and the kernel is not asked in between,
 * which cost a fourteenth of `make sim`. */
extern const char *malloc_conf;
const char *malloc_conf = "dirty_decay_ms:-1,muzzy_decay_ms:-1";

void sim_mark(void);

/* Where a profiler begins to count anew, as Lua says it: bench/instructions/. Nothing calls it but
 * by ffi.C. */
__attribute__((noinline)) void sim_mark(void)
{
    __asm__ volatile("");
}

static int run_file(lua_State *L)
{
    int count = lua_gettop(L) - 1;
    if (luaL_loadfile(L, lua_tostring(L, 1)) != 0)
        return lua_error(L);
    lua_insert(L, 2);
    lua_call(L, count, 0);
    return 0;
}

static int traceback(lua_State *L)
{
    if (lua_isstring(L, 1))
        luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE [ARG...]\n", argv[0]);
        return 2;
    }
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_createtable(L, argc, 0);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - 1);
    }
    lua_setglobal(L, "arg");
    lua_pushcfunction(L, traceback);
    lua_pushcfunction(L, run_file);
    for (int i = 1; i < argc; i++)
        lua_pushstring(L, argv[i]);
    int failed = lua_pcall(L, argc - 1, 0, 1);
    if (failed)
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
    lua_close(L);
    return failed ? 1 : 0;
}
