#include "vm/sources.h"

#include <errno.h>
#include <lauxlib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "base/regular.h"

/* Modules are looked for in several places: of most files it is only known that they are not there.
 */
struct source_file {
    UT_hash_handle hh;
    char *text; /* owned; NULL: there is none */
    size_t len;
    int error; /* of regular_error, without a text */
    char path[];
};

struct sources {
    atomic_int references;
    pthread_mutex_t lock; /* guards the table; a leaf */
    struct source_file *table;
};

struct sources *sources_new(void)
{
    struct sources *sources = calloc(1, sizeof *sources);
    if (!sources)
        return NULL;
    atomic_init(&sources->references, 1);
    pthread_mutex_init(&sources->lock, NULL);
    return sources;
}

struct sources *sources_retain(struct sources *sources)
{
    atomic_fetch_add_explicit(&sources->references, 1, memory_order_relaxed);
    return sources;
}

static void file_free(struct source_file *file)
{
    free(file->text);
    free(file);
}

void sources_release(struct sources *sources)
{
    if (!sources || atomic_fetch_sub_explicit(&sources->references, 1, memory_order_acq_rel) != 1)
        return;
    struct source_file *file, *next;
    HASH_ITER(hh, sources->table, file, next) {
        HASH_DEL(sources->table, file);
        file_free(file);
    }
    pthread_mutex_destroy(&sources->lock);
    free(sources);
}

int sources_count(struct sources *sources)
{
    pthread_mutex_lock(&sources->lock);
    int count = (int)HASH_COUNT(sources->table);
    pthread_mutex_unlock(&sources->lock);
    return count;
}

void sources_each(struct sources *sources,
                  void (*visit)(void *owner, const char *path, const char *text, size_t len),
                  void *owner)
{
    const struct source_file *file, *next;
    pthread_mutex_lock(&sources->lock);
    HASH_ITER(hh, sources->table, file, next)
        visit(owner, file->path, file->text, file->len);
    pthread_mutex_unlock(&sources->lock);
}

static int read_all(struct source_file *file, int fd)
{
    size_t capacity = 0;
    ssize_t len;
    do {
        if (file->len == capacity) {
            char *text = realloc(file->text, capacity += 16384);
            if (!text)
                return ENOMEM;
            file->text = text;
        }
        do {
            len = read(fd, file->text + file->len, capacity - file->len);
        } while (len < 0 && errno == EINTR);
        file->len += len > 0 ? (size_t)len : 0;
    } while (len > 0);
    return len < 0 ? errno : 0;
}

static int open_and_read(struct source_file *file)
{
    int error, fd = regular_open(file->path, &error);
    if (fd < 0)
        return error;
    error = read_all(file, fd);
    close(fd);
    return error;
}

/* NULL when out of memory. */
static struct source_file *read_file(const char *path)
{
    struct source_file *file = calloc(1, sizeof *file + strlen(path) + 1);
    if (!file)
        return NULL;
    strcpy(file->path, path);
    file->error = open_and_read(file);
    if (file->error) {
        free(file->text);
        file->text = NULL;
    }
    return file;
}

/* What may pass (no permission, an error of the disk) is asked for again. */
static bool lasts(const struct source_file *file)
{
    return file->text || file->error == ENOENT || file->error == ENOTDIR;
}

/* What was read becomes the entry, or the older one is returned. */
static const struct source_file *keep(struct sources *sources, struct source_file *file)
{
    struct source_file *known;
    pthread_mutex_lock(&sources->lock);
    HASH_FIND_STR(sources->table, file->path, known);
    if (!known)
        HASH_ADD_STR(sources->table, path, file);
    pthread_mutex_unlock(&sources->lock);
    return known;
}

static const struct source_file *find(struct sources *sources, const char *path)
{
    struct source_file *known;
    pthread_mutex_lock(&sources->lock);
    HASH_FIND_STR(sources->table, path, known);
    pthread_mutex_unlock(&sources->lock);
    return known;
}

/* Protected: (file) -> what read gives for it. */
static int push_file(lua_State *L)
{
    const struct source_file *file = lua_touserdata(L, 1);
    if (file->text)
        return lua_pushlstring(L, file->text, file->len), 1;
    lua_pushnil(L);
    lua_pushstring(L, regular_error(file->error));
    return 2;
}

/* Lua: read(path). Upvalue: the sources. */
static int read_source(lua_State *L)
{
    struct sources *sources = lua_touserdata(L, lua_upvalueindex(1));
    const char *path = luaL_checkstring(L, 1);
    const struct source_file *file = sources ? find(sources, path) : NULL;
    struct source_file *fresh = NULL; /* owned */
    lua_settop(L, 1);
    lua_pushcfunction(L, push_file);
    if (!file || !lasts(file)) {
        file = fresh = read_file(path);
        if (!file)
            return luaL_error(L, "not enough memory");
        const struct source_file *known = sources ? keep(sources, fresh) : NULL;
        if (sources && !known)
            fresh = NULL; /* the table's now */
        else if (known && lasts(known))
            file = known; /* another instance was first */
    }
    lua_pushlightuserdata(L, (void *)file);
    int rc = lua_pcall(L, 1, LUA_MULTRET, 0);
    if (fresh)
        file_free(fresh);
    return rc ? lua_error(L) : lua_gettop(L) - 1;
}

void sources_push_reader(lua_State *L, struct sources *sources)
{
    lua_pushlightuserdata(L, sources);
    lua_pushcclosure(L, read_source, 1);
}
