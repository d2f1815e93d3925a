/* Texts of files by path, read once. */
#include "vm/texts.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/regular.h"
#include "base/sync.h"
#include "base/table.h"

/* Modules are looked for in several places: of most files it is only known that they are not there.
 */
struct text_file {
    UT_hash_handle hh;
    char *text; /* owned; NULL: there is none */
    size_t len;
    int error; /* of regular_error, without a text */
    char path[];
};

struct texts {
    atomic_int references;
    struct mutex lock; /* guards the table; a leaf */
    struct text_file *table;
};

struct texts *texts_new(void)
{
    struct texts *texts = calloc(1, sizeof *texts);
    if (!texts)
        return NULL;
    atomic_init(&texts->references, 1);
    mutex_init(&texts->lock);
    return texts;
}

struct texts *texts_retain(struct texts *texts)
{
    atomic_fetch_add_explicit(&texts->references, 1, memory_order_relaxed);
    return texts;
}

static void file_free(struct text_file *file)
{
    free(file->text);
    free(file);
}

void texts_release(struct texts *texts)
{
    if (!texts || atomic_fetch_sub_explicit(&texts->references, 1, memory_order_acq_rel) != 1)
        return;
    struct text_file *file, *next;
    HASH_ITER(hh, texts->table, file, next) {
        HASH_DEL(texts->table, file);
        file_free(file);
    }
    mutex_destroy(&texts->lock);
    free(texts);
}

int texts_count(struct texts *texts)
{
    mutex_lock(&texts->lock);
    int count = (int)HASH_COUNT(texts->table);
    mutex_unlock(&texts->lock);
    return count;
}

void texts_each(struct texts *texts,
                void (*visit)(void *owner, const char *path, const char *text, size_t len),
                void *owner)
{
    const struct text_file *file, *next;
    mutex_lock(&texts->lock);
    HASH_ITER(hh, texts->table, file, next)
        visit(owner, file->path, file->text, file->len);
    mutex_unlock(&texts->lock);
}

static int read_all(struct text_file *file, int fd)
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

/* It stays for as long as its script has a version, and that is for as long as the host runs, also
 * of scripts whose file has gone. */
static void give_back_rest(struct text_file *file)
{
    char *text = realloc(file->text, file->len ? file->len : 1);
    if (text)
        file->text = text;
}

static int open_and_read(struct text_file *file)
{
    int error, fd = regular_open(file->path, &error);
    if (fd < 0)
        return error;
    error = read_all(file, fd);
    close(fd);
    if (!error)
        give_back_rest(file);
    return error;
}

/* NULL when out of memory. */
static struct text_file *read_file(const char *path)
{
    struct text_file *file = calloc(1, sizeof *file + strlen(path) + 1);
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
static bool lasts(const struct text_file *file)
{
    return file->text || file->error == ENOENT || file->error == ENOTDIR;
}

/* What was read becomes the entry, or the older one is returned. *kept: it is the table's now. */
static const struct text_file *keep(struct texts *texts, struct text_file *file, bool *kept)
{
    struct text_file *known;
    mutex_lock(&texts->lock);
    HASH_FIND_STR(texts->table, file->path, known);
    if (!known) {
        HASH_ADD_STR(texts->table, path, file);
        *kept = table_has(file);
    }
    mutex_unlock(&texts->lock);
    return known;
}

static const struct text_file *find(struct texts *texts, const char *path)
{
    struct text_file *known;
    mutex_lock(&texts->lock);
    HASH_FIND_STR(texts->table, path, known);
    mutex_unlock(&texts->lock);
    return known;
}

/* Protected: (file) -> what read gives for it. */
static int push_file(lua_State *L)
{
    const struct text_file *file = lua_touserdata(L, 1);
    if (file->text)
        return lua_pushlstring(L, file->text, file->len), 1;
    lua_pushnil(L);
    lua_pushstring(L, regular_error(file->error));
    return 2;
}

/* Lua: read(path). Upvalue: the texts. */
static int read_text(lua_State *L)
{
    struct texts *texts = lua_touserdata(L, lua_upvalueindex(1));
    const char *path = luaL_checkstring(L, 1);
    const struct text_file *file = texts ? find(texts, path) : NULL;
    struct text_file *fresh = NULL; /* owned */
    lua_settop(L, 1);
    lua_pushcfunction(L, push_file);
    if (!file || !lasts(file)) {
        file = fresh = read_file(path);
        if (!file || file->error == ENOMEM) {
            free(fresh);
            return luaL_error(L, "not enough memory");
        }
        bool kept = false;
        const struct text_file *known = texts ? keep(texts, fresh, &kept) : NULL;
        if (kept)
            fresh = NULL;
        else if (known && lasts(known))
            file = known; /* another instance was first */
    }
    lua_pushlightuserdata(L, (void *)file);
    int code = lua_pcall(L, 1, LUA_MULTRET, 0);
    if (fresh)
        file_free(fresh);
    return code ? lua_error(L) : lua_gettop(L) - 1;
}

void texts_push_reader(lua_State *L, struct texts *texts)
{
    lua_pushlightuserdata(L, texts);
    lua_pushcclosure(L, read_text, 1);
}
