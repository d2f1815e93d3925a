/* files - see files.h. */
#include "cli/test/files.h"

#include <dirent.h>
#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/watch.h"
#include "base/regular.h"

#define TEXT_MOST ((size_t)64 << 20)

static int files_list(lua_State *L)
{
    const char *folder = luaL_checkstring(L, 1);
    DIR *dir = opendir(folder);
    if (!dir)
        return 0;
    lua_newtable(L);
    const struct dirent *entry;
    for (int count = 0; (entry = readdir(dir));) {
        struct stat info;
        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &info, 0) != 0)
            continue;
        lua_pushfstring(L, S_ISDIR(info.st_mode) ? "%s/" : "%s", entry->d_name);
        lua_rawseti(L, -2, ++count);
    }
    closedir(dir);
    return 1;
}

static int files_real(lua_State *L)
{
    char *path = realpath(luaL_checkstring(L, 1), NULL);
    lua_pushstring(L, path); /* NULL: nil */
    free(path);
    return 1;
}

static int fail(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

static int files_read(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct stat info;
    int error;
    int fd = regular_open(path, &error);
    if (fd < 0)
        return fail(L, regular_error(error));
    if (fstat(fd, &info) != 0 || (size_t)info.st_size > TEXT_MOST) {
        close(fd);
        return fail(L, "it has more than 64 MB");
    }
    char *text = malloc((size_t)info.st_size + 1);
    size_t len = 0;
    ssize_t got = -1;
    while (text && len < (size_t)info.st_size &&
           (got = read(fd, text + len, (size_t)info.st_size - len)) > 0)
        len += (size_t)got;
    close(fd);
    if (!text || (got < 0 && info.st_size > 0)) {
        free(text);
        return fail(L, text ? strerror(errno) : "no memory");
    }
    lua_pushlstring(L, text, len);
    free(text);
    return 1;
}

static int files_handlers(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct stat info;
    int count = 0;
    if (stat(path, &info) != 0 || access(path, R_OK) != 0) {
        lua_pushnil(L);
        lua_pushfstring(L, "%s: %s", path, strerror(errno));
        return 2;
    }
    lua_newtable(L);
    if (!S_ISDIR(info.st_mode)) {
        lua_pushstring(L, path);
        lua_rawseti(L, -2, 1);
        return 1;
    }
    char **names = watch_list_folder(path, &count);
    const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
    for (int i = 0; names && i < count; i++) {
        lua_pushfstring(L, "%s%s%s", path, slash, names[i]);
        lua_rawseti(L, -2, i + 1);
    }
    watch_free_names(names, count);
    return 1;
}

int files_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"list", files_list},
                                         {"real", files_real},
                                         {"read", files_read},
                                         {"handlers", files_handlers},
                                         {NULL, NULL}};
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
