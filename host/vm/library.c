/* library - what the host's own Lua finds: the standard libraries, lua-cjson, and the embedded
 * modules. Scripts see of it what the loader hands them. */
#include <errno.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vm/compiled.h"
#include "vm/embedded.h"
#include "vm/guard.h"
#include "vm/stack.h"
#include "vm/vm_private.h"

/* Embedded modules are named "=moonbus.loader": a place in one is told apart from a script's. */
static void load_text(lua_State *L, const char *text, size_t len, const char *name)
{
    lua_pushfstring(L, "=%s", name);
    if (luaL_loadbufferx(L, text, len, lua_tostring(L, -1), "t"))
        lua_error(L);
}

static const struct embedded_module *find_embedded(const char *name)
{
    for (size_t i = 0; i < embedded_module_count; i++) {
        if (strcmp(embedded_modules[i].name, name) == 0)
            return &embedded_modules[i];
    }
    return NULL;
}

static void load_embedded(lua_State *L, const struct embedded_module *module)
{
    if (compiled_load(L, module))
        return;
    load_text(L, module->source, module->len, module->name);
    compiled_keep(L, module);
}

/* Pushes the file's text and returns true; false when it cannot be read. */
static bool push_file(lua_State *L, const char *path)
{
    struct stat info;
    if (stat(path, &info) || !S_ISREG(info.st_mode))
        return false;
    char *text = lua_newuserdata(L, (size_t)info.st_size + 1);
    FILE *file = fopen(path, "rb");
    if (!file) {
        lua_pop(L, 1);
        return false;
    }
    size_t len = fread(text, 1, (size_t)info.st_size, file);
    fclose(file);
    lua_pushlstring(L, text, len);
    lua_remove(L, -2);
    return true;
}

/* While developing: a module of the folder that MOONBUS_LUA_DIR names, instead of the binary's. */
static bool push_module_file(lua_State *L, const char *dir, const char *name)
{
    luaL_gsub(L, name, ".", "/");
    lua_pushfstring(L, "%s/%s.lua", dir, lua_tostring(L, -1));
    if (push_file(L, lua_tostring(L, -1)))
        return true;
    lua_pushfstring(L, "%s/%s/init.lua", dir, lua_tostring(L, -2));
    return push_file(L, lua_tostring(L, -1));
}

/* A searcher of package.loaders: name -> loader, or text. */
static int search_embedded(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const char *dir = getenv("MOONBUS_LUA_DIR");
    if (dir && *dir && push_module_file(L, dir, name)) {
        size_t len;
        const char *text = lua_tolstring(L, -1, &len);
        load_text(L, text, len, name);
        return 1;
    }
    const struct embedded_module *module = find_embedded(name);
    if (!module) {
        lua_pushfstring(L, "\n\tthe host has no module \"%s\"", name);
        return 1;
    }
    load_embedded(L, module);
    return 1;
}

/* LuaJIT's own searcher, for what is in package.preload: its upvalues. What is not there it looks
 * for among the symbols of all libraries of the process, and of the host's modules none is. */
static int search_preload(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (strncmp(name, "moonbus", 7) == 0) {
        lua_getfield(L, lua_upvalueindex(2), name);
        if (lua_isnil(L, -1))
            return 0;
        lua_pop(L, 1);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 2);
}

/* The host requires what is preloaded or embedded, and nothing from the file system: a file that
 * happens to be called like one of its modules changes nothing. The searchers of the file system
 * are kept for scripts that are trusted. */
static void set_searchers(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaders");
    lua_createtable(L, 2, 0);
    lua_rawgeti(L, -2, 1);
    lua_getfield(L, -4, "preload");
    lua_pushcclosure(L, search_preload, 2);
    lua_rawseti(L, -2, 1);
    lua_pushcfunction(L, search_embedded);
    lua_rawseti(L, -2, 2);
    lua_setfield(L, -3, "loaders");
    lua_setfield(L, -2, "file_loaders");
    lua_pop(L, 1);
}

int vm_open_libraries(lua_State *L)
{
    luaL_openlibs(L);
    guard_wrap_functions(L);
    /* A finalizer written in Lua could raise where nothing catches it. */
    lua_pushnil(L);
    lua_setglobal(L, "newproxy");
    preload(L, "moonbus.stack", stack_open);
    preload(L, "moonbus.show", show_open);
    preload(L, "moonbus.view", view_open);
    preload(L, "cjson", vm_open_cjson);
    preload(L, "cjson.safe", vm_open_cjson_safe);
    set_searchers(L);
    lua_getglobal(L, "require");
    lua_setfield(L, LUA_REGISTRYINDEX, VM_REQUIRE);
    return 0;
}
