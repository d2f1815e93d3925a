/* File watching by uv_fs_event, on folders, and hashes of what lies in them. */
#include "app/watch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utlist.h>

#include "base/hash.h"
#include "base/regular.h"

/* A file that is written to all the time is looked at after so many debounces at the latest. */
#define DEBOUNCES_AT_MOST 10

/* Hashes of files are odd. */
#define NOT_THERE 0
#define UNREADABLE 2

/* What stands at one path, as it was last seen. */
struct seen {
    struct seen *next;
    char *path;     /* owned */
    uint64_t state; /* the hash, or NOT_THERE, or UNREADABLE */
};

/* One inotify watch. Of a folder that holds what we look at, or of one above it, where only the
 * entry on the way down matters: it may be a symbolic link that is switched. */
struct spot {
    uv_fs_event_t handle;
    struct spot *next;
    struct watch *watch; /* not owned */
    char *path;          /* owned */
    char *entry;         /* owned; NULL: every entry matters */
    bool active;
};

struct folder {
    struct folder *next;
    char *path; /* owned */
};

struct watch {
    uv_loop_t *loop; /* not owned */
    uv_timer_t timer;
    uint64_t debounce_ms, burst_began_ms;
    void (*on_change)(void *owner, const char *const *paths, int count);
    void *owner;            /* not owned */
    struct seen *files;     /* owned */
    struct folder *folders; /* owned */
    struct spot *spots;     /* owned */
    int handles;            /* not closed yet */
    bool closing;
};

/* --- looking --- */

uint64_t watch_hash_file(const char *path)
{
    int error, fd = regular_open(path, &error);
    if (fd < 0)
        return 0;
    uint64_t hash = HASH_START;
    unsigned char block[16384];
    ssize_t len;
    while ((len = read(fd, block, sizeof block)) > 0 || (len < 0 && errno == EINTR))
        hash = len > 0 ? hash_add(hash, block, (size_t)len) : hash;
    close(fd);
    return len < 0 ? 0 : hash | 1;
}

uint64_t watch_hash(const char *text, size_t len)
{
    return hash_add(HASH_START, text, len) | 1;
}

/* A file that cannot be read is no file that is gone: it came back, or appeared, as something. */
static uint64_t state_of(const char *path)
{
    struct stat st;
    uint64_t hash = watch_hash_file(path);
    return hash ? hash : lstat(path, &st) == 0 ? UNREADABLE : NOT_THERE;
}

static bool is_handler_name(const char *name)
{
    size_t len = strlen(name);
    if (name[0] == '.' || len < 5 || strcmp(name + len - 4, ".lua") != 0)
        return false;
    return len < 9 || strcmp(name + len - 9, "_test.lua") != 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **watch_list_folder(const char *path, int *count)
{
    *count = 0;
    DIR *dir = opendir(path);
    if (!dir)
        return NULL;
    size_t used = 0, capacity = 8;
    char **names = calloc(capacity, sizeof *names);
    struct dirent *item;
    while (names && (item = readdir(dir))) {
        if (!is_handler_name(item->d_name))
            continue;
        if (used == capacity) {
            char **more = realloc(names, 2 * capacity * sizeof *names);
            if (!more)
                break;
            names = more;
            capacity *= 2;
        }
        names[used] = strdup(item->d_name);
        used += names[used] != NULL;
    }
    closedir(dir);
    if (names)
        qsort(names, used, sizeof *names, compare_names);
    *count = (int)used;
    return names;
}

void watch_free_names(char **names, int count)
{
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

static struct seen *find_file(struct watch *watch, const char *path)
{
    struct seen *file;
    LL_FOREACH(watch->files, file) {
        if (strcmp(file->path, path) == 0)
            return file;
    }
    return NULL;
}

static struct seen *add_file(struct watch *watch, const char *path)
{
    struct seen *file = calloc(1, sizeof *file);
    if (!file || !(file->path = strdup(path))) {
        free(file);
        return NULL;
    }
    LL_APPEND(watch->files, file);
    return file;
}

/* Puts the files of every folder among the files, those that are new as if they were not there. */
static void list_folders(struct watch *watch)
{
    struct folder *folder;
    LL_FOREACH(watch->folders, folder) {
        int count;
        char **names = watch_list_folder(folder->path, &count);
        for (int i = 0; i < count; i++) {
            char *path;
            size_t len = strlen(folder->path);
            bool slash = len > 0 && folder->path[len - 1] == '/';
            if (asprintf(&path, "%s%s%s", folder->path, slash ? "" : "/", names[i]) < 0)
                break;
            if (!find_file(watch, path))
                add_file(watch, path);
            free(path);
        }
        watch_free_names(names, count);
    }
}

/* --- spots --- */

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status);

static void spot_start(struct spot *spot)
{
    struct stat st;
    bool there = stat(spot->path, &st) == 0 && S_ISDIR(st.st_mode);
    spot->active = there && uv_fs_event_start(&spot->handle, on_event, spot->path, 0) == 0;
}

/* Watches what the paths lead to now: a folder may have been removed and made again, with the same
 * inode number even. All stop first, since libuv shares a watch between handles of one path. */
static void refresh_spots(struct watch *watch)
{
    struct spot *spot;
    LL_FOREACH(watch->spots, spot) {
        if (spot->active)
            uv_fs_event_stop(&spot->handle);
    }
    LL_FOREACH(watch->spots, spot)
        spot_start(spot);
}

static bool same_entry(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static int add_spot(struct watch *watch, const char *path, const char *entry)
{
    struct spot *spot;
    LL_FOREACH(watch->spots, spot) {
        if (strcmp(spot->path, path) == 0 && (!spot->entry || same_entry(spot->entry, entry)))
            return 0;
    }
    spot = calloc(1, sizeof *spot);
    if (!spot)
        return ERR_MEMORY;
    spot->watch = watch;
    spot->path = strdup(path);
    spot->entry = entry ? strdup(entry) : NULL;
    if (!spot->path || (entry && !spot->entry) ||
        uv_fs_event_init(watch->loop, &spot->handle) != 0) {
        free(spot->path);
        free(spot->entry);
        free(spot);
        return ERR_MEMORY;
    }
    spot->handle.data = spot;
    watch->handles++;
    LL_PREPEND(watch->spots, spot);
    spot_start(spot);
    return spot->active || errno == ENOENT ? 0 : ERR_SYSTEM;
}

/* The folder itself, and on every folder above it the entry that leads down. */
static int add_spots(struct watch *watch, const char *folder)
{
    char *path = folder[0] == '/' ? strdup(folder) : NULL;
    if (!path) {
        char cwd[4096];
        if (!getcwd(cwd, sizeof cwd) || asprintf(&path, "%s/%s", cwd, folder) < 0)
            return ERR_SYSTEM;
    }
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        path[--len] = '\0';
    errno = ENOENT;
    int code = add_spot(watch, path, NULL);
    for (char *slash = strrchr(path, '/'); slash && slash[1]; slash = strrchr(path, '/')) {
        *slash = '\0';
        if (strcmp(slash + 1, ".") != 0 && strcmp(slash + 1, "..") != 0)
            add_spot(watch, *path ? path : "/", slash + 1);
        if (slash == path)
            break;
    }
    free(path);
    return code;
}

/* --- noticing --- */

/* Compares everything with what was seen before; the paths that differ, and how many. */
static const char **look(struct watch *watch, int *count)
{
    struct seen *file;
    list_folders(watch);
    int total;
    *count = 0;
    LL_COUNT(watch->files, file, total);
    const char **changed = calloc((size_t)total + 1, sizeof *changed);
    LL_FOREACH(watch->files, file) {
        uint64_t state = state_of(file->path);
        if (state != file->state && changed)
            changed[(*count)++] = file->path;
        file->state = state;
    }
    return changed;
}

static void on_quiet(uv_timer_t *timer)
{
    struct watch *watch = timer->data;
    int count;
    watch->burst_began_ms = 0;
    refresh_spots(watch); /* before the look: what changes after it is seen */
    const char **changed = look(watch, &count);
    if (count > 0)
        watch->on_change(watch->owner, changed, count);
    free(changed);
}

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status)
{
    struct spot *spot = handle->data;
    struct watch *watch = spot->watch;
    (void)events;
    (void)status;
    if (watch->closing || (spot->entry && name && strcmp(spot->entry, name) != 0))
        return;
    uint64_t now = uv_now(watch->loop);
    if (!watch->burst_began_ms)
        watch->burst_began_ms = now;
    uint64_t latest = watch->burst_began_ms + DEBOUNCES_AT_MOST * watch->debounce_ms;
    uint64_t wait = now + watch->debounce_ms < latest ? watch->debounce_ms
                    : latest > now                    ? latest - now
                                                      : 0;
    uv_timer_start(&watch->timer, on_quiet, wait, 0);
}

/* --- life --- */

struct watch *watch_new(uv_loop_t *loop, uint64_t debounce_ms,
                        void (*on_change)(void *owner, const char *const *paths, int count),
                        void *owner)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return NULL;
    watch->loop = loop;
    watch->debounce_ms = debounce_ms;
    watch->on_change = on_change;
    watch->owner = owner;
    uv_timer_init(loop, &watch->timer);
    watch->timer.data = watch;
    watch->handles = 1;
    return watch;
}

static int watch_folder(struct watch *watch, const char *path)
{
    struct folder *folder;
    LL_FOREACH(watch->folders, folder) {
        if (strcmp(folder->path, path) == 0)
            return 0;
    }
    folder = calloc(1, sizeof *folder);
    if (!folder || !(folder->path = strdup(path))) {
        free(folder);
        return ERR_MEMORY;
    }
    LL_APPEND(watch->folders, folder);
    int code = add_spots(watch, path);
    list_folders(watch);
    struct seen *file;
    LL_FOREACH(watch->files, file) {
        if (file->state == NOT_THERE)
            file->state = state_of(file->path);
    }
    return code;
}

int watch_add(struct watch *watch, const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return watch_folder(watch, path);
    struct seen *file = find_file(watch, path);
    if (file)
        return 0;
    file = add_file(watch, path);
    if (!file)
        return ERR_MEMORY;
    file->state = state_of(path);
    char *folder = strdup(path);
    if (!folder)
        return ERR_MEMORY;
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    int code = add_spots(watch, slash ? folder : ".");
    free(folder);
    return code;
}

static void watch_free(struct watch *watch)
{
    struct seen *file, *next_file;
    LL_FOREACH_SAFE(watch->files, file, next_file) {
        free(file->path);
        free(file);
    }
    struct folder *folder, *next_folder;
    LL_FOREACH_SAFE(watch->folders, folder, next_folder) {
        free(folder->path);
        free(folder);
    }
    struct spot *spot, *next_spot;
    LL_FOREACH_SAFE(watch->spots, spot, next_spot) {
        free(spot->path);
        free(spot->entry);
        free(spot);
    }
    free(watch);
}

static void on_closed(uv_handle_t *handle)
{
    struct watch *watch =
        handle->type == UV_TIMER ? handle->data : ((struct spot *)handle->data)->watch;
    if (--watch->handles == 0)
        watch_free(watch);
}

void watch_close(struct watch *watch)
{
    if (!watch || watch->closing)
        return;
    watch->closing = true;
    struct spot *spot;
    LL_FOREACH(watch->spots, spot)
        uv_close((uv_handle_t *)&spot->handle, on_closed);
    uv_close((uv_handle_t *)&watch->timer, on_closed);
}
